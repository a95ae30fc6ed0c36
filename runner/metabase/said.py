"""What dashboard.toml would say of a dashboard: as the project has it, and as Metabase has it. No calls, no files.

Both are said in the same words, so that their difference is what was changed at Metabase since the last push.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..dashboards import Dashboard, file_sql, is_name, metabase_sql
from .filters import filter_name, filter_type, mapped_tags, value_source
from .found import Found
from .layout import is_plain, sort_dashcards
from .objects import (
    CardKey,
    FoundCard,
    FoundDashboard,
    FoundDashcard,
    NativeQuery,
    native_query,
    unmarked,
)
from .settings import display_of, merged, said_of, settings_of

Table = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Said:
    """A dashboard as its file says it, defaults left out; `sql` is that of its cards at Metabase, by name; `notes` are
    what a person should know."""

    table: Table
    sql: Mapping[str, str]
    notes: list[str] = field(default_factory=list)


def said_by_project(dashboard: Dashboard) -> Said:
    cards = {
        card.name: _card(
            card.title, card.description, display_of(card.chart), settings_of(card), _place_of(card), card.tab
        )
        for card in dashboard.cards
    }
    filters = {
        name: _filter(filter_.title, filter_.type, filter_.values) for name, filter_ in dashboard.filters.items()
    }
    texts = [_text(text.text, text.heading, _place_of(text), text.tab) for text in dashboard.texts]
    sql = {card.name: metabase_sql(card.sql).rstrip() for card in dashboard.cards}
    return Said(_dashboard(dashboard.title, dashboard.description, dashboard.tabs, filters, cards, texts), sql)


def said_by_metabase(dashboard: Dashboard, there: FoundDashboard, found: Found) -> Said:
    """The dashboard as it stands at Metabase. What can't be said in a project's files is as the project has it."""
    ours = said_by_project(dashboard)
    tabs = {tab.id: tab.name for tab in there.tabs_in_order}
    ids = {key: card.id for key, card in found.cards.items()}
    sorted_ = sort_dashcards(dashboard.name, there, ids, found.others)
    notes: list[str] = []
    names = {dashcard.card_id: name for name, dashcard in sorted_.cards.items()}
    cards: dict[str, Table] = {}
    sql: dict[str, str] = {}
    queries: list[NativeQuery] = []
    card_of = {card.name: card for card in dashboard.cards}
    needed: set[str] = set()
    for name, table in ours.table["cards"].items():
        key = CardKey(dashboard.name, name)
        if key not in found.cards:
            notes.append(f"{key}: not at Metabase yet; push makes it")
            cards[name], sql[name] = table, ours.sql[name]
            needed |= set(card_of[name].variables)
        elif name in sorted_.cards:
            cards[name] = _found_card(found.cards[key], sorted_.cards[name], tabs)
            sql[name] = ours.sql[name]
            query = native_query(found.cards[key].dataset_query)
            if query is None or not is_plain(found.cards[key]):
                needed |= set(card_of[name].variables)
                notes.append(f"{key}: no longer SQL that a file can have; its query stays as the project has it")
            else:
                sql[name] = _sql(str(key), query, notes)
                queries.append(query)
        else:
            notes.append(f"{key}: taken off the dashboard, and so out of the project")
    for dashcard in sorted_.new:
        other = found.others[dashcard.card_id or 0]
        query = native_query(other.dataset_query)
        if query is None:
            raise AssertionError("what is new is SQL")
        name = _new_name(other, cards.keys() | ours.sql.keys())
        cards[name], sql[name] = _found_card(other, dashcard, tabs), _sql(f"{dashboard.name}/{name}", query, notes)
        names[other.id] = name
        queries.append(query)
        notes.append(f"{dashboard.name}/{name}: new, from card #{other.id} {other.name!r}")
    notes += [f"{dashboard.name}: {what}; left alone" for what in _unsaid(sorted_.kept, found)]
    filters = dict(_filters(dashboard, there, names, cards, queries, notes))
    # Cards that stay as the project has them need its filters.
    filters |= {name: table for name, table in ours.table["filters"].items() if name in needed - filters.keys()}
    texts = [
        _text(
            str(dashcard.settings.get("text", "")),
            dashcard.virtual == "heading",
            _found_place(dashcard),
            tabs.get(dashcard.dashboard_tab_id or 0),
        )
        for dashcard in sorted_.texts
    ]
    title, description = there.name, unmarked(there.description)
    return Said(_dashboard(title, description, tuple(tabs.values()), filters, cards, texts), sql, notes)


def _dashboard(
    title: str,
    description: str,
    tabs: tuple[str, ...],
    filters: dict[str, Table],
    cards: dict[str, Table],
    texts: list[Table],
) -> Table:
    table: Table = {"title": title, "description": description.rstrip(), "tabs": list(tabs)}
    return {**_without_defaults(table), "filters": filters, "cards": cards, "texts": texts}


def _card(title: str, description: str, display: str, settings: Table, place: Table, tab: str | None) -> Table:
    table = {"title": title, "description": description.rstrip(), "tab": tab, "place": place}
    return _without_defaults(table) | said_of(display, settings)


def _found_card(card: FoundCard, dashcard: FoundDashcard, tabs: Mapping[int, str]) -> Table:
    """The card as the dashboard shows it: what was set there alone counts over the card's own settings."""
    over = dict(dashcard.settings)
    title = str(over.pop("card.title", None) or card.name)
    description = str(over.pop("card.description", None) or unmarked(card.description))
    settings = merged(card.visualization_settings, over)
    tab = tabs.get(dashcard.dashboard_tab_id or 0)
    return _card(title, description, card.display, settings, _found_place(dashcard), tab)


def _sql(name: str, query: NativeQuery, notes: list[str]) -> str:
    """The query as Metabase would have it from a file."""
    text = query.sql.replace("\r\n", "\n").rstrip()
    said = metabase_sql(file_sql(text))
    if [*map(str.rstrip, said.split("\n"))] != [*map(str.rstrip, text.split("\n"))]:
        notes.append(f"{name}: a clause is a comment at Metabase, and would count in a file; take it out there")
    return said


def _filters(
    dashboard: Dashboard,
    there: FoundDashboard,
    names: Mapping[int | None, str],
    cards: Mapping[str, Table],
    queries: list[NativeQuery],
    notes: list[str],
) -> Iterator[tuple[str, Table]]:
    used = {name: tag for query in queries for name, tag in query.tags.items()}
    told: set[str] = set()
    for parameter in there.parameters or []:
        name = filter_name(there, dashboard.name, parameter, dashboard.filters)
        type_ = filter_type(parameter)
        title = str(parameter.get("name") or name)
        if type_ is None or name in told or not is_name(name):
            if len(mapped_tags(there, str(parameter.get("id")))) > 1:
                notes.append(f"{dashboard.name}: filter {title!r} sets variables of several names; left alone")
            else:
                notes.append(
                    f"{dashboard.name}: filter {title!r} is of a type that the project has none for; left alone"
                )
            continue
        told.add(name)
        source = value_source(parameter)
        card = names.get(source[0]) if source else None
        values = f"{card}.{source[1]}" if source and card in cards else None
        yield name, _filter(title, type_, values)
    # A file's variables are filters, whether the dashboard has a field for them or not.
    for name, filter_ in dashboard.filters.items():
        if name in used and name not in told:
            told.add(name)
            yield name, _filter(filter_.title, filter_.type, None)
    for name, tag in used.items():
        if name not in told:
            told.add(name)
            yield name, _filter(str(tag.get("display-name") or name), str(tag["type"]), None)


def _filter(title: str, type_: str, values: str | None) -> Table:
    return {"title": title, "type": type_} | ({"values": values} if values is not None else {})


def _text(text: str, heading: bool, place: Table, tab: str | None) -> Table:
    return {"text": text, "place": place} | ({"heading": True} if heading else {}) | ({"tab": tab} if tab else {})


def _place_of(part: Any) -> Table:
    place = part.place
    return {"column": place.column, "row": place.row, "width": place.width, "height": place.height}


def _found_place(dashcard: FoundDashcard) -> Table:
    return {"column": dashcard.col, "row": dashcard.row, "width": dashcard.size_x, "height": dashcard.size_y}


def _without_defaults(table: Table) -> Table:
    return {name: value for name, value in table.items() if value not in ("", None, [])}


def _new_name(card: FoundCard, taken: set[str]) -> str:
    """The name of a new card's file: its title in small letters where those of a name are in it."""
    name = re.sub(r"[^a-z0-9]+", "_", card.name.lower()).strip("_")
    return name if name and name not in taken else f"{name or 'card'}_{card.id}"


def _unsaid(kept: tuple[FoundDashcard, ...], found: Found) -> Iterator[str]:
    for dashcard in kept:
        if dashcard.card_id is None:
            yield f"a {dashcard.virtual or 'card'} of its own kind, which no file can say"
        elif other := found.others.get(dashcard.card_id):
            yield f"card #{other.id} {other.name!r} is not SQL that a file can have"
        else:
            yield f"card #{dashcard.card_id} stands there twice"
