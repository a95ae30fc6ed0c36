"""Values of a card as its table shows them: a text that reads well by itself, and the value that a program reads."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Final

from ..card_rows import CardRows
from ..dashboards import Card
from ..tables import is_number, text_of
from .points import format_of, number_of, title_of

#: Characters of one value; a longer one is cut, with a mark.
LONG_TEXT: Final = 1000
_MOST_DIGITS: Final = 4
_LINK: Final = re.compile(r"https?://[^\s<>\"]+", re.IGNORECASE)
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_BYTES: Final = ("B", "kB", "MB", "GB", "TB", "PB")


@dataclass(frozen=True, slots=True)
class ShownColumn:
    """A column's title and how its values are: `kind` is text, link, date, hour, time, or a format of numbers.

    `digits` after the point are the same in the whole column, so that numbers stand under each other.
    """

    title: str
    kind: str
    digits: int = 0

    @property
    def is_number(self) -> bool:
        return self.kind in ("number", "percent", "duration", "bytes")


@dataclass(frozen=True, slots=True)
class ShownValue:
    """`value` is a number's digits or a time as ISO 8601 writes it, None for other texts; `link` where it leads."""

    text: str
    value: str | None = None
    link: str | None = None


@dataclass(frozen=True, slots=True)
class ShownTable:
    """The table of a card: the values in the order of the columns, row by row."""

    columns: tuple[ShownColumn, ...]
    rows: tuple[tuple[ShownValue, ...], ...]


def shown_table(card: Card, rows: CardRows) -> ShownTable:
    """The rows as the card's columns say that they are shown."""
    by_column = list(zip(*rows.rows, strict=True)) if rows.rows else [()] * len(rows.columns)
    columns = tuple(
        _column(title_of(card, name), format_of(card, name), values)
        for name, values in zip(rows.columns, by_column, strict=True)
    )
    return ShownTable(columns, tuple(tuple(map(shown_value, columns, row)) for row in rows.rows))


def figures_of(card: Card, table: ShownTable) -> tuple[tuple[ShownColumn, ShownValue], ...]:
    """The figures of a number card, with their columns: the first row's, of the columns that it names or of all."""
    if card.chart != "number" or not table.rows:
        return ()
    titles = {title_of(card, name) for name in card.y}
    pairs = zip(table.columns, table.rows[0], strict=True)
    return tuple((column, value) for column, value in pairs if not titles or column.title in titles)


def _column(title: str, said: str | None, values: Sequence[object]) -> ShownColumn:
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, date) for value in known):
        usual = "time" if all(isinstance(value, datetime) for value in known) else "date"
        return ShownColumn(title, said if said in ("date", "hour") else usual)
    numbers = [number for number in map(number_of, known) if number is not None]
    if not numbers or not all(is_number(value) or isinstance(value, timedelta) for value in known):
        return ShownColumn(title, "link" if said == "link" else "text")
    kind = said if said in ("percent", "duration", "bytes") else "number"
    if kind == "percent":
        return ShownColumn(title, kind, 1 if max(map(abs, numbers)) >= 0.1 else 2)
    return ShownColumn(title, kind, max(map(_count_digits, numbers)) if kind == "number" else 1)


def _count_digits(number: int | float) -> int:
    if isinstance(number, int):
        return 0
    return len(f"{number:.{_MOST_DIGITS}f}".rstrip("0").partition(".")[2])


def shown_value(column: ShownColumn, value: object) -> ShownValue:
    """The value as the column shows it, None as nothing."""
    if value is None:
        return ShownValue("")
    if isinstance(value, date) and column.kind in ("date", "hour", "time"):
        return ShownValue(time_text(value, column.kind), _iso(value))
    number = number_of(value)
    if column.is_number and number is not None:
        return ShownValue(number_text(number, column.kind, column.digits), f"{number}")
    text = _text(value)
    is_link = column.kind == "link" and text == value and len(text) <= LONG_TEXT and _LINK.fullmatch(text)
    return ShownValue(shortened(text), link=text if is_link else None)


def _text(value: object) -> str:
    if isinstance(value, (dict, list)):
        return text_of(json.dumps(value, ensure_ascii=False, default=str))
    if isinstance(value, (float, Decimal)) and not math.isfinite(value):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(float(value))]
    return "\\x" + value.hex() if isinstance(value, bytes) else text_of(value)


def shortened(text: str) -> str:
    """The text, if it is very long its beginning and how long it is."""
    if len(text) <= LONG_TEXT:
        return text
    return f"{text[:LONG_TEXT]}… ({len(text):,} characters)"


def _iso(value: date) -> str:
    if not isinstance(value, datetime):
        return value.isoformat()
    return value.isoformat() + "Z" if value.tzinfo is None else value.astimezone(UTC).isoformat()


def time_text(value: date, kind: str) -> str:
    """A time of UTC, to the minute for `hour`."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        value = value.astimezone(UTC).replace(tzinfo=None)
    if kind == "date" or not isinstance(value, datetime):
        return value.isoformat()[:10]
    return value.isoformat(" ", "minutes" if kind == "hour" else "seconds")


def number_text(number: int | float, kind: str, digits: int = 0) -> str:
    """A number in English: `percent` is of a fraction, `duration` of seconds, with its two largest units."""
    if kind == "percent":
        return f"{number:.{digits}%}"
    if kind == "duration":
        return _duration_text(number)
    if kind == "bytes":
        place = 0
        while abs(number) >= 999.95 and place < len(_BYTES) - 1:
            number, place = number / 1000, place + 1
        return f"{number:,.1f}".removesuffix(".0") + f" {_BYTES[place]}"
    if number and abs(number) < 0.5 * 10**-digits:
        return f"{number:.2g}"  # told from nothing
    return f"{number:,.{digits}f}" if isinstance(number, float) or digits else f"{number:,}"


def _duration_text(seconds: float) -> str:
    sign, rest = "−" if seconds < 0 else "", abs(seconds)
    if rest < 60:
        return f"{sign}{rest:.1f}".removesuffix(".0") + " s"
    whole = round(rest)
    parts: list[str] = []
    for length, unit in _UNITS:
        if whole >= length or parts:
            parts.append(f"{whole // length} {unit}")
            whole %= length
    return sign + " ".join(part for part in parts[:2] if not part.startswith("0 "))
