"""What a command prints, as lines and tables: here as plain text for a pipe; terminal.py fits them to a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

#: Characters that move the cursor or turn the direction of writing.
_CONTROL: Final = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]")

#: What a piece of text is to the reader. `open` is something still to be done.
Tone = Literal["good", "bad", "open", "quiet", "title"]


@dataclass(frozen=True, slots=True)
class Cell:
    """A value, and how a terminal may show it: in the colour of a tone; of a path the end, where there is no room for
    all of it."""

    value: object
    tone: Tone | None = None
    is_path: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A line in pieces."""

    pieces: tuple[object, ...]

    def __str__(self) -> str:
        return "".join(map(text_of, self.pieces))


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows of texts under one another, the last of which may be long."""

    rows: tuple[tuple[object, ...], ...]
    indent: int = 0

    def __str__(self) -> str:
        rows = [[text_of(value) for value in row] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        widths[-1:] = [0] if widths else []
        lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)
        return "\n".join(" " * self.indent + line for line in lines)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under the names of their columns."""

    names: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]

    def __str__(self) -> str:
        return text_table(self.names, self.rows)


Block = Line | Columns | Table


def line(*pieces: object) -> Line:
    return Line(pieces)


def plain(blocks: Iterable[Block]) -> str:
    """The blocks under one another, as a pipe gets them."""
    return "\n".join(map(str, blocks))


def text_table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """The rows under their names, in columns; numbers to the right, None as nothing."""
    rows = list(rows)
    texts = [[text_of(value) for value in row] for row in rows]
    heads = [text_of(name) for name in names]
    widths = [max(map(len, column)) for column in zip(heads, *texts, strict=True)]
    right = are_numbers(names, rows)
    lines = [heads, ["-" * width for width in widths], *texts]
    return "\n".join(
        "  ".join(
            text.rjust(width) if is_right else text.ljust(width)
            for text, width, is_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def are_numbers(names: Sequence[str], rows: Sequence[Sequence[object]]) -> list[bool]:
    """Of each column, whether it holds numbers alone."""
    return [bool(rows) and all(row[i] is None or is_number(row[i]) for row in rows) for i in range(len(names))]


def counted(count: int, name: str) -> str:
    """A number of things of that name, as 1 row or 2 rows."""
    return f"{count:,} {name}{'s' * (count != 1)}"


def is_number(value: object) -> bool:
    value = value.value if isinstance(value, Cell) else value
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


def text_of(value: object) -> str:
    """A value for people: on one line, None as nothing, and nothing in it that a terminal would obey."""
    value = value.value if isinstance(value, Cell) else value
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:,.4f}"
    if is_number(value):
        return f"{value:,}"
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(value))


def json_text(data: object, *, indent: int | None = 2) -> str:
    """JSON for programs, in which nothing stands that a terminal would obey; on one line where indent is None."""
    text = json.dumps(data, ensure_ascii=False, indent=indent)
    return re.sub("[^\n]+", lambda line: _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", line[0]), text)


def without_control(message: str) -> str:
    """A message of several lines with nothing in it that a terminal would obey. Tabs stay: a mark may stand below."""
    return re.sub("[^\n\t]+", lambda found: text_of(found[0]), message)
