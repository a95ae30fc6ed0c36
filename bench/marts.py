"""The marts as rows that can be compared, whoever computed them: instants as texts, in one order."""

from __future__ import annotations

from typing import Any, Final

from .errors import BenchError

Rows = list[tuple[Any, ...]]

#: what to select of each mart; the shares of sources follow from their counts
MARTS: Final = {
    "events_hours": "select cast(hour_timestamp as varchar), event_type, count_events from {mart}",
    "products_hours": "select cast(hour_timestamp as varchar), count_products from {mart}",
    "top_pages": "select id, page_url, count_purchases from {mart}",
    "sources": "select referer_url, utm_campaign, count_users, count_purchases from {mart}",
    "purchases": "select user_id, cast(confirmed_at as varchar), count_products, referer_url, utm_campaign from {mart}",
}


def totals(marts: dict[str, Rows]) -> dict[str, int]:
    """What one looks at first."""
    return {
        "purchases": len(marts["purchases"]),
        "products bought": sum(row[1] for row in marts["products_hours"]),
        "events_hours total": sum(row[2] for row in marts["events_hours"]),
    }


def compare(whose: str, found: dict[str, Rows], expected: dict[str, Rows]) -> dict[str, Any]:
    """The totals, and which marts differ. Raises BenchError where the totals do: then the times compare nothing."""
    if totals(found) != totals(expected):
        raise BenchError(f"{whose} has other marts than clickmart: {totals(found)}, not {totals(expected)}")
    differing = [mart for mart in MARTS if _sorted(found[mart]) != _sorted(expected[mart])]
    return {**totals(found), "marts that differ": differing}


def _sorted(rows: Rows) -> Rows:
    return sorted((tuple(row) for row in rows), key=repr)
