-- cdm.refreshes, cdm.changes: what each refresh changed in the marts that count, from what to what.
-- Written by triggers of these marts, so that what somebody changes by hand is recorded too. Read by cdm.history.
-- Of a load of everything the first rows say enough; the others are only counted.

{% set most_changes = 1000 -%}
{% macro changes_of(rows, before, after) -%}
select
    of_refresh as refresh_id,
    tg_argv[0] as mart,
    {{ before }} as before_row,
    {{ after }} as after_row
from {{ rows }}
order by id
limit {{ most_changes }}
{%- endmacro -%}
create or replace function cdm.record_changes() returns trigger
language plpgsql as $$
declare
    of_refresh constant bigint := nullif(current_setting('clickmart.refresh', true), '')::bigint;
    count_changes bigint;
begin
    if tg_op = 'INSERT' then
        select count(*) into count_changes from new_rows;
        insert into cdm.changes (refresh_id, mart, before_row, after_row)
        {{ changes_of("new_rows", "null::jsonb", "to_jsonb(new_rows) - 'id'") | indent(8) }};
    elsif tg_op = 'DELETE' then
        select count(*) into count_changes from old_rows;
        insert into cdm.changes (refresh_id, mart, before_row, after_row)
        {{ changes_of("old_rows", "to_jsonb(old_rows) - 'id'", "null::jsonb") | indent(8) }};
    else
        select count(*) into count_changes from old_rows;
        insert into cdm.changes (refresh_id, mart, before_row, after_row)
        {{ changes_of("old_rows inner join new_rows using (id)", "to_jsonb(old_rows) - 'id'", "to_jsonb(new_rows) - 'id'") | indent(8) }};
    end if;

    if count_changes > {{ most_changes }} then
        update cdm.refreshes set changes_left_out = changes_left_out + count_changes - {{ most_changes }}
        where id = of_refresh;
    end if;
    return null;
end
$$;

do $$
declare
    counting record;
begin
    for counting in
        select *
        from (
            values
            ('events_hours', 'events_hours'),
            ('products_hours', 'products_hours'),
            ('page_totals', 'top_pages'),
            ('source_totals', 'sources')
        ) as marts (table_name, mart)
    loop
        execute format(
            'create or replace trigger record_inserted after insert on cdm.%I referencing new table as new_rows '
            'for each statement execute function cdm.record_changes(%L)', counting.table_name, counting.mart
        );
        execute format(
            'create or replace trigger record_updated after update on cdm.%I referencing old table as old_rows '
            'new table as new_rows for each statement execute function cdm.record_changes(%L)',
            counting.table_name, counting.mart
        );
        execute format(
            'create or replace trigger record_deleted after delete on cdm.%I referencing old table as old_rows '
            'for each statement execute function cdm.record_changes(%L)', counting.table_name, counting.mart
        );
    end loop;
end
$$;

create or replace view cdm.history as
select
    changes.id,
    changes.changed_at,
    changes.mart,
    changes.before_row,
    changes.after_row,
    keys.row_key ->> 'hour_timestamp' as hour_timestamp,
    coalesce(hours.loads, refreshes.loads) as loads,
    refreshes.is_rebuilt,
    changes.refresh_id
from cdm.changes
left join cdm.refreshes on changes.refresh_id = refreshes.id
cross join lateral (select coalesce(changes.after_row, changes.before_row) as row_key) as keys
-- Of an hour's loads its own views tell which it was, unless they went.
cross join lateral (
    select array_agg(distinct page_views.batch_id) as loads
    from stage.page_views
    where
        changes.mart = 'events_hours'
        and page_views.batch_id = any(refreshes.loads)
        and page_views.viewed_at >= (keys.row_key ->> 'hour_timestamp')::timestamp
        and page_views.viewed_at < (keys.row_key ->> 'hour_timestamp')::timestamp + interval '1 hour'
        and page_views.page_type = keys.row_key ->> 'event_type'
) as hours;

create or replace function cdm.prune_history(before timestamp) returns bigint
language plpgsql as $$
declare
    count_pruned bigint;
begin
    delete from cdm.changes where changed_at < before;
    get diagnostics count_pruned = row_count;
    delete from cdm.refreshes where refreshed_at < before;
    return count_pruned;
end
$$;

comment on table cdm.refreshes is 'One row per refresh that took in loads or built marts anew.';
comment on column cdm.refreshes.id is 'A number of the row, in the order of refreshes.';
comment on column cdm.refreshes.refreshed_at is 'When the apply began its transaction, UTC.';
comment on column cdm.refreshes.loads is 'The loads that it took in: cdm.loads.id.';
comment on column cdm.refreshes.is_rebuilt is
'Whether it built marts anew, as a definition had changed, most was new, or it was asked to.';
comment on column cdm.refreshes.changes_left_out is
'Number of changed rows beyond the first {{ most_changes }} of a mart, which cdm.changes does not have.';
comment on sequence cdm.refreshes_id_seq is 'Numbers of the rows of cdm.refreshes.';
comment on sequence cdm.changes_id_seq is 'Numbers of the rows of cdm.changes.';
comment on table cdm.changes is
'One row per row of a mart that was changed; of a refresh, a mart and a kind of change the first {{ most_changes }}.';
comment on column cdm.changes.id is 'A number of the row, in the order of changes.';
comment on column cdm.changes.changed_at is 'When the transaction began that changed it, UTC.';
comment on column cdm.changes.refresh_id is 'The refresh: cdm.refreshes.id; null for a change by hand.';
comment on column cdm.changes.mart is 'events_hours, products_hours, top_pages (of all pages) or sources.';
comment on column cdm.changes.before_row is 'The row before, without its id; null where it is new.';
comment on column cdm.changes.after_row is 'The row after, without its id; null where it is gone.';
comment on view cdm.history is 'One row per change of a row of a mart, with the loads that caused it.';
comment on column cdm.history.id is 'A number of the row, in the order of changes.';
comment on column cdm.history.changed_at is 'When the transaction began that changed it, UTC.';
comment on column cdm.history.mart is 'events_hours, products_hours, top_pages (of all pages) or sources.';
comment on column cdm.history.before_row is 'The row before; null where it is new.';
comment on column cdm.history.after_row is 'The row after; null where it is gone.';
comment on column cdm.history.hour_timestamp is 'The hour of the row, as 2022-09-30T21:00:00; null for a mart without.';
comment on column cdm.history.loads is
'The loads that the refresh took in: cdm.loads.id; of events_hours, if any, those with views of the hour and type.';
comment on column cdm.history.is_rebuilt is 'Whether the refresh built marts anew.';
comment on column cdm.history.refresh_id is 'The refresh: cdm.refreshes.id; null for a change by hand.';
comment on function cdm.record_changes() is 'Trigger that records in cdm.changes what a statement changed in a mart.';
comment on function cdm.prune_history(timestamp) is
'Forgets the refreshes before an instant in UTC, and what they changed; says how many changes.';
