"""Commands in processes of their own, what is done to them, and what they may leave behind: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import clickmart
import psutil
import psycopg
import pytest
from clickmart.warehouse import Warehouse
from conftest import Shop, read_marts
from oracle import Marts, marts
from projects import query, value
from strategies import Event

COMMAND = [sys.executable, "-m", "clickmart"]
#: Rows that a load or an apply must not leave, and objects, each with a query that finds them.
LEFT = {
    "events without a load": "select from stage.events where batch_id not in (select id from stage.loads)",
    "rejects without a load": "select from stage.events_rejected where batch_id not in (select id from stage.loads)",
    "page views without a load": "select from stage.page_views where batch_id not in (select id from stage.loads)",
    "partitions that nobody knows of": "select from pg_inherits where inhparent = "
    "'stage.events'::regclass and inhrelid not in (select ('stage.' || table_name)::regclass from stage.partitions)",
    "bulk loads": "select from stage.bulk_loads",
    "temporary tables": "select from pg_class where relpersistence = 't'",
    "prepared transactions": "select from pg_prepared_xacts",
    "locks of applies": "select from pg_locks where locktype = 'advisory' and database = "
    "(select oid from pg_database where datname = current_database())",
}


def start(*arguments: str, dsn: str | None = None, **options: Any) -> subprocess.Popen[str]:
    """The command, as the leader of a session of its own; nothing of the environment names another warehouse."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "CLICKMART"))}
    environment = kept | options.pop("env", {})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    pipes |= {"preexec_fn": take_all_signals}
    named = ["--dsn", dsn] if dsn else []
    return subprocess.Popen([*COMMAND, *named, *arguments], env=environment, **(pipes | options))


def take_all_signals() -> None:
    """Has no signal ignored, though whoever started the tests may, as a shell does for what runs in the background."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def ended(process: subprocess.Popen[str], typed: str | None = None) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a process that is about to end, or does so when it has read what is typed."""
    output, error = process.communicate(typed, timeout=120)
    return process.returncode, output, error


def eventually(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)


def takes(process: subprocess.Popen[str], number: signal.Signals) -> bool:
    """Whether the process has come to where it handles the signal."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    caught = next(line.split()[1] for line in lines if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def sessions(dsn: str) -> list[int]:
    """The server's processes for clickmart in this database."""
    rows = query(
        dsn,
        "select pid from pg_stat_activity where application_name = 'clickmart' and datname = current_database() "
        "and pid <> pg_backend_pid()",
    )
    return [pid for (pid,) in rows]


def processes_of_session(leader: int) -> list[int]:
    """The live processes of the session that a process has led."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def processes_in(folder: Path) -> list[int]:
    """The processes that work in a folder, as the embedded server does in its own."""
    found = psutil.process_iter(["cwd"])
    return [process.pid for process in found if Path(process.info["cwd"] or "/").is_relative_to(folder.resolve())]


def left_behind(dsn: str) -> list[str]:
    """What stands in the database and should not, when nothing runs."""
    return [name for name, found in LEFT.items() if value(dsn, f"select exists ({found})")]


def assert_right(dsn: str, events: list[Event]) -> None:
    """The marts are those of the oracle, each event is there once, and each check agrees."""
    with Warehouse(dsn).connect() as connection:
        shop = Shop(dsn, connection, Path())
        assert shop.query("select count(*) from stage.events") == [(len(events),)]
        assert shop.marts() == marts(events)
        assert shop.failures() == []


def assert_goes_on(dsn: str, files: dict[str, list[Event]]) -> None:
    """Loading and applying again gives what never having failed would have given."""
    report = clickmart.load(list(files), dsn=dsn)
    assert not report.failed, str(report)
    clickmart.apply(dsn=dsn)
    assert_right(dsn, [event for events in files.values() for event in events])


def marts_of(dsn: str) -> Marts:
    with Warehouse(dsn).connect() as connection:
        return read_marts(connection)


def rounds(request: pytest.FixtureRequest, few: int, many: int) -> range:
    """The numbers of the rounds of a test that can go on for long, which it does with --thorough."""
    return range(many if request.config.getoption("--thorough") else few)


@contextmanager
def held(dsn: str, what: str) -> Iterator[Callable[[], list[int]]]:
    """Lets a command come to where it needs a lock that goes against `what`, as a lock of `table` `in mode`, and no
    further; gives the server processes that wait."""
    with psycopg.connect(dsn) as holder:
        holder.execute(f"lock table {what} mode".encode())
        blocked = "select pid from pg_stat_activity where %s = any (pg_blocking_pids(pid))"
        pid = holder.info.backend_pid
        yield lambda: [found for (found,) in query(dsn, blocked, pid)]
