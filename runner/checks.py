"""The data checks: every view of the schema `checks` is one, and its rows are the failures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from .errors import ProjectError
from .project import Project
from .sql_errors import sql_error
from .tables import Block, Cell, Columns, Table, line, plain
from .warehouse import Connection

#: Failing rows that are shown of a check.
SHOWN_ROWS: Final = 20


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check: what it claims, how many rows contradict it, and the first of them."""

    name: str
    claim: str
    count_failures: int
    columns: tuple[str, ...]
    failures: tuple[tuple[object, ...], ...]

    def __str__(self) -> str:
        return plain(self.blocks())

    def blocks(self) -> Iterator[Block]:
        state = Cell("FAILED", "bad") if self.count_failures else Cell("ok    ", "good")
        yield Columns(((state, line(Cell(self.name, "title"), f": {self.claim}" if self.claim else "")),))
        yield from failing_rows(self.columns, self.failures, self.count_failures)


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The results of all checks, by name."""

    results: tuple[CheckResult, ...]

    @property
    def failed(self) -> bool:
        return any(result.count_failures for result in self.results)

    def as_dict(self) -> dict[str, Any]:
        return {
            "failed": self.failed,
            "checks": [
                {
                    "name": result.name,
                    "claim": result.claim,
                    "count_failures": result.count_failures,
                    "failures": named_values(result.columns, result.failures),
                }
                for result in self.results
            ],
        }

    def __str__(self) -> str:
        return plain(self.blocks())

    def blocks(self) -> Iterator[Block]:
        for result in self.results:
            yield from result.blocks()


def failing_rows(columns: tuple[str, ...], rows: tuple[tuple[object, ...], ...], count: int) -> Iterator[Block]:
    """The first of so many rows that should not be, as a table; nothing where there are none."""
    if rows:
        yield Table(columns, rows)
    if more := count - len(rows):
        yield line(Cell(f"... and {more:,} more rows", "quiet"))


def named_values(columns: tuple[str, ...], rows: tuple[tuple[object, ...], ...]) -> list[dict[str, object]]:
    """The rows for JSON: values by the names of their columns, those that JSON lacks as text."""
    return [{name: _plain(value) for name, value in zip(columns, row, strict=True)} for row in rows]


def run_checks(connection: Connection, project: Project) -> CheckReport:
    """Runs every check, each in a statement of its own. Raises ProjectError where nothing was applied yet, SqlError
    for a check that fails to run.

    One snapshot for all would not do: a rebuild truncates stage.page_views, which an older snapshot then sees empty.
    """
    views = connection.execute(
        "select relname, coalesce(obj_description(oid, 'pg_class'), '') from pg_class "
        "where relnamespace = to_regnamespace('checks') and relkind in ('v', 'm') order by relname"
    ).fetchall()
    if not views:
        raise ProjectError("nothing to check: this warehouse has no checks yet; run `clickmart apply`")
    return CheckReport(tuple(_run(connection, project, str(name), str(claim)) for name, claim in views))


def _run(connection: Connection, project: Project, name: str, claim: str) -> CheckResult:
    query = sql.SQL("select *, count(*) over () from {} limit {}")
    try:
        with connection.transaction():
            connection.execute("set transaction read only")
            cursor = connection.execute(query.format(sql.Identifier("checks", name), SHOWN_ROWS))
            rows = cursor.fetchall()
    except psycopg.Error as error:
        raise sql_error(error, project, f"checks.{name}") from error
    names = tuple(column.name for column in cursor.description or ())[:-1]
    count = int(str(rows[0][-1])) if rows else 0
    return CheckResult(name, claim, count, names, tuple(row[:-1] for row in rows))


def _plain(value: object) -> object:
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
