"""A dashboard's filters as Metabase's parameters. No calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from .dashboards import Dashboard, Filter
from .metabase_objects import (
    CardKey,
    FoundDashboard,
    filter_name,
    filter_type,
    parameter_id,
    parameter_type,
    value_source,
)
from .metabase_refs import Ref, card_ref

Body = dict[str, Any]

#: What a Metabase may not keep, and does well without.
_HINTS: Final = frozenset({"isMultiSelect", "values_query_type"})


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
