"""Values and rows as plain text, for a terminal and for a pipe alike."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

#: Characters that move the cursor or turn the direction of writing.
_CONTROL: Final = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069]")


def text_table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """The rows under their names, in columns; numbers to the right, None as nothing."""
    rows = list(rows)
    texts = [[text_of(value) for value in row] for row in rows]
    heads = [text_of(name) for name in names]
    widths = [max(map(len, column)) for column in zip(heads, *texts, strict=True)]
    right = [bool(rows) and all(row[i] is None or is_number(row[i]) for row in rows) for i in range(len(names))]
    lines = [heads, ["-" * width for width in widths], *texts]
    return "\n".join(
        "  ".join(
            text.rjust(width) if is_right else text.ljust(width)
            for text, width, is_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def counted(count: int, name: str) -> str:
    """A number of things of that name, as 1 row or 2 rows."""
    return f"{count:,} {name}{'s' * (count != 1)}"


def is_number(value: object) -> bool:
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


def text_of(value: object) -> str:
    """A value for people: on one line, None as nothing, and nothing in it that a terminal would obey."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:,.4f}"
    if is_number(value):
        return f"{value:,}"
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(value))
