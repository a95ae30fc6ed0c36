"""What PostgreSQL's catalog says of the schemas that are copied to try a change in: queries alone (see shadow.py).

`schemas` and `raw` are numbers, of schemas and of the tables for which a view stands.
"""

from __future__ import annotations

from typing import Final

#: How the objects are made that stand in the schemas, but for what belongs to an extension: with an empty search path
#: PostgreSQL names each with its schema. `late`: once the rows are there.
OBJECTS: Final = """
    with relations as (
        select oid
        from pg_class
        where relnamespace = any (%(schemas)s::oid[]) and oid != all (%(raw)s::oid[])
    ),
    objects (classid, oid, late, statement) as (
        select 'pg_type'::regclass, types.oid, false, format(
            'create type %%s as enum (%%s)', types.oid::regtype,
            (select string_agg(quote_literal(enumlabel), ', ' order by enumsortorder)
             from pg_enum where enumtypid = types.oid)
        )
        from pg_type as types
        where types.typtype = 'e' and types.typnamespace = any (%(schemas)s::oid[])
        union all
        select 'pg_type'::regclass, types.oid, false, concat(
            'create domain ', types.oid::regtype, ' as ', format_type(types.typbasetype, types.typtypmod),
            case when types.typcollation != bases.typcollation then ' collate ' || types.typcollation::regcollation end,
            ' default ' || types.typdefault,
            case when types.typnotnull then ' not null' end,
            (select string_agg(' ' || pg_get_constraintdef(oid), '')
             from pg_constraint where contypid = types.oid and contype = 'c')
        )
        from pg_type as types
        inner join pg_type as bases on bases.oid = types.typbasetype
        where types.typtype = 'd' and types.typnamespace = any (%(schemas)s::oid[])
        union all
        select 'pg_class'::regclass, sequences.oid, false, format(
            'create sequence %%s as %%s increment %%s minvalue %%s maxvalue %%s start %%s cache %%s %%s',
            sequences.oid::regclass, seqtypid::regtype, seqincrement, seqmin, seqmax, seqstart, seqcache,
            case when seqcycle then 'cycle' else 'no cycle' end
        )
        from pg_class as sequences
        inner join pg_sequence on seqrelid = sequences.oid
        where
            sequences.relnamespace = any (%(schemas)s::oid[])
            -- That of an identity column comes with its table.
            and not exists (select from pg_depend where objid = sequences.oid and deptype = 'i')
        union all
        select 'pg_class'::regclass, tables.oid, false, concat(
            case
                when tables.relkind = 'c' then 'create type '
                -- Who subscribes to all tables is to get none of the copy.
                when tables.relkind = 'r' and exists (select from pg_publication where puballtables)
                    then 'create unlogged table '
                else 'create table '
            end,
            tables.oid::regclass,
            case
                when tables.relispartition
                    then ' partition of ' || (select inhparent::regclass from pg_inherits where inhrelid = tables.oid)
                    || ' ' || pg_get_expr(tables.relpartbound, tables.oid)
                else case tables.relkind when 'c' then ' as (' else ' (' end || coalesce((
                    select string_agg(
                        concat(
                            quote_ident(attname), ' ', format_type(atttypid, atttypmod),
                            case when attcollation != typcollation then ' collate ' || attcollation::regcollation end,
                            case
                                when attgenerated != '' then ' generated always as ('
                                || (select pg_get_expr(adbin, adrelid) from pg_attrdef
                                    where adrelid = attrelid and adnum = attnum)
                                || case attgenerated when 's' then ') stored' else ') virtual' end
                            end,
                            (select format(
                                ' generated %%s as identity (sequence name %%s increment %%s minvalue %%s maxvalue %%s '
                                'start %%s cache %%s)', case attidentity when 'a' then 'always' else 'by default' end,
                                seqrelid::regclass, seqincrement, seqmin, seqmax, seqstart, seqcache
                            )
                             from pg_depend
                             inner join pg_sequence on seqrelid = objid
                             where refobjid = attrelid and refobjsubid = attnum and deptype = 'i'),
                            case when attnotnull then ' not null' end
                        ),
                        ', ' order by attnum
                    )
                    from pg_attribute
                    inner join pg_type on pg_type.oid = atttypid
                    where attrelid = tables.oid and attnum > 0 and not attisdropped
                ), '') || ')'
            end,
            ' partition by ' || pg_get_partkeydef(tables.oid),
            ' with (' || array_to_string(tables.reloptions, ', ') || ')'
        )
        from pg_class as tables
        where
            tables.relkind in ('r', 'p', 'c')
            and tables.oid in (select oid from relations)
        union all
        select 'pg_class'::regclass, views.oid, views.relkind = 'm', concat(
            case views.relkind when 'm' then 'create materialized view ' else 'create view ' end, views.oid::regclass,
            ' with (' || array_to_string(views.reloptions, ', ') || ')',
            ' as ', pg_get_viewdef(views.oid)
        )
        from pg_class as views
        where views.relkind in ('v', 'm') and views.relnamespace = any (%(schemas)s::oid[])
        union all
        select 'pg_proc'::regclass, routines.oid, false, pg_get_functiondef(routines.oid)
        from pg_proc as routines
        where routines.prokind != 'a' and routines.pronamespace = any (%(schemas)s::oid[])
        union all
        select 'pg_attrdef'::regclass, defaults.oid, true, format(
            'alter table only %%s alter column %%I set default %%s',
            adrelid::regclass, attname, pg_get_expr(adbin, adrelid)
        )
        from pg_attrdef as defaults
        inner join pg_attribute on attrelid = adrelid and attnum = adnum
        where
            attgenerated = ''
            and adrelid in (select oid from relations)
        union all
        select 'pg_constraint'::regclass, constraints.oid, true, format(
            'alter table %%s add constraint %%I %%s', conrelid::regclass, conname, pg_get_constraintdef(oid)
        )
        from pg_constraint as constraints
        where
            contype in ('p', 'u', 'x', 'c', 'f')
            and conislocal
            and conparentid = 0
            and conrelid in (select oid from relations)
        union all
        select 'pg_class'::regclass, indexes.oid, true, pg_get_indexdef(indexes.oid)
        from pg_class as indexes
        inner join pg_index on indexrelid = indexes.oid
        where
            indisvalid
            and not indexes.relispartition
            and not exists (select from pg_constraint where conindid = indexes.oid and contype != 'f')
            and indrelid in (select oid from relations)
        union all
        select 'pg_trigger'::regclass, triggers.oid, true, pg_get_triggerdef(triggers.oid)
        from pg_trigger as triggers
        where
            not tgisinternal
            and tgparentid = 0
            and tgrelid in (select oid from relations)
        union all
        select 'pg_statistic_ext'::regclass, statistics.oid, true, pg_get_statisticsobjdef(statistics.oid)
        from pg_statistic_ext as statistics
        where
            statistics.stxrelid != all (%(raw)s::oid[])
            and statistics.stxnamespace = any (%(schemas)s::oid[])
    )
    select late, pg_describe_object(classid, oid, 0), statement
    from objects
    where not exists (
        select from pg_depend
        where pg_depend.classid = objects.classid and pg_depend.objid = objects.oid and deptype = 'e'
    )
    order by oid"""

#: The raw layer and its partitions, and foreign tables, whose rows are elsewhere: which of them a view stands for.
READ_THROUGH: Final = """
    select pg_class.oid, nspname, relname, relispartition
    from pg_class
    inner join pg_namespace on pg_namespace.oid = relnamespace
    where
        (relkind = 'f' and relnamespace = any (%(schemas)s::oid[]))
        or (not %(copy_raw)s and (
            pg_class.oid = to_regclass(%(name)s)
            or pg_class.oid in (select inhrelid from pg_inherits where inhparent = to_regclass(%(name)s))
        ))"""

#: Tables with rows of their own: their columns and the expression for each, as a type of these schemas has a copy too.
TABLES: Final = """
    select
        nspname,
        relname,
        string_agg(quote_ident(attname), ', ' order by attnum),
        string_agg(
            quote_ident(attname)
            || case
                when coalesce(elements.typnamespace, types.typnamespace) = any (%(schemas)s::oid[])
                    then '::text::' || format_type(atttypid, atttypmod)
                else ''
            end,
            ', ' order by attnum
        ),
        pg_table_size(tables.oid)
    from pg_class as tables
    inner join pg_namespace on pg_namespace.oid = relnamespace
    inner join pg_attribute on attrelid = tables.oid and attnum > 0 and not attisdropped and attgenerated = ''
    inner join pg_type as types on types.oid = atttypid
    left join pg_type as elements on elements.oid = types.typelem and types.typlen = -1
    where
        tables.relkind = 'r'
        and tables.relnamespace = any (%(schemas)s::oid[])
        and tables.oid != all (%(raw)s::oid[])
    group by nspname, relname, tables.oid
    order by tables.oid"""

SEQUENCES: Final = """
    select nspname, relname
    from pg_class
    inner join pg_namespace on pg_namespace.oid = relnamespace
    where relkind = 'S' and relnamespace = any (%(schemas)s::oid[])"""

#: Views elsewhere that read the schemas: while they stand, what they need can't be dropped.
READERS: Final = """
    select distinct views.relnamespace::regnamespace::text, views.relname, pg_get_viewdef(views.oid)
    from pg_depend as uses
    inner join pg_rewrite on pg_rewrite.oid = uses.objid and uses.classid = 'pg_rewrite'::regclass
    inner join pg_class as views on views.oid = pg_rewrite.ev_class
    inner join pg_class as used on used.oid = uses.refobjid and uses.refclassid = 'pg_class'::regclass
    where
        used.relnamespace = any (%(schemas)s::oid[])
        and views.relnamespace != all (%(schemas)s::oid[])"""
