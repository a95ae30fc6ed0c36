"""Errors of PostgreSQL, said with the line of the project's own file that caused them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import psycopg

from .errors import ClickmartError, SqlError
from .places import Position
from .project import NO_TRANSACTION, Project
from .warehouse import is_lost, lost, message_of

_FRAME: Final = re.compile(
    r"PL/pgSQL function (?:inline_code_block|(?P<name>[\w.$\"]+)\(.*?\)) line (?P<line>\d+) (?:at|during) "
)
_QUOTE: Final = re.compile(r"\$\w*\$|'")


def sql_error(error: psycopg.Error, project: Project, name: str, text: str = "", offset: int = 0) -> ClickmartError:
    """The error for a person. `name` is what was run: a file, whose statement at `offset` of its `text` failed, or
    without a text a function or a view."""
    if is_lost(error):
        return lost(error)
    message = message_of(error)
    if error.sqlstate == psycopg.errors.ActiveSqlTransaction.sqlstate:
        message += f"\nhint: a migration whose first line is `{NO_TRANSACTION}` runs without one"
    position = _position(error, project, name, text, offset)
    if position is None:
        return SqlError(f"{name}: {message}")
    first, *more = message.split("\n", 1)
    number = str(position.line)
    before = "".join("\t" if character == "\t" else " " for character in position.text[: position.column - 1])
    lines = [
        f"{position}: {first}",
        f"  {number} | {position.text}",
        f"  {' ' * len(number)} | {before}^",
        *more,
    ]
    return SqlError("\n".join(lines), file=position.file, line=position.line, column=position.column)


class _Place(NamedTuple):
    """A character of a file's text, as it was sent to the server."""

    path: str
    text: str
    offset: int


def _position(error: psycopg.Error, project: Project, name: str, text: str, offset: int) -> Position | None:
    diagnosis = error.diag
    sent = _Place(name, text, offset)
    place: _Place | None = sent if text else None
    if text and diagnosis.statement_position:
        place = sent._replace(offset=offset + int(diagnosis.statement_position) - 1)
    else:
        line = next(_lines_of_bodies(diagnosis.context or "", project, sent), None)
        place = line or place
        if diagnosis.internal_query and diagnosis.internal_position:
            query, index = diagnosis.internal_query, int(diagnosis.internal_position) - 1
            place = (_within(line, query, index) if line else _anywhere(project, query, index)) or place
    return project.locate(*place) if place else None


def _lines_of_bodies(context: str, project: Project, sent: _Place) -> Iterator[_Place]:
    """The lines of the project's function bodies in which an error arose, the innermost first."""
    for frame in _FRAME.finditer(context):
        if frame["name"]:
            body = _body_of(project, frame["name"].replace('"', ""))
        else:
            quote = _QUOTE.search(sent.text, sent.offset)
            body = sent._replace(offset=quote.end()) if quote else None
        if body:
            start = body.offset
            for _ in range(int(frame["line"]) - 1):
                start = body.text.find("\n", start) + 1 or len(body.text)
            blanks = len(body.text[start:]) - len(body.text[start:].lstrip(" \t"))
            yield body._replace(offset=start + blanks)


def _body_of(project: Project, function: str) -> _Place | None:
    """Where the body of a function begins, right behind the quote that opens it."""
    schema = "" if "." in function else r'(?:[\w"]+\.)?'
    created = re.compile(
        rf"\bcreate\s+(?:or\s+replace\s+)?(?:function|procedure)\s+{schema}{re.escape(function)}\s*\(.*?\$\w*\$",
        re.IGNORECASE | re.DOTALL,
    )
    for path, text in _texts(project):
        if match := created.search(text):
            return _Place(path, text, match.end())
    return None


def _within(line: _Place, query: str, index: int) -> _Place | None:
    """The character `index` of a statement or an expression that begins in that line of a body, or soon behind it."""
    for start in range(line.offset, line.offset + len(query) + 200):
        # PL/pgSQL runs a `perform` as SELECT, one letter less.
        if line.text[start : start + 7].lower() == "perform" and _aligned(line.text, start + 7, query[6:]):
            return line._replace(offset=start + index + 1)
        if _aligned(line.text, start, query):
            return line._replace(offset=start + index)
    return None


def _aligned(text: str, start: int, query: str) -> bool:
    """Whether the query stands at that place of the text: in it PL/pgSQL has put blanks for an `into`."""
    written = text[start : start + len(query)]
    return len(written) == len(query) and all(a in (b, " ") for a, b in zip(query, written, strict=True))


def _anywhere(project: Project, query: str, index: int) -> _Place | None:
    for path, text in _texts(project):
        found = text.find(query)
        if found >= 0:
            return _Place(path, text, found + index)
    return None


def _texts(project: Project) -> Iterator[tuple[str, str]]:
    """Path and text of each file that may have made a function; a later one may have replaced what an earlier made."""
    yield from ((file.path, file.text) for file in reversed(project.files))
    yield from ((migration.path, migration.text) for migration in reversed(project.migrations))
