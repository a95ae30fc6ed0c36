-- stage.user_sources: one row per user and source (referer and campaign) that the user came by.
-- Reads pg_temp.changed_views, or stage.page_views for a rebuild. Writes stage.user_sources, and to
-- pg_temp.changed_user_sources what changed: sign 1 is a user who came by a source for the first time, -1 one who never
-- did after all, 0 one who came by it more or less often.

comment on table stage.user_sources is 'One row per user and source: how many page views of the user carry it.';
comment on column stage.user_sources.source_hash is 'hashtextextended of user, referer and campaign, for the index.';
comment on column stage.user_sources.user_id is 'The user, as in stage.page_views. Personal data.';
comment on column stage.user_sources.referer_url is 'referer_url; (direct) where it is missing.';
comment on column stage.user_sources.utm_campaign is 'utm_campaign; (none) where it is missing.';
comment on column stage.user_sources.count_views is 'Number of page views of the user that carry the source.';

{% macro user_sources_of(views, count) -%}
select
    hashtextextended(user_id || chr(10) || referer_url || chr(10) || utm_campaign, 0) as source_hash,
    user_id,
    referer_url,
    utm_campaign,
    count_views
from (
    select
        user_id,
        coalesce(referer_url, '(direct)') as referer_url,
        coalesce(utm_campaign, '(none)') as utm_campaign,
        {{ count }}::bigint as count_views
    from {{ views }}
    where user_id is not null
    group by 1, 2, 3
) as user_sources
{%- endmacro -%}
create or replace function stage.refresh_user_sources(rebuild boolean) returns void
language plpgsql as $$
declare
    index_definitions text [];
    index_definition text;
begin
    create temporary table changed_user_sources on commit drop as
    select 0 as sign, user_sources.*
    from stage.user_sources
    with no data;

    if rebuild then
        truncate stage.user_sources;
        index_definitions := stage.drop_indexes('stage.user_sources');

        insert into stage.user_sources
        {{ user_sources_of("stage.page_views", "count(*)") | indent(8) }};

        foreach index_definition in array index_definitions loop
            execute index_definition;
        end loop;
        analyze stage.user_sources;
        return;
    end if;

    insert into pg_temp.changed_user_sources
    select
        case
            when standing.count_views is null then 1
            when standing.count_views + changes.count_views = 0 then -1
            else 0
        end as sign,
        changes.*
    from (
        {{ user_sources_of("pg_temp.changed_views", "sum(sign)") | indent(8) }}
    ) as changes
    left join lateral (
        select user_sources.count_views
        from stage.user_sources
        where
            user_sources.source_hash = changes.source_hash
            and user_sources.user_id = changes.user_id
            and user_sources.referer_url = changes.referer_url
            and user_sources.utm_campaign = changes.utm_campaign
        offset 0
    ) as standing on true
    where changes.count_views != 0;

    analyze pg_temp.changed_user_sources (sign);

    merge into stage.user_sources as standing
    using pg_temp.changed_user_sources as changes
        on changes.source_hash = standing.source_hash
        and changes.user_id = standing.user_id
        and changes.referer_url = standing.referer_url
        and changes.utm_campaign = standing.utm_campaign
    when matched and changes.sign = -1 then
        delete
    when matched then
        update set count_views = standing.count_views + changes.count_views
    when not matched then
        insert (source_hash, user_id, referer_url, utm_campaign, count_views)
        values (
            changes.source_hash, changes.user_id, changes.referer_url, changes.utm_campaign, changes.count_views
        );
end
$$;

comment on function stage.refresh_user_sources(boolean) is
'Takes pg_temp.changed_views into stage.user_sources, or makes it anew; leaves what changed in pg_temp.';

select cdm.request_rebuild('page_views');
