"""What a card's chart draws: its rows as points of x, y and series. No database, and nothing of Vega."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Final, Literal

from ..card_rows import CardRows
from ..dashboards import Card

#: Bars, slices or steps by name in one chart: a card may have more rows, and its table shows them.
CATEGORIES: Final = 40
MISSING: Final = "—"

_HOUR: Final = 3_600_000
_DAY: Final = 24 * _HOUR
#: From the end of one value to the begin of the next there may be so many steps, as months are not of equal length.
_GAP_STEPS: Final = 1.5

Number = int | float
Scale = Literal["time", "number", "names"]


@dataclass(frozen=True, slots=True)
class Points:
    """The points of a chart, column by column, in the order of the query.

    `x` is milliseconds of UTC since 1970 where `scale` is time, and where it is names the place in `names`. `y` is None
    where a line must break. `series` is the place in `series_names`, the largest first. `step` is the length of a bar
    in time, 0 for another scale. `count_left_out`: values that have no place, for want of a time or as a name too many.
    """

    scale: Scale
    x: tuple[Number, ...]
    y: tuple[Number | None, ...]
    series: tuple[int, ...]
    names: tuple[str, ...]
    series_names: tuple[str, ...]
    step: int
    count_left_out: int

    @property
    def drawn(self) -> tuple[tuple[Number, Number, int], ...]:
        """x, y and series of the points that are values."""
        return tuple((x, y, series) for x, y, series in zip(self.x, self.y, self.series, strict=True) if y is not None)

    @property
    def drawn_y(self) -> tuple[Number, ...]:
        return tuple(y for y in self.y if y is not None)


@dataclass(frozen=True, slots=True)
class _Value:
    x: object
    y: Number
    series: str


def points_of(card: Card, rows: CardRows) -> Points | None:
    """The points of the card's chart; None where it has nothing to draw: no axis is named, no value is a number."""
    if card.x is None or not card.y:
        return None
    values = list(_values(card, rows))
    count_values = len(values)
    place = rows.columns.index(card.x)
    scale = _scale_of(card, [row[place] for row in rows.rows])
    if scale != "names":
        values = [value for value in values if value.x is not None]
    if not values:
        return None
    names: dict[str, int] = {}
    if scale == "names":
        for value in values:
            names.setdefault(_name(value.x), len(names))
        values = [value for value in values if names[_name(value.x)] < CATEGORIES]
    xs = [names[_name(value.x)] if scale == "names" else _position(value.x) for value in values]
    totals: dict[str, float] = {}
    for value in values:
        totals[value.series] = totals.get(value.series, 0) + abs(value.y)
    # By size, so that those that have to share a colour are the small ones; equal ones as the query sorts them.
    series_names = sorted(totals, key=lambda name: -totals[name])
    places = {name: place for place, name in enumerate(series_names)}
    points = [(x, value.y, places[value.series]) for x, value in zip(xs, values, strict=True)]
    step = _step([x for x, _, _ in points]) if scale == "time" else 0
    complete = _with_breaks(points, step) if step and card.chart in ("line", "area") else points
    return Points(
        scale=scale,
        x=tuple(x for x, _, _ in complete),
        y=tuple(y for _, y, _ in complete),
        series=tuple(series for _, _, series in complete),
        names=tuple(names)[:CATEGORIES],
        series_names=tuple(series_names),
        step=step,
        count_left_out=count_values - len(points),
    )


def _values(card: Card, rows: CardRows) -> Iterable[_Value]:
    """A value for each row and each column of values that is a number there."""
    place = {name: index for index, name in enumerate(rows.columns)}
    titles = {name: title_of(card, name) for name in card.y}
    for row in rows.rows:
        said = _name(row[place[card.series]]) if card.series is not None else ""
        for name in card.y:
            number = number_of(row[place[name]])
            if number is not None:
                parts = [said] if card.series is not None else []
                parts += [titles[name]] if len(card.y) > 1 or not parts else []
                yield _Value(row[place[card.x or ""]], number, " · ".join(parts))


def title_of(card: Card, column: str) -> str:
    """How the column is called for people."""
    said = card.columns.get(column)
    return (said.title if said else None) or column


def format_of(card: Card, column: str | None) -> str | None:
    said = card.columns.get(column or "")
    return said.format if said else None


def number_of(value: object) -> Number | None:
    """The value as a number, a length of time in seconds; None for what is none, or is not finite."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)) or not math.isfinite(value):
        return None
    return int(value) if isinstance(value, Decimal) and value == value.to_integral_value() else _plain(value)


def _plain(value: int | float | Decimal) -> Number:
    return float(value) if isinstance(value, Decimal) else value


def milliseconds(value: date) -> int:
    """Since 1970. A timestamp without a zone is of UTC, a date is its midnight there."""
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _scale_of(card: Card, xs: Sequence[object]) -> Scale:
    known = [x for x in xs if x is not None]
    if card.chart in ("row", "pie", "funnel") or not known:
        return "names"
    if all(isinstance(x, date) for x in known):
        return "time"
    # Bars of numbers are the classes of a histogram, each with a name.
    if card.chart != "bar" and all(number_of(x) is not None for x in known):
        return "number"
    return "names"


def _position(x: object) -> Number:
    number = milliseconds(x) if isinstance(x, date) else number_of(x)
    return 0 if number is None else number


def _name(value: object) -> str:
    return MISSING if value is None else str(value)


def _step(xs: Sequence[Number]) -> int:
    """The least time between two instants; for a single one an hour, or a day at midnight."""
    instants = sorted({int(x) for x in xs})
    if len(instants) == 1:
        return _HOUR if instants[0] % _DAY else _DAY
    return min(later - earlier for earlier, later in pairwise(instants))


def _with_breaks(points: Sequence[tuple[Number, Number, int]], step: int) -> list[tuple[Number, Number | None, int]]:
    """The points by series and time, with a point of no value wherever a step is missing: no line crosses it."""
    complete: list[tuple[Number, Number | None, int]] = []
    for x, y, series in sorted(points, key=lambda point: (point[2], point[0])):
        if complete and complete[-1][2] == series and x - complete[-1][0] > _GAP_STEPS * step:
            complete.append((complete[-1][0] + step, None, series))
        complete.append((x, y, series))
    return complete
