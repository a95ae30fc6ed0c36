"""How a card's chart, columns and formats are said in Metabase's visualization settings, and read back from them.

Metabase checks no setting: what it doesn't know it ignores. So each name here is one of Metabase's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from ..dashboards import Card

Settings = dict[str, Any]

#: What clickmart and Metabase call otherwise; any other chart has Metabase's own name.
_DISPLAYS: Final = {"number": "scalar"}
_CHARTS: Final = {display: chart for chart, display in _DISPLAYS.items()}
#: The charts on two axes, which share their settings.
_AXES: Final = frozenset({"line", "area", "bar", "row", "combo", "scatter", "waterfall", "boxplot"})
_PARTS: Final = ("pie", "funnel")

_ISO_DATE: Final = {"date_style": "YYYY/M/D", "date_separator": "-"}
#: Metabase has no style for durations and bytes: they are numbers with their unit.
_FORMATS: Final[dict[str, Settings]] = {
    "duration": {"number_style": "decimal", "suffix": " s"},
    "bytes": {"number_style": "decimal", "suffix": " B"},
    "number": {"number_style": "decimal"},
    "percent": {"number_style": "percent"},
    "link": {"view_as": "link"},
    "hour": {**_ISO_DATE, "time_enabled": "minutes", "time_style": "HH:mm"},
    "date": {**_ISO_DATE, "time_enabled": None},
}


def display_of(chart: str) -> str:
    return _DISPLAYS.get(chart, chart)


def settings_of(card: Card) -> Settings:
    """The settings that draw the card; `metabase` of its file has the last word."""
    display = display_of(card.chart)
    settings: Settings = {}
    if display in _AXES:
        dimensions = [name for name in (card.x, card.series) if name is not None]
        settings |= {"graph.dimensions": dimensions} if dimensions else {}
        settings |= {"graph.metrics": list(card.y)} if card.y else {}
        # Metabase stacks the series of an area chart unless told not to.
        if card.stacked or display == "area":
            settings["stackable.stack_type"] = "stacked" if card.stacked else None
    elif display in _PARTS:
        settings |= {f"{display}.dimension": card.x} if card.x is not None else {}
        settings |= {f"{display}.metric": card.y[0]} if card.y else {}
    elif display == "scalar" and card.y:
        settings["scalar.field"] = card.y[0]
    elif display == "table":
        # Metabase turns some tables of three columns into cross tables unless told not to.
        settings["table.pivot"] = False
    columns = {}
    for name, column in card.columns.items():
        shown = {"column_title": column.title} if column.title is not None else {}
        shown |= _FORMATS[column.format] if column.format is not None else {}
        if shown:
            columns[_column_key(name)] = shown
    settings |= {"column_settings": columns} if columns else {}
    return merged(settings, card.metabase)


def said_of(display: str, settings: Mapping[str, Any]) -> Settings:
    """What dashboard.toml says of a card for Metabase to have these settings: chart, x, y, series, stacked, columns,
    and in `metabase` whatever has no other name. Defaults are left out."""
    rest = dict(settings)
    said: Settings = {} if display == "table" else {"chart": _CHARTS.get(display, display)}
    if display in _AXES:
        dimensions = rest.get("graph.dimensions")
        if isinstance(dimensions, list) and _are_names(dimensions) and 1 <= len(dimensions) <= 2:
            said |= dict(zip(("x", "series"), dimensions, strict=False))
            del rest["graph.dimensions"]
        metrics = rest.get("graph.metrics")
        if isinstance(metrics, list) and _are_names(metrics) and metrics:
            said["y"] = metrics[0] if len(metrics) == 1 else list(metrics)
            del rest["graph.metrics"]
        default = "stacked" if display == "area" else None
        if rest.get("stackable.stack_type", default) == "stacked":
            said["stacked"] = True
        if rest.get("stackable.stack_type") in (None, "stacked"):
            rest.pop("stackable.stack_type", None)
    elif display in _PARTS:
        _take_name(rest, f"{display}.dimension", said, "x")
        _take_name(rest, f"{display}.metric", said, "y")
    elif display == "scalar":
        _take_name(rest, "scalar.field", said, "y")
    elif display == "table" and rest.get("table.pivot") is False:
        del rest["table.pivot"]
    columns, unsaid = _columns_said(rest.pop("column_settings", None) or {})
    said |= {"columns": columns} if columns else {}
    rest |= {"column_settings": unsaid} if unsaid else {}
    # TOML has no null, and to Metabase a null is as good as none.
    rest = _without_nulls(rest)
    return said | ({"metabase": rest} if rest else {})


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> Settings:
    """The settings with others put over them, tables key by key."""
    result = dict(under)
    for name, value in over.items():
        below = result.get(name)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[name] = merged(below, value) if both else value  # type: ignore[arg-type]
    return result


def _columns_said(column_settings: Mapping[str, Any]) -> tuple[dict[str, Settings], Settings]:
    """Titles and formats by column, and the settings that are neither, by Metabase's own keys."""
    said: dict[str, Settings] = {}
    unsaid: Settings = {}
    for key, value in column_settings.items():
        name = _column_of(key)
        if name is None or not isinstance(value, Mapping):
            unsaid[key] = value
            continue
        rest, column = dict(value), {}
        if isinstance(title := rest.pop("column_title", None), str):
            column["title"] = title
        for format_, settings in _FORMATS.items():
            if settings.items() <= rest.items():
                column["format"] = format_
                rest = {key: value for key, value in rest.items() if key not in settings}
                break
        said |= {name: column} if column else {}
        unsaid |= {key: rest} if rest else {}
    return said, unsaid


def _column_key(name: str) -> str:
    return json.dumps(["name", name], ensure_ascii=False, separators=(",", ":"))


def _column_of(key: str) -> str | None:
    """The column that a key of column_settings names; None where it names a field of Metabase's."""
    try:
        kind, name = json.loads(key)
    except ValueError:
        return None
    return name if kind == "name" and isinstance(name, str) else None


def _are_names(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _take_name(rest: Settings, key: str, said: Settings, name: str) -> None:
    if isinstance(rest.get(key), str):
        said[name] = rest.pop(key)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value if inner is not None]
    return value
