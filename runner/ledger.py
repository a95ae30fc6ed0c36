"""What the database says is applied, loaded and refreshed. Only reads, but for the functions that write a row."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from .errors import ProjectError
from .project import Migration, SqlFile
from .version import __version__
from .warehouse import Connection

logger = logging.getLogger(__name__)

#: Applies wait for each other by this lock, as does cdm.refresh.
_LOCK: Final = "hashtextextended('clickmart.apply', 0)"
_LOCK_SECONDS: Final = 0.1

_SCHEMA: Final = """
create schema if not exists clickmart;
comment on schema clickmart is 'What clickmart has applied here.';

create table if not exists clickmart.migrations (
    name text primary key,
    checksum text not null,
    applied_at timestamptz not null default clock_timestamp(),
    version text not null
);
comment on table clickmart.migrations is 'One row per migration that was applied.';
comment on column clickmart.migrations.name is 'Name of the file in migrations/.';
comment on column clickmart.migrations.checksum is 'SHA-256 of the file as it was applied.';
comment on column clickmart.migrations.applied_at is 'When it was applied.';
comment on column clickmart.migrations.version is 'The version of clickmart that applied it.';

create table if not exists clickmart.files (
    path text primary key,
    template_checksum text not null,
    checksum text not null,
    settings jsonb not null,
    applied_at timestamptz not null default clock_timestamp(),
    version text not null
);
comment on table clickmart.files is 'One row per SQL file, as it was last applied.';
comment on column clickmart.files.path is 'Path of the file in the project folder.';
comment on column clickmart.files.template_checksum is 'SHA-256 of the template.';
comment on column clickmart.files.checksum is 'SHA-256 of the rendered text.';
comment on column clickmart.files.settings is 'The settings with which it was rendered.';
comment on column clickmart.files.applied_at is 'When it was last applied.';
comment on column clickmart.files.version is 'The version of clickmart that applied it.';

create table if not exists clickmart.project (
    only_row boolean primary key default true check (only_row),
    fingerprint text not null
);
comment on table clickmart.project is
'One row per warehouse: the project whose SQL files all stand as they are in clickmart.files.';
comment on column clickmart.project.only_row is 'Always true: the key that allows for one row.';
comment on column clickmart.project.fingerprint is
'SHA-256 of all that the SQL files are rendered from: while a project has it, none needs to be rendered.';
"""


@dataclass(frozen=True, slots=True)
class AppliedMigration:
    """A row of clickmart.migrations; `version` is that of the clickmart that applied it."""

    name: str
    checksum: str
    applied_at: datetime
    version: str

    @property
    def path(self) -> str:
        return f"migrations/{self.name}"

    @property
    def is_by_newer(self) -> bool:
        """Whether a release newer than this one applied it."""
        return _release(self.version) > _release(__version__)


@dataclass(frozen=True, slots=True)
class AppliedFile:
    """A row of clickmart.files."""

    path: str
    template_checksum: str
    checksum: str
    settings: Mapping[str, Any]
    applied_at: datetime


@dataclass(frozen=True, slots=True)
class Load:
    """A row of stage.loads, without its checksum; `refreshed_at` is None while the marts lack it."""

    id: int
    file_name: str
    format: str
    size: int
    rows_loaded: int
    rows_rejected: int
    started_at: datetime
    finished_at: datetime
    status: str
    refreshed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Ledger:
    """What stands in a database; empty is a database that clickmart has not touched.

    `fingerprint` is that of the project whose SQL files stand. `new_loads` and `new_rows` are not in the marts yet;
    `rebuild` says that the next refresh builds marts anew.
    """

    migrations: Mapping[str, AppliedMigration] = field(default_factory=dict)
    files: Mapping[str, AppliedFile] = field(default_factory=dict)
    fingerprint: str = ""
    new_loads: int = 0
    new_rows: int = 0
    rebuild: bool = False
    last_loads: tuple[Load, ...] = ()


def read_ledger(connection: Connection, last_loads: int = 0) -> Ledger:
    """The ledger of the database, with the last `last_loads` loads, newest first."""
    if not _exists(connection, "clickmart.files"):
        return Ledger()
    with connection.cursor(row_factory=class_row(AppliedMigration)) as cursor:
        migrations = cursor.execute(
            "select name, checksum, applied_at, version from clickmart.migrations order by name"
        ).fetchall()
    with connection.cursor(row_factory=class_row(AppliedFile)) as files_cursor:
        files = files_cursor.execute(
            "select path, template_checksum, checksum, settings, applied_at from clickmart.files"
        ).fetchall()
    ledger = Ledger({row.name: row for row in migrations}, {row.path: row for row in files})
    if _exists(connection, "clickmart.project"):
        stands = connection.execute("select fingerprint from clickmart.project").fetchone()
        ledger = replace(ledger, fingerprint=str(stands[0]) if stands else "")
    if not _exists(connection, "stage.loads"):
        return ledger
    new = connection.execute(
        "select count(*), coalesce(sum(rows_loaded), 0)::bigint from stage.loads "
        "where status = 'loaded' and refreshed_at is null"
    ).fetchone()
    with connection.cursor(row_factory=class_row(Load)) as loads_cursor:
        loads = loads_cursor.execute(
            "select id, file_name, format, size, rows_loaded, rows_rejected, started_at, finished_at, status, "
            "refreshed_at from stage.loads order by id desc limit %s",
            (last_loads,),
        ).fetchall()
    count, rows = new or (0, 0)
    rebuild = False
    if _exists(connection, "cdm.rebuild"):
        rebuild = _is_true(connection, "select exists (select from cdm.rebuild where page_views or purchases)")
    return replace(ledger, new_loads=int(str(count)), new_rows=int(str(rows)), rebuild=rebuild, last_loads=tuple(loads))


def refuse_older(connection: Connection) -> None:
    """Raises ProjectError where the tables of the raw layer lack what loads of this version write."""
    if not _exists(connection, "stage.events_rejected"):
        return
    lacking = [] if _exists(connection, "stage.standing_rejects") else ["0004_rejects.sql"]
    lacking += [] if _exists(connection, "stage.loads_source") else ["0006_sources.sql"]
    if lacking:
        raise ProjectError(
            f"this warehouse is of an older clickmart and lacks migrations/{' and '.join(lacking)}: run `clickmart "
            "apply`; a project of your own is to be given what the built-in one has there before"
        )


def refuse_empty(connection: Connection, what: str) -> None:
    """Raises ProjectError where there are no tables yet to do that with."""
    if not _exists(connection, "stage.loads"):
        raise ProjectError(f"nothing to {what}: this warehouse has no tables yet; run `clickmart apply`")


def lock(connection: Connection) -> None:
    """Takes the lock that applies hold for their session; waits for it where another has it.

    It asks again and again, since a session that waits within a statement would keep the `create index concurrently`
    of the other waiting: each would wait for the other.
    """
    waits = False
    while not _is_true(connection, f"select pg_try_advisory_lock({_LOCK})"):
        if not waits:
            logger.info("waiting for another apply to end")
        waits = True
        time.sleep(_LOCK_SECONDS)


def unlock(connection: Connection) -> None:
    connection.execute(f"select pg_advisory_unlock({_LOCK})")


def make_ledger(connection: Connection) -> None:
    """Makes the ledger's tables where they are missing; to be called under the lock."""
    if not _exists(connection, "clickmart.project"):
        with connection.transaction():
            connection.execute(_SCHEMA)


def write_migration(connection: Connection, migration: Migration) -> None:
    connection.execute(
        "insert into clickmart.migrations (name, checksum, version) values (%s, %s, %s)",
        (migration.name, migration.checksum, __version__),
    )


def write_file(connection: Connection, file: SqlFile, settings: Mapping[str, Any]) -> None:
    connection.execute(
        "insert into clickmart.files (path, template_checksum, checksum, settings, version) "
        "values (%s, %s, %s, %s, %s) on conflict (path) do update set "
        "template_checksum = excluded.template_checksum, checksum = excluded.checksum, "
        "settings = excluded.settings, applied_at = excluded.applied_at, version = excluded.version",
        (file.path, file.template_checksum, file.checksum, Jsonb(dict(settings)), __version__),
    )


def write_fingerprint(connection: Connection, fingerprint: str) -> None:
    connection.execute(
        "insert into clickmart.project (fingerprint) values (%s) "
        "on conflict (only_row) do update set fingerprint = excluded.fingerprint",
        (fingerprint,),
    )


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a version, without what marks it as a preliminary one."""
    return tuple(int(number) for number in re.sub(r"[^\d.].*", "", version).split(".") if number)


def _exists(connection: Connection, relation: str) -> bool:
    return _is_true(connection, "select to_regclass(%s) is not null", relation)


def _is_true(connection: Connection, query: str, *parameters: object) -> bool:
    row = connection.execute(query.encode(), parameters).fetchone()
    return bool(row and row[0])
