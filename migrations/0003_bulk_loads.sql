-- Bulk loads: files that many sessions write at once, in pieces, and that become visible together.
--
-- Their rows go straight to a table of their own that becomes a partition of stage.events at the end, so that none is
-- written twice. Each piece is a transaction. One piece may be written more than once, by sessions that are slow or
-- were given up, so only those count that the load's own session names. That session holds an advisory lock: whoever
-- finds it free knows that the load is dead. The rights are those of the tables' owner, so that a role that may only
-- insert can load.

-- What was written: of a transaction that isn't among them, nothing is there.
create table stage.bulk_pieces (
    first_load bigint not null references stage.bulk_loads (first_load),
    written_by xid8 not null default pg_current_xact_id(),
    primary key (first_load, written_by)
);

create function stage.begin_bulk_load(count_loads bigint) returns bigint
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
        'piece_start bigint not null, line_number bigint not null, reason text not null, raw text not null)',
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

-- The last statement of a transaction that wrote a piece, whose number the load names it by. A load that is closed
-- takes no more; a session that comes to this point before makes the closing wait until it has committed.
create function stage.end_bulk_piece(of_load bigint) returns xid8
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
    perform from stage.bulk_loads where first_load = of_load and status = 'open' for share;
    if not found then
        raise exception 'the bulk load % has ended without this session', of_load;
    end if;
    insert into stage.bulk_pieces (first_load) values (of_load);
    return pg_current_xact_id();
end
$$;

create function stage.close_bulk_load(of_load bigint) returns void
language sql security definer
set search_path = pg_catalog, pg_temp as $$
    update stage.bulk_loads set status = 'closed' where first_load = of_load and status = 'open';
$$;

-- Ends the sessions that still write to a load that is closed; they could not commit.
-- The rights are the caller's, who is the role that writes.
create function stage.end_bulk_writers(of_load bigint) returns void
language sql
set search_path = pg_catalog, pg_temp as $$
    select pg_terminate_backend(pid)
    from (
        select distinct pid
        from pg_locks
        where
            database = (select oid from pg_database where datname = current_database())
            and relation in (to_regclass('stage.events_' || of_load), to_regclass('stage.rejects_' || of_load))
            and pid <> pg_backend_pid()
    ) as writers;
$$;

-- Leaves the rows of those pieces alone, and none of the loads that don't count, and builds the key.
create function stage.finish_bulk_load(of_load bigint, pieces xid8[], without_loads bigint[]) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
    others xid[] := array(
        select written_by::xid
        from stage.bulk_pieces
        where first_load = of_load and written_by <> all (pieces)
    );
begin
    if others <> '{}' or without_loads <> '{}' then
        execute format(
            'delete from stage.%I where xmin = any ($1) or batch_id = any ($2)', 'events_' || of_load
        )
        using others, without_loads;
    end if;
    execute format('delete from stage.%I where written_by <> all ($1)', 'rejects_' || of_load) using pieces;
    execute format('alter table stage.%I add primary key (batch_id, id)', 'events_' || of_load);
end
$$;

-- Makes the rejects whole: to the lines counted in a piece come those of its file before it.
create function stage.keep_bulk_rejects(
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
        'insert into stage.events_rejected (batch_id, source_file, line_number, reason, raw) '
        'select rejects.batch_id, files.name, pieces.lines_before + rejects.line_number, rejects.reason, rejects.raw '
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

-- Makes the rows visible. The lock is that of stage.begin_load, for the same reason; as long as somebody reads or
-- loads, it is asked for time and again, for a minute, since who waits for it makes all others wait.
create function stage.attach_bulk_load(of_load bigint) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
    bulk_load stage.bulk_loads;
begin
    for attempt in 1 .. 601 loop
        begin
            if attempt <= 600 then
                lock table only stage.events in access exclusive mode nowait;
            else
                lock table only stage.events in access exclusive mode;
            end if;
            exit;
        exception when lock_not_available then
            perform pg_sleep(0.1);
        end;
    end loop;

    update stage.bulk_loads
    set status = 'published', finished_at = clock_timestamp()
    where first_load = of_load and status = 'closed'
    returning * into strict bulk_load;
    execute format(
        'alter table stage.events attach partition stage.%I for values from (%s) to (%s)',
        'events_' || of_load, bulk_load.first_load, bulk_load.end_load
    );
    execute format('alter table stage.%I drop constraint bulk_numbers', 'events_' || of_load);
    if session_user <> current_user then
        execute format('revoke insert on stage.%I from %I', 'events_' || of_load, session_user);
    end if;
    execute format('drop table stage.%I', 'rejects_' || of_load);
    insert into stage.partitions (table_name, first_load, end_load)
    values ('events_' || of_load, bulk_load.first_load, bulk_load.end_load);
    delete from stage.bulk_pieces where first_load = of_load;
end
$$;

-- Takes out again what another session has loaded meanwhile.
create function stage.drop_bulk_rows(of_load bigint, without_loads bigint[]) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
    own_loads bigint[] := array(
        select number
        from unnest(without_loads) as number
        inner join stage.bulk_loads on number >= first_load and number < end_load
        where first_load = of_load
    );
begin
    delete from stage.events where batch_id = any (own_loads);
    delete from stage.events_rejected where batch_id = any (own_loads);
end
$$;

-- The bulk loads whose session is gone; from now on nobody can write to them. One that a session of its own is just
-- about to write to is left to the next.
create function stage.dead_bulk_loads() returns setof bigint
language sql security definer
set search_path = pg_catalog, pg_temp as $$
    update stage.bulk_loads set status = 'closed'
    where first_load in (
        select first_load
        from stage.bulk_loads
        where
            status in ('open', 'closed')
            and pg_try_advisory_xact_lock(hashtextextended('clickmart.bulk_load', first_load))
        for update skip locked
    )
    returning first_load;
$$;

-- Drops what a bulk load has written, unless it is visible, or its session is there and another one than this.
create function stage.drop_bulk_load(of_load bigint) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
    update stage.bulk_loads
    set status = 'dropped', finished_at = clock_timestamp()
    where
        first_load = of_load
        and status in ('open', 'closed')
        and pg_try_advisory_xact_lock(hashtextextended('clickmart.bulk_load', first_load));
    if found then
        execute format(
            'drop table if exists stage.%I, stage.%I', 'events_' || of_load, 'rejects_' || of_load
        );
        delete from stage.bulk_pieces where first_load = of_load;
    end if;
end
$$;

revoke execute on function
stage.begin_bulk_load(bigint),
stage.end_bulk_piece(bigint),
stage.close_bulk_load(bigint),
stage.end_bulk_writers(bigint),
stage.finish_bulk_load(bigint, xid8[], bigint[]),
stage.keep_bulk_rejects(bigint, bigint[], text[], bigint[], bigint[], bigint[]),
stage.attach_bulk_load(bigint),
stage.drop_bulk_rows(bigint, bigint[]),
stage.dead_bulk_loads(),
stage.drop_bulk_load(bigint)
from public;
