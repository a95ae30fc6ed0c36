-- What the raw layer holds, in words.

comment on schema stage is
'Events as their files gave them, and the page views read from them. Holds personal data.';

comment on table stage.events is 'One row per event of the source, as is (docs/meaning.md 1). Written by load alone.';
comment on column stage.events.id is 'Number of the row, in the order of loading; part of the primary key.';
comment on column stage.events.event_timestamp is
'The instant as the source wrote it; a text that is no timestamp is kept but makes no page view.';
comment on column stage.events.batch_id is 'The load that brought the row: stage.loads.id.';

comment on table stage.events_rejected is 'One row per record that could not be stored, whole as it stood.';
comment on column stage.events_rejected.batch_id is 'The load that met the record: stage.loads.id.';
comment on column stage.events_rejected.line_number is
'Line on which the record starts, from 1; in a Parquet file the number of the row.';
comment on column stage.events_rejected.reason is 'Why the record could not be stored.';
comment on column stage.events_rejected.raw is 'The record as it stood; a byte that text cannot hold as \xNN.';

comment on table stage.loads is 'One row per load of a file. A content is loaded once, whatever its name.';
comment on column stage.loads.file_name is 'Path of the file as it was given; - for standard input.';
comment on column stage.loads.checksum is 'SHA-256 of the file''s bytes, in hexadecimal.';
comment on column stage.loads.size is 'Size of the file in bytes.';
comment on column stage.loads.status is
'loaded, or failed: too many rejects, then the rejects are here and the rows are not.';
comment on column stage.loads.refreshed_at is 'When a refresh took the load into the marts; null while none has.';

comment on table stage.partitions is 'One row per partition of stage.events, also one that was detached.';
comment on column stage.partitions.table_name is 'The partition''s name in the schema stage.';
comment on column stage.partitions.first_load is 'The first load whose rows it holds.';
comment on column stage.partitions.end_load is 'The load behind the last one whose rows it may hold.';
comment on column stage.partitions.detached_at is
'When it was taken out of stage.events, with its rows; null while it is in it.';

comment on function stage.begin_load() is
'The number of a load that begins; a partition of stage.events is there for it.';
comment on function stage.detach_events(timestamptz) is
'Takes the raw rows of loads that ended before an instant out of stage.events, as tables of their own; names these.';

comment on function stage.input_error(text, text) is
'What PostgreSQL says of a text as input of int4, float8 or boolean; null where it takes the text.';
