"""Refreshes: all of a history against one pass over it, and a few new events against the same on another history."""

from __future__ import annotations

import json
from typing import Any, Final

from .errors import BenchError
from .figures import Figure, alternate, say
from .inputs import Inputs
from .processes import Run
from .server import SQL, Database, Server

FLOOR: Final = "create table as, sorted by user and instant"
BUSY, QUIET = "busy", "quiet"
QUIET_VIEWS: Final = 10


def load_history(server: Server, inputs: Inputs, name: str, events: int) -> Database:
    """A database with so many events, loaded and in the marts."""
    database = server.database(name)
    if not database.scalar("select count(*) from stage.loads"):
        say(f"loading a history of {events:,} events")
        with inputs.history(events) as files:
            database.clickmart("load", *files, "--jobs", "2")
        database.clickmart("apply")
        # What autovacuum would do some time later, in the middle of something that is timed.
        database.execute("vacuum analyze")
    return database


def measure_full(database: Database, name: str, *, events: int, rounds: int) -> Figure:
    """All marts anew from what is loaded."""
    database.clickmart("apply")
    query = (SQL / "page_views_floor.sql").read_text(encoding="utf-8")

    def floor() -> float:
        database.settle()
        try:
            return database.seconds(query)
        finally:
            database.execute("drop table if exists public.page_views_floor")

    def full() -> Run:
        database.settle()
        return database.clickmart("apply", "--full", "--json")

    pairs = alternate(name, rounds, floor, full)
    return Figure(
        name,
        "apply --full",
        f"{events:,} events",
        FLOOR,
        pairs.floor,
        pairs.subject,
        target=1.5,
        peak_bytes=pairs.peak_bytes,
        notes={"page_views": database.scalar("select count(*) from stage.page_views"), "plan": _plan(database, query)},
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
        database.settle()
        return _refreshed(database)

    refresh(small)
    refresh(large)
    pairs = alternate("apply-new", rounds, lambda: refresh(small).seconds, lambda: refresh(large))
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
        database.settle()
        return _refreshed(database)

    refresh(QUIET)
    refresh(BUSY)
    pairs = alternate("apply-busy-user", rounds, lambda: refresh(QUIET).seconds, lambda: refresh(BUSY))
    return Figure(
        "apply-busy-user",
        f"apply after 1 event of a user with {views:,} views",
        f"{events:,} events and the user's",
        f"the same for a user with {QUIET_VIEWS}",
        pairs.floor,
        pairs.subject,
        target=1.2,
        peak_bytes=pairs.peak_bytes,
    )


def _refreshed(database: Database) -> Run:
    """An apply that takes one new load into the marts."""
    taken = database.clickmart("apply", "--json")
    report: dict[str, Any] = json.loads(taken.output)
    if (report["new_loads"], report["rebuilt"]) != (1, False):
        raise BenchError(f"an apply of one new load did something else: {taken.output}")
    return taken


def _plan(database: Database, query: str) -> str:
    """How the server reads for the floor: it may use several processes, which a function's insert may not."""
    lines = [line for (line,) in database.execute(f"explain (costs off) {query}")]
    workers = [line.strip() for line in lines if "Workers Planned" in line]
    return workers[0] if workers else "one process"
