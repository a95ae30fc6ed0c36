"""The tests of a project's marts, run: each timeline in databases of its own, which are gone at the end."""

from __future__ import annotations

import json
import logging
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from .applying import apply
from .errors import ClickmartError, ProjectError, WarehouseError
from .loading import load_file
from .progress import progress
from .project import Project
from .sql_errors import sql_error
from .tables import Block, Cell, Columns, counted, line, plain
from .timeline_files import Event, Expectation, TimelineFile, with_day
from .warehouse import Connection, Warehouse

logger = logging.getLogger(__name__)

_PREFIX: Final = "clickmart_test_"
#: What a run that was killed has left is removed after so long.
_LEFT_SECONDS: Final = 86_400
_COLUMNS: Final = """
    select attname, format_type(atttypid, atttypmod)
    from pg_attribute
    where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped
    order by attnum"""

Texts = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """A mart that is not as its timeline has it: the rows that are missing, and those that should not be there.
    `place` is the file and the line of the mart's name, `way` how the events were loaded."""

    place: str
    mart: str
    way: str
    columns: tuple[str, ...]
    missing: tuple[Texts, ...]
    unexpected: tuple[Texts, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "place": self.place,
            "mart": self.mart,
            "way": self.way,
            "columns": list(self.columns),
            "missing": [list(row) for row in self.missing],
            "unexpected": [list(row) for row in self.unexpected],
        }

    def blocks(self) -> Iterator[Block]:
        yield line(Cell(f"{self.place}: {self.mart} is not as expected, {self.way}:", "bad"))
        rows = [("", *self.columns)]
        rows += [("missing", *map(_shown, row)) for row in self.missing]
        rows += [("unexpected", *map(_shown, row)) for row in self.unexpected]
        yield Columns(tuple(rows), indent=2)


@dataclass(frozen=True, slots=True)
class TimelineResult:
    """What became of one timeline: passed, unless there are differences or a `problem` that kept it from running."""

    name: str
    ways: int
    differences: tuple[Difference, ...] = ()
    problem: str = ""

    @property
    def failed(self) -> bool:
        return bool(self.differences or self.problem)

    def as_dict(self) -> dict[str, Any]:
        return {
            "file": self.name,
            "failed": self.failed,
            "ways": self.ways,
            "differences": [difference.as_dict() for difference in self.differences],
            "problem": self.problem or None,
        }


@dataclass(frozen=True, slots=True)
class TestReport:
    """What became of each timeline, in the order of their names."""

    __test__ = False  # it is no test of pytest's

    results: tuple[TimelineResult, ...]
    seconds: float

    @property
    def failed(self) -> bool:
        return any(result.failed for result in self.results)

    def as_dict(self) -> dict[str, Any]:
        return {
            "timelines": [result.as_dict() for result in self.results],
            "failed": self.failed,
            "seconds": round(self.seconds, 3),
        }

    def __str__(self) -> str:
        return plain(self.blocks())

    def blocks(self) -> Iterator[Block]:
        yield Columns(
            tuple(
                (
                    Cell(result.name, is_path=True),
                    Cell("failed", "bad") if result.failed else Cell(f"passed, {counted(result.ways, 'way')}", "good"),
                )
                for result in self.results
            )
        )
        for result in self.results:
            for difference in result.differences:
                yield from difference.blocks()
            if result.problem:
                yield line(Cell(result.problem, "bad"))
        count = sum(result.failed for result in self.results)
        text = f"{count} of {counted(len(self.results), 'timeline')} failed" if count else "all passed"
        yield line(Cell(text, "bad" if count else "title"), f" in {self.seconds:.1f} s")


def run_timelines(warehouse: Warehouse, project: Project, timelines: Sequence[TimelineFile]) -> TestReport:
    """Runs the timelines on the warehouse's server, in databases of their own: the warehouse itself is not touched.

    Raises WarehouseError where no database can be made there, and what an apply of the project raises.
    """
    started = time.monotonic()
    results: list[TimelineResult] = []
    with warehouse.connect() as connection, ExitStack() as databases:
        _drop_left(connection)
        conninfo = warehouse.start()
        template = databases.enter_context(_database(connection, "template1"))
        logger.info("applying the project", extra=progress(0, len(timelines) + 1))
        apply(Warehouse(make_conninfo(conninfo, dbname=template)), project)
        for done, timeline in enumerate(timelines, 1):
            logger.info("testing %s", timeline.name, extra=progress(done, len(timelines) + 1))
            results.append(_run(connection, conninfo, template, project, timeline))
    return TestReport(tuple(results), time.monotonic() - started)


def _run(
    connection: Connection, conninfo: str, template: str, project: Project, timeline: TimelineFile
) -> TimelineResult:
    """Loads the events in every way in which they may come, until one makes other marts."""
    ways = list(_ways(timeline))
    for way, loads in ways:
        with _database(connection, template) as name, Warehouse(make_conninfo(conninfo, dbname=name)).connect() as own:
            try:
                for events in loads:
                    _load(own, events)
                    _refresh(own, project, full=False)
                differences = list(_differences(own, timeline, way))
                if not differences:
                    _refresh(own, project, full=True)
                    differences = list(_differences(own, timeline, f"{way}, then built anew"))
            except WarehouseError:
                raise
            except ClickmartError as error:
                return TimelineResult(timeline.name, len(ways), problem=str(error))
        if differences:
            return TimelineResult(timeline.name, len(ways), tuple(differences))
    return TimelineResult(timeline.name, len(ways))


def _ways(timeline: TimelineFile) -> Iterator[tuple[str, Sequence[Sequence[Event]]]]:
    """The events as they stand; and, unless the timeline itself says in which loads they come, each in a load of its
    own, in their order and backwards."""
    yield "loaded as it stands", timeline.loads
    if len(timeline.loads) == 1 and len(timeline.events) > 1:
        singles = [[event] for event in timeline.events]
        yield "loaded an event at a time", singles
        yield "loaded an event at a time, the last first", singles[::-1]


def _load(connection: Connection, events: Iterable[Event]) -> None:
    with tempfile.TemporaryDirectory(prefix="clickmart-") as folder:
        path = Path(folder) / "events.jsonl"
        # What tells the file from any other, as events may be the same.
        rows = [{**event, "of": secrets.token_hex(8)} for event in events]
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        report = load_file(connection, str(path))
    if report.status == "failed" or report.rows_rejected:
        reason = report.first_rejects[0][1] if report.first_rejects else report.problem
        raise ProjectError(f"the events can't be loaded: {reason}")


def _refresh(connection: Connection, project: Project, *, full: bool) -> None:
    try:
        connection.execute("select cdm.refresh(%s)", (full,))
    except psycopg.Error as error:
        raise sql_error(error, project, "cdm.refresh(boolean)") from error


def _differences(connection: Connection, timeline: TimelineFile, way: str) -> Iterator[Difference]:
    for expected in timeline.expected:
        place = f"{timeline.name}:{expected.line}"
        kinds = _kinds(connection, expected, place)
        shall = Counter(_stored(connection, timeline.name, expected, kinds))
        names = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(column)) for column in expected.columns)
        schema, _, name = expected.mart.partition(".")
        query = sql.SQL("select {} from {}").format(names, sql.Identifier(schema, name))
        is_there = Counter(
            tuple(None if text is None else str(text) for text in row) for row in connection.execute(query)
        )
        missing, unexpected = shall - is_there, is_there - shall
        if missing or unexpected:
            yield Difference(place, expected.mart, way, expected.columns, _sorted(missing), _sorted(unexpected))


def _kinds(connection: Connection, expected: Expectation, place: str) -> list[str]:
    """The types of the columns. Raises ProjectError for a mart or a column that is not there."""
    schema, _, name = expected.mart.partition(".")
    regclass = sql.Identifier(schema, name).as_string(connection)
    kinds = {str(column): str(kind) for column, kind in connection.execute(_COLUMNS, (regclass,))}
    if not kinds:
        raise ProjectError(f"{place}: the project makes no {expected.mart}")
    for column in expected.columns:
        if column not in kinds:
            raise ProjectError(f"{place}: {expected.mart} has no column {column!r}; it has {', '.join(kinds)}")
    return [kinds[column] for column in expected.columns]


def _stored(connection: Connection, name: str, expected: Expectation, kinds: Sequence[str]) -> Iterator[Texts]:
    """The expected rows as PostgreSQL writes such values."""
    casts = ", ".join(f"%s::text::{kind}::text" for kind in kinds)
    for number, row in expected.rows:
        cells = [
            with_day(cell) if cell and kind.startswith("timestamp") else cell
            for cell, kind in zip(row, kinds, strict=True)
        ]
        try:
            (found,) = connection.execute(f"select {casts}".encode(), cells).fetchall()
        except psycopg.DataError as error:
            raise ProjectError(f"{name}:{number}: {error.diag.message_primary}") from None
        yield tuple(None if text is None else str(text) for text in found)


def _sorted(rows: Counter[Texts]) -> tuple[Texts, ...]:
    return tuple(sorted(rows.elements(), key=lambda row: [text or "" for text in row]))


def _shown(text: str | None) -> str:
    return "" if text is None else text or "''"


@contextmanager
def _database(connection: Connection, template: str) -> Iterator[str]:
    """The name of a new database, which is dropped at the end."""
    name = f"{_PREFIX}{int(time.time())}_{secrets.token_hex(4)}"
    create = sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(template))
    try:
        connection.execute(create)
    except psycopg.Error as error:
        message = error.diag.message_primary
        raise WarehouseError(f"no database can be made on this server to test in: {message}") from error
    try:
        yield name
    finally:
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


def _drop_left(connection: Connection) -> None:
    """Drops what runs that were killed have left behind."""
    names = connection.execute("select datname from pg_database where starts_with(datname, %s)", (_PREFIX,)).fetchall()
    for (name,) in names:
        made = str(name).removeprefix(_PREFIX).partition("_")[0]
        if made.isdigit() and int(made) < time.time() - _LEFT_SECONDS:
            connection.execute(sql.SQL("drop database if exists {}").format(sql.Identifier(str(name))))
