"""Axes, colours and captions of charts, as Vega-Lite has them."""

from __future__ import annotations

from ..dashboards import Card
from .looks import OWN_COLOURS, Look, Spec, short
from .points import Points, format_of, title_of


def measure(card: Card, look: Look, *, stack: str | None) -> Spec:
    """The axis of the values."""
    label = look.shown("datum.value", format_of(card, card.y[0]), axis=True)
    return {
        "field": "y",
        "type": "quantitative",
        "stack": stack,
        "axis": {"labelExpr": label, "tickCount": 5, "title": None},
    }


def x_axis(card: Card, points: Points, look: Look) -> Spec:
    """The axis of times, names or numbers."""
    if points.scale == "time":
        return time_axis("x", points, look)
    if points.scale == "names":
        return names_axis(card, points, look)
    label = look.shown("datum.value", format_of(card, card.x), axis=True)
    axis = {"labelExpr": label, "title": title_of(card, card.x or ""), "grid": False}
    return {"field": "x", "type": "quantitative", "scale": {"zero": False}, "axis": axis}


def time_axis(field: str, points: Points, look: Look) -> Spec:
    """An axis of UTC, without a shift into the reader's zone, and with no more ticks than there are steps."""
    count = (max(points.x) - min(points.x)) // max(points.step, 1) + 1
    axis: Spec = {
        "title": None,
        "grid": False,
        "labelOverlap": True,
        "labelSeparation": 12,
        "tickCount": {"expr": f"min(max(3, width / 90), {count})"},
    }
    if look.on_page:
        axis["labelExpr"] = "shown(datum.value, 'tick')"
    return {"field": field, "type": "temporal", "scale": {"type": "utc"}, "axis": axis}


def names_axis(card: Card, points: Points, look: Look) -> Spec:
    """Names below bars, slanted where they are long."""
    longest = max(map(len, map(short, points.names)), default=0)
    is_turned = longest * len(points.names) > 90
    axis: Spec = {
        "labelExpr": _name_label(card, look),
        "title": None,
        "grid": False,
        "labelAngle": -40 if is_turned else 0,
        "labelLimit": 130,
        "ticks": False,
    }
    return {"field": "x", "type": "ordinal", "axis": axis}


def row_axis(card: Card, points: Points, look: Look) -> Spec:
    """Names beside bars."""
    limit: object = {"expr": "narrow ? 140 : 270"}
    label = _name_label(card, look)
    return {"labelExpr": label, "title": None, "labelLimit": limit, "ticks": False, "domain": False, "labelPadding": 8}


def is_number_format(card: Card) -> bool:
    """Whether the names below the bars are numbers, to be written as such: the classes of a histogram."""
    return format_of(card, card.x) in ("percent", "duration", "bytes", "number")


def _name_label(card: Card, look: Look) -> str:
    label = "(narrow ? narrow_labels : labels)[datum.value]"
    if is_number_format(card):
        name = "names[datum.value]"
        return f"isFinite(toNumber({name})) ? {look.shown(f'toNumber({name})', format_of(card, card.x))} : {label}"
    return label


def colour(points: Points, look: Look, count: int = 0) -> Spec:
    """The colour of a point; an image has the legend in itself, the page beside it."""
    count = min(count or len(points.series_names), OWN_COLOURS + 1)
    legend = None
    if not look.on_page and count > 1:
        label = "legend_names[datum.value]"
        legend = {"title": None, "orient": "bottom", "columns": 5, "labelExpr": label, "labelLimit": 200}
    return {
        "field": "c",
        "type": "nominal",
        "scale": {"domain": list(range(count)), "range": look.palette[:count]},
        "legend": legend,
    }


def caption(card: Card) -> Spec | None:
    """What the values are, where an axis would say it sideways."""
    if len(card.y) != 1:
        return None
    return {"text": title_of(card, card.y[0]), "anchor": "start", "frame": "group"}
