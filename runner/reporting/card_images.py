"""Cards as PNG images, drawn without a browser: charts by Vega-Lite, tables and figures as an SVG of texts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

import vl_convert
from markupsafe import escape

from ..card_rows import CardRows
from ..dashboards import Card
from .charts import DRAWN, rows_of, spec_of
from .files import Snapshot
from .looks import IMAGE
from .points import points_of
from .shown_values import ShownTable, figures_of, shown_table

#: Pixels of an image for one of its drawing.
SCALE: Final = 2
#: Rows of a table's image.
IMAGE_ROWS: Final = 40

_WIDTH: Final = 760
_LINE: Final = 26
_MARGIN: Final = 24
#: The width of a character of the tables' font, by which columns are measured, and the widest column.
_CHARACTER: Final = 7.2
_WIDEST: Final = 56
_FIGURE: Final = 18


def images_of(snapshot: Snapshot) -> Iterator[tuple[str, bytes]]:
    """The cards' names, with their dashboards', and their PNG images."""
    for dashboard, cards in snapshot.dashboards:
        for card, rows in cards:
            yield f"{dashboard.name}.{card.name}", _image(card, rows)


def _image(card: Card, rows: CardRows) -> bytes:
    points = points_of(card, rows) if card.chart in DRAWN else None
    if points is None:
        return bytes(vl_convert.svg_to_png(_svg(card, rows), scale=SCALE))
    spec: dict[str, Any] = spec_of(card, points, max(card.place.height * 44, 220), IMAGE)
    caption = (spec.get("title") or {}).get("text", "")
    spec["title"] = {
        "text": card.title,
        "subtitle": [text for text in (card.description, caption) if text],
        "anchor": "start",
        "frame": "bounds",
        "color": IMAGE.colour("text"),
        "fontSize": 16,
        "fontWeight": 600,
        "subtitleColor": IMAGE.colour("muted"),
        "subtitleFontSize": 12,
        "offset": 14,
    }
    spec["width"] = max(card.place.width * 42, 420)
    spec["data"] = {"name": "points", "values": rows_of(points)}
    return bytes(vl_convert.vegalite_to_png(json.dumps(spec), scale=SCALE))


def _svg(card: Card, rows: CardRows) -> str:
    """The card's table, its first rows, as an SVG."""
    table = shown_table(card, rows.shortened(IMAGE_ROWS))
    widths = _widths(table)
    width = max(sum(widths) + 2 * _MARGIN, _WIDTH)
    texts = [_text(_MARGIN, 34, card.title, size=16, weight=600)]
    y = 56
    if card.description:
        texts.append(_text(_MARGIN, y, card.description, size=12, colour="muted"))
        y += _LINE
    if figures := figures_of(card, table):
        x = float(_MARGIN)
        for column, value in figures:
            texts += [_text(x, y, column.title, colour="muted"), _text(x, y + 38, value.text, size=32, weight=600)]
            x += max(len(value.text) * _FIGURE, len(column.title) * _CHARACTER) + 2 * _MARGIN
        return _image_of(texts, max(width, x), y + 38 + _MARGIN)
    texts.append(_line(table, [column.title for column in table.columns], widths, y, weight=600))
    for row in table.rows:
        y += _LINE
        texts.append(f'<path d="M{_MARGIN} {y - 17.5}H{width - _MARGIN}" stroke="{IMAGE.colour("line")}"/>')
        texts.append(_line(table, [value.text for value in row], widths, y))
    left = rows.count_rows - len(table.rows)
    note = (
        f"The {'newest' if rows.newest else 'first'} {len(table.rows):,} of {rows.count_rows:,} rows." if left else ""
    )
    if note or not table.rows:
        y += _LINE
        texts.append(_text(_MARGIN, y, note or "No rows.", size=12, colour="muted"))
    return _image_of(texts, width, y + _MARGIN)


def _image_of(parts: Sequence[str], width: float, height: float) -> str:
    size = f'width="{width:.0f}" height="{height:.0f}"'
    back = f'<rect {size} fill="{IMAGE.colour("back")}"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">{back}{"".join(parts)}</svg>'


def _widths(table: ShownTable) -> list[float]:
    texts = [[column.title, *(row[place].text for row in table.rows)] for place, column in enumerate(table.columns)]
    return [(min(max(map(len, column)), _WIDEST) + 3) * _CHARACTER for column in texts]


def _line(table: ShownTable, texts: Sequence[str], widths: Sequence[float], y: float, weight: int = 400) -> str:
    x, parts = float(_MARGIN), []
    for column, text, width in zip(table.columns, texts, widths, strict=True):
        cut = text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"
        end = x + width - 3 * _CHARACTER / 2
        parts.append(
            _text(end if column.is_number else x, y, cut, weight=weight, anchor="end" if column.is_number else "start")
        )
        x += width
    return "".join(parts)


def _text(
    x: float, y: float, text: str, *, size: int = 12, weight: int = 400, colour: str = "text", anchor: str = "start"
) -> str:
    look = f'font-size="{size}" font-weight="{weight}" fill="{IMAGE.colour(colour)}" text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}>{escape(text)}</text>'
