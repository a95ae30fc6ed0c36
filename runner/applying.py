"""Runs a plan: each migration alone with its ledger row, then changed files and the refresh as one transaction."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import psycopg

from . import ledger
from .errors import ClickmartError, ProjectError, WarehouseError
from .interrupts import standing
from .ledger import Ledger, read_ledger
from .mappings import FOLDER as SOURCES
from .plan import Plan, make_plan, refuse, refuse_unknown, unknown_migrations
from .progress import progress
from .project import Migration, Project
from .settings import FILE_NAME, PATTERNS
from .sql_errors import sql_error
from .statements import Statement, split_statements
from .tables import Block, Cell, Columns, counted, line, plain
from .toml_file import read_toml
from .warehouse import Connection, Warehouse, reset_session

if TYPE_CHECKING:
    from .rehearsal_report import Rehearsal

logger = logging.getLogger(__name__)

_REFRESH: Final = "cdm.refresh(boolean)"


@dataclass(frozen=True, slots=True)
class ApplyReport:
    """What an apply did, or would do where `planned`.

    Files are (path, reason). `rebuilt` says that marts were built anew and not only brought up to date. `rehearsal` is
    what the plan was found to do, where it was tried on a copy.
    """

    planned: bool
    migrations: tuple[str, ...]
    files: tuple[tuple[str, str], ...]
    new_loads: int
    new_rows: int
    rebuilt: bool
    seconds: float
    rehearsal: Rehearsal | None = None

    def as_dict(self) -> dict[str, Any]:
        said = {
            "planned": self.planned,
            "migrations": list(self.migrations),
            "files": [{"path": path, "reason": reason} for path, reason in self.files],
            "new_loads": self.new_loads,
            "new_rows": self.new_rows,
            "rebuilt": self.rebuilt,
            "seconds": round(self.seconds, 3),
        }
        return said | ({"data": self.rehearsal.as_dict()} if self.rehearsal else {})

    def __str__(self) -> str:
        return plain(self.blocks())

    def blocks(self) -> Iterator[Block]:
        rows = [(Cell(name, is_path=True), Cell("new", "open")) for name in self.migrations]
        rows += [(Cell(path, is_path=True), Cell(reason, "open")) for path, reason in self.files]
        refreshes = bool(self.new_loads or self.rebuilt)
        if not rows and not refreshes:
            yield line(Cell("nothing to do", "good"))
            return
        indent = 2 if self.planned else 0
        if self.planned:
            yield line(Cell("would apply:", "title"))
        if rows:
            yield Columns(tuple(rows), indent)
        if refreshes:
            loads = f"{counted(self.new_loads, 'new load')}, {counted(self.new_rows, 'row')}"
            anew = ", marts built anew" if self.rebuilt else ""
            yield line(" " * indent, Cell("refresh:", "open" if self.planned else "good"), f" {loads}{anew}")
        if not self.planned:
            yield line(Cell(f"applied in {self.seconds:.1f} s", "good"))
        if self.rehearsal:
            yield from self.rehearsal.blocks()


def plan(warehouse: Warehouse, project: Project, *, full: bool = False) -> ApplyReport:
    """What `apply` would do; changes nothing, also makes no embedded server.

    Raises ProjectError for an unknown or drifted migration or a bad setting.
    """
    planned, _ = plan_and_ledger(warehouse, project, full=full)
    refuse(project, planned)
    return planned_report(planned)


def plan_and_ledger(
    warehouse: Warehouse, project: Project, *, full: bool = False, last_loads: int = 0
) -> tuple[Plan, Ledger]:
    """What would run, and what stands with the last loads. Only reads, and makes no embedded server.

    Raises ProjectError where the project can't be read, or has a setting that PostgreSQL doesn't take.
    """
    if not warehouse.exists:
        return make_plan(project, Ledger(), full=full), Ledger()
    with connected(warehouse, project) as connection:
        stands = read_ledger(connection, last_loads)
        return _checked_plan(connection, project, stands, full=full), stands


def apply(warehouse: Warehouse, project: Project, *, full: bool = False, jobs: int | None = None) -> ApplyReport:
    """Brings the warehouse up to date with the project and its loads.

    `full` builds all marts anew; `jobs` is how many processes of the server work on one statement of the refresh,
    None being the server's own setting. Raises ProjectError for an unknown or drifted migration or a bad setting,
    before anything runs, and SqlError for what PostgreSQL refuses: then the migrations before it stand, and nothing of
    the files and the refresh does.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        connection = stack.enter_context(connected(warehouse, project))
        planned, stands = stack.enter_context(locked_plan(connection, project, full=full))
        ledger.make_ledger(connection)
        steps = len(planned.migrations) + len(planned.files) + 1
        applied: list[str] = []
        stack.enter_context(standing(lambda: f"applied: {', '.join(applied)}" if applied else ""))
        for done, migration in enumerate(planned.migrations):
            logger.info("applying %s", migration.path, extra=progress(done, steps))
            _apply_migration(connection, project, migration)
            applied.append(migration.path)
        with _said_of(project, "the commit"), connection.transaction():
            for done, step in enumerate(planned.files, len(planned.migrations)):
                logger.info("applying %s", step.file.path, extra=progress(done, steps))
                _run(connection, project, step.file.path, step.file.text)
                reset_session(connection)
                ledger.write_file(connection, step.file, project.settings.as_dict())
            if stands.fingerprint != project.fingerprint:
                ledger.write_fingerprint(connection, project.fingerprint)
            logger.info("refreshing the marts", extra=progress(steps - 1, steps))
            loads, rows, rebuilt = refresh(connection, project, full=full, jobs=jobs)
        return replace(
            planned_report(planned),
            planned=False,
            new_loads=loads,
            new_rows=rows,
            rebuilt=rebuilt,
            seconds=time.monotonic() - started,
        )


def apply_migrations(warehouse: Warehouse, project: Project) -> None:
    """Makes the tables of a warehouse that has none yet, or of which the making was cut short, so that files can be
    loaded before the first apply.

    Raises ProjectError for a warehouse that a newer clickmart has changed. A shop's own migrations are no obstacle, as
    whoever loads need not have the shop's project.
    """
    with warehouse.connect() as connection:
        if not _has_tables(project, read_ledger(connection)):
            with _locked(connection):
                ledger.make_ledger(connection)
                stands = read_ledger(connection)
                if not _has_tables(project, stands):
                    for migration in project.migrations:
                        if migration.name not in stands.migrations:
                            logger.info("applying %s", migration.path)
                            _apply_migration(connection, project, migration)
        ledger.refuse_older(connection)


def _has_tables(project: Project, stands: Ledger) -> bool:
    unknown = unknown_migrations(project, stands)
    refuse_unknown(project, tuple(migration for migration in unknown if migration.is_by_newer))
    # What has SQL files has seen an apply, and what is missing since then is for the next one.
    return bool(stands.files or unknown) or all(m.name in stands.migrations for m in project.migrations)


@contextmanager
def connected(warehouse: Warehouse, project: Project) -> Iterator[Connection]:
    """A connection. A project that can't be read needs no server to say so, and has none made."""
    with ExitStack() as stack:
        try:
            if not warehouse.exists:
                make_plan(project, Ledger())
            connection = stack.enter_context(warehouse.connect())
        except WarehouseError:
            make_plan(project, Ledger())
            raise
        yield connection


@contextmanager
def locked_plan(connection: Connection, project: Project, *, full: bool) -> Iterator[tuple[Plan, Ledger]]:
    """What would run, and what stands, while no other apply can run. Raises what `plan` does."""
    with _locked(connection):
        stands = read_ledger(connection)
        planned = _checked_plan(connection, project, stands, full=full)
        refuse(project, planned)
        yield planned, stands


def _checked_plan(connection: Connection, project: Project, stands: Ledger, *, full: bool) -> Plan:
    """The plan, all that it holds being sure to be read: what has not changed was checked when it was applied."""
    if stands.fingerprint != project.fingerprint:
        check_settings(connection, project)
    return make_plan(project, stands, full=full)


def check_settings(connection: Connection, project: Project) -> None:
    """Has PostgreSQL read the patterns and the window. Raises ProjectError with the line of clickmart.toml, or of a
    source's file."""
    pattern, settings = "select '' ~ %s", project.settings
    # Subtracted from the first year there is, since a window must be able to reach back from any instant; and added to
    # the last.
    window = "select %s::interval >= '0' and timestamp '0001-01-01' - %s::interval < timestamp '9999-12-31'"
    gap = "select %s::interval >= '0' and timestamp '9999-12-31' + %s::interval > timestamp '0001-01-01'"
    asked = dict.fromkeys(PATTERNS, (pattern, "regular expression"))
    asked |= {"purchase_window": (window, "interval"), "session_gap": (gap, "interval")}
    for name, (query, kind) in asked.items():
        if problem := _problem(connection, query, kind, value := getattr(settings, name)):
            raise ProjectError(f"{_place_of_setting(project, name)}: {name} = {value!r} {problem}")
    for source, steps in project.own_steps.items():
        for step, value in steps.items():
            if problem := _problem(connection, pattern, "regular expression", value):
                raise ProjectError(f"{_place_of_step(project, source, step)}: {step} = {value!r} {problem}")


def _problem(connection: Connection, query: str, kind: str, value: str) -> str:
    """What PostgreSQL has against a value; empty where it takes it, and an interval is not below zero."""
    try:
        row = connection.execute(query.encode(), (value,) * query.count("%s")).fetchone()
    except psycopg.DataError as error:
        return f"is no {kind} that PostgreSQL takes: {error.diag.message_primary}"
    return "is below zero" if kind == "interval" and not (row and row[0]) else ""


def _place_of_step(project: Project, source: str, step: str) -> str:
    place = f"{SOURCES}/{source}.toml"
    file = read_toml(project.source_files[source], place)
    return file.place_of("steps", step) if file and step in file.document.get("steps", {}) else place


def _place_of_setting(project: Project, name: str) -> str:
    file = read_toml(project.folder / FILE_NAME, FILE_NAME)
    return file.place_of("settings", name) if file else FILE_NAME


def _apply_migration(connection: Connection, project: Project, migration: Migration) -> None:
    path, text = migration.path, migration.text
    if migration.in_transaction:
        with _said_of(project, path), connection.transaction():
            _run(connection, project, path, text)
            reset_session(connection)
            ledger.write_migration(connection, migration)
        return
    done = 0
    try:
        for statement in split_statements(text):
            run_statement(connection, project, path, text, statement)
            done += 1
        if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            raise ProjectError(f"{path}: begins a transaction that it doesn't end")
    except ClickmartError as error:
        if done:
            error.args = (f"{error}\nwhat stands before it in {path} is done, since that runs without a transaction",)
        raise
    reset_session(connection)
    ledger.write_migration(connection, migration)


def refresh(connection: Connection, project: Project, *, full: bool, jobs: int | None) -> tuple[int, int, bool]:
    """Takes the new loads into the marts: how many loads and rows, and whether marts were built anew."""
    if jobs is not None:
        # Of several processes the session's own only collects what the others make: the planner leaves nothing that has
        # no parts to one process beside it.
        workers = str(jobs if jobs > 1 else 0)
        for name, value in {
            "max_parallel_workers_per_gather": workers,
            "max_parallel_maintenance_workers": workers,
            "parallel_leader_participation": "off",
        }.items():
            connection.execute("select set_config(%s, %s, true)", (name, value))
    with _said_of(project, _REFRESH):
        found = connection.execute("select to_regprocedure(%s) is not null", (_REFRESH,)).fetchone()
        if not (found and found[0]):
            raise ProjectError(f"no function {_REFRESH}: a file of sql/ must make it, as sql/cdm/30_refresh.sql does")
        connection.add_notice_handler(_log_notice)
        try:
            cursor = connection.execute("select count_loads, count_rows, is_rebuilt from cdm.refresh(%s)", (full,))
        finally:
            connection.remove_notice_handler(_log_notice)
    loads, rows, rebuilt = cursor.fetchone() or (0, 0, False)
    return int(str(loads)), int(str(rows)), bool(rebuilt)


def _log_notice(notice: psycopg.errors.Diagnostic) -> None:
    """The refresh says on what it works."""
    logger.info("  %s", notice.message_primary)


def _run(connection: Connection, project: Project, path: str, text: str) -> None:
    """Runs a file statement by statement, so that an error has a place also where PostgreSQL names none."""
    for statement in split_statements(text):
        run_statement(connection, project, path, text, statement)


def run_statement(connection: Connection, project: Project, path: str, text: str, statement: Statement) -> None:
    """Runs a statement of the file at `path`, whose text that is. Raises SqlError."""
    with _said_of(project, path, text, statement.offset):
        connection.execute(statement.text.encode(), prepare=False)


def planned_report(planned: Plan) -> ApplyReport:
    """The report of what would run."""
    return ApplyReport(
        planned=True,
        migrations=tuple(migration.path for migration in planned.migrations),
        files=tuple((step.file.path, step.reason) for step in planned.files),
        new_loads=planned.new_loads,
        new_rows=planned.new_rows,
        rebuilt=planned.rebuild,
        seconds=0.0,
    )


@contextmanager
def _locked(connection: Connection) -> Iterator[None]:
    ledger.lock(connection)
    yield
    ledger.unlock(connection)  # else the end of the session does: an interrupt may have come amid a statement


@contextmanager
def _said_of(project: Project, name: str, text: str = "", offset: int = 0) -> Iterator[None]:
    """Errors of PostgreSQL within are said with the project's own file and line."""
    try:
        yield
    except psycopg.Error as error:
        raise sql_error(error, project, name, text, offset) from error
