"""What a push would do: the project's dashboards against what Metabase holds. Pure: no calls, so that plan and push
can't disagree. A push runs the steps in order, and puts in ids that only then are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..dashboards import Card, Dashboard, metabase_sql
from .adoption import adoptions
from .filters import wanted_filters
from .found import Found
from .layout import changed_layout
from .objects import (
    CardKey,
    FoundCard,
    FoundDashboard,
    entity_id,
    mark_of,
    marked,
    native_query,
    query_body,
    tag_body,
    unmarked,
    variables_of,
)
from .refs import Id, Ref, card_ref
from .settings import display_of, settings_of

Action = Literal["create", "restore", "adopt", "update", "archive"]
Kind = Literal["database", "collection", "card", "dashboard"]

DATABASE: Ref = Ref("database", "")
COLLECTION: Ref = Ref("collection", "")


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: what Metabase has and what the project says, None where there is nothing."""

    what: str
    found: Any
    wanted: Any

    def as_dict(self) -> dict[str, Any]:
        return {"what": self.what, "found": self.found, "wanted": self.wanted}


@dataclass(frozen=True, slots=True)
class Step:
    """One write. `path` is followed by the `target`, if any; `makes` is what the answer's id is known as from then on.
    The body may hold a password, and is shown nowhere."""

    action: Action
    kind: Kind
    name: str
    method: Literal["POST", "PUT"]
    body: Mapping[str, Any] = field(repr=False)
    target: Id | None = None
    makes: Ref | None = None
    changes: tuple[Change, ...] = ()

    @property
    def path(self) -> str:
        return f"/api/{self.kind}"

    def as_dict(self) -> dict[str, Any]:
        changes = [change.as_dict() for change in self.changes]
        return {"action": self.action, "kind": self.kind, "name": self.name, "changes": changes}


def make_steps(
    dashboards: tuple[Dashboard, ...], found: Found, name: str, connection: Mapping[str, Any] | None = None
) -> tuple[Step, ...]:
    """The writes that make Metabase hold these dashboards, in the collection `name`, in their order.

    `connection`: the body that makes the database where there is none.
    """
    return tuple(_Planner(dashboards, found, name).steps(connection))


class _Planner:
    def __init__(self, dashboards: tuple[Dashboard, ...], found: Found, name: str) -> None:
        self._dashboards = dashboards
        self._found = found
        self._name = name
        self._database: Id = found.database.id if found.database else DATABASE
        self._home: Id = int(found.collection.id) if found.collection else COLLECTION
        self._adopted = adoptions(dashboards, found)
        self._cards = {**found.cards, **self._adopted}
        self._ids = {key: card.id for key, card in self._cards.items()}

    def steps(self, connection: Mapping[str, Any] | None) -> Iterator[Step]:
        if connection is not None and self._found.database is None:
            yield Step("create", "database", str(connection["name"]), "POST", connection, makes=DATABASE)
        if self._found.collection is None:
            description = marked("Made by clickmart; its dashboards are files of a project.", self._name)
            body = {"name": self._name, "description": description}
            yield Step("create", "collection", self._name, "POST", body, makes=COLLECTION)
        elif self._found.collection.archived:
            yield _put("restore", "collection", self._name, self._home, {"archived": False})
        for dashboard in self._dashboards:
            for card in dashboard.cards:
                yield from self._card(dashboard, card)
        for dashboard in self._dashboards:
            yield from self._dashboard(dashboard)
        yield from self._leavers()

    def _card(self, dashboard: Dashboard, card: Card) -> Iterator[Step]:
        key = CardKey(dashboard.name, card.name)
        there = self._cards.get(key)
        wanted = self._card_body(dashboard, card, there)
        if there is None:
            body = {**wanted, "type": "question", "collection_id": self._home, "entity_id": entity_id(self._name, *key)}
            yield Step("create", "card", str(key), "POST", body, makes=card_ref(key))
            return
        if there.archived:
            yield _put("restore", "card", str(key), there.id, {"archived": False})
        if changes := _card_changes(there, wanted):
            body = {name: wanted[name] for name in changes}
            action: Action = "adopt" if key in self._adopted else "update"
            yield _put(action, "card", str(key), there.id, body, [row for rows in changes.values() for row in rows])

    def _card_body(self, dashboard: Dashboard, card: Card, there: FoundCard | None) -> dict[str, Any]:
        """The card as it should be; what else Metabase keeps with a variable, such as its default, stays."""
        key = CardKey(dashboard.name, card.name)
        query = native_query(there.dataset_query) if there else None
        tags = {}
        for name in card.variables:
            tag, had = tag_body(*key, name, dashboard.filters[name]), query.tags.get(name, {}) if query else {}
            same_type = had.get("type") == tag["type"]
            tags[name] = {**tag, **had, "display-name": tag["display-name"]} if same_type else tag
        form, tag_list = (query.form, query.tag_list) if query else (self._found.query_form, False)
        return {
            "name": card.title,
            "description": marked(card.description, f"{self._name}/{key}"),
            "display": display_of(card.chart),
            "visualization_settings": settings_of(card),
            "dataset_query": query_body(self._database, metabase_sql(card.sql).rstrip(), tags, form, tag_list),
        }

    def _dashboard(self, dashboard: Dashboard) -> Iterator[Step]:
        there = self._found.dashboards.get(dashboard.name)
        description = marked(dashboard.description, f"{self._name}/{dashboard.name}")
        target: Id = there.id if there else Ref("dashboard", dashboard.name)
        if there is None:
            body = {"name": dashboard.title, "description": description, "collection_id": self._home}
            made = Ref("dashboard", dashboard.name)
            yield Step("create", "dashboard", dashboard.name, "POST", body, makes=made)
            there = FoundDashboard(0, dashboard.title, description)
        elif there.archived:
            yield _put("restore", "dashboard", dashboard.name, target, {"archived": False})
        update: dict[str, Any] = {}
        changes: list[Change] = []
        if there.name != dashboard.title:
            update["name"] = dashboard.title
            changes.append(Change("title", there.name, dashboard.title))
        if (there.description or "").rstrip() != description:
            update["description"] = description
            changes.append(Change("description", unmarked(there.description), dashboard.description))
        filters = wanted_filters(dashboard, there, self._ids)
        if filters.changes:
            update["parameters"] = filters.bodies
            changes += [Change(*change) for change in filters.changes]
        layout = changed_layout(dashboard, there, self._ids, self._found.others, filters)
        if layout is not None:
            update |= {"dashcards": layout.dashcards, "tabs": layout.tabs}
            changes += [Change(*change) for change in layout.changes]
        if changes:
            yield _put("update", "dashboard", dashboard.name, target, update, changes)

    def _leavers(self) -> Iterator[Step]:
        """What is clickmart's and no longer the project's goes to the trash."""
        names = {dashboard.name for dashboard in self._dashboards}
        keys = {CardKey(dashboard.name, card.name) for dashboard in self._dashboards for card in dashboard.cards}
        for name, there in self._found.dashboards.items():
            if name not in names and not there.archived:
                yield _put("archive", "dashboard", name, there.id, {"archived": True})
        for key, card in self._found.cards.items():
            if key not in keys and not card.archived:
                yield _put("archive", "card", str(key), card.id, {"archived": True})


def _put(
    action: Action,
    kind: Kind,
    name: str,
    target: Id,
    body: Mapping[str, Any],
    changes: list[Change] | None = None,
) -> Step:
    return Step(action, kind, name, "PUT", body, target=target, changes=tuple(changes or ()))


def _card_changes(there: FoundCard, wanted: Mapping[str, Any]) -> dict[str, list[Change]]:
    """The differences, by the field of the card that has them."""
    changes: dict[str, list[Change]] = {}
    for name, what in (("name", "title"), ("display", "chart")):
        if getattr(there, name) != wanted[name]:
            changes[name] = [Change(what, getattr(there, name), wanted[name])]
    if (there.description or "").rstrip() != wanted["description"]:
        before, after = (
            unmarked(text) if mark_of(there.description) else text
            for text in (there.description, wanted["description"])
        )
        changes["description"] = [Change("description", before, after)]
    had, settings = there.visualization_settings, wanted["visualization_settings"]
    changed = [name for name in sorted({*had, *settings}) if _setting(had, name) != _setting(settings, name)]
    if changed:
        changes["visualization_settings"] = [Change(name, had.get(name), settings.get(name)) for name in changed]
    query, ours = native_query(there.dataset_query), native_query(wanted["dataset_query"])
    if ours is None:
        raise AssertionError("a card of a project is SQL")
    rows = [
        Change("sql", query.sql.rstrip() if query else None, ours.sql),
        Change("variables", variables_of(query), variables_of(ours)),
        Change("database", query.database if query else None, ours.database),
    ]
    if rows := [row for row in rows if row.found != row.wanted]:
        changes["dataset_query"] = rows
    return changes


def _setting(settings: Mapping[str, Any], name: str) -> tuple[bool, Any]:
    """A null is a choice, and not the same as nothing."""
    return name in settings, settings.get(name)
