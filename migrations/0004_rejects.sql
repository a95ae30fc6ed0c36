-- Rejects that are loaded after all: what it takes to read a record again, and which load has brought it.

alter table stage.loads add column header bytea;

alter table stage.events_rejected
add column replayed_by bigint,
add column raw_bytes bytea;

create index events_rejected_replayed on stage.events_rejected (replayed_by) where replayed_by is not null;

-- Why a record was rejected, without what differs from one record to the next: the value at fault, a position, a count.
-- A reason that was cut to its length has lost the quote that ends the value.
create function stage.reason_kind(reason text) returns text
language sql immutable strict parallel safe as $$
    select regexp_replace(
        regexp_replace(
            regexp_replace(
                reason,
                case when length(reason) < 500 and reason like '%"%"%' then '".*"' else '".*' end,
                '"..."'
            ),
            '(^| )[0-9]+\M', '\1N', 'g'
        ),
        '\m0x[0-9a-f]{2}\M', '0xNN', 'g'
    )
$$;

-- The rejects that were not loaded since, with what it takes to read them.
create view stage.standing_rejects as
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
    rejects.raw_bytes
from stage.events_rejected as rejects
inner join stage.loads on rejects.batch_id = loads.id
where rejects.replayed_by is null;

-- Of a bulk load the rejects have their bytes too. One that runs now has a table without them.
create or replace function stage.begin_bulk_load(count_loads bigint) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
    first_load bigint;
begin
    -- In the order in which stage.begin_load takes them.
    lock table only stage.events in access share mode;
    lock table stage.bulk_loads in share row exclusive mode;
    select passed.end_load into first_load from stage.pass_bulk_loads(0) as passed;
    insert into stage.bulk_loads (first_load, end_load) values (first_load, first_load + count_loads);

    -- The check spares the partition to be read when it is attached. The key is built when all rows are there.
    execute format(
        'create table stage.%I (like stage.events including all excluding indexes, '
        'constraint bulk_numbers check (batch_id >= %s and batch_id < %s))',
        'events_' || first_load, first_load, first_load + count_loads
    );
    execute format(
        'create table stage.%I (written_by xid8 not null default pg_current_xact_id(), batch_id bigint not null, '
        'piece_start bigint not null, line_number bigint not null, reason text not null, raw text not null, '
        'raw_bytes bytea)',
        'rejects_' || first_load
    );
    if session_user <> current_user then
        execute format(
            'grant insert on stage.%I, stage.%I to %I',
            'events_' || first_load, 'rejects_' || first_load, session_user
        );
    end if;
    perform pg_advisory_lock(hashtextextended('clickmart.bulk_load', first_load));
    return first_load;
end
$$;

do $$
declare
    running record;
begin
    for running in select first_load from stage.bulk_loads where status in ('open', 'closed') loop
        execute format(
            'alter table if exists stage.%I add column raw_bytes bytea', 'rejects_' || running.first_load
        );
    end loop;
end
$$;

create or replace function stage.keep_bulk_rejects(
    of_load bigint,
    loads bigint[],
    file_names text[],
    piece_loads bigint[],
    piece_starts bigint[],
    lines_before bigint[]
) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
    execute format(
        'insert into stage.events_rejected (batch_id, source_file, line_number, reason, raw, raw_bytes) '
        'select rejects.batch_id, files.name, pieces.lines_before + rejects.line_number, rejects.reason, rejects.raw, '
        'rejects.raw_bytes '
        'from stage.%I as rejects '
        'join unnest($1, $2) as files (load, name) on files.load = rejects.batch_id '
        'join unnest($3, $4, $5) as pieces (load, start, lines_before) '
        'on pieces.load = rejects.batch_id and pieces.start = rejects.piece_start '
        'order by rejects.batch_id, pieces.lines_before + rejects.line_number',
        'rejects_' || of_load
    )
    using loads, file_names, piece_loads, piece_starts, lines_before;
end
$$;
