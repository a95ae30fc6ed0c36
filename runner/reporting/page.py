"""A snapshot as one HTML page: readable as it is, and with charts, sorting and the reader's formats by report.js."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import jinja2
from markupsafe import Markup

from ..card_rows import CardRows
from ..dashboards import Card, Dashboard, Place, Text
from .files import Snapshot
from .looks import DARK, LIGHT, OWN_COLOURS
from .markdown import html_of
from .page_cards import PageCard, page_card
from .shown_values import ShownColumn, shown_value
from .vega_bundle import vega_bundle

_FOLDER: Final = Path(__file__).parent
_CYRILLIC: Final = re.compile("[\u0400-\u04ff]")


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
            page_card(f"{slug}.{card.name}", card, rows, dashboard, snapshot) for card, rows in cards if card.tab == tab
        ]
        texts = [text for text in dashboard.texts if text.tab == tab]
        items += [_text(f"{slug}.text-{place}-{count}", text) for count, text in enumerate(texts, start=1)]
        items.sort(key=lambda item: (item.place.row, item.place.column))
        tabs.append(PageTab(f"{slug}.tab-{place}", tab or "", tuple(items)))
    return PageDashboard(slug, dashboard.title, dashboard.description, tuple(tabs))


def _text(slug: str, text: Text) -> PageText:
    return PageText(slug, text.text if text.heading else "", html_of(text.text), text.place)


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
