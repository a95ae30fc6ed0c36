"""A copy of the project's schemas in the same database, in which a change is tried before anything changes.

The copy stands beside the real schemas under names of its own. A transaction that is rolled back in the end gives it
the real names: whatever the project's SQL does there, also within functions, it does to the copy, and no other session
ever sees the names change.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql

from .errors import WarehouseError
from .project import Project
from .statements import split_statements
from .warehouse import Connection, message_of, reset_session

logger = logging.getLogger(__name__)

#: Of the copy's schemas, between transactions; what a run that was killed has left is found by it.
_COPY: Final = "clickmart_plan_"
#: Of the real schemas, while the copy has their names.
_REAL: Final = "clickmart_real_"
#: The raw layer is by far the largest, and a refresh only reads it: in its place stands a view of the real one.
RAW: Final = "stage.events"
#: Schemas that others use too.
_NEVER: Final = ("public", "clickmart")
_CREATE_SCHEMA: Final = re.compile(
    r'create\s+schema\s+(?:if\s+not\s+exists\s+)?(?P<name>"(?:[^"]|"")+"|[\w$]+)', re.IGNORECASE
)

_SCHEMAS: Final = "select oid, nspname from pg_namespace where nspname = any (%s) order by nspname"
_LEFT: Final = r"select nspname from pg_namespace where nspname like 'clickmart\_plan\_%'"

#: How the objects are made that stand in the schemas, but for what belongs to an extension: with an empty search path
#: PostgreSQL names each with its schema. `late`: once the rows are there.
_OBJECTS: Final = """
    with objects (classid, oid, late, statement) as (
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
            and tables.relnamespace = any (%(schemas)s::oid[])
            and tables.oid != all (%(raw)s::oid[])
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
            and adrelid != all (%(raw)s::oid[])
            and (select relnamespace from pg_class where oid = adrelid) = any (%(schemas)s::oid[])
        union all
        select 'pg_constraint'::regclass, constraints.oid, true, format(
            'alter table %%s add constraint %%I %%s', conrelid::regclass, conname, pg_get_constraintdef(oid)
        )
        from pg_constraint as constraints
        where
            contype in ('p', 'u', 'x', 'c', 'f')
            and conislocal
            and conparentid = 0
            and conrelid != all (%(raw)s::oid[])
            and (select relnamespace from pg_class where oid = conrelid) = any (%(schemas)s::oid[])
        union all
        select 'pg_class'::regclass, indexes.oid, true, pg_get_indexdef(indexes.oid)
        from pg_class as indexes
        inner join pg_index on indexrelid = indexes.oid
        where
            indisvalid
            and not indexes.relispartition
            and not exists (select from pg_constraint where conindid = indexes.oid and contype != 'f')
            and indrelid != all (%(raw)s::oid[])
            and indexes.relnamespace = any (%(schemas)s::oid[])
        union all
        select 'pg_trigger'::regclass, triggers.oid, true, pg_get_triggerdef(triggers.oid)
        from pg_trigger as triggers
        where
            not tgisinternal
            and tgparentid = 0
            and tgrelid != all (%(raw)s::oid[])
            and (select relnamespace from pg_class where oid = tgrelid) = any (%(schemas)s::oid[])
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
_RAW: Final = """
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
_TABLES: Final = """
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

_SEQUENCES: Final = """
    select nspname, relname
    from pg_class
    inner join pg_namespace on pg_namespace.oid = relnamespace
    where relkind = 'S' and relnamespace = any (%(schemas)s::oid[])"""

#: Views elsewhere that read the schemas: while they stand, what they need can't be dropped.
_READERS: Final = """
    select distinct views.relnamespace::regnamespace::text, views.relname, pg_get_viewdef(views.oid)
    from pg_depend as uses
    inner join pg_rewrite on pg_rewrite.oid = uses.objid and uses.classid = 'pg_rewrite'::regclass
    inner join pg_class as views on views.oid = pg_rewrite.ev_class
    inner join pg_class as used on used.oid = uses.refobjid and uses.refclassid = 'pg_class'::regclass
    where
        used.relnamespace = any (%(schemas)s::oid[])
        and views.relnamespace != all (%(schemas)s::oid[])"""

_STAND_IN: Final = """
    create view {name} as select * from {real};
    create function {refuse}() returns trigger language plpgsql as $$
    begin
        raise '"%", for which a view stands here, can''t be changed', tg_table_name using errcode = 'wrong_object_type';
    end
    $$;
    create trigger refuse instead of insert or update or delete on {name} for each row execute function {refuse}()"""


@dataclass(frozen=True, slots=True)
class Shadow:
    """The copy: of which schemas, how many bytes of tables were copied, and the real tables that a view stands for."""

    schemas: tuple[str, ...]
    bytes_copied: int
    read_through: tuple[str, ...]

    def take_names(self, connection: Connection) -> None:
        """Gives the copy the real names, until the transaction is rolled back."""
        for schema in self.schemas:
            _rename(connection, schema, _REAL + schema)
            _rename(connection, _COPY + schema, schema)

    def _give_back_names(self, connection: Connection) -> None:
        for schema in self.schemas:
            _rename(connection, schema, _COPY + schema)
            _rename(connection, _REAL + schema, schema)


def real_schema(schema: str) -> str:
    """The name of the real schema while the copy has its own."""
    return _REAL + schema


def project_schemas(project: Project) -> frozenset[str]:
    """The schemas that the project makes, or has a folder of sql/ for."""
    names = {path.split("/")[1] for path in project.file_paths}
    for part in [migration.text for migration in project.migrations] + [file.text for file in project.files]:
        for statement in split_statements(part):
            if statement.words == ("create", "schema") and (found := _CREATE_SCHEMA.match(statement.text)):
                name = found["name"]
                names.add(name[1:-1].replace('""', '"') if name.startswith('"') else name.lower())
    return frozenset(names.difference(_NEVER))


@contextmanager
def shadowed(connection: Connection, schemas: Iterable[str], *, copy_raw: bool) -> Iterator[Shadow]:
    """A copy of those of the schemas that exist, which is gone at the end. To be called under the lock of applies.

    Without `copy_raw` the raw layer is not copied but read where it is. Raises WarehouseError where something can't be
    copied, as where the schemas are another role's.
    """
    _drop(connection)
    try:
        yield _copy(connection, schemas, copy_raw=copy_raw)
    finally:
        if not connection.closed:
            reset_session(connection)
            _drop(connection)


def _drop(connection: Connection) -> None:
    """Drops the copy, or what a run that was killed has left of one."""
    for (name,) in connection.execute(_LEFT).fetchall():
        connection.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(str(name))))


def _copy(connection: Connection, schemas: Iterable[str], *, copy_raw: bool) -> Shadow:
    with connection.transaction():
        connection.execute("set local search_path = ''; set local check_function_bodies = off")
        found = connection.execute(_SCHEMAS, (list(schemas),)).fetchall()
        asked = {"schemas": [oid for oid, _ in found], "copy_raw": copy_raw, "name": RAW}
        raw = connection.execute(_RAW, asked).fetchall()
        asked["raw"] = [oid for oid, *_ in raw]
        objects = connection.execute(_OBJECTS, asked).fetchall()
        tables = connection.execute(_TABLES, asked).fetchall()
        sequences = connection.execute(_SEQUENCES, asked).fetchall()
        readers = connection.execute(_READERS, asked).fetchall()

        stand_ins = [(schema, name) for _, schema, name, is_partition in raw if not is_partition]
        shadow = Shadow(
            schemas=tuple(str(name) for _, name in found),
            bytes_copied=sum(int(str(size)) for *_, size in tables),
            read_through=tuple(str(name) for _, name in stand_ins),
        )
        _make_schemas(connection, shadow)
        for schema, name in stand_ins:
            copy, real = _both(schema, name)
            refuse = sql.Identifier(str(schema), f"refuse_{name}")
            connection.execute(sql.SQL(_STAND_IN).format(name=copy, real=real, refuse=refuse))
        _make(connection, [(str(what), str(text)) for late, what, text in objects if not late])
        for schema, name, columns, values, _ in tables:
            logger.info("copying %s.%s", schema, name)
            insert = sql.SQL("insert into {} ({}) overriding system value select {} from {}")
            copy, real = _both(schema, name)
            connection.execute(insert.format(copy, sql.SQL(str(columns)), sql.SQL(str(values)), real))
        _make(connection, [(str(what), str(text)) for late, what, text in objects if late])
        for schema, name in sequences:
            setval = sql.SQL("select setval({}, last_value, is_called) from {}")
            copy, real = _both(schema, name)
            connection.execute(setval.format(copy.as_string(connection), real))
        for schema, name, text in readers:
            outside = _COPY + str(schema)
            connection.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(outside)))
            view = sql.SQL("create view {} as {}")
            connection.execute(view.format(sql.Identifier(outside, str(name)), sql.SQL(str(text))))
        for schema, name, *_ in tables:
            copy, _ = _both(schema, name)
            # An autovacuum would wait for what is tried, and others for the autovacuum.
            options = sql.SQL("autovacuum_enabled = off, toast.autovacuum_enabled = off")
            connection.execute(sql.SQL("alter table {} set ({})").format(copy, options))
            connection.execute(sql.SQL("analyze {}").format(copy))
        shadow._give_back_names(connection)
    return shadow


def _make_schemas(connection: Connection, shadow: Shadow) -> None:
    try:
        for schema in shadow.schemas:
            connection.execute(sql.SQL("create schema {}").format(sql.Identifier(_COPY + schema)))
        shadow.take_names(connection)
    except psycopg.errors.InsufficientPrivilege as error:
        raise WarehouseError(
            f"no copy of {' and '.join(shadow.schemas)} can be made to try the change in: {message_of(error)}; it "
            "takes the schemas' owner, who may create schemas in the database"
        ) from error


def _make(connection: Connection, statements: list[tuple[str, str]]) -> None:
    """Makes the objects, each as soon as those are there that it needs."""
    while statements:
        waiting = []
        for what, text in statements:
            try:
                with connection.transaction():
                    connection.execute(text.encode(), prepare=False)
            except psycopg.ProgrammingError as error:
                waiting.append((what, text))
                problem = f"{what} can't be copied to try the change in: {message_of(error)}"
        if len(waiting) == len(statements):
            raise WarehouseError(problem)
        statements = waiting


def _both(schema: object, name: object) -> tuple[sql.Identifier, sql.Identifier]:
    """A copy and what it is one of, while the copy has the name."""
    return sql.Identifier(str(schema), str(name)), sql.Identifier(_REAL + str(schema), str(name))


def _rename(connection: Connection, schema: str, name: str) -> None:
    connection.execute(sql.SQL("alter schema {} rename to {}").format(sql.Identifier(schema), sql.Identifier(name)))
