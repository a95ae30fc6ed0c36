-- Files that are read by a source's mapping: which one, and how many of their events it didn't ask for.

alter table stage.loads
add column source text,
add column events_passed bigint not null default 0;

create or replace view stage.standing_rejects as
select
    rejects.id,
    rejects.batch_id,
    loads.status,
    loads.file_name,
    loads.format,
    loads.header,
    rejects.line_number,
    rejects.reason,
    rejects.raw,
    rejects.raw_bytes,
    loads.source
from stage.events_rejected as rejects
inner join stage.loads on rejects.batch_id = loads.id
where rejects.replayed_by is null;

-- A refresh asks for the loads of a source.
create index loads_source on stage.loads (source) where source is not null;
