"""Tests of a project's marts: a file of events as a table, and the rows that marts shall have after them.

tests/*.timeline of the project folder; docs/testing.md tells the form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from .columns import INDEX
from .errors import ProjectError
from .whole_files import read_text

ENDING: Final = ".timeline"
#: The day of a time that has none.
DAY: Final = "2022-09-30"
_SHORT: Final = {
    "user": "user_domain_id",
    "at": "event_timestamp",
    "page": "page_url_path",
    "url": "page_url",
    "referer": "referer_url",
    "campaign": "utm_campaign",
    "id": "event_id",
}
_DEFAULT_HEAD: Final = ("user", "at", "page")
_SITE: Final = "http://shop"
_LATER: Final = re.compile("-{3,}")
_MART: Final = re.compile(r"[A-Za-z_][\w$]*\.[A-Za-z_][\w$]*")
_TIME: Final = re.compile(r"[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?")

#: The texts of an event's fields, by the names of the columns.
Event = dict[str, str]
#: A row's line, and the text of each cell, None for an empty one.
Row = tuple[int, tuple[str | None, ...]]


@dataclass(frozen=True, slots=True)
class Expectation:
    """The rows that a mart shall have, all of them, by these columns; `line` is that of the mart's name."""

    mart: str
    line: int
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class TimelineFile:
    """A timeline, read. `loads` are the events in the files in which they come, one but for `---` between them."""

    name: str
    loads: tuple[tuple[Event, ...], ...]
    expected: tuple[Expectation, ...]

    @property
    def events(self) -> list[Event]:
        return list(chain.from_iterable(self.loads))


def with_day(text: str) -> str:
    """A time of day as an instant of DAY; any other text as it is."""
    if not (match := _TIME.fullmatch(text)):
        return text
    return f"{DAY} {text}{'' if match[1] else ':00'}"


def read_timeline(path: Path, name: str) -> TimelineFile:
    """The timeline at the path, which messages call `name`. Raises ProjectError, with the line, where it is none."""
    try:
        text = read_text(path, name)
    except (FileNotFoundError, NotADirectoryError):
        raise ProjectError(f"{name}: no such file") from None
    return _Reader(name, text).timeline()


class _Reader:
    """Reads one file; an error is a ProjectError that names the line."""

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
        self._lines = [(number, line) for number, line in lines if not line.startswith("#")]

    def timeline(self) -> TimelineFile:
        first = next((at for at, (_, line) in enumerate(self._lines) if _MART.fullmatch(line)), len(self._lines))
        loads = tuple(self._loads(self._lines[:first]))
        expected = tuple(self._expectations(self._lines[first:]))
        if not any(loads):
            raise ProjectError(f"{self._name}: no event; a line of one is as `anna | 10:00 | /product_a`")
        if not expected:
            raise ProjectError(f"{self._name}: no mart; below its name, as cdm.purchases, stand columns and rows")
        return TimelineFile(self._name, loads, expected)

    def _fail(self, number: int, problem: str) -> ProjectError:
        return ProjectError(f"{self._name}:{number}: {problem}")

    def _loads(self, lines: Sequence[tuple[int, str]]) -> Iterator[tuple[Event, ...]]:
        head: tuple[str, ...] = _DEFAULT_HEAD
        load: list[Event] = []
        is_first = True
        for number, line in lines:
            if _LATER.fullmatch(line):
                yield tuple(load)
                load = []
            elif line:
                cells = _cells(line)
                if is_first and all(cell in _SHORT or cell in INDEX for cell in cells):
                    head = tuple(cells)
                    if len(set(head)) < len(head):
                        raise self._fail(number, "a name stands here twice")
                else:
                    load.append(self._event(number, head, cells))
                is_first = False
        yield tuple(load)

    def _event(self, number: int, head: Sequence[str], cells: Sequence[str]) -> Event:
        if len(cells) > len(head):
            raise self._fail(number, f"{len(cells)} cells, where there are {len(head)} names: {' | '.join(head)}")
        event = {
            _SHORT.get(name, name): text
            for name, cell in zip(head, cells, strict=False)
            if (text := _value(cell)) is not None
        }
        if at := event.get("event_timestamp"):
            event["event_timestamp"] = with_day(at)
        if (path := event.get("page_url_path")) and not {"url", "page_url"} & set(head):
            event["page_url"] = _SITE + path
        return event

    def _expectations(self, lines: Sequence[tuple[int, str]]) -> Iterator[Expectation]:
        rest = [(number, line) for number, line in lines if line]
        while rest:
            number, mart = rest.pop(0)
            if not _MART.fullmatch(mart):
                raise self._fail(number, f"a mart's name should stand here, as cdm.purchases, found {mart!r}")
            if not rest or _MART.fullmatch(rest[0][1]):
                raise self._fail(number, f"below {mart} should stand the names of its columns, with | between them")
            columns = tuple(_cells(rest.pop(0)[1]))
            rows: list[Row] = []
            while rest and not _MART.fullmatch(rest[0][1]):
                at, line = rest.pop(0)
                cells = _cells(line)
                if len(cells) > len(columns):
                    raise self._fail(at, f"{len(cells)} cells, where there are {len(columns)} columns")
                cells += [""] * (len(columns) - len(cells))
                rows.append((at, tuple(map(_value, cells))))
            yield Expectation(mart, number, columns, tuple(rows))


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")]


def _value(cell: str) -> str | None:
    """A cell's text; None for an empty one, and the empty text for ''."""
    return {"": None, "''": ""}.get(cell, cell)
