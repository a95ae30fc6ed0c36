"""The rows of a dashboard's card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import psycopg

from .dashboards import Card, query_of
from .errors import ProjectError
from .project import Project
from .sql_errors import sql_error
from .statements import split_statements
from .warehouse import Connection


@dataclass(frozen=True, slots=True)
class CardRows:
    """What a card's query gives, values as psycopg reads them: `rows`, in their order, of `count_rows` that there are.

    `newest` tells which where there are more: the last ones, of a course of time, else the first.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    count_rows: int
    newest: bool = False

    @property
    def more(self) -> bool:
        return self.count_rows > len(self.rows)

    def shortened(self, limit: int) -> CardRows:
        """At most `limit` of the rows, by the same choice."""
        start = max(len(self.rows) - limit, 0) if self.newest else 0
        return CardRows(self.columns, self.rows[start : start + limit], self.count_rows, self.newest)


def read_card(
    connection: Connection, project: Project, card: Card, values: Mapping[str, str], *, limit: int
) -> CardRows:
    """Runs the card's query with those values of filters, in the caller's transaction, and takes up to `limit` rows.

    Of a chart over time that its query sorts upwards these are the last, which are the newest; else the first.
    Raises SqlError, with the file's line, for a query that PostgreSQL refuses; ProjectError where a column is missing
    that the chart names, or where a filter has no value and its variable stands in no clause.
    """
    text = query_of(card, values)
    statement = next(split_statements(text))
    try:
        cursor = connection.execute(statement.text.encode())
        columns = tuple(column.name for column in cursor.description or ())
        count = max(cursor.rowcount, 0)
        newest = count > 1 and card.x in columns and _rises(cursor, columns.index(card.x), count)
        if count > 1:
            cursor.scroll(max(count - limit, 0) if newest else 0, mode="absolute")
        rows = cursor.fetchmany(limit)
    except psycopg.Error as error:
        raise sql_error(error, project, card.path, text, statement.offset) from error
    _refuse_missing(card, columns)
    return CardRows(columns, tuple(rows), count, newest)


def prepare_card(connection: Connection, project: Project, card: Card, values: Mapping[str, str]) -> None:
    """Has PostgreSQL prepare the card's query with those values of filters, and reads no row. Raises what `read_card`
    does, if it would find that before the first row."""
    text = query_of(card, values)
    statement = next(split_statements(text))
    try:
        with connection.transaction():
            prepared = connection.pgconn.prepare(b"", statement.text.encode())
            if prepared.status != psycopg.pq.ExecStatus.COMMAND_OK:
                raise psycopg.errors.error_from_result(prepared, connection.info.encoding)
            described = connection.pgconn.describe_prepared(b"")
    except psycopg.Error as error:
        raise sql_error(error, project, card.path, text, statement.offset) from error
    names = (described.fname(number) or b"" for number in range(described.nfields))
    _refuse_missing(card, tuple(name.decode() for name in names))


def _refuse_missing(card: Card, columns: tuple[str, ...]) -> None:
    for name in (*card.named_columns, *card.columns):
        if name not in columns:
            found = ", ".join(columns)
            raise ProjectError(f"{card.path}: gives no column {name!r}, which dashboard.toml names; there are {found}")


def _rises(cursor: psycopg.Cursor[tuple[object, ...]], column: int, count: int) -> bool:
    """Whether the column is a time, and later in the last row than in the first."""
    ends = []
    for row in (0, count - 1):
        cursor.scroll(row, mode="absolute")
        ends += [found[column] for found in cursor.fetchmany(1)]
    first, last = ends
    return isinstance(first, date) and type(first) is type(last) and first < last
