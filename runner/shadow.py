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

from . import shadow_catalog as catalog
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
        raw = connection.execute(catalog.READ_THROUGH, asked).fetchall()
        asked["raw"] = [oid for oid, *_ in raw]
        objects = connection.execute(catalog.OBJECTS, asked).fetchall()
        tables = connection.execute(catalog.TABLES, asked).fetchall()
        sequences = connection.execute(catalog.SEQUENCES, asked).fetchall()
        readers = connection.execute(catalog.READERS, asked).fetchall()

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
            quiet = sql.SQL("alter table {} set (autovacuum_enabled = off, toast.autovacuum_enabled = off)")
            connection.execute(quiet.format(copy))
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
