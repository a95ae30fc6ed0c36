"""A dashboard's filters as Metabase's parameters. No calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..dashboards import Dashboard, Filter
from .objects import CardKey, FoundDashboard, stable_uuid
from .refs import Ref, card_ref

Body = dict[str, Any]

#: What a Metabase may not keep, and does well without.
_HINTS: Final = frozenset({"isMultiSelect", "values_query_type"})
#: The types of a filter at Metabase; the first of each is what clickmart writes.
_FILTER_TYPES: Final = {
    "date": ("date/single", "date"),
    "text": ("string/=", "text", "category"),
    "number": ("number/=", "number"),
}


@dataclass(frozen=True, slots=True)
class Filters:
    """The parameters to write: those of the project by their names, and those that it has no words for, as found.
    `changes` are what is new in them: what, before, after."""

    ours: Mapping[str, Body]
    kept: tuple[Body, ...]
    changes: list[tuple[str, Any, Any]]

    @property
    def bodies(self) -> list[Body]:
        return [*self.ours.values(), *self.kept]


def wanted_filters(dashboard: Dashboard, there: FoundDashboard, ids: Mapping[CardKey, int]) -> Filters:
    """The dashboard's filters. What else Metabase keeps with one, such as its default, stays."""
    found = there.parameters or []
    # The first of several with one name is the filter; a second one has no name in the project.
    left: dict[str, Body] = {}
    kept: list[Body] = []
    for parameter in found:
        name = filter_name(there, dashboard.name, parameter, dashboard.filters)
        if name in left or (name not in dashboard.filters and filter_type(parameter) is None):
            kept.append(parameter)
        else:
            left[name] = parameter
    ours: dict[str, Body] = {}
    changes: list[tuple[str, Any, Any]] = []
    for name, filter_ in dashboard.filters.items():
        had = left.pop(name, None)
        ours[name] = _parameter(dashboard.name, name, filter_, had, ids)
        if had is None:
            changes.append((f"filters.{name}", None, filter_.title))
        else:
            changes += [
                (f"filters.{name}.{key}", had.get(key), _shown(value))
                for key, value in ours[name].items()
                if not _same(had.get(key), value) and not (key in _HINTS and key not in had)
            ]
    changes += [(f"filters.{name}", parameter.get("name"), None) for name, parameter in left.items()]
    filters = Filters(ours, tuple(kept), changes)
    before, after = ([row.get("name") for row in rows] for rows in (found, filters.bodies))
    if not changes and before != after:
        changes.append(("order of filters", before, after))
    return filters


def _parameter(dashboard: str, name: str, filter_: Filter, had: Body | None, ids: Mapping[CardKey, int]) -> Body:
    body: Body = {"id": parameter_id(dashboard, name), "slug": name, **(had or {}), "name": filter_.title}
    if filter_type(body) != filter_.type:
        body["type"] = parameter_type(filter_)
    if filter_.type == "text":
        # A variable of a query takes one value.
        body["isMultiSelect"] = False
    if filter_.values is not None:
        card, _, column = filter_.values.partition(".")
        key = CardKey(dashboard, card)
        source = ids.get(key, card_ref(key))
        if value_source(body) != (source, column):
            base = {"date": "type/DateTime", "text": "type/Text", "number": "type/Number"}[filter_.type]
            body["values_source_config"] = {"card_id": source, "value_field": ["field", column, {"base-type": base}]}
        body |= {"values_source_type": "card", "values_query_type": "list"}
    elif body.get("values_source_type") == "card":
        body |= {"values_source_type": None, "values_source_config": {}}
    return body


def _same(before: Any, after: Any) -> bool:
    """To Metabase a null and an empty table are as good as none."""
    nothing: tuple[object, ...] = (None, {})
    return bool(before == after) or (before in nothing and after in nothing)


def _shown(value: Any) -> Any:
    if isinstance(value, Ref):
        return str(value)
    return {key: _shown(inner) for key, inner in value.items()} if isinstance(value, Mapping) else value


def parameter_id(dashboard: str, name: str) -> str:
    return stable_uuid("parameter", dashboard, name)


def parameter_type(filter_: Filter) -> str:
    return _FILTER_TYPES[filter_.type][0]


def filter_type(parameter: Mapping[str, Any]) -> str | None:
    """The type of the filter that a dashboard's parameter is; None for one that clickmart has no name for."""
    return next((ours for ours, theirs in _FILTER_TYPES.items() if parameter.get("type") in theirs), None)


def value_source(parameter: Mapping[str, Any]) -> tuple[int, str] | None:
    """The id of the card and its column whose values a parameter offers; None where they come from elsewhere."""
    config = parameter.get("values_source_config") or {}
    field = config.get("value_field")
    if parameter.get("values_source_type") != "card" or not isinstance(config.get("card_id"), int):
        return None
    # ["field", NAME, OPTIONS], or with the two in the other order.
    named = [part for part in field[1:] if isinstance(part, str)] if isinstance(field, list) else []
    return (config["card_id"], named[0]) if named else None


def mapped_tags(dashboard: FoundDashboard, parameter: str) -> set[str]:
    """The variables of queries that a parameter of the dashboard sets."""
    names = set()
    for dashcard in dashboard.dashcards:
        for mapping in dashcard.parameter_mappings or []:
            if mapping.get("parameter_id") == parameter and (name := tag_of(mapping)):
                names.add(name)
    return names


def tag_of(mapping: Mapping[str, Any]) -> str | None:
    """The variable that a mapping sets; None where it narrows a field, or a text."""
    match mapping.get("target"):
        case ["variable", ["template-tag", str(name)], *_]:
            return name
    return None


def filter_name(dashboard: FoundDashboard, ours: str, parameter: Mapping[str, Any], known: Mapping[str, Filter]) -> str:
    """How the filters of `ours` call a parameter of the dashboard: by clickmart's own id, else by the variable that it
    sets in the queries, else as Metabase writes it in URLs."""
    for name in known:
        if parameter.get("id") == parameter_id(ours, name):
            return name
    tags = mapped_tags(dashboard, str(parameter.get("id")))
    return tags.pop() if len(tags) == 1 else str(parameter.get("slug") or parameter.get("id"))
