"""What Metabase holds, as its API answers it, and the marks by which clickmart knows its own. No calls.

Metabase keeps no word of who made a thing. So each of clickmart's has a last line in its description,
`clickmart: COLLECTION/DASHBOARD/CARD`: it survives renaming, moving and the trash, and nothing without it is touched.
"""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from ..dashboards import Filter

_MARK: Final = re.compile(r"(?:\A|\n+)clickmart: ([^\n]+)\Z")
_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_DNS, "clickmart")
#: The types of a query's variable; the others are bound to fields or to other questions.
PLAIN_TAGS: Final = frozenset({"date", "text", "number"})


class CardKey(NamedTuple):
    """A card by its dashboard's name and its own."""

    dashboard: str
    card: str

    def __str__(self) -> str:
        return f"{self.dashboard}/{self.card}"


class FoundDatabase(msgspec.Struct, frozen=True):
    id: int
    name: str
    engine: str
    initial_sync_status: str | None = None


class FoundCollection(msgspec.Struct, frozen=True):
    id: int | str
    name: str
    description: str | None = None
    archived: bool = False


class FoundItem(msgspec.Struct, frozen=True):
    """A row of a list: of a collection's items, of all cards, of all dashboards."""

    id: int
    name: str
    description: str | None = None
    model: str = ""
    archived: bool = False
    collection_id: int | None = None
    entity_id: str | None = None


class FoundCard(msgspec.Struct, frozen=True):
    id: int
    name: str
    display: str
    dataset_query: dict[str, Any]
    description: str | None = None
    archived: bool = False
    visualization_settings: dict[str, Any] = {}
    collection_id: int | None = None
    dashboard_id: int | None = None
    entity_id: str | None = None


class FoundDashcard(msgspec.Struct, frozen=True):
    id: int
    row: int
    col: int
    size_x: int
    size_y: int
    card_id: int | None = None
    action_id: int | None = None
    dashboard_tab_id: int | None = None
    visualization_settings: dict[str, Any] | None = None
    parameter_mappings: list[dict[str, Any]] | None = None
    inline_parameters: list[str] | None = None
    series: list[dict[str, Any]] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        return self.visualization_settings or {}

    @property
    def virtual(self) -> str | None:
        """What a dashcard without a card shows: text, heading, link, iframe; None where it has a card."""
        virtual = self.settings.get("virtual_card")
        return str(virtual.get("display", "")) if isinstance(virtual, Mapping) else None

    @property
    def is_text(self) -> bool:
        return self.card_id is None and self.virtual in ("text", "heading")


class FoundTab(msgspec.Struct, frozen=True):
    id: int
    name: str
    position: int = 0


class FoundDashboard(msgspec.Struct, frozen=True):
    id: int
    name: str
    description: str | None = None
    archived: bool = False
    collection_id: int | None = None
    parameters: list[dict[str, Any]] | None = None
    dashcards: list[FoundDashcard] = []
    tabs: list[FoundTab] | None = None

    @property
    def tabs_in_order(self) -> list[FoundTab]:
        return sorted(self.tabs or [], key=lambda tab: (tab.position, tab.id))


class NativeQuery(msgspec.Struct, frozen=True):
    """A query in SQL. `tags` are Metabase's own, by name. `form` and `tag_list` say how it was answered: 5 is MBQL 5, 4
    the older form, and the tags were a list or a table."""

    database: Any
    sql: str
    tags: Mapping[str, Mapping[str, Any]]
    form: int
    tag_list: bool


def native_query(query: Mapping[str, Any]) -> NativeQuery | None:
    """The SQL of a card's query; None for one that was built by clicking."""
    stages = query.get("stages")
    if query.get("lib/type") == "mbql/query" and isinstance(stages, list) and len(stages) == 1:
        inner, text, form = stages[0], stages[0].get("native"), 5
    elif query.get("type") == "native" and isinstance(query.get("native"), Mapping):
        inner, text, form = query["native"], query["native"].get("query"), 4
    else:
        return None
    if not isinstance(text, str):
        return None
    said = inner.get("template-tags") or {}
    rows = said if isinstance(said, list) else [{"name": name, **tag} for name, tag in said.items()]
    tags = {str(tag["name"]): tag for tag in rows if "name" in tag}
    return NativeQuery(query.get("database"), text, tags, form, isinstance(said, list))


def variables_of(query: NativeQuery | None) -> list[list[str]]:
    """The name, type and title of each variable."""
    tags = query.tags if query else {}
    return sorted([name, str(tag.get("type")), str(tag.get("display-name") or name)] for name, tag in tags.items())


def query_body(database: object, sql: str, tags: Mapping[str, Mapping[str, Any]], form: int, tag_list: bool) -> Any:
    """The query in the form that the server answers with."""
    said = list(tags.values()) if tag_list else dict(tags)
    if form == 5:
        stage = {"lib/type": "mbql.stage/native", "native": sql, "template-tags": said}
        return {"lib/type": "mbql/query", "database": database, "stages": [stage]}
    return {"type": "native", "database": database, "native": {"query": sql, "template-tags": said}}


def marked(description: str, mark: str) -> str:
    description = description.rstrip()
    return f"{description}\n\nclickmart: {mark}" if description else f"clickmart: {mark}"


def mark_of(description: str | None) -> str | None:
    """The mark in a description; None where clickmart didn't make the thing."""
    found = _MARK.search((description or "").rstrip())
    return found[1] if found else None


def unmarked(description: str | None) -> str:
    return _MARK.sub("", (description or "").rstrip())


def entity_id(*parts: str) -> str:
    """An id of 21 letters, as Metabase's own, that stays the same for the same names."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return base64.urlsafe_b64encode(digest)[:21].decode()


def stable_uuid(*parts: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, "\0".join(parts)))


def tag_body(dashboard: str, card: str, name: str, filter_: Filter) -> dict[str, Any]:
    return {
        "id": stable_uuid("tag", dashboard, card, name),
        "name": name,
        "display-name": filter_.title,
        "type": filter_.type,
    }


def text_settings(text: str, heading: bool) -> dict[str, Any]:
    display = "heading" if heading else "text"
    virtual: dict[str, Any] = {
        "name": None,
        "display": display,
        "visualization_settings": {},
        "dataset_query": {},
        "archived": False,
    }
    return {"virtual_card": virtual, "text": text}
