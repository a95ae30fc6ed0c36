-- The rows of a file that many sessions write are numbered in the order of the file, whichever comes first: so of its
-- deliveries of one page view the same one stands for all as if one session had written them.

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

    -- The check spares the partition to be read when it is attached. The key is built when all rows are there. A number
    -- is one of the sequence, which makes it the only one, behind all that a piece before it may have.
    execute format(
        'create table stage.%I (like stage.events including all excluding indexes, '
        'constraint bulk_numbers check (batch_id >= %s and batch_id < %s))',
        'events_' || first_load, first_load, first_load + count_loads
    );
    execute format(
        'alter table stage.%I alter column id set default nextval(''stage.events_id_seq'') '
        '+ (coalesce(nullif(current_setting(''clickmart.piece'', true), ''''), ''0'')::bigint << 40)',
        'events_' || first_load
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

create or replace function stage.finish_bulk_load(of_load bigint, pieces xid8[], without_loads bigint[]) returns void
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
    execute format(
        'alter table stage.%I alter column id set default nextval(''stage.events_id_seq''), '
        'add primary key (batch_id, id)',
        'events_' || of_load
    );
end
$$;
