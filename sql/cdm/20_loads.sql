-- cdm.loads, cdm.rejects, cdm.freshness: what the warehouse itself holds, for those who may not read the raw layer.
-- Views of stage.loads and stage.events_rejected: what a record held is not shown, only why it was rejected.

create or replace view cdm.loads as
select
    id,
    file_name,
    format,
    size,
    status,
    rows_loaded,
    rows_rejected,
    started_at at time zone 'UTC' as started_at,
    finished_at at time zone 'UTC' as finished_at,
    refreshed_at at time zone 'UTC' as refreshed_at,
    coalesce(replays.rows_replayed, 0) as rows_replayed,
    source,
    events_passed
from stage.loads
left join (
    select
        batch_id as id,
        count(*) as rows_replayed
    from stage.events_rejected
    where replayed_by is not null
    group by batch_id
) as replays using (id);

comment on view cdm.loads is 'One row per load of a file, or replay of rejects.';
comment on column cdm.loads.id is 'The number of the load, in the order of their beginnings.';
comment on column cdm.loads.file_name is
'Path of the file as it was given; - for standard input; of a replay which rejects it brought.';
comment on column cdm.loads.format is 'How the file was read; rejects for a replay.';
comment on column cdm.loads.size is 'Size of the file, or of the records of a replay, in bytes.';
comment on column cdm.loads.status is 'loaded, or failed: then its rejects are kept and its rows are not.';
comment on column cdm.loads.rows_loaded is 'Number of rows that were loaded.';
comment on column cdm.loads.rows_rejected is 'Number of records that could not be stored then.';
comment on column cdm.loads.started_at is 'When the load began, UTC.';
comment on column cdm.loads.finished_at is 'When the load ended, UTC.';
comment on column cdm.loads.refreshed_at is 'When a refresh took the load into the marts, UTC; null while none has.';
comment on column cdm.loads.source is 'The source whose mapping read the file; null for one that needs none.';
comment on column cdm.loads.events_passed is 'Number of events in the file that the mapping did not ask for.';
comment on column cdm.loads.rows_replayed is 'How many of the rejected records a later load, a replay, has brought.';

create or replace view cdm.rejects as
select
    load_id,
    file_name,
    reason,
    count(*) as count_rejects
from (
    select
        batch_id as load_id,
        source_file as file_name,
        stage.reason_kind(reason) as reason
    from stage.events_rejected
    where replayed_by is null
) as rejects
group by load_id, file_name, reason;

comment on view cdm.rejects is
'One row per load and reason for which records of it could not be stored, nor were loaded since.';
comment on column cdm.rejects.load_id is 'The load: cdm.loads.id.';
comment on column cdm.rejects.file_name is 'Path of the file as it was given.';
comment on column cdm.rejects.reason is 'Why, without the values at fault: a text is "...", a number N, a byte 0xNN.';
comment on column cdm.rejects.count_rejects is 'Number of records.';

create or replace view cdm.freshness as
select
    (select max(hour_timestamp) from cdm.events_hours) as newest_hour,
    max(finished_at) filter (where status = 'loaded') as loaded_at,
    max(refreshed_at) as refreshed_at,
    count(*) filter (where status = 'loaded' and refreshed_at is null) as count_pending_loads
from cdm.loads;

comment on view cdm.freshness is 'One row: how recent the marts are.';
comment on column cdm.freshness.newest_hour is 'The last hour with a page view in the marts, UTC.';
comment on column cdm.freshness.loaded_at is 'When the last load ended that was not failed, UTC.';
comment on column cdm.freshness.refreshed_at is 'When a refresh last took loads into the marts, UTC.';
comment on column cdm.freshness.count_pending_loads is 'Number of loads that are not yet in the marts.';
