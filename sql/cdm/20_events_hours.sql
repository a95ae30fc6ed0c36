{% from "macros.jinja" import for_share_of_users -%}
-- cdm.events_hours: one row per hour and page type that has page views.
-- Reads pg_temp.changed_views, or stage.page_views for a rebuild. Writes cdm.events_hours.

{% macro hours_of_views(views, count) -%}
select
    date_trunc('hour', viewed_at) as hour_timestamp,
    page_type as event_type,
    {{ count }} as count_events
from {{ views }}
group by 1, 2
{%- endmacro -%}
create or replace function cdm.counted_hours(first_hash bigint, last_hash bigint)
returns table (hour_timestamp timestamp, event_type text, count_events bigint)
{{ for_share_of_users }} as $$
#variable_conflict use_column
begin
    return query
    {{ hours_of_views("stage.page_views\nwhere user_hash between first_hash and last_hash", "count(*)") | indent(4) }};
end
$$;

comment on function cdm.counted_hours(bigint, bigint) is
'Page views by hour and page type of users of these hashes, among them those without a user.';

{% macro add_hours(counts) -%}
merge into cdm.events_hours as hours
using (
    select
        hour_timestamp,
        event_type,
        sum(count_events)::bigint as count_events
    from (
        {{ counts | indent(8) }}
    ) as counts
    group by hour_timestamp, event_type
    having sum(count_events) != 0
    order by hour_timestamp, event_type
) as changes
    on changes.hour_timestamp = hours.hour_timestamp and changes.event_type = hours.event_type
when matched and hours.count_events + changes.count_events = 0 then
    delete
when matched then
    update set count_events = hours.count_events + changes.count_events
when not matched then
    insert (hour_timestamp, count_events, event_type)
    values (changes.hour_timestamp, changes.count_events, changes.event_type)
{%- endmacro -%}
{% set all_hours -%}
select
    hour_timestamp,
    event_type,
    count_events
from pg_temp.counted_hours
union all
-- What stands is taken back, so that only what differs is written.
select
    hour_timestamp,
    event_type,
    -count_events
from cdm.events_hours
{%- endset -%}
create or replace function cdm.refresh_events_hours(rebuild boolean) returns void
language plpgsql as $$
begin
    if rebuild then
        execute
            'create temporary table counted_hours on commit drop as '
            || stage.over_all_users('cdm.counted_hours');
        {{ add_hours(all_hours) | indent(8) }};
    else
        {{ add_hours(hours_of_views("pg_temp.changed_views", "sum(sign)")) | indent(8) }};
    end if;
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
