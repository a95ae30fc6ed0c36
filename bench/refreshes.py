"""Refreshes: all of a history against one pass over it, and a few new events against the same on another history."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from .errors import BenchError
from .figures import Figure, alternate, say
from .inputs import Inputs
from .processes import Run
from .server import SQL, Database, Server

FLOOR_QUERY: Final = SQL / "page_views_floor.sql"
FLOOR: Final = "create table as, sorted by user and instant"
BUSY, QUIET = "busy", "quiet"
QUIET_VIEWS: Final = 10


@contextmanager
def loaded_history(server: Server, inputs: Inputs, name: str, events: int) -> Iterator[Database]:
    """A database with so many events, loaded and in the marts."""
    with server.database(name) as database:
        say(f"loading a history of {events:,} events")
        with inputs.history(events) as files:
            database.clickmart("load", *files, "--jobs", "2")
        database.clickmart("apply")
        # What autovacuum would do some time later, in the middle of something that is timed.
        database.execute("vacuum analyze")
        yield database


def floor_seconds(database: Database) -> float:
    """The floor of a full refresh: one pass over the events to their page views in order."""
    database.settle()
    try:
        return database.seconds(FLOOR_QUERY.read_text(encoding="utf-8"))
    finally:
        database.execute("drop table if exists public.page_views_floor")


def full_refresh(database: Database) -> Run:
    """All marts anew."""
    database.settle()
    return database.clickmart("apply", "--full")


def measure_full(database: Database, name: str, *, events: int, rounds: int) -> Figure:
    """All marts anew from what is loaded."""
    database.clickmart("apply")
    pairs = alternate(name, rounds, lambda: floor_seconds(database), lambda: full_refresh(database))
    return Figure(
        name,
        "apply --full",
        f"{events:,} events",
        FLOOR,
        pairs.floor,
        pairs.subject,
        target=1.5,
        peak_bytes=pairs.peak_bytes,
        notes={"page_views": database.scalar("select count(*) from stage.page_views"), "floor_by": _plan(database)},
    )


def measure_additions(
    small: Database, large: Database, inputs: Inputs, *, history: int, additions: int, rounds: int
) -> Figure:
    """A few new events on a history, against as many on one 10 times smaller."""
    # The first refresh of each is not counted: the histories were only just read and written whole.
    files = {
        database: iter(inputs.additions(size, additions, rounds + 1))
        for database, size in ((small, history // 10), (large, history))
    }

    def refresh(database: Database) -> Run:
        database.clickmart("load", next(files[database]))
        return _refreshed(database)

    refresh(small)
    refresh(large)
    floor, subject = _Refreshes(lambda: refresh(small)), _Refreshes(lambda: refresh(large))
    pairs = alternate("apply-new", rounds, lambda: floor.take().seconds, subject.take)
    return Figure(
        "apply-new",
        f"apply after {additions:,} new events",
        f"{history:,} events",
        f"the same on {history // 10:,} events",
        pairs.floor,
        pairs.subject,
        target=1.2,
        limit=1.0,
        peak_bytes=pairs.peak_bytes,
        notes=_without_start(floor, subject),
    )


def measure_busy_user(database: Database, inputs: Inputs, *, events: int, views: int, rounds: int) -> Figure:
    """One new event of a user with very many views, against one of a user with few, in the same history."""
    users = {BUSY: views, QUIET: QUIET_VIEWS}
    files = [inputs.user(user, count) for user, count in users.items()]
    database.clickmart("load", *files)
    inputs.done(*files)
    database.clickmart("apply")
    database.execute("vacuum analyze")
    numbers = iter(range(1, 2 * rounds + 3))

    def refresh(user: str) -> Run:
        file = inputs.one_view(user, next(numbers))
        database.clickmart("load", file)
        file.unlink()
        return _refreshed(database)

    refresh(QUIET)
    refresh(BUSY)
    floor, subject = _Refreshes(lambda: refresh(QUIET)), _Refreshes(lambda: refresh(BUSY))
    pairs = alternate("apply-busy-user", rounds, lambda: floor.take().seconds, subject.take)
    return Figure(
        "apply-busy-user",
        f"apply after 1 event of a user with {views:,} views",
        f"{events:,} events and the user's",
        f"the same for a user with {QUIET_VIEWS}",
        pairs.floor,
        pairs.subject,
        target=1.2,
        peak_bytes=pairs.peak_bytes,
        notes=_without_start(floor, subject),
    )


@dataclass(slots=True)
class _Refreshes:
    """Refreshes of one kind, and the seconds that each says of itself, without the start of the command."""

    refresh: Callable[[], Run]
    seconds: list[float] = field(default_factory=list)

    def take(self) -> Run:
        taken = self.refresh()
        self.seconds.append(json.loads(taken.output)["seconds"])
        return taken


def _without_start(floor: _Refreshes, subject: _Refreshes) -> dict[str, Any]:
    """The start of the command is the same for both, and where it is most of the time it hides a difference."""
    return {
        "floor_work_seconds": floor.seconds,
        "work_seconds": subject.seconds,
        "work_ratio": statistics.median(subject.seconds) / statistics.median(floor.seconds),
    }


def _refreshed(database: Database) -> Run:
    """An apply that takes one new load into the marts."""
    database.settle()
    taken = database.clickmart("apply", "--json")
    report: dict[str, Any] = json.loads(taken.output)
    if (report["new_loads"], report["rebuilt"]) != (1, False):
        raise BenchError(f"an apply of one new load did something else: {taken.output}")
    return taken


def _plan(database: Database) -> str:
    """By how many processes the server makes the floor; the insert of a refresh is always made by one."""
    query = FLOOR_QUERY.read_text(encoding="utf-8")
    found = [line.strip() for (line,) in database.execute(f"explain (costs off) {query}") if "Workers Planned" in line]
    return found[0] if found else "one process"
