-- stage.page_views: one row per page view (docs/meaning.md 2): deliveries of one view are one row, the first loaded.
-- Reads stage.parsed_events of the new loads. Writes stage.page_views, and the changes for the marts to
-- pg_temp.changed_views: sign 1 for a view that came, -1 for one that went.
-- A view goes only where a delivery turns up that was loaded earlier, by a load that ended later.

comment on table stage.page_views is
'One row per page view: what of stage.events the marts are made of, deliveries of the same view being one.';
comment on column stage.page_views.batch_id is 'The load of the delivery that stands for the view.';
comment on column stage.page_views.row_id is 'stage.events.id of the delivery that stands for the view.';
comment on column stage.page_views.user_hash is 'hashtextextended(user_id, 0), for the indexes; null without a user.';
comment on column stage.page_views.user_id is 'user_domain_id, else user_custom_id; null for a view without a user.';
comment on column stage.page_views.viewed_at is 'The instant in UTC.';
comment on column stage.page_views.step is 'Step of the purchase funnel; null for any other page.';
comment on column stage.page_views.page_type is 'First segment of the page path; (none) where there is none.';
comment on type stage.step is 'A step of the purchase funnel, in the order in which they are taken at one instant.';

-- One row per page view among those loads, deliveries of one view compared: one sort.
-- Views without an event_id are each their own, hence the row's number in their key.
{% macro delivered_once(in_loads) -%}
select distinct on (user_hash, user_id, viewed_at, event_id, own_row)
    batch_id,
    row_id,
    user_hash,
    user_id,
    viewed_at,
    step,
    page_type,
    event_id,
    page_url,
    referer_url,
    utm_campaign
from (
    select
        parsed_events.*,
        hashtextextended(parsed_events.user_id, 0) as user_hash,
        case when parsed_events.event_id is null then parsed_events.row_id end as own_row
    from stage.parsed_events
    where parsed_events.batch_id {{ in_loads }}
    -- A fence: else each timestamp is parsed once for the filter and once for the row.
    offset 0
) as deliveries
where viewed_at is not null
order by user_hash, user_id, viewed_at, event_id, own_row, batch_id, row_id
{%- endmacro %}
create or replace function stage.refresh_page_views(new_loads bigint[], rebuild boolean) returns void
language plpgsql as $$
declare
    index_definitions text [];
    index_name text;
    index_definition text;
begin
    create temporary table new_views (like stage.page_views) on commit drop;
    create temporary table superseded_views (like stage.page_views) on commit drop;

    if rebuild then
        -- Nobody reads the marts from here, so emptying the table keeps no reader of theirs waiting.
        truncate stage.page_views;
        select array_agg(pg_get_indexdef(indexrelid)) into index_definitions
        from pg_index
        where indrelid = 'stage.page_views'::regclass and not indisprimary;
        for index_name in
            select indexrelid::regclass from pg_index where indrelid = 'stage.page_views'::regclass and not indisprimary
        loop
            execute 'drop index ' || index_name;
        end loop;

        insert into stage.page_views
        {{ delivered_once("in (select id from stage.loads where refreshed_at is not null or id = any (new_loads))") | indent(8) }};

        foreach index_definition in array coalesce(index_definitions, '{}') loop
            execute index_definition;
        end loop;
        analyze stage.page_views;
    else
        insert into pg_temp.new_views
        {{ delivered_once("= any (new_loads)") | indent(8) }};
        analyze pg_temp.new_views;

        create temporary table known_views on commit drop as
        select
            known.ctid as known_ctid,
            fresh.batch_id as fresh_batch_id,
            fresh.row_id as fresh_row_id,
            (known.batch_id, known.row_id) < (fresh.batch_id, fresh.row_id) as known_stands
        from pg_temp.new_views as fresh
        inner join stage.page_views as known
            on fresh.viewed_at = known.viewed_at
            and hashtextextended(fresh.event_id, 0) = hashtextextended(known.event_id, 0)
            and fresh.event_id = known.event_id
            and fresh.user_id is not distinct from known.user_id
        where fresh.event_id is not null;

        delete from pg_temp.new_views as fresh
        using pg_temp.known_views as known
        where fresh.batch_id = known.fresh_batch_id and fresh.row_id = known.fresh_row_id and known.known_stands;

        with gone as (
            delete from stage.page_views as views
            using pg_temp.known_views as known
            where views.ctid = known.known_ctid and not known.known_stands
            returning views.*
        )
        insert into pg_temp.superseded_views
        select * from gone;

        -- Else the planner takes this nearly always empty table for ten pages, and reads a mart whole to match them.
        analyze pg_temp.superseded_views;

        insert into stage.page_views
        select * from pg_temp.new_views;
    end if;

    create temporary view changed_views as
    select 1 as sign, new_views.* from pg_temp.new_views
    union all
    select -1 as sign, superseded_views.* from pg_temp.superseded_views;
end
$$;

comment on function stage.refresh_page_views(bigint[], boolean) is
'Takes new loads into stage.page_views, or makes it anew from all; leaves what changed in pg_temp.changed_views.';

select cdm.request_rebuild('page_views');
