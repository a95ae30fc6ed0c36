"""Vega-Lite specs of cards, made from their points: for the page, and for an image. Pure functions.

Data stands beside a spec and not in it, and its fields have names of ours (x, y, s), so that no text of a card is ever
part of an expression.
"""

from __future__ import annotations

from typing import Final

from ..dashboards import Card
from .axes import caption, colour, is_number_format, measure, names_axis, row_axis, time_axis, x_axis
from .looks import NARROW_LABEL, OWN_COLOURS, Look, Spec, legend_names, short
from .points import Number, Points, format_of

#: A course of more steps begins with its newest ones, under which a strip of all of it chooses others.
LONG_COURSE: Final = 400
_FIRST_STEPS: Final = 336
#: A bar is no wider than a part of so many.
_FEWEST_STEPS: Final = 8
#: Pixels that values need beside bars, and values with shares beside steps.
_VALUE_ROOM: Final = 52
_SHARES_ROOM: Final = 124
_ROW_HEIGHT: Final = 28
_STEP_HEIGHT: Final = 58
_STRIP_HEIGHT: Final = 40
#: The width of the value axis where two views stand above each other.
AXIS_WIDTH: Final = 52
_SCHEMA: Final = "https://vega.github.io/schema/vega-lite/v6.json"


def is_long(points: Points) -> bool:
    return points.scale == "time" and max(points.x) - min(points.x) > LONG_COURSE * points.step


def columns_of(points: Points) -> dict[str, list[Number | None]]:
    """The data of a spec, column by column."""
    return {"x": list(points.x), "y": list(points.y), "s": list(points.series)}


def rows_of(points: Points) -> list[dict[str, Number | None]]:
    """The data of a spec, as Vega takes it."""
    return [{"x": x, "y": y, "s": s} for x, y, s in zip(points.x, points.y, points.series, strict=True)]


def spec_of(card: Card, points: Points, height: int, look: Look) -> Spec:
    """The spec of the card's chart, some `height` pixels high, without its width and its data, named `points`."""
    drawn = _DRAWN_BY[card.chart](card, points, height, look)
    drawn.setdefault("height", height)
    if "vconcat" in drawn:
        del drawn["height"]
    # Hidden by the page's legend: a colour's place.
    hidden = {"filter": "indexof(hidden, datum.c) < 0"}
    colour_of = "datum.x" if card.chart == "pie" else "datum.s"
    transform = [{"calculate": f"min({colour_of}, {OWN_COLOURS})", "as": "c"}, hidden]
    return {
        "$schema": _SCHEMA,
        "data": {"name": "points"},
        "params": [
            {"name": "hidden", "value": []},
            {"name": "narrow", "value": False},
            {"name": "names", "value": list(points.names) if is_number_format(card) else []},
            {"name": "labels", "value": [short(name) for name in points.names]},
            {"name": "narrow_labels", "value": [short(name, NARROW_LABEL) for name in points.names]},
            {
                "name": "legend_names",
                "value": legend_names(points.names if card.chart == "pie" else points.series_names),
            },
            *drawn.pop("params", []),
        ],
        **drawn,
        "transform": transform + drawn.pop("transform", []),
        "config": look.config,
    }


def _bar(card: Card, points: Points, height: int, look: Look) -> Spec:
    count = max(len(points.series_names), 1)
    y = measure(card, look, stack="zero" if card.stacked else None)
    if points.scale == "names":
        encoding = {
            "x": names_axis(card, points, look),
            "y": y,
            "color": colour(points, look),
            "order": {"field": "s"},
        }
        if count > 1 and not card.stacked:
            encoding["xOffset"] = {"field": "s", "type": "ordinal"}
        mark = {"type": "bar", "tooltip": {"content": "data"}, "cornerRadiusEnd": 2, "width": {"band": 0.8}}
        return {"mark": mark, "encoding": encoding, "title": caption(card)}

    # A bar takes up its own time and no more: what has no row stays empty. Bars side by side share it.
    length = points.step / (1 if card.stacked else count)
    begin = "datum.x" if card.stacked or count == 1 else f"datum.x + datum.s * {length}"
    transform = [{"calculate": begin, "as": "x0"}, {"calculate": f"datum.x0 + {length}", "as": "x1"}]
    bars: Spec = {
        "mark": {
            "type": "bar",
            "tooltip": {"content": "data"},
            "clip": True,
            "binSpacing": 0,
            # A gap between bars, while they are wide enough to spare it.
            "x2Offset": {"expr": f"width / {max(len(set(points.x)), 1)} > 5 ? -1 : 0"},
        },
        "encoding": {
            "x": time_axis("x0", points, look) | {"bin": "binned"},
            "x2": {"field": "x1"},
            "y": y,
            "color": colour(points, look),
            "order": {"field": "s"},
        },
    }
    count_steps = (max(points.x) - min(points.x)) // points.step + 1
    if count_steps < _FEWEST_STEPS:
        room = (_FEWEST_STEPS - count_steps) * points.step / 2
        first, last = min(points.x) - room, max(points.x) + points.step + room
        bars["encoding"]["x"]["scale"] |= {"domainMin": {"expr": f"{first}"}, "domainMax": {"expr": f"{last}"}}
    if not (look.on_page and is_long(points)):
        return {**bars, "transform": transform, "title": caption(card)}
    return _with_strip(card, points, bars, height, look, transform)


def _row(card: Card, points: Points, height: int, look: Look) -> Spec:
    count = max(len(points.series_names), 1)
    names = names_axis(card, points, look) | {"axis": row_axis(card, points, look)}
    is_plain = count == 1
    low, high = min(0, *points.drawn_y), max(0, *points.drawn_y)
    x = measure(card, look, stack="zero" if card.stacked else None)
    if is_plain:
        # Room for the values at the ends of the bars.
        ends = [_VALUE_ROOM if low < 0 else 0, {"expr": f"width - {_VALUE_ROOM}"} if high > 0 else {"expr": "width"}]
        x |= {"axis": None, "scale": {"domain": [low, high or (0 if low else 1)], "range": ends}}
    bars: Spec = {
        "mark": {"type": "bar", "tooltip": {"content": "data"}, "cornerRadiusEnd": 3, "height": {"band": 0.72}},
        "encoding": {"y": names, "x": x, "color": colour(points, look), "order": {"field": "s"}},
    }
    least = _ROW_HEIGHT if is_plain or card.stacked else max(_ROW_HEIGHT, 12 * count)
    row_height = max(least, min(height // len(points.names), 40))
    if not is_plain and not card.stacked:
        bars["encoding"]["yOffset"] = {"field": "s", "type": "ordinal"}
    layers = [bars]
    if is_plain:
        layers.append(
            {
                "transform": [{"calculate": look.shown("datum.y", format_of(card, card.y[0])), "as": "label"}],
                "mark": {
                    "type": "text",
                    "align": {"expr": "datum.y < 0 ? 'right' : 'left'"},
                    "dx": {"expr": "datum.y < 0 ? -6 : 6"},
                    "color": look.colour("text"),
                },
                "encoding": {"y": names, "x": x, "text": {"field": "label"}},
            }
        )
    return {"layer": layers, "height": len(points.names) * row_height, "title": caption(card)}


def _line(card: Card, points: Points, height: int, look: Look) -> Spec:
    # Round ends show a value between two gaps, a line of no length, as a dot.
    mark: Spec = {"type": "line", "strokeWidth": 2, "strokeCap": "round", "strokeJoin": "round", "clip": True}
    y = measure(card, look, stack=None)
    if card.chart == "area":
        is_stacked = card.stacked or len(points.series_names) == 1
        y = measure(card, look, stack="zero" if card.stacked else None)
        mark = {"type": "area", "clip": True, "fillOpacity": 0.85 if is_stacked else 0.25, "line": not card.stacked}
    x = x_axis(card, points, look)
    drawn = {
        "mark": mark,
        "encoding": {
            "x": x,
            "y": y,
            "color": colour(points, look),
            "detail": {"field": "s"},
            "order": {"field": "s" if card.stacked else "x"},
        },
    }
    # Under the pointer: the values of all series at the nearest place.
    nearest = {"type": "point", "encodings": ["x"], "nearest": True, "on": "pointerover", "clear": "pointerout"}
    rule = {
        "transform": [{"filter": "isValid(datum.y)"}, {"aggregate": [], "groupby": ["x"]}],
        "params": [{"name": "hover", "select": nearest}],
        "mark": {"type": "rule", "color": look.colour("muted"), "tooltip": {"content": "data"}, "clip": True},
        "encoding": {
            "x": {key: value for key, value in x.items() if key != "axis"},
            "opacity": {"condition": {"param": "hover", "empty": False, "value": 0.6}, "value": 0},
        },
    }
    view: Spec = {"layer": [drawn, rule] if look.on_page else [drawn]}
    if not (look.on_page and is_long(points)):
        return {**view, "title": caption(card)}
    return _with_strip(card, points, view, height, look, [])


def _pie(card: Card, points: Points, height: int, look: Look) -> Spec:
    return {
        "transform": [{"filter": "datum.y > 0"}],
        "mark": {
            "type": "arc",
            "tooltip": {"content": "data"},
            "outerRadius": {"expr": "min(width, height) / 2"},
            "innerRadius": {"expr": "min(width, height) / 3.4"},
            "stroke": look.colour("back"),
            "strokeWidth": 2,
        },
        "encoding": {
            "theta": {"field": "y", "type": "quantitative", "stack": True},
            "color": colour(points, look, count=len(points.names)),
            "order": {"field": "x"},
        },
        "view": {"stroke": None},
    }


def _funnel(card: Card, points: Points, height: int, look: Look) -> Spec:
    first = points.drawn[0][1]
    steps = names_axis(card, points, look) | {"axis": row_axis(card, points, look)}
    said = format_of(card, card.y[0])
    # Room for the texts right of the longest bar.
    size = {"domain": [0, max(points.drawn_y) or 1], "range": [0, {"expr": f"width - {_SHARES_ROOM}"}]}
    x = {"field": "y", "type": "quantitative", "axis": None, "scale": size}
    share = f"({look.shown('datum.share', 'percent')})"
    change = f"({look.shown('abs(datum.change)', 'percent')})"
    return {
        "transform": [
            {"window": [{"op": "lag", "field": "y", "as": "before"}], "sort": [{"field": "x"}]},
            {"calculate": f"{first} ? datum.y / {first} : null", "as": "share"},
            {"calculate": "datum.before ? datum.y / datum.before - 1 : null", "as": "change"},
            {"calculate": look.shown("datum.y", said), "as": "label"},
            {
                "calculate": f"(isValid(datum.share) ? {share} : '')"
                f" + (isValid(datum.change) ? '   ' + (datum.change > 0 ? '↑ ' : '↓ ') + {change} : '')",
                "as": "shares",
            },
        ],
        "layer": [
            {
                "mark": {
                    "type": "bar",
                    "tooltip": {"content": "data"},
                    "cornerRadiusEnd": 4,
                    "height": {"band": 0.72},
                    "color": look.palette[0],
                },
                "encoding": {"y": steps, "x": x},
            },
            {
                "mark": {
                    "type": "text",
                    "align": "left",
                    "dx": 8,
                    "dy": -8,
                    "fontSize": 14,
                    "fontWeight": 600,
                    "color": look.colour("text"),
                },
                "encoding": {"y": steps, "x": x, "text": {"field": "label"}},
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 8, "dy": 10, "color": look.colour("muted")},
                "encoding": {"y": steps, "x": x, "text": {"field": "shares"}},
            },
        ],
        "height": len(points.names) * max(_STEP_HEIGHT, min(height // len(points.names), 84)),
    }


_DRAWN_BY: Final = {"bar": _bar, "row": _row, "line": _line, "area": _line, "pie": _pie, "funnel": _funnel}
#: The charts of a dashboard that Vega draws; the others are HTML.
DRAWN: Final = frozenset(_DRAWN_BY)


def _with_strip(card: Card, points: Points, view: Spec, height: int, look: Look, transform: list[Spec]) -> Spec:
    """The view, and under it a low one of all the time, with a window that chooses what the first shows."""
    last = max(points.x) + points.step
    span = {"name": "span", "value": {"x": [last - _FIRST_STEPS * points.step, last]}}
    span["select"] = {
        "type": "interval",
        "encodings": ["x"],
        "mark": {"fill": look.colour("muted"), "fillOpacity": 0.18, "stroke": look.colour("muted")},
    }
    encodings = view.get("layer", [view])
    for layer in encodings:
        x = layer["encoding"]["x"]
        layer["encoding"]["x"] = x | {"scale": x["scale"] | {"domain": {"param": "span", "encoding": "x"}}}
    size = {"minExtent": AXIS_WIDTH, "maxExtent": AXIS_WIDTH}
    for layer in encodings:
        y = layer["encoding"].get("y")
        if y is not None:
            layer["encoding"]["y"] = y | {"axis": y["axis"] | size}
    strip: Spec = {
        "height": _STRIP_HEIGHT,
        "params": [span],
        "transform": [{"calculate": f"datum.x + {points.step}", "as": "end"}],
        "mark": {"type": "bar", "color": look.colour("muted"), "binSpacing": 0},
        "encoding": {
            "x": time_axis("x", points, look) | {"bin": "binned"},
            "x2": {"field": "end"},
            "y": {
                "field": "y",
                "type": "quantitative",
                "aggregate": "mean" if card.chart == "line" else "sum",
                "axis": {"labels": False, "ticks": False, "grid": False, "domain": False, "title": None, **size},
            },
        },
    }
    return {
        "vconcat": [{**view, "height": height - _STRIP_HEIGHT - 30}, strip],
        "spacing": 12,
        "transform": transform,
        "title": caption(card),
    }
