"""A card as its page shows it: its table, its figures, or its chart with the data and a sentence about it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from markupsafe import Markup

from ..card_rows import CardRows
from ..dashboards import Card, Dashboard, Place
from ..tables import counted
from .charts import AXIS_WIDTH, DRAWN, columns_of, is_long, spec_of
from .files import Snapshot
from .looks import OWN_COLOURS, PAGE, legend_names
from .points import Points, format_of, number_of, points_of, title_of
from .shown_values import (
    ShownColumn,
    ShownTable,
    ShownValue,
    figures_of,
    number_text,
    shortened,
    shown_table,
    shown_value,
    time_text,
)

#: Rows of a card's table.
SHOWN_ROWS: Final = 500

#: The height of a row of the grid in pixels, with the gap below it, and what a card needs beside its chart.
_GRID_ROW: Final = 52
_CARD_HEAD: Final = 150
_LEAST_HEIGHT: Final = 180
_DAY: Final = 86_400_000
# Data in a script element: nothing of it may end the element, or be read as a line end by an old parser.
_ESCAPES: Final = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """A colour's name; in a pie with its share of the whole."""

    name: str
    share: ShownValue | None = None


@dataclass(frozen=True, slots=True)
class PageChart:
    """A card's chart: `data` is the JSON for report.js, `summary` what it shows for those who don't see it, `legend`
    the names of the colours, `has_strip` whether a strip below chooses a part of its time."""

    data: Markup
    summary: str
    legend: tuple[LegendEntry, ...]
    height: int
    count_left_out: int
    has_strip: bool


@dataclass(frozen=True, slots=True)
class PageCard:
    """A card on the page. `chart` is None where a table or figures are all, `figures` are those of a number card."""

    slug: str
    card: Card
    rows: CardRows
    table: ShownTable
    chart: PageChart | None
    figures: tuple[tuple[ShownColumn, ShownValue], ...]
    ignored_filters: tuple[str, ...]

    @property
    def place(self) -> Place:
        return self.card.place


def page_card(slug: str, card: Card, rows: CardRows, dashboard: Dashboard, snapshot: Snapshot) -> PageCard:
    table = shown_table(card, rows.shortened(SHOWN_ROWS))
    points = points_of(card, rows) if card.chart in DRAWN else None
    if card.chart == "funnel" and points is not None and set(rows.columns) == {card.x, *card.y}:
        table = _with_shares(card, rows.shortened(SHOWN_ROWS), table)
    ignored = tuple(
        filter_.title for name, filter_ in dashboard.filters.items()
        if name in snapshot.filters and name not in card.variables
    )  # fmt: skip
    return PageCard(slug, card, rows, table, _chart(card, points) if points else None, figures_of(card, table), ignored)


def _with_shares(card: Card, rows: CardRows, table: ShownTable) -> ShownTable:
    """The table of a funnel whose query leaves them out with its chart's shares: of the first step, and the change."""
    share, change = (
        ShownColumn("Share of the first step", "percent", 1),
        ShownColumn("Change from before", "percent", 1),
    )
    place = rows.columns.index(card.y[0])
    steps = [number_of(row[place]) for row in rows.rows]
    shown = []
    for number, (row, step) in enumerate(zip(table.rows, steps, strict=True)):
        before = steps[number - 1] if number else None
        of_first = step / steps[0] if step is not None and steps[0] else None
        of_before = step / before - 1 if step is not None and before else None
        shown.append((*row, shown_value(share, of_first), shown_value(change, of_before)))
    return ShownTable((*table.columns, share, change), tuple(shown))


def _chart(card: Card, points: Points) -> PageChart:
    height = max(card.place.height * _GRID_ROW - _CARD_HEAD, _LEAST_HEIGHT)
    spec = spec_of(card, points, height, PAGE)
    coloured = points.names if card.chart == "pie" else points.series_names
    data = {
        "spec": spec,
        "points": columns_of(points),
        "chart": card.chart,
        "scale": points.scale,
        "names": [shortened(name) for name in points.names],
        "series": [shortened(name) for name in points.series_names],
        "axisWidth": AXIS_WIDTH,
        "xFormat": _x_format(card, points),
        "yFormat": format_of(card, card.y[0]) or "number",
        "yTitle": title_of(card, card.y[0]),
    }
    legend = () if len(coloured) < 2 or card.chart == "funnel" else _legend(card, points, coloured)
    return PageChart(
        data=_json(data),
        summary=_summary(card, points),
        legend=legend,
        height=spec.get("height", height),
        count_left_out=points.count_left_out,
        has_strip=is_long(points),
    )


def _legend(card: Card, points: Points, coloured: tuple[str, ...]) -> tuple[LegendEntry, ...]:
    names = legend_names(coloured)
    if card.chart != "pie":
        return tuple(map(LegendEntry, names))
    parts = [0.0] * len(names)
    for x, y, _ in points.drawn:
        parts[min(int(x), OWN_COLOURS)] += max(y, 0)
    whole, column = sum(parts), ShownColumn("", "percent", 1)
    return tuple(
        LegendEntry(name, shown_value(column, part / whole) if whole else None)
        for name, part in zip(names, parts, strict=True)
    )


def _x_format(card: Card, points: Points) -> str:
    said = format_of(card, card.x)
    if points.scale != "time":
        return said or "text"
    return said if said in ("date", "hour") else "hour" if points.step % _DAY or points.x[0] % _DAY else "date"


def _summary(card: Card, points: Points) -> str:
    """What a chart shows, in a sentence or two."""
    ys = points.drawn_y
    said = format_of(card, card.y[0]) or "number"
    kinds = {"row": "Bar chart", "pie": "Pie chart", "funnel": "Funnel"}
    what = " and ".join(title_of(card, name) for name in card.y)
    by = f" by {title_of(card, card.x)}" if card.x else ""
    by += f" and {title_of(card, card.series)}" if card.series else ""
    digits = 1 if said == "percent" else 2
    low, high = (number_text(end, said, digits if isinstance(end, float) else 0) for end in (min(ys), max(ys)))
    reach = ""
    if points.scale == "time":
        precision = _x_format(card, points)
        first, last = (time_text(_instant(end), precision) for end in (min(points.x), max(points.x)))
        reach = f", {first} to {last}"
    kind = kinds.get(card.chart, f"{card.chart.capitalize()} chart")
    return f"{kind} of {what}{by}{reach}. {counted(len(ys), 'value')} from {low} to {high}; the table has them."


def _instant(milliseconds: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


def _json(data: dict[str, Any]) -> Markup:
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(_ESCAPES))  # noqa: S704  # no <, > or & is left in it
