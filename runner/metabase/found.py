"""Reads what Metabase holds of clickmart's, and what stands on clickmart's dashboards besides. Writes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ..errors import MetabaseError, UsageError
from .client import Metabase
from .objects import (
    CardKey,
    FoundCard,
    FoundCollection,
    FoundDashboard,
    FoundDatabase,
    FoundItem,
    entity_id,
    mark_of,
)

DEFAULT_NAME: Final = "clickmart"
OLDEST: Final = 50
#: From this version on queries are answered in MBQL 5.
MBQL_5: Final = 57


@dataclass(frozen=True, slots=True)
class Found:
    """What there is. `version` is 60 of 0.60, None where Metabase names none. `cards` and `dashboards` are clickmart's,
    by their marks; `others` are further cards on those dashboards, by their ids. `notes` are for a person."""

    version: int | None
    database: FoundDatabase | None
    collection: FoundCollection | None
    dashboards: Mapping[str, FoundDashboard]
    cards: Mapping[CardKey, FoundCard]
    others: Mapping[int, FoundCard]
    notes: tuple[str, ...]

    @property
    def query_form(self) -> int:
        """4 or 5: how this server answers a query, as its version says."""
        return 5 if (self.version or 0) >= MBQL_5 else 4


class _Items(msgspec.Struct):
    data: list[FoundItem]


class _Databases(msgspec.Struct):
    data: list[FoundDatabase]


def read_version(metabase: Metabase) -> int | None:
    """The version of Metabase, 60 of 0.60; None where it is no number. Raises MetabaseError for one too old, or one
    that nobody has set up yet."""
    properties = metabase.get("/api/session/properties", dict[str, Any])
    tag = str((properties.get("version") or {}).get("tag"))
    parts = re.match(r"v?[01]\.(\d+)", tag)
    if properties.get("has-user-setup") is False:
        raise MetabaseError(f"{metabase.url}: this Metabase isn't set up yet; open it in a browser first")
    version = int(parts[1]) if parts else None
    if version is not None and version < OLDEST:
        raise MetabaseError(f"{metabase.url}: Metabase {tag}; clickmart needs 0.{OLDEST} or newer")
    return version


def read_database(metabase: Metabase, name: str | None, *, may_lack: bool) -> FoundDatabase | None:
    """Metabase's database of that name; without a name the one called clickmart, else the only one of PostgreSQL.

    None where there is none and it `may_lack`; else raises UsageError, which names those that there are.
    """
    databases = metabase.get("/api/database", _Databases).data
    for database in databases:
        if database.name == (name or DEFAULT_NAME):
            return database
    postgres = [database for database in databases if database.engine == "postgres"]
    if may_lack:
        return None
    if name is None and len(postgres) == 1:
        return postgres[0]
    wanted = f"no database {name!r}" if name else "none of its databases is the one"
    there = ", ".join(database.name for database in databases) or "none"
    raise UsageError(
        f"{metabase.url}: {wanted}; name one by --database, or make one by --create-database; there are {there}"
    )


def read_found(
    metabase: Metabase,
    name: str,
    wanted: Iterable[CardKey],
    dashboards: Iterable[str],
    *,
    version: int | None,
    database: FoundDatabase | None,
) -> Found:
    """What is there of the collection `name`, and of the wanted cards and dashboards wherever they were moved."""
    notes: list[str] = []
    collection = find_collection(metabase, name, notes)
    items = [] if collection is None or collection.archived else collection_items(metabase, int(collection.id))
    found = _Reader(metabase, name, collection, notes)
    found.take(items)
    missing = not (found.cards.keys() >= set(wanted) and found.dashboards.keys() >= set(dashboards))
    if missing:
        # They were never made, or lie in the trash or in another collection: the lists of all say which.
        for path, model in (("/api/dashboard", "dashboard"), ("/api/card", "card")):
            for kind in ("all", "archived"):
                rows = metabase.get(path, list[FoundItem], {"f": kind})
                found.take([msgspec.structs.replace(row, model=model) for row in rows])
    return found.read(version, database)


def find_collection(metabase: Metabase, name: str, notes: list[str]) -> FoundCollection | None:
    """Clickmart's collection `name` by its mark, whatever it is called now; the trash is looked into last."""
    for archived in ("false", "true"):
        rows = metabase.get("/api/collection", list[FoundCollection], {"archived": archived})
        ours = [row for row in rows if isinstance(row.id, int) and mark_of(row.description) == name]
        if ours:
            if len(ours) > 1:
                notes.append(f"{len(ours)} collections have the mark of {name!r}; the oldest is used")
            return min(ours, key=lambda row: row.id)
        if any(row.name == name for row in rows) and archived == "false":
            notes.append(f"a collection {name!r} is there without clickmart's mark; it is left alone")
    return None


def collection_items(metabase: Metabase, collection: int) -> list[FoundItem]:
    path = f"/api/collection/{collection}/items"
    return metabase.get(path, _Items, {"models": ["card", "dashboard"]}).data


class _Reader:
    """Gathers the candidates of each name, then reads those that win."""

    def __init__(self, metabase: Metabase, name: str, collection: FoundCollection | None, notes: list[str]) -> None:
        self._metabase = metabase
        self._name = name
        self._collection = collection
        self._notes = notes
        self.cards: dict[CardKey, dict[int, FoundItem]] = {}
        self.dashboards: dict[str, dict[int, FoundItem]] = {}

    def take(self, rows: Iterable[FoundItem]) -> None:
        for row in rows:
            name, _, path = (mark_of(row.description) or "").partition("/")
            if name != self._name or not path:
                continue
            dashboard, _, card = path.partition("/")
            if row.model == "dashboard" and not card:
                self.dashboards.setdefault(path, {}).setdefault(row.id, row)
            elif row.model == "card" and card:
                self.cards.setdefault(CardKey(dashboard, card), {}).setdefault(row.id, row)

    def read(self, version: int | None, database: FoundDatabase | None) -> Found:
        dashboards = {
            name: self._metabase.get(f"/api/dashboard/{self._winner(name, rows, '').id}", FoundDashboard)
            for name, rows in sorted(self.dashboards.items())
        }
        cards: dict[CardKey, FoundCard] = {}
        read: dict[int, FoundCard] = {}
        # A question that belongs to a dashboard stands in no list of its collection.
        shown = {dashcard.card_id for dashboard in dashboards.values() for dashcard in dashboard.dashcards}
        for id_ in sorted(id_ for id_ in shown if id_ is not None):
            card = read[id_] = self._card(id_)
            row = FoundItem(
                card.id, card.name, card.description, "card", card.archived, card.collection_id, card.entity_id
            )
            self.take([row])
        for key, rows in sorted(self.cards.items()):
            winner = self._winner(str(key), rows, entity_id(self._name, *key))
            cards[key] = read.get(winner.id) or self._card(winner.id)
        ours = {card.id for card in cards.values()}
        others = {id_: card for id_, card in read.items() if id_ not in ours}
        return Found(version, database, self._collection, dashboards, cards, others, tuple(self._notes))

    def _card(self, id_: int) -> FoundCard:
        return self._metabase.get(f"/api/card/{id_}", FoundCard)

    def _winner(self, name: str, rows: Mapping[int, FoundItem], entity: str) -> FoundItem:
        """The one of several with one mark that is clickmart's: a copy made in the browser has the mark too."""
        home = self._collection.id if self._collection else None
        ranked = sorted(
            rows.values(),
            key=lambda row: (row.archived, row.entity_id != entity, row.collection_id not in (home, None), row.id),
        )
        shown = [row for row in ranked if not row.archived]
        if len(shown) > 1:
            others = ", ".join(f"#{row.id}" for row in shown[1:])
            self._notes.append(f"{name}: #{shown[0].id} is used; {others} with the same mark is a copy, and left alone")
        return ranked[0]
