"""Cards made in the browser that became clickmart's, since a pull brought them into the project. No calls."""

from __future__ import annotations

from dataclasses import replace

from ..dashboards import Card, Dashboard, metabase_sql
from .found import Found
from .objects import CardKey, FoundCard, FoundDashboard, mark_of, native_query


def adoptions(dashboards: tuple[Dashboard, ...], found: Found) -> dict[CardKey, FoundCard]:
    """The unmarked cards on clickmart's dashboards that are cards of the project: same title, same SQL.

    A card that lives in another collection may serve others: it stays theirs, and the dashboard gets one of its own.
    """
    home = found.collection.id if found.collection else None
    return {
        key: card
        for (key, card), there in _matches(dashboards, found, exact=True)
        if card.dashboard_id == there.id or (card.dashboard_id is None and card.collection_id == home)
    }


def with_brought(dashboards: tuple[Dashboard, ...], found: Found) -> Found:
    """What there is, with the cards that a pull has brought already counted as the project's, so that the next pull
    brings their changes and not themselves."""
    brought = {key: card for (key, card), _ in _matches(dashboards, found, exact=False)}
    ids = {card.id for card in brought.values()}
    others = {id_: card for id_, card in found.others.items() if id_ not in ids}
    return replace(found, cards={**found.cards, **brought}, others=others)


def _matches(
    dashboards: tuple[Dashboard, ...], found: Found, *, exact: bool
) -> list[tuple[tuple[CardKey, FoundCard], FoundDashboard]]:
    matches = []
    for dashboard in dashboards:
        there = found.dashboards.get(dashboard.name)
        if there is None:
            continue
        shown = {dashcard.card_id for dashcard in there.dashcards}
        free = [card for id_, card in found.others.items() if id_ in shown and mark_of(card.description) is None]
        for card in dashboard.cards:
            key = CardKey(dashboard.name, card.name)
            other = next((other for other in free if key not in found.cards and _alike(card, other, exact=exact)), None)
            if other is not None:
                free.remove(other)
                matches.append(((key, other), there))
    return matches


def _alike(card: Card, other: FoundCard, *, exact: bool) -> bool:
    query = native_query(other.dataset_query)
    same_sql = query is not None and query.sql.rstrip() == metabase_sql(card.sql).rstrip()
    same_title = other.name == card.title
    return same_sql and same_title if exact else same_sql or same_title
