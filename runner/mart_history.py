"""What refreshes changed in a mart, and which files had them do it: as cdm.history has it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg.rows import class_row

from .errors import ProjectError, UsageError
from .tables import Block, Cell, Table, counted, line, plain
from .warehouse import Connection

#: mart -> what tells its rows apart, and what is counted of them
MARTS: Final = {
    "events_hours": (("hour_timestamp", "event_type"), ("count_events",)),
    "products_hours": (("hour_timestamp",), ("count_products",)),
    "top_pages": (("page_url",), ("count_purchases",)),
    "sources": (("referer_url", "utm_campaign"), ("count_users", "count_purchases")),
}
_SHOWN_FILES: Final = 3
_CHANGES: Final = """
    with chosen as (
        select id, count(*) over () as count_changes
        from cdm.changes
        where
            mart = %(mart)s
            and (
                %(hour)s::timestamp is null
                or coalesce(after_row, before_row) ->> 'hour_timestamp'
                = to_jsonb(date_trunc('hour', %(hour)s::timestamp)) #>> '{}'
            )
            and coalesce(after_row, before_row) @> %(where)s::jsonb
        order by id desc
        limit %(last)s
    )
    select
        changed_at::text,
        before_row as before,
        after_row as after,
        loads,
        coalesce((select array_agg(file_name order by id) from cdm.loads where id = any(history.loads)), '{}') as files,
        is_rebuilt,
        refresh_id is null as is_by_hand,
        count_changes
    from chosen
    inner join cdm.history using (id)
    order by id"""


@dataclass(frozen=True, slots=True)
class Change:
    """A row of a mart before and after; None where it is new, or gone. `changed_at` is UTC. `loads` and their `files`
    caused it; where there are none, marts were built anew, or somebody changed it by hand."""

    changed_at: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    loads: list[int] | None
    files: list[str]
    is_rebuilt: bool | None
    is_by_hand: bool
    count_changes: int

    def as_dict(self) -> dict[str, Any]:
        return {
            "changed_at": self.changed_at,
            "before": self.before,
            "after": self.after,
            "loads": self.loads or [],
            "files": self.files,
            "is_rebuilt": bool(self.is_rebuilt),
            "is_by_hand": self.is_by_hand,
        }

    @property
    def cause(self) -> str:
        if self.files:
            more = len(self.files) - _SHOWN_FILES
            named = ", ".join(self.files[:_SHOWN_FILES])
            return named + (f" and {counted(more, 'more file')}" if more > 0 else "")
        return "changed by hand" if self.is_by_hand else "built anew"

    def key(self, name: str) -> str:
        """What tells the row apart from others."""
        text = str((self.after or self.before or {}).get(name))
        return text.replace("T", " ") if name == "hour_timestamp" else text

    def numbers(self, name: str) -> str:
        """A count as it was and is: `1 -> 3`, `-> 1` of a new row, `3` where it stayed."""
        before, after = (row and row[name] for row in (self.before, self.after))
        if before == after:
            return f"{after:,}"
        return " ".join(
            part if isinstance(part, str) else f"{part:,}" for part in (before, "->", after) if part is not None
        )


@dataclass(frozen=True, slots=True)
class HistoryReport:
    """The last of so many changes of a mart, the newest at the end."""

    mart: str
    changes: tuple[Change, ...]

    @property
    def count_changes(self) -> int:
        return self.changes[0].count_changes if self.changes else 0

    def as_dict(self) -> dict[str, Any]:
        return {
            "mart": self.mart,
            "count_changes": self.count_changes,
            "changes": [change.as_dict() for change in self.changes],
        }

    def __str__(self) -> str:
        return plain(self.blocks())

    def blocks(self) -> Iterator[Block]:
        if not self.changes:
            yield line(Cell("no change is recorded", "quiet"))
            return
        if earlier := self.count_changes - len(self.changes):
            yield line(Cell(f"... {counted(earlier, 'change')} before these", "quiet"))
        keys, counts = MARTS[self.mart]
        yield Table(
            ("changed_at", *keys, *counts, "cause"),
            tuple(
                (
                    change.changed_at.split(".")[0],
                    *map(change.key, keys),
                    *map(change.numbers, counts),
                    Cell(change.cause, None if change.files else "open", is_path=True),
                )
                for change in self.changes
            ),
        )


def read_history(
    connection: Connection, mart: str, *, hour: str | None, where: Mapping[str, str], last: int | None
) -> HistoryReport:
    """The last changes of a mart, of an hour alone or of rows with these values; `last` None is all.

    Raises UsageError for what the mart doesn't have, ProjectError where nothing is recorded yet.
    """
    if mart not in MARTS:
        raise UsageError(f"no history of a mart {mart!r}: there are {', '.join(MARTS)}")
    keys, _ = MARTS[mart]
    if hour is not None and "hour_timestamp" not in keys:
        raise UsageError(f"{mart} has no hours; its rows are told apart by {' and '.join(keys)}")
    if unknown := [name for name in where if name not in keys]:
        raise UsageError(f"{mart} has no {unknown[0]!r} to tell its rows by; there is {' and '.join(keys)}")
    if connection.execute("select to_regclass('cdm.history') is null").fetchone() == (True,):
        raise ProjectError("no history is kept yet: run `clickmart apply`")
    parameters = {"mart": mart, "hour": hour, "where": json.dumps(dict(where)), "last": last}
    with connection.cursor(row_factory=class_row(Change)) as cursor:
        try:
            return HistoryReport(mart, tuple(cursor.execute(_CHANGES, parameters).fetchall()))
        except psycopg.errors.DataError as error:
            raise UsageError(f"the hour must be an instant, as '2022-09-30 21:00', found {hour!r}") from error
