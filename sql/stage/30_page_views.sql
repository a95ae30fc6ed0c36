{% from "macros.jinja" import page_view_columns, user_hash -%}
-- stage.page_views: one row per page view (docs/meaning.md 2): deliveries of one view are one row, the first loaded.
-- Reads stage.parsed_events of the new loads. Writes stage.page_views, and the changes for the marts to
-- pg_temp.changed_views: sign 1 for a view that came, -1 for one that went.
-- A view goes only where a delivery turns up that was loaded earlier, by a load that ended later.

comment on table stage.page_views is
'One row per page view: what of stage.events the marts are made of, deliveries of the same view being one.';
comment on column stage.page_views.batch_id is 'The load of the delivery that stands for the view.';
comment on column stage.page_views.row_id is 'stage.events.id of the delivery that stands for the view.';
comment on column stage.page_views.user_hash is 'hashtextextended(user_id, 0), for the indexes; 0 without a user.';
comment on column stage.page_views.user_id is
'user_domain_id, else user_custom_id; null for a view without a user. Personal data.';
comment on column stage.page_views.viewed_at is 'The instant in UTC.';
comment on column stage.page_views.step is 'Step of the purchase funnel; null for any other page.';
comment on column stage.page_views.page_type is 'First segment of the page path; (none) where there is none.';
comment on column stage.page_views.event_id is 'event_id of the delivery; null where it is missing.';
comment on column stage.page_views.page_url is 'page_url of the delivery; null where it is missing.';
comment on column stage.page_views.referer_url is 'referer_url of the delivery; null where it is missing.';
comment on column stage.page_views.utm_campaign is 'utm_campaign of the delivery; null where it is missing.';
comment on type stage.step is 'A step of the purchase funnel, in the order in which they are taken at one instant.';

-- One row per page view among those loads, deliveries of one view compared: one sort, which seldom comes to its texts,
-- as the user's hash and the instant tell most rows apart. Views without an event_id are each their own, hence the
-- row's number in their key. Rows without an instant are still there: whoever reads it leaves them out behind a fence,
-- else each timestamp is parsed once for the filter and once for the row.
{% macro delivered_once(where) -%}
select distinct on (user_hash, viewed_at, user_id, event_id, own_row)
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
        {{ user_hash("parsed_events") }} as user_hash,
        case when parsed_events.event_id is null then parsed_events.row_id end as own_row
    from stage.parsed_events
    where {{ where }}
) as deliveries
order by user_hash, viewed_at, user_id, event_id, own_row, batch_id, row_id
{%- endmacro -%}
{#- Whether two rows are deliveries of one page view. -#}
{% macro same_view(a, b) -%}{{ a }}.user_hash = {{ b }}.user_hash
and {{ a }}.viewed_at = {{ b }}.viewed_at
and hashtextextended({{ a }}.event_id, 0) = hashtextextended({{ b }}.event_id, 0)
and {{ a }}.event_id = {{ b }}.event_id
and {{ a }}.user_id is not distinct from {{ b }}.user_id
{%- endmacro -%}
create or replace function stage.delivered_views(new_loads bigint[]) returns setof stage.page_views
language plpgsql stable as $$
begin
    -- Parallel workers may compute what a function returns, but not what an insert selects.
    return query
    {{ delivered_once("parsed_events.batch_id in (select id from stage.loads where refreshed_at is not null or id = any (new_loads))") | indent(4) }};
end
$$;

comment on function stage.delivered_views(bigint[]) is
'What stands for the page views of the loads taken in so far and of the new ones, by user and instant.';

create or replace function stage.drop_indexes(of_table regclass) returns text[]
language plpgsql as $$
declare
    definitions text [];
    index_name regclass;
begin
    select coalesce(array_agg(pg_get_indexdef(indexrelid)), '{}') into definitions
    from pg_index
    where indrelid = of_table and not indisprimary;
    for index_name in
        select indexrelid from pg_index where indrelid = of_table and not indisprimary
    loop
        execute format('drop index %s', index_name);
    end loop;
    return definitions;
end
$$;

comment on function stage.drop_indexes(regclass) is
'Drops the indexes of a table but the primary key, and returns the statements that build them again.';

create or replace function stage.over_all_users(function_name text) returns text
language plpgsql stable as $$
declare
    count_processes constant integer := current_setting('max_parallel_workers_per_gather');
    -- The planner starts one process more for each doubling of the shares. Little is not worth their start.
    count_shares constant integer := case
        when
            count_processes > 1
            and pg_relation_size('stage.page_views') >= pg_size_bytes(current_setting('min_parallel_table_scan_size'))
            then 2 ^ least(count_processes + 1, 7)
        else 1
    end;
    share_size constant numeric := trunc(2::numeric ^ 64 / count_shares);
begin
    return string_agg(
        format(
            'select * from %s(%L, %L)',
            function_name,
            (number * share_size - 2::numeric ^ 63)::bigint,
            ((number + 1) * share_size - 2::numeric ^ 63 - 1)::bigint
        ),
        ' union all '
    )
    from generate_series(0, count_shares - 1) as number;
end
$$;

comment on function stage.over_all_users(text) is
'A query that calls a function of the first and last user_hash for all users, share by share, several processes at it.';

create or replace function stage.refresh_page_views(new_loads bigint[], rebuild boolean) returns void
language plpgsql as $$
declare
    end_of_detached bigint;
    index_definitions text [];
    index_definition text;
begin
    create temporary table changed_views on commit drop as
    select 1 as sign, page_views.*, page_views.ctid as superseded_ctid
    from stage.page_views
    with no data;

    if rebuild then
        -- What detached loads brought can't be read again. It was loaded before all that can, so it stands for the
        -- deliveries of the same views that came later.
        select max(end_load) into end_of_detached from stage.partitions where detached_at is not null;
        if end_of_detached is not null then
            create temporary table kept_views on commit drop as
            select *
            from stage.page_views
            where batch_id < end_of_detached;
        end if;

        -- Nobody reads the marts from here, so emptying the table keeps no reader of theirs waiting.
        truncate stage.page_views;
        index_definitions := stage.drop_indexes('stage.page_views');

        insert into stage.page_views
        select *
        from stage.delivered_views(new_loads)
        where viewed_at is not null;

        foreach index_definition in array index_definitions loop
            execute index_definition;
        end loop;
        if end_of_detached is not null then
            delete from stage.page_views
            using pg_temp.kept_views as kept
            where
                {{ same_view("page_views", "kept") | indent(16) }};

            insert into stage.page_views
            select {{ page_view_columns }}
            from pg_temp.kept_views;
        end if;
        analyze stage.page_views;
    else
        -- Here and below, whatever is looked up for each changed row stands in a lateral subquery behind a fence
        -- (offset 0): then it is found by index, whatever the planner takes the number of changes for.
        insert into pg_temp.changed_views
        select
            1 as sign,
            fresh.*,
            known.known_ctid
        from (
            {{ delivered_once("parsed_events.batch_id = any (new_loads)") | indent(12) }}
            offset 0
        ) as fresh
        left join lateral (
            select
                page_views.ctid as known_ctid,
                page_views.batch_id,
                page_views.row_id
            from stage.page_views
            where
                {{ same_view("page_views", "fresh") | indent(16) }}
            offset 0
        ) as known on true
        where
            fresh.viewed_at is not null
            and (known.known_ctid is null or (fresh.batch_id, fresh.row_id) < (known.batch_id, known.row_id));

        with gone as (
            delete from stage.page_views
            using pg_temp.changed_views as changed
            where page_views.ctid = changed.superseded_ctid
            returning page_views.*
        )
        insert into pg_temp.changed_views
        select -1 as sign, gone.*
        from gone;

        insert into stage.page_views
        select {{ page_view_columns }}
        from pg_temp.changed_views
        where sign = 1;
    end if;

    -- How many changes there are is what the planner needs to know of them; what is in them costs more to find out.
    analyze pg_temp.changed_views (sign);
end
$$;

comment on function stage.refresh_page_views(bigint[], boolean) is
'Takes new loads into stage.page_views, or makes it anew from all; leaves what changed in pg_temp.changed_views.';

select cdm.request_rebuild('page_views');
