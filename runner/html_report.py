"""The dashboards' cards as tables on one HTML page that needs nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import jinja2
import psycopg

from .errors import ProjectError
from .project import Project
from .sql_errors import sql_error
from .statements import split_statements
from .tables import is_number, text_of
from .warehouse import Connection

#: Rows of a card on the page.
SHOWN_ROWS: Final = 500


@dataclass(frozen=True, slots=True)
class Card:
    """A query of dashboards/ with its rows; title and description are its first two comment lines."""

    title: str
    description: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    more: bool


def write_report(connection: Connection, project: Project, path: Path) -> Path:
    """Writes the cards of the project, as they stand in one snapshot, to `path`.

    Raises SqlError for a card that PostgreSQL refuses, ProjectError where the file can't be written.
    """
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True)
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        files = sorted((project.folder / "dashboards").glob("*/*.sql"))
        cards = [_read_card(connection, project, file) for file in files]
    page = environment.get_template("report.html.jinja").render(cards=cards, shown_rows=SHOWN_ROWS)
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ProjectError(f"{path}: can't be written: {error.strerror}") from None
    return path


def _read_card(connection: Connection, project: Project, file: Path) -> Card:
    path = file.relative_to(project.folder).as_posix()
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ProjectError(f"{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ProjectError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    comments = [line.removeprefix("--").strip() for line in text.splitlines() if line.startswith("--")]
    statements = list(split_statements(text))
    if len(statements) != 1:
        raise ProjectError(f"{path}: a card is one query, and here are {len(statements)}")
    try:
        cursor = connection.execute(statements[0].text.encode())
        rows = cursor.fetchmany(SHOWN_ROWS + 1)
    except psycopg.Error as error:
        raise sql_error(error, project, path, text, statements[0].offset) from error
    columns = tuple(column.name for column in cursor.description or ())
    numeric = tuple(
        bool(rows) and all(row[i] is None or is_number(row[i]) for row in rows) for i in range(len(columns))
    )
    title, description = [*comments, "", ""][:2]
    return Card(
        title or file.stem,
        description,
        columns,
        tuple(tuple(map(text_of, row)) for row in rows[:SHOWN_ROWS]),
        numeric,
        len(rows) > SHOWN_ROWS,
    )
