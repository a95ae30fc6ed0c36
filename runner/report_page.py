"""A snapshot as one HTML page: readable as it is, and with charts, sorting and the reader's formats by report.js."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import jinja2
from markupsafe import Markup

from .card_rows import CardRows
from .charts import AXIS_WIDTH, DARK, DRAWN, LIGHT, PAGE, columns_of, legend_names, spec_of
from .dashboards import Card, Dashboard, Place, Text
from .markdown import html_of
from .points import OWN_COLOURS, Points, format_of, number_of, points_of, title_of
from .report import Snapshot
from .shown_values import ShownColumn, ShownTable, ShownValue, number_text, shown_table, shown_value, time_text
from .tables import counted
from .vega_bundle import vega_bundle

#: Rows of a card's table.
SHOWN_ROWS: Final = 500

_FOLDER: Final = Path(__file__).parent
_CYRILLIC: Final = re.compile("[\u0400-\u04ff]")
#: The height of a row of the grid in pixels, with the gap below it, and what a card needs beside its chart.
_GRID_ROW: Final = 52
_CARD_HEAD: Final = 150
_LEAST_HEIGHT: Final = 180
_DAY: Final = 86_400_000
# Data in a script element: nothing of it may end the element, or be read as a line end by an old parser.
_ESCAPES: Final = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


@dataclass(frozen=True, slots=True)
class PageChart:
    """A card's chart: `data` is the JSON for report.js, `summary` what it shows for those who don't see it, `legend`
    the names of the colours."""

    data: Markup
    summary: str
    legend: tuple[str, ...]
    height: int
    count_left_out: int


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


@dataclass(frozen=True, slots=True)
class PageText:
    """A text between the cards."""

    slug: str
    heading: str
    html: Markup
    place: Place


@dataclass(frozen=True, slots=True)
class PageTab:
    """A tab's cards and texts, in the order of their places; a dashboard without tabs is one without a title."""

    slug: str
    title: str
    items: tuple[PageCard | PageText, ...]


@dataclass(frozen=True, slots=True)
class PageDashboard:
    slug: str
    title: str
    description: str
    tabs: tuple[PageTab, ...]


def page_of(snapshot: Snapshot) -> str:
    """The page as a text. It runs its own scripts alone, and asks for nothing."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["lang"] = _language
    environment.filters["time"] = lambda value: shown_value(ShownColumn("", "hour"), value)
    dashboards = tuple(
        _dashboard(number, dashboard, cards, snapshot)
        for number, (dashboard, cards) in enumerate(snapshot.dashboards, start=1)
    )
    items = [item for dashboard in dashboards for tab in dashboard.tabs for item in tab.items]
    style = _read("report.css") + _colours() + "".join(map(_placed, items))
    scripts = [vega_bundle(), _read("report.js")]
    named_filters = {name: filter_.title for board, _ in snapshot.dashboards for name, filter_ in board.filters.items()}
    return environment.get_template("report.html.jinja").render(
        title=snapshot.title,
        made_at=snapshot.made_at,
        freshness=snapshot.freshness,
        filters=[(named_filters[name], value) for name, value in snapshot.filters.items()],
        dashboards=dashboards,
        style=Markup(style),  # noqa: S704  # our own file, colours and numbers
        scripts=[Markup(script) for script in scripts],  # noqa: S704  # our own file and the bundle
        policy=_policy(style, scripts),
        is_text=lambda item: isinstance(item, PageText),
    )


def _dashboard(
    number: int, dashboard: Dashboard, cards: tuple[tuple[Card, CardRows], ...], snapshot: Snapshot
) -> PageDashboard:
    slug = dashboard.name if re.fullmatch(r"[A-Za-z0-9_-]+", dashboard.name) else f"dashboard-{number}"
    tabs = []
    for place, tab in enumerate(dashboard.tabs or (None,), start=1):
        items: list[PageCard | PageText] = [
            _card(f"{slug}.{card.name}", card, rows, dashboard, snapshot) for card, rows in cards if card.tab == tab
        ]
        texts = [text for text in dashboard.texts if text.tab == tab]
        items += [_text(f"{slug}.text-{place}-{count}", text) for count, text in enumerate(texts, start=1)]
        items.sort(key=lambda item: (item.place.row, item.place.column))
        tabs.append(PageTab(f"{slug}.tab-{place}", tab or "", tuple(items)))
    return PageDashboard(slug, dashboard.title, dashboard.description, tuple(tabs))


def _text(slug: str, text: Text) -> PageText:
    return PageText(slug, text.text if text.heading else "", html_of(text.text), text.place)


def _card(slug: str, card: Card, rows: CardRows, dashboard: Dashboard, snapshot: Snapshot) -> PageCard:
    table = shown_table(card, rows.shortened(SHOWN_ROWS))
    points = points_of(card, rows) if card.chart in DRAWN else None
    if card.chart == "funnel" and points is not None:
        table = _with_shares(card, rows.shortened(SHOWN_ROWS), table)
    figures: tuple[tuple[ShownColumn, ShownValue], ...] = ()
    if card.chart == "number" and table.rows:
        wanted = [name in card.y or not card.y for name in rows.columns]
        pairs = zip(table.columns, table.rows[0], wanted, strict=True)
        figures = tuple((column, value) for column, value, is_wanted in pairs if is_wanted)
    ignored = tuple(
        filter_.title for name, filter_ in dashboard.filters.items()
        if name in snapshot.filters and name not in card.variables
    )  # fmt: skip
    return PageCard(slug, card, rows, table, _chart(card, points) if points else None, figures, ignored)


def _with_shares(card: Card, rows: CardRows, table: ShownTable) -> ShownTable:
    """The table of a funnel with what its chart says of each step: the share of the first, and the change."""
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
        "names": points.names,
        "series": points.series_names,
        "axisWidth": AXIS_WIDTH,
        "xFormat": _x_format(card, points),
        "yFormat": format_of(card, card.y[0]) or "number",
        "yTitle": title_of(card, card.y[0]),
    }
    legend = tuple(legend_names(coloured)) if len(coloured) > 1 and card.chart != "funnel" else ()
    return PageChart(_json(data), _summary(card, points), legend, spec.get("height", height), points.count_left_out)


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


def _language(text: str) -> Markup:
    """The attribute `lang` of a text that is not in the page's English."""
    return Markup(' lang="ru"') if _CYRILLIC.search(text) else Markup("")


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _policy(style: str, scripts: list[str]) -> str:
    """The Content-Security-Policy: these scripts and this style, and nothing from anywhere."""
    allowed = " ".join(map(_hash, scripts))
    rest = "base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; img-src data: blob:; {rest}"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _colours() -> str:
    light, dark = (
        "".join(f"--c{place}:{colour};" for place, colour in enumerate(colours)) for colours in (LIGHT, DARK)
    )
    swatches = "".join(f".c{place}{{--swatch:var(--c{place})}}" for place in range(OWN_COLOURS + 1))
    return f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}{swatches}"


def _placed(item: PageCard | PageText) -> str:
    """The rules of an item's place on a wide screen, and of its chart's height before it is drawn."""
    place, selector = item.place, "#" + item.slug.replace(".", r"\.")
    area = f"{place.row + 1}/{place.column + 1}/span {place.height}/span {place.width}"
    rules = f"@media (min-width:64rem),print{{{selector}{{grid-area:{area}}}}}"
    if isinstance(item, PageCard) and item.chart:
        rules += f"{selector} .chart{{min-height:{item.chart.height}px}}"
    return rules
