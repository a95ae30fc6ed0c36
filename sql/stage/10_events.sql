-- What the raw layer holds, in words.

comment on schema stage is
'Events as their files gave them, and the page views read from them. Holds personal data.';

comment on table stage.events is 'One row per event of the source, as is (docs/meaning.md 1). Written by load alone.';
comment on sequence stage.events_id_seq is 'Numbers of the rows of stage.events; a session takes 100 at a time.';
comment on column stage.events.id is 'Number of the row, in the order of loading; part of the primary key.';
comment on column stage.events.event_id is 'The source''s own name of the event; the same when it is delivered twice.';
comment on column stage.events.event_timestamp is
'The instant as the source wrote it; a text that is no timestamp is kept but makes no page view.';
comment on column stage.events.event_type is 'Kind of event, as pageview. The marts count by the page type instead.';
comment on column stage.events.page_url is 'Full address of the page that was viewed.';
comment on column stage.events.page_url_path is 'Path of the page''s address; page type and step are read from it.';
comment on column stage.events.referer_url is 'Address or host of the page that the visitor came from.';
comment on column stage.events.referer_url_scheme is 'Scheme of the referer''s address, as http.';
comment on column stage.events.referer_url_port is 'Port of the referer''s address, as 80.';
comment on column stage.events.referer_medium is 'Kind of place that the referer is, as search or internal.';
comment on column stage.events.utm_medium is 'Kind of advertising that led here, as cpc or organic.';
comment on column stage.events.utm_source is 'Who sent the visitor, as the link says: a search engine, a newsletter.';
comment on column stage.events.utm_content is 'Which of a campaign''s advertisements or links was followed.';
comment on column stage.events.utm_campaign is 'The advertising campaign that led here.';
comment on column stage.events.click_id is
'Identifier of the click on an advertisement. Personal data: the source may give a user the same one always.';
comment on column stage.events.geo_latitude is 'Latitude of the visitor''s place, in degrees. Personal data.';
comment on column stage.events.geo_longitude is 'Longitude of the visitor''s place, in degrees. Personal data.';
comment on column stage.events.geo_country is 'Country of the visitor''s place, by its code of two letters.';
comment on column stage.events.geo_timezone is 'Time zone of the visitor''s place, as Europe/Berlin.';
comment on column stage.events.geo_region_name is 'Town or region of the visitor''s place. Personal data.';
comment on column stage.events.ip_address is 'Network address of the visitor. Personal data.';
comment on column stage.events.browser_name is 'Name of the browser.';
comment on column stage.events.browser_user_agent is
'What the browser says of itself, whole. Personal data: it may tell visitors apart.';
comment on column stage.events.browser_language is 'Language that the browser asks for, as de_DE.';
comment on column stage.events.os is 'The visitor''s operating system with its version.';
comment on column stage.events.os_name is 'Name of the visitor''s operating system.';
comment on column stage.events.os_timezone is 'Time zone that the visitor''s device is set to.';
comment on column stage.events.device_type is 'Kind of the visitor''s device, as Mobile.';
comment on column stage.events.device_is_mobile is 'Whether the visitor''s device is a mobile one.';
comment on column stage.events.user_custom_id is
'The user as the site knows them, often by their e-mail address. Personal data.';
comment on column stage.events.user_domain_id is
'The user as the tracker knows them, by a cookie of the site. Personal data.';
comment on column stage.events.batch_id is 'The load that brought the row: stage.loads.id.';

comment on table stage.events_rejected is
'One row per record that its load could not store, whole as it stood; also of those that were loaded since.';
comment on sequence stage.events_rejected_id_seq is 'Numbers of the rows of stage.events_rejected.';
comment on column stage.events_rejected.id is 'Number of the row, in the order of loading.';
comment on column stage.events_rejected.batch_id is 'The load that met the record: stage.loads.id.';
comment on column stage.events_rejected.source_file is 'Path of the file that held the record; - for standard input.';
comment on column stage.events_rejected.line_number is
'Line on which the record starts, from 1; in a Parquet file the number of the row.';
comment on column stage.events_rejected.reason is 'Why the record could not be stored.';
comment on column stage.events_rejected.raw is
'The record as it stood; a byte that text cannot hold as \xNN. Personal data.';
comment on column stage.events_rejected.rejected_at is 'When the record was set aside.';
comment on column stage.events_rejected.replayed_by is
'The load that brought the record after all: stage.loads.id; null while it is a reject.';
comment on column stage.events_rejected.raw_bytes is
'The record''s bytes where raw can''t tell them; null where they are those of raw, or unknown. Personal data.';
comment on view stage.standing_rejects is
'One row per record that is a reject still, also of loads that failed, with what it takes to read it.';
comment on column stage.standing_rejects.id is 'Number of the reject: stage.events_rejected.id.';
comment on column stage.standing_rejects.batch_id is 'The load that met the record: stage.loads.id.';
comment on column stage.standing_rejects.status is 'The load''s status: loaded, or failed.';
comment on column stage.standing_rejects.file_name is 'Path of the file that held the record; - for standard input.';
comment on column stage.standing_rejects.format is 'Format in which the file was read.';
comment on column stage.standing_rejects.header is 'What stood before the file''s records: stage.loads.header.';
comment on column stage.standing_rejects.line_number is 'Line on which the record starts.';
comment on column stage.standing_rejects.reason is 'Why the record could not be stored.';
comment on column stage.standing_rejects.raw is
'The record as it stood; a byte that text cannot hold as \xNN. Personal data.';
comment on column stage.standing_rejects.source is 'The source whose mapping reads it: stage.loads.source.';
comment on column stage.standing_rejects.raw_bytes is
'The record''s bytes where raw can''t tell them: stage.events_rejected.raw_bytes. Personal data.';

comment on table stage.loads is
'One row per load of a file, or replay of rejects. A content is loaded once, whatever its name.';
comment on sequence stage.loads_id_seq is 'Numbers of loads; one that was skipped or undone leaves a gap.';
comment on column stage.loads.id is 'Number of the load, in the order of beginning: batch_id of its rows.';
comment on column stage.loads.file_name is
'Path of the file as it was given; - for standard input; of a replay which rejects it brought.';
comment on column stage.loads.checksum is
'SHA-256 of the file''s bytes, in hexadecimal; of a replay that of the numbers of its rejects.';
comment on column stage.loads.size is 'Size of the file, or of the records of a replay, in bytes.';
comment on column stage.loads.format is
'Format in which the file was read, as jsonl or csv, with its packing; rejects for a replay.';
comment on column stage.loads.rows_loaded is 'Number of its rows in stage.events.';
comment on column stage.loads.rows_rejected is
'Number of its records in stage.events_rejected, those that were loaded since among them.';
comment on column stage.loads.started_at is 'When the file was opened.';
comment on column stage.loads.finished_at is 'When the file had been read to its end.';
comment on column stage.loads.status is
'loaded, or failed: too many rejects, then the rejects are here and the rows are not.';
comment on column stage.loads.refreshed_at is 'When a refresh took the load into the marts; null while none has.';
comment on column stage.loads.header is
'What stood before the records: a CSV''s header line, the bracket of a JSON array; null for nothing, or unknown.';

comment on column stage.loads.source is
'The source whose mapping read the file (docs/sources.md); null for one with the columns of stage.events.';
comment on column stage.loads.events_passed is
'Number of events in the file that the mapping did not ask for, which are neither rows nor rejects.';

comment on table stage.partitions is 'One row per partition of stage.events, also one that was detached.';
comment on column stage.partitions.table_name is 'The partition''s name in the schema stage.';
comment on column stage.partitions.first_load is 'The first load whose rows it holds.';
comment on column stage.partitions.end_load is 'The load behind the last one whose rows it may hold.';
comment on column stage.partitions.detached_at is
'When it was taken out of stage.events, with its rows; null while it is in it.';

comment on table stage.bulk_loads is 'One row per bulk load: files that many sessions wrote at once.';
comment on column stage.bulk_loads.first_load is 'The first of the numbers that its files have in stage.loads.';
comment on column stage.bulk_loads.end_load is 'The number behind the last of them; some may belong to no load.';
comment on column stage.bulk_loads.status is
'open: pieces are written; closed: no more are; published: its rows are in stage.events; dropped: it left nothing.';
comment on column stage.bulk_loads.started_at is 'When it took its numbers.';
comment on column stage.bulk_loads.finished_at is 'When it was published or dropped; null while it is neither.';

comment on table stage.bulk_pieces is
'One row per transaction that wrote a piece of a bulk load that is not yet published; some may count for nothing.';
comment on column stage.bulk_pieces.first_load is 'The bulk load: stage.bulk_loads.first_load.';
comment on column stage.bulk_pieces.written_by is 'The transaction, which the rows have as their xmin.';

comment on function stage.pass_bulk_loads(bigint) is
'The number or, where a bulk load has taken it, a new one that none has; and the end of all that are taken.';
comment on function stage.begin_bulk_load(bigint) is
'Takes so many numbers of loads, makes the tables that their rows and rejects go to, and returns the first number.';
comment on function stage.end_bulk_piece(bigint) is
'Ends the transaction of a piece, which counts by the number returned; refused once the bulk load is closed.';
comment on function stage.close_bulk_load(bigint) is 'From now on no piece of the bulk load can be committed.';
comment on function stage.end_bulk_writers(bigint) is 'Ends the sessions that still write to a bulk load.';
comment on function stage.finish_bulk_load(bigint, xid8[], bigint[]) is
'Leaves the rows of those pieces, without those of some loads, and builds the key.';
comment on function stage.keep_bulk_rejects(bigint, bigint[], text[], bigint[], bigint[], bigint[]) is
'Takes the rejects of these loads into stage.events_rejected, their lines counted from the start of the file.';
comment on function stage.attach_bulk_load(bigint) is
'Makes the rows of a bulk load visible, as a partition of stage.events.';
comment on function stage.drop_bulk_rows(bigint, bigint[]) is
'Deletes the rows and rejects of loads whose content another load has brought first.';
comment on function stage.dead_bulk_loads() is 'The bulk loads whose session is gone, closed.';
comment on function stage.drop_bulk_load(bigint) is
'Drops what a bulk load that is not published has written; does nothing where another session still runs it.';

comment on function stage.begin_load() is
'The number of a load that begins; a partition of stage.events is there for it.';
comment on function stage.detach_events(timestamptz) is
'Takes the raw rows of loads that ended before an instant out of stage.events, as tables of their own; names these.';

comment on function stage.reason_kind(text) is
'A reason without what differs from record to record: a value is "...", a number N, a byte 0xNN.';
comment on function stage.input_error(text, text) is
'What PostgreSQL says of a text as input of int4, float8 or boolean; null where it takes the text.';
