"""Runs a plan: each migration alone with its ledger row, then changed files and the refresh as one transaction."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from . import ledger
from .errors import ProjectError
from .ledger import Ledger, read_ledger
from .plan import Plan, make_plan
from .project import Migration, Project
from .settings import FILE_NAME, PATTERNS, line_of
from .sql_errors import sql_error
from .statements import split_statements
from .warehouse import Connection, Warehouse

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ApplyReport:
    """What an apply did, or would do where `planned`.

    Files are (path, reason). `rebuilt` says that marts were built anew and not only brought up to date.
    """

    planned: bool
    migrations: tuple[str, ...]
    files: tuple[tuple[str, str], ...]
    new_loads: int
    new_rows: int
    rebuilt: bool
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return {
            "planned": self.planned,
            "migrations": list(self.migrations),
            "files": [{"path": path, "reason": reason} for path, reason in self.files],
            "new_loads": self.new_loads,
            "new_rows": self.new_rows,
            "rebuilt": self.rebuilt,
            "seconds": round(self.seconds, 3),
        }

    def __str__(self) -> str:
        width = max(map(len, [*self.migrations, *(path for path, _ in self.files)]), default=0)
        lines = [f"{name:<{width}}  new" for name in self.migrations]
        lines += [f"{path:<{width}}  {reason}" for path, reason in self.files]
        if self.new_loads or self.rebuilt:
            loads = f"{self.new_loads:,} new load{'s' * (self.new_loads != 1)}, {self.new_rows:,} rows"
            lines.append(f"refresh: {loads}{', marts built anew' if self.rebuilt else ''}")
        if not lines:
            return "nothing to do"
        if self.planned:
            return "\n".join(["would apply:", *(f"  {line}" for line in lines)])
        return "\n".join([*lines, f"applied in {self.seconds:.1f} s"])


def plan(warehouse: Warehouse, project: Project, *, full: bool = False) -> ApplyReport:
    """What `apply` would do; changes nothing, also makes no embedded server.

    Raises ProjectError for a drifted migration or a bad setting.
    """
    if not warehouse.exists:
        return _report(make_plan(project, Ledger()), full=full)
    with warehouse.connect() as connection:
        check_settings(connection, project)
        planned = make_plan(project, read_ledger(connection))
        _refuse_drift(planned)
        return _report(planned, full=full)


def apply(warehouse: Warehouse, project: Project, *, full: bool = False) -> ApplyReport:
    """Brings the warehouse up to date with the project and its loads; `full` builds all marts anew.

    Raises ProjectError for a drifted migration or a bad setting, before anything runs, and SqlError for what
    PostgreSQL refuses: then the migrations before it stand, and nothing of the files and the refresh does.
    """
    started = time.monotonic()
    with warehouse.connect() as connection, _locked(connection):
        check_settings(connection, project)
        ledger.make_ledger(connection)
        planned = make_plan(project, read_ledger(connection))
        _refuse_drift(planned)
        for migration in planned.migrations:
            _apply_migration(connection, project, migration)
        with connection.transaction():
            for step in planned.files:
                logger.info("applying %s", step.file.path)
                with _said_of(project, step.file.path, step.file.text):
                    connection.execute(step.file.text.encode())
                ledger.write_file(connection, step.file, project.settings.as_dict())
            logger.info("refreshing the marts")
            connection.add_notice_handler(_log_notice)
            with _said_of(project, None):
                row = connection.execute(
                    "select count_loads, count_rows, is_rebuilt from cdm.refresh(%s)", (full,)
                ).fetchone()
        loads, rows, rebuilt = row or (0, 0, False)
        return replace(
            _report(planned, full=full),
            planned=False,
            new_loads=int(str(loads)),
            new_rows=int(str(rows)),
            rebuilt=bool(rebuilt),
            seconds=time.monotonic() - started,
        )


def apply_migrations(warehouse: Warehouse, project: Project) -> None:
    """Makes the tables of a warehouse that has none yet, so that files can be loaded before the first apply."""
    with warehouse.connect() as connection:
        if read_ledger(connection).migrations:
            return
        with _locked(connection):
            ledger.make_ledger(connection)
            for migration in make_plan(project, read_ledger(connection)).migrations:
                _apply_migration(connection, project, migration)


def check_settings(connection: Connection, project: Project) -> None:
    """Has PostgreSQL read the patterns and the window. Raises ProjectError with the line of clickmart.toml."""
    settings = project.settings
    questions = [(name, "select '' ~ %s", getattr(settings, name), "regular expression") for name in PATTERNS]
    # Subtracted from the first year there is, since a window must be able to reach back from any instant.
    window = "select %s::interval >= '0' and timestamp '0001-01-01' - %s::interval < timestamp '9999-12-31'"
    questions.append(("purchase_window", window, settings.purchase_window, "interval"))
    for name, query, value, kind in questions:
        try:
            row = connection.execute(query, (value,) * query.count("%s")).fetchone()
            problem = "is below zero" if name == "purchase_window" and not (row and row[0]) else None
        except psycopg.DataError as error:
            problem = f"is no {kind} that PostgreSQL takes: {error.diag.message_primary}"
        if problem:
            raise ProjectError(f"{_line_of_setting(project, name)}: {name} = {value!r} {problem}")


def _line_of_setting(project: Project, name: str) -> str:
    try:
        text = (project.folder / FILE_NAME).read_text(encoding="utf-8-sig")
    except OSError:
        return FILE_NAME
    return f"{FILE_NAME}:{line_of(text, name)}"


def _log_notice(notice: psycopg.errors.Diagnostic) -> None:
    """The refresh says on what it works."""
    logger.info("  %s", notice.message_primary)


def _refuse_drift(planned: Plan) -> None:
    if planned.drifted:
        names = ", ".join(migration.path for migration in planned.drifted)
        raise ProjectError(
            f"{names}: changed since it was applied; bring back what was applied, and put the change in a new migration"
        )


def _apply_migration(connection: Connection, project: Project, migration: Migration) -> None:
    logger.info("applying %s", migration.path)
    if migration.in_transaction:
        with connection.transaction():
            with _said_of(project, migration.path, migration.text):
                connection.execute(migration.content)
            ledger.write_migration(connection, migration)
        return
    for statement in split_statements(migration.text):
        with _said_of(project, migration.path, migration.text, statement.offset):
            connection.execute(statement.text.encode())
    ledger.write_migration(connection, migration)


def _report(planned: Plan, *, full: bool) -> ApplyReport:
    """The report of what would run."""
    return ApplyReport(
        planned=True,
        migrations=tuple(migration.path for migration in planned.migrations),
        files=tuple((step.file.path, step.reason) for step in planned.files),
        new_loads=planned.new_loads,
        new_rows=planned.new_rows,
        rebuilt=full,
        seconds=0.0,
    )


@contextmanager
def _locked(connection: Connection) -> Iterator[None]:
    if not ledger.lock(connection, wait=False):
        logger.info("waiting for another apply to end")
        ledger.lock(connection, wait=True)
    try:
        yield
    finally:
        if not connection.broken and not connection.closed:
            ledger.unlock(connection)


@contextmanager
def _said_of(project: Project, path: str | None, text: str = "", offset: int = 0) -> Iterator[None]:
    """Errors of PostgreSQL within are said with the project's own file and line."""
    try:
        yield
    except psycopg.Error as error:
        raise sql_error(error, project, path, text, offset) from error
