"""Errors of PostgreSQL, said with the line of the project's own file that caused them."""

from __future__ import annotations

import re
from typing import Final

import psycopg

from .errors import ClickmartError, SqlError, WarehouseError
from .project import Project
from .templates import Position

_IN_FUNCTION: Final = re.compile(r"PL/pgSQL function (?P<name>[\w.\"]+)\(.*?\) line (?P<line>\d+) at ")


def sql_error(
    error: psycopg.Error, project: Project, path: str | None, text: str = "", offset: int = 0
) -> ClickmartError:
    """The error for a person. `path` is the file whose `text` was sent, `offset` where in the file that text starts;
    `path` is None for a statement of clickmart's own, such as the refresh."""
    diagnosis = error.diag
    if diagnosis.message_primary is None:
        return WarehouseError(f"the connection to the warehouse was lost: {str(error).strip()}")
    position = _position(error, project, path, text, offset)
    message = [f"{diagnosis.message_primary}"]
    if position:
        number = str(position.line)
        caret = "".join("\t" if character == "\t" else " " for character in position.text[: position.column - 1])
        message[0] = f"{position.file}:{position.line}:{position.column}: {message[0]}"
        message += [f"  {number} | {position.text}", f"  {' ' * len(number)} | {caret}^"]
    elif path:
        message[0] = f"{path}: {message[0]}"
    message += [f"detail: {diagnosis.message_detail}"] if diagnosis.message_detail else []
    message += [f"hint: {diagnosis.message_hint}"] if diagnosis.message_hint else []
    return SqlError(
        "\n".join(message),
        file=position.file if position else path,
        line=position.line if position else None,
        column=position.column if position else None,
    )


def _position(error: psycopg.Error, project: Project, path: str | None, text: str, offset: int) -> Position | None:
    diagnosis = error.diag
    if diagnosis.internal_query and diagnosis.internal_position:
        # The statement stands in a function's body, whose text is the file's own.
        found = _in_files(project, path, diagnosis.internal_query, int(diagnosis.internal_position) - 1)
        if found:
            return found
    if path and diagnosis.statement_position:
        return _in_file(project, path, offset + int(diagnosis.statement_position) - 1, text)
    if match := _IN_FUNCTION.search(diagnosis.context or ""):
        return _in_function(project, match["name"].replace('"', ""), int(match["line"]))
    return None


def _in_file(project: Project, path: str, offset: int, text: str) -> Position:
    return project.locate(path, offset) or Position.of(f"{path} (as rendered)", text, offset)


def _texts(project: Project, first: str | None) -> list[tuple[str, str]]:
    """Path and text of each file that may have made a function, the one being applied first."""
    texts = [(file.path, file.text) for file in project.files]
    texts += [(migration.path, migration.text) for migration in project.migrations]
    return sorted(texts, key=lambda item: item[0] != first)


def _in_files(project: Project, path: str | None, query: str, offset: int) -> Position | None:
    """Where a function's statement stands. PL/pgSQL cuts `into ...` out of what it runs, so that the whole may not be
    found: then what is around the error is."""
    for around in (len(query), 200, 80, 40, 20):
        start = max(0, offset - around)
        for name, text in _texts(project, path):
            found = text.find(query[start : offset + around])
            if found >= 0:
                return _in_file(project, name, found + offset - start, text)
    return None


def _in_function(project: Project, function: str, line: int) -> Position | None:
    """Line `line` of a function's body; the first line is the one with the opening dollar quote."""
    head = rf"\b(?:function|procedure)\s+{re.escape(function)}\s*\(.*?\$\w*\$"
    created = re.compile(head, re.IGNORECASE | re.DOTALL)
    for name, text in _texts(project, None):
        if match := created.search(text):
            start = match.end()
            for _ in range(line - 1):
                start = text.find("\n", start) + 1 or len(text)
            start += len(text[start:]) - len(text[start:].lstrip(" \t"))
            return _in_file(project, name, start, text)
    return None
