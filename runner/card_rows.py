"""The rows of a dashboard's card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import psycopg

from .dashboards import Card, query_of
from .errors import ProjectError
from .project import Project
from .sql_errors import sql_error
from .statements import split_statements
from .warehouse import Connection


@dataclass(frozen=True, slots=True)
class CardRows:
    """What a card's query gives, values as psycopg reads them: at most `limit` rows, and whether there are more."""

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    more: bool


def read_card(
    connection: Connection, project: Project, card: Card, values: Mapping[str, str], *, limit: int
) -> CardRows:
    """Runs the card's query with those values of filters, in the caller's transaction.

    Raises SqlError, with the file's line, for a query that PostgreSQL refuses; ProjectError where a column is missing
    that the chart names, or where a filter has no value and its variable stands in no clause.
    """
    text = query_of(card, values)
    statement = next(split_statements(text))
    try:
        cursor = connection.execute(statement.text.encode())
        rows = cursor.fetchmany(limit + 1)
    except psycopg.Error as error:
        raise sql_error(error, project, card.path, text, statement.offset) from error
    columns = tuple(column.name for column in cursor.description or ())
    for name in (*card.named_columns, *card.columns):
        if name not in columns:
            found = ", ".join(columns)
            raise ProjectError(f"{card.path}: gives no column {name!r}, which dashboard.toml names; there are {found}")
    return CardRows(columns, tuple(rows[:limit]), len(rows) > limit)
