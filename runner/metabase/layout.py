"""A dashboard's cards, texts and tabs as Metabase's dashcards, keeping the ids of those that are there. No calls.

Metabase takes all dashcards and tabs at once: what is left out is gone. So what the project has no words for, such as
links, frames and questions built by clicking, is sent back as it was found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..dashboards import Card, Dashboard, Place, Text, is_name
from .filters import Filters
from .objects import (
    PLAIN_TAGS,
    CardKey,
    FoundCard,
    FoundDashboard,
    FoundDashcard,
    FoundTab,
    native_query,
    text_settings,
)
from .refs import Id, card_ref

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Layout:
    """All dashcards and tabs to write; `changes` are what is new in them: what, before, after."""

    dashcards: list[Body]
    tabs: list[Body]
    changes: list[tuple[str, Any, Any]]


@dataclass(frozen=True, slots=True)
class Sorted:
    """The dashcards of a dashboard: of clickmart's cards by their names, texts, what a pull would bring into the
    project, and what the project has no words for."""

    cards: Mapping[str, FoundDashcard]
    texts: tuple[FoundDashcard, ...]
    new: tuple[FoundDashcard, ...]
    kept: tuple[FoundDashcard, ...]


def sort_dashcards(
    name: str, there: FoundDashboard, ids: Mapping[CardKey, int], others: Mapping[int, FoundCard]
) -> Sorted:
    ours = {id_: key.card for key, id_ in ids.items() if key.dashboard == name}
    cards: dict[str, FoundDashcard] = {}
    texts, new, kept = [], [], []
    for dashcard in sorted(there.dashcards, key=lambda dashcard: dashcard.id):
        if dashcard.is_text:
            texts.append(dashcard)
        elif dashcard.card_id in ours and ours[dashcard.card_id] not in cards:
            cards[ours[dashcard.card_id]] = dashcard
        elif dashcard.card_id not in ours and (other := others.get(dashcard.card_id or 0)) and is_plain(other):
            new.append(dashcard)
        else:
            kept.append(dashcard)
    return Sorted(cards, tuple(texts), tuple(new), tuple(kept))


def is_plain(card: FoundCard) -> bool:
    """Whether the card's query is SQL whose variables a file can have."""
    query = native_query(card.dataset_query)
    tags = query.tags.items() if query else ()
    return query is not None and all(tag.get("type") in PLAIN_TAGS and is_name(name) for name, tag in tags)


def changed_layout(
    dashboard: Dashboard,
    there: FoundDashboard,
    ids: Mapping[CardKey, int],
    others: Mapping[int, FoundCard],
    filters: Filters,
) -> Layout | None:
    """The dashcards and tabs to write; None where Metabase has them as they should be."""
    tabs, tab_ids = _tabs(dashboard, there)
    sorted_ = sort_dashcards(dashboard.name, there, ids, others)
    changes: list[tuple[str, Any, Any]] = []
    before_tabs = [tab.name for tab in there.tabs_in_order]
    if before_tabs != list(dashboard.tabs):
        changes.append(("tabs", before_tabs, list(dashboard.tabs)))
    wanted = [
        (f"cards.{card.name}", had := sorted_.cards.get(card.name), _card_body(dashboard, card, had, ids, filters))
        for card in dashboard.cards
    ]
    wanted += [
        (f"text {text.text[:30]!r}", had, _text_body(text, had))
        for text, had in _matched_texts(dashboard, sorted_.texts)
    ]
    places = [(card.place, card.tab) for card in dashboard.cards] + [(text.place, text.tab) for text in dashboard.texts]
    tab_names = {tab.id: tab.name for tab in there.tabs_in_order} | {id_: name for name, id_ in tab_ids.items()}
    dashcards: list[Body] = []
    for (what, had, inner), (place, tab) in zip(wanted, places, strict=True):
        body = {**(_body(had) if had else {}), **_placed(place, tab_ids.get(tab or "")), **inner}
        if had is None:
            changes.append((what, None, "placed"))
        else:
            changes += [(f"{what}.{name}", *values) for name, *values in _differences(_body(had), body, tab_names)]
        dashcards.append({"id": had.id if had else -1 - len(dashcards), **body})
    present = {body["id"] for body in dashcards}
    gone = [*sorted_.texts, *sorted_.new, *sorted_.cards.values()]
    changes += [(_name(dashcard, others), "placed", None) for dashcard in gone if dashcard.id not in present]
    tab_numbers = [tab["id"] for tab in tabs]
    for dashcard in sorted_.kept:
        body = _body(dashcard)
        if tab_numbers and body["dashboard_tab_id"] not in tab_numbers:
            body["dashboard_tab_id"] = tab_numbers[0]
        dashcards.append({"id": dashcard.id, **body, **({} if tab_numbers else {"dashboard_tab_id": None})})
    return Layout(dashcards, tabs, changes) if changes else None


def _card_body(
    dashboard: Dashboard, card: Card, had: FoundDashcard | None, ids: Mapping[CardKey, int], filters: Filters
) -> Body:
    key = CardKey(dashboard.name, card.name)
    id_: Id = ids.get(key, card_ref(key))
    mappings = [
        {"parameter_id": filters.ours[name]["id"], "card_id": id_, "target": ["variable", ["template-tag", name]]}
        for name in card.variables
    ]
    kept = {parameter.get("id") for parameter in filters.kept}
    mappings += [row for row in (had.parameter_mappings or [] if had else []) if row.get("parameter_id") in kept]
    return {"card_id": id_, "visualization_settings": {}, "parameter_mappings": mappings}


def _text_body(text: Text, had: FoundDashcard | None) -> Body:
    """A text with what else Metabase keeps with it, such as its alignment."""
    ours = text_settings(text.text, text.heading)
    if had is None:
        return {"card_id": None, "visualization_settings": ours, "parameter_mappings": []}
    virtual = {**had.settings.get("virtual_card", {}), "display": ours["virtual_card"]["display"]}
    return {"card_id": None, "visualization_settings": {**had.settings, "virtual_card": virtual, "text": text.text}}


def _name(dashcard: FoundDashcard, others: Mapping[int, FoundCard]) -> str:
    if other := others.get(dashcard.card_id or 0):
        return f"card #{other.id} {other.name!r}"
    if dashcard.card_id is not None:
        return f"card #{dashcard.card_id}"
    return f"text {str(dashcard.settings.get('text'))[:30]!r}"


def _body(dashcard: FoundDashcard) -> Body:
    """A dashcard as it may be sent back, without its id."""
    body: Body = {
        "card_id": dashcard.card_id,
        "row": dashcard.row,
        "col": dashcard.col,
        "size_x": dashcard.size_x,
        "size_y": dashcard.size_y,
        "dashboard_tab_id": dashcard.dashboard_tab_id,
        "visualization_settings": dashcard.settings,
        "parameter_mappings": dashcard.parameter_mappings or [],
    }
    if dashcard.series:
        body["series"] = [{"id": row["id"]} for row in dashcard.series if "id" in row]
    if dashcard.inline_parameters:
        body["inline_parameters"] = dashcard.inline_parameters
    if dashcard.action_id is not None:
        body["action_id"] = dashcard.action_id
    return body


def _placed(place: Place, tab: int | None) -> Body:
    return {
        "row": place.row,
        "col": place.column,
        "size_x": place.width,
        "size_y": place.height,
        "dashboard_tab_id": tab,
    }


def _tabs(dashboard: Dashboard, there: FoundDashboard) -> tuple[list[Body], dict[str, int]]:
    """The tabs to write and their ids by name. A tab keeps its id by its name, and a renamed one by its position."""
    left: list[FoundTab] = there.tabs_in_order
    ids: dict[str, int] = {}
    for tab in there.tabs_in_order:
        if tab.name in dashboard.tabs and tab.name not in ids:
            ids[tab.name] = tab.id
            left.remove(tab)
    for position, name in enumerate(dashboard.tabs):
        if name not in ids:
            ids[name] = left.pop(0).id if left else -1 - position
    return [{"id": ids[name], "name": name} for name in dashboard.tabs], ids


def _matched_texts(dashboard: Dashboard, found: tuple[FoundDashcard, ...]) -> list[tuple[Text, FoundDashcard | None]]:
    """Each text of the project with the dashcard that it is: the same text, else one at the same place."""
    left = list(found)
    matched: dict[int, FoundDashcard] = {}
    for same in (_same_text, _same_place):
        for number, text in enumerate(dashboard.texts):
            hit = next((dashcard for dashcard in left if number not in matched and same(text, dashcard)), None)
            if hit is not None:
                matched[number] = hit
                left.remove(hit)
    return [(text, matched.get(number)) for number, text in enumerate(dashboard.texts)]


def _same_text(text: Text, dashcard: FoundDashcard) -> bool:
    return dashcard.settings.get("text") == text.text


def _same_place(text: Text, dashcard: FoundDashcard) -> bool:
    return (dashcard.row, dashcard.col) == (text.place.row, text.place.column)


def _differences(before: Body, after: Body, tabs: Mapping[int, str]) -> Iterator[tuple[str, Any, Any]]:
    """What is new in a dashcard, tabs by their names."""
    for key, value in after.items():
        if key == "dashboard_tab_id":
            if before[key] != value:
                yield "tab", tabs.get(before[key]), tabs.get(value)
        elif key == "parameter_mappings":
            had, now = (sorted(map(_mapping, rows)) for rows in (before[key], value))
            if had != now:
                yield "filters", had, now
        elif before[key] != value:
            yield key, before[key], value


def _mapping(row: Body) -> list[str]:
    """A mapping to compare and to show: Metabase may keep more with it than it was given."""
    target = row.get("target")
    return [
        str(row.get("parameter_id")),
        str(row.get("card_id")),
        str(target[:2] if isinstance(target, list) else target),
    ]
