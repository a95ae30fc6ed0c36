-- stage.user_sources: one row per user and source (referer and campaign) that the user came by.
-- Reads pg_temp.changed_views, or stage.page_views for a rebuild. Writes stage.user_sources, and to
-- pg_temp.changed_user_sources who came by a source for the first time (sign 1) or never did after all (-1).

comment on table stage.user_sources is 'One row per user and source: how many page views of the user carry it.';
comment on column stage.user_sources.source_hash is 'hashtextextended of user, referer and campaign, for the index.';

create or replace function stage.refresh_user_sources(rebuild boolean) returns void
language plpgsql as $$
begin
    if rebuild then
        truncate stage.user_sources;
    end if;

    create temporary table source_changes on commit drop as
    with views as (
        select sign, user_id, referer_url, utm_campaign from pg_temp.changed_views where not rebuild
        union all
        select 1 as sign, user_id, referer_url, utm_campaign from stage.page_views where rebuild
    ),
    named_sources as (
        select
            user_id,
            coalesce(referer_url, '(direct)') as referer_url,
            coalesce(utm_campaign, '(none)') as utm_campaign,
            sum(sign)::bigint as count_views
        from views
        where user_id is not null
        group by 1, 2, 3
    )
    select
        hashtextextended(user_id || chr(10) || referer_url || chr(10) || utm_campaign, 0) as source_hash,
        user_id,
        referer_url,
        utm_campaign,
        count_views
    from named_sources
    where count_views != 0;

    analyze pg_temp.source_changes;

    create temporary table changed_user_sources on commit drop as
    select
        case when standing.user_id is null then 1 else -1 end as sign,
        changes.referer_url,
        changes.utm_campaign
    from pg_temp.source_changes as changes
    left join stage.user_sources as standing
        on changes.source_hash = standing.source_hash
        and changes.user_id = standing.user_id
        and changes.referer_url = standing.referer_url
        and changes.utm_campaign = standing.utm_campaign
    where standing.user_id is null or standing.count_views + changes.count_views = 0;

    analyze pg_temp.changed_user_sources;

    merge into stage.user_sources as standing
    using pg_temp.source_changes as changes
        on changes.source_hash = standing.source_hash
        and changes.user_id = standing.user_id
        and changes.referer_url = standing.referer_url
        and changes.utm_campaign = standing.utm_campaign
    when matched and standing.count_views + changes.count_views = 0 then
        delete
    when matched then
        update set count_views = standing.count_views + changes.count_views
    when not matched then
        insert (source_hash, user_id, referer_url, utm_campaign, count_views)
        values (
            changes.source_hash, changes.user_id, changes.referer_url, changes.utm_campaign, changes.count_views
        );

    if rebuild then
        analyze stage.user_sources;
    end if;
end
$$;

comment on function stage.refresh_user_sources(boolean) is
'Takes pg_temp.changed_views into stage.user_sources, or makes it anew; leaves what changed in pg_temp.';

select cdm.request_rebuild('page_views');
