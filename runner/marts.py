"""The marts that people read, as rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .tables import Block, Cell, Table, line, plain
from .warehouse import Connection

#: mart -> its rows in an order that reads well, and in the last column how many there are
MARTS: Final = {
    "events_hours": "select hour_timestamp, event_type, count_events, count(*) over () from cdm.events_hours "
    "order by hour_timestamp, count_events desc, event_type limit %s",
    "products_hours": "select hour_timestamp, count_products, count(*) over () from cdm.products_hours "
    "order by hour_timestamp limit %s",
    "top_pages": "select *, count(*) over () from cdm.top_pages order by id limit %s",
    "sources": "select referer_url, utm_campaign, count_users, count_purchases, share_users, count(*) over () "
    "from cdm.sources order by count_users desc, referer_url, utm_campaign limit %s",
    "purchases": "select user_id, confirmed_at, count_products, referer_url, utm_campaign, count(*) over () "
    "from cdm.purchases order by confirmed_at, user_id limit %s",
}


@dataclass(frozen=True, slots=True)
class Mart:
    """Rows of a mart: the first ones, and how many there are in all."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    count_rows: int

    def __str__(self) -> str:
        return plain(self.blocks())

    def blocks(self) -> Iterator[Block]:
        yield line(Cell(f"cdm.{self.name}", "title"))
        yield Table(self.columns, self.rows)
        if more := self.count_rows - len(self.rows):
            yield line(Cell(f"... {more:,} more rows", "quiet"))


def read_mart(connection: Connection, name: str, limit: int) -> Mart:
    """The first `limit` rows of the mart."""
    cursor = connection.execute(MARTS[name].encode(), (limit,))
    rows = cursor.fetchall()
    columns = tuple(column.name for column in cursor.description or ())[:-1]
    return Mart(name, columns, tuple(row[:-1] for row in rows), int(str(rows[0][-1])) if rows else 0)
