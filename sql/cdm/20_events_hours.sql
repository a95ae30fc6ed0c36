-- cdm.events_hours: one row per hour and page type that has page views.
-- Reads pg_temp.changed_views, or stage.page_views for a rebuild. Writes cdm.events_hours.

{% macro hours_of_views(views, count) -%}select date_trunc('hour', viewed_at) as hour_timestamp, page_type as event_type, {{ count }} as count_events
from {{ views }}
{%- endmacro -%}
create or replace function cdm.refresh_events_hours(rebuild boolean) returns void
language plpgsql as $$
begin
    with counts as (
        {{ hours_of_views("pg_temp.changed_views", "sum(sign)") | indent(8) }}
        where not rebuild
        group by 1, 2
        union all
        {{ hours_of_views("stage.page_views", "count(*)") | indent(8) }}
        where rebuild
        group by 1, 2
        union all
        -- What stands is taken back, so that only what differs is written.
        select hour_timestamp, event_type, -count_events
        from cdm.events_hours
        where rebuild
    ),
    changes as (
        select hour_timestamp, event_type, sum(count_events)::bigint as count_events
        from counts
        group by hour_timestamp, event_type
        having sum(count_events) != 0
        order by hour_timestamp, event_type
    )
    merge into cdm.events_hours as hours
    using changes
        on changes.hour_timestamp = hours.hour_timestamp and changes.event_type = hours.event_type
    when matched and hours.count_events + changes.count_events = 0 then
        delete
    when matched then
        update set count_events = hours.count_events + changes.count_events
    when not matched then
        insert (hour_timestamp, count_events, event_type)
        values (changes.hour_timestamp, changes.count_events, changes.event_type);
end
$$;

comment on table cdm.events_hours is 'One row per hour and page type that has page views, of any user or none.';
comment on sequence cdm.events_hours_id_seq is 'Numbers of the rows of cdm.events_hours.';
comment on column cdm.events_hours.id is 'A number of the row, without a meaning.';
comment on column cdm.events_hours.hour_timestamp is 'Start of the hour, UTC.';
comment on column cdm.events_hours.count_events is 'Number of page views.';
comment on column cdm.events_hours.event_type is
'Page type: the first segment of the page path, (none) where there is none.';
comment on function cdm.refresh_events_hours(boolean) is
'Brings cdm.events_hours up to date with the changed page views, or with all.';

select cdm.request_rebuild('page_views');
