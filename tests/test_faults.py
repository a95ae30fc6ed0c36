"""Commands that are killed, or asked to end, at any moment (docs/reliability.md): what they leave is what was there
before, or all that they were to do."""

from __future__ import annotations

import gzip
import os
import pty
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import clickmart
import pytest
from clickmart import loading, state
from clickmart.embedded import EmbeddedServer
from clickmart.errors import WarehouseError
from clickmart.interrupts import Signalled
from clickmart.warehouse import Warehouse
from conftest import Server, Shop, open_shop, read_marts
from faults import (
    COMMAND,
    assert_goes_on,
    assert_right,
    ended,
    eventually,
    held,
    left_behind,
    processes_in,
    processes_of_session,
    rounds,
    sessions,
    start,
    takes,
)
from oracle import Marts, marts
from projects import outcome, query, run, smallest_project, value
from strategies import Event
from test_laws import read_state, reader_of, some_events, without_repeats, write

UNDONE = "what was not finished is undone\n"
#: What may be sent at any moment, the one that can't be handled most often.
ANY_SIGNAL = [signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
#: About as long as a demo takes, once its folder is there.
DEMO_SECONDS = 5


# At any moment


@contextmanager
def watched(shop: Shop) -> Iterator[list[str]]:
    """A reader who asks for all marts in one statement all the while. What he saw must be, in its order, of the states
    that are put down meanwhile."""
    stop = threading.Event()

    def read_on() -> list[str]:
        seen = []
        with reader_of(shop) as read:
            while not stop.wait(0.005):
                seen.append(read())
        return seen

    with ThreadPoolExecutor() as executor:
        written = [read_state(shop)]
        seen = executor.submit(read_on)
        try:
            yield written
        finally:
            stop.set()
        states = iter(without_repeats(written))
        assert all(state in states for state in without_repeats(seen.result()))


def test_loads_and_applies_that_are_ended_at_any_moment_change_nothing_or_all(
    server: Server, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """While someone reads. What was not done is done by the next; nothing is left of what was begun."""
    draw = random.Random(request.node.name)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    ends: Counter[tuple[str, ...]] = Counter()
    seconds: dict[str, float] = {}
    numbers = rounds(request, 4, 160)
    for first in numbers[::20]:
        with open_shop(server, tmp_path) as shop, watched(shop) as states:
            files: dict[str, list[Event]] = {}
            for number in numbers[first : first + 20]:
                new = [str(tmp_path / f"{number}-{part}.jsonl") for part in range(2)]
                for part, file in enumerate(new):
                    files[file] = some_events(2 * number + part, users=40)
                    write(Path(file), files[file])
                command = "load" if number == first or draw.random() < 0.5 else "apply"
                if command == "apply":
                    clickmart.load(new, dsn=shop.dsn)
                options = draw.choice([["--jobs", "1"], ["--jobs", "2"]] if command == "load" else [[], ["--full"]])
                arguments = [command, *options, *(new if command == "load" else [])]
                process = start(*arguments, dsn=shop.dsn, env={"TMPDIR": str(temporary)})
                begun = partial(has_session, shop.dsn)
                if command not in seconds:  # the first of each is left alone, to know how long it takes
                    seconds[command] = seconds_of(process, begun)
                else:
                    ends[command, *end_at_any_moment(process, draw, seconds[command], begun)] += 1
                eventually(lambda process=process: not processes_of_session(process.pid))
                eventually(lambda: not has_session(shop.dsn))
                assert left_behind(shop.dsn) == []
                assert not list(temporary.iterdir())
                states.append(read_state(shop))
                assert_goes_on(shop.dsn, files)
                states.append(read_state(shop))
    show(ends)


def has_session(dsn: str) -> bool:
    """Whether someone is there beside the shop's connection and the reader's."""
    return len(sessions(dsn)) > 2


def seconds_of(process: subprocess.Popen[str], begun: Callable[[], bool]) -> float:
    """How long a command takes from there on."""
    eventually(begun)
    started = time.monotonic()
    assert ended(process)[0] == 0
    return time.monotonic() - started


def show(ends: Counter[tuple[str, ...]]) -> None:
    """The figures of docs/reliability.md: seen with pytest -s."""
    print(*sorted(f"{' '.join(end)}: {count}" for end, count in ends.items()), sep="\n")


def end_at_any_moment(
    process: subprocess.Popen[str], draw: random.Random, seconds: float, begun: Callable[[], bool]
) -> tuple[str, str]:
    """Sends a signal, mostly within so many seconds after it has begun to work, sometimes before that. Says by which
    signal, and how it ended."""
    number = draw.choice(ANY_SIGNAL)
    if number is not signal.SIGKILL:
        eventually(lambda: process.poll() is not None or takes(process, signal.SIGTERM))
    if draw.random() < 0.8:
        eventually(lambda: process.poll() is not None or begun())
    time.sleep(draw.random() * seconds)
    process.send_signal(number)
    code, output, error = ended(process)
    if code == 1:
        assert re.fullmatch(f"clickmart: (interrupted|ended by {number.name}); ([^\n]+; )?{UNDONE}", error)
        assert output == ""
    else:
        # Done before it came, or ended by it while Python itself was coming to its end, with all that was to be done.
        assert code in (0, -number)
        assert "clickmart: " not in error
    return number.name, {0: "done", 1: "undone"}.get(code, "killed")


def test_a_demo_that_is_ended_at_any_moment_is_finished_by_the_next(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """From no server at all, so that the making of one is ended too."""
    draw = random.Random(request.node.name)
    ends: Counter[tuple[str, ...]] = Counter()
    expected: Marts | None = None
    for number in rounds(request, 1, 120):
        folder, temporary = tmp_path / f"{number}", tmp_path / f"tmp {number}"
        folder.mkdir()
        temporary.mkdir()
        environment = {"TMPDIR": str(temporary)}
        process = start("demo", cwd=folder, env=environment)
        try:
            ends["demo", *end_at_any_moment(process, draw, DEMO_SECONDS, (folder / ".clickmart").exists)] += 1
            # What it has started to make a server ends too, or is that server.
            eventually(lambda process=process: not processes_of_session(process.pid))
            code, output, error = ended(start("demo", cwd=folder, env=environment))
            assert (code, error) == (0, "")
            assert "report.html shows them as a page" in output
            conninfo = EmbeddedServer(home=folder / ".clickmart").start()
            expected = expected or marts(sample_events(conninfo))
            assert value(conninfo, ALL_RECORDS) == count_sample_lines()
            with Warehouse(conninfo).connect() as connection:
                assert read_marts(connection) == expected
            assert left_behind(conninfo) == []
            assert {path.name for path in folder.iterdir()} == {".clickmart", "report.html"}
            assert {path.name for path in (folder / ".clickmart").iterdir()} <= {"data", "socket", "lock", "server.log"}
            assert not list(temporary.iterdir())
        finally:
            clickmart.stop(folder)
        assert not processes_in(folder)
        shutil.rmtree(folder)
    show(ends)


ALL_RECORDS = "select (select count(*) from stage.events) + (select count(*) from stage.events_rejected)"


def count_sample_lines() -> int:
    files = (Path(clickmart.__file__).parent / "sample").glob("*.gz")
    return sum(gzip.decompress(file.read_bytes()).count(b"\n") for file in files)


def sample_events(conninfo: str) -> list[dict[str, str | None]]:
    """The events of the sample, as they are in the raw layer."""
    names = ["event_id", "event_timestamp", "user_domain_id", "user_custom_id", "page_url", "page_url_path"]
    names += ["referer_url", "utm_campaign"]
    rows = query(conninfo, f"select {', '.join(names)} from stage.events order by batch_id, id")
    return [dict(zip(names, row, strict=True)) for row in rows]


# At a moment that is known


@pytest.fixture
def files(tmp_path: Path) -> dict[str, list[Event]]:
    """The events of each of three files."""
    found = {str(tmp_path / f"{number}.jsonl"): some_events(number) for number in range(3)}
    for file, events in found.items():
        write(Path(file), events)
    return found


def content(dsn: str, folder: Path) -> object:
    """All that a command which is ended must leave as it was."""
    tables = ["stage.loads", "stage.events", "stage.events_rejected", "clickmart.migrations", "clickmart.files"]
    with Warehouse(dsn).connect() as connection:
        marts = read_marts(connection)
    rows = [query(dsn, f"select * from {table} order by 1") for table in tables]
    return marts, rows, {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("load", signal.SIGTERM),
        ("load --jobs 2", signal.SIGTERM),
        ("load --jobs 2", signal.SIGHUP),
        ("apply", signal.SIGTERM),
        ("apply --full", signal.SIGHUP),
        ("report", signal.SIGTERM),
        ("report", signal.SIGINT),
        ("demo", signal.SIGTERM),
        ("demo", signal.SIGINT),
    ],
)
def test_a_signal_that_asks_to_end_ends_a_command_without_a_trace(
    dsn: str, tmp_path: Path, files: dict[str, list[Event]], command: str, number: signal.Signals
) -> None:
    first, *others = files
    if command != "demo":
        clickmart.load(first, dsn=dsn)
        clickmart.apply(dsn=dsn)
        clickmart.report(tmp_path / "report.html", dsn=dsn)
    if command.startswith("apply"):
        clickmart.load(others, dsn=dsn)
    before = content(dsn, tmp_path)
    arguments = [*command.split(), *(others if command.startswith("load") else [])]
    with held(dsn, "cdm.purchases in access exclusive" if command == "report" else "stage.loads in share") as waiting:
        process = start(*arguments, dsn=dsn, cwd=tmp_path)
        eventually(lambda: len(waiting()) == (2 if "--jobs" in command else 1))
        process.send_signal(number)
        how = "interrupted" if number is signal.SIGINT else f"ended by {number.name}"
        assert ended(process) == (1, "", f"clickmart: {how}; what was not finished is undone\n")
        assert not processes_of_session(process.pid)
        eventually(lambda: not sessions(dsn))
    assert left_behind(dsn) == []
    assert content(dsn, tmp_path) == before
    if command != "demo":
        assert_goes_on(dsn, files)


def test_an_error_in_the_wake_of_an_interrupt_is_the_interrupt(
    dsn: str, files: dict[str, list[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a statement that was broken off, of which psycopg says that it is in progress; no further file is begun."""
    begun = []

    def broken_off(*_: object, **__: object) -> None:
        begun.append(1)
        try:
            raise Signalled("SIGTERM")
        finally:
            raise WarehouseError("another command is already in progress")

    monkeypatch.setattr(state, "plan_and_ledger", broken_off)
    monkeypatch.setattr(loading, "load_file", broken_off)
    for arguments in (["status"], ["load", *files]):
        begun.clear()
        assert outcome(run(*arguments, dsn=dsn)) == (1, "", f"clickmart: ended by SIGTERM; {UNDONE}")
        assert begun == [1]


def test_a_load_that_is_ended_says_how_many_files_it_had_done_and_these_stand(
    dsn: str, tmp_path: Path, files: dict[str, list[Event]]
) -> None:
    silent = tmp_path / "silent.jsonl"
    os.mkfifo(silent)
    process = start("load", *files, str(silent), dsn=dsn)
    with silent.open("w"):
        eventually(lambda: value(dsn, "select count(*) from stage.loads") == len(files))
        process.send_signal(signal.SIGTERM)
        said = "clickmart: ended by SIGTERM; done with 3 of 4 files; what was not finished is undone\n"
        assert ended(process) == (1, "", said)
    clickmart.apply(dsn=dsn)
    assert_right(dsn, [event for events in files.values() for event in events])


def test_a_command_goes_on_when_its_terminal_is_closed_if_nohup_says_so(
    dsn: str, files: dict[str, list[Event]]
) -> None:
    with held(dsn, "stage.loads in share") as waiting:
        process = start("load", *files, dsn=dsn, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        eventually(waiting)
        process.send_signal(signal.SIGHUP)
        time.sleep(0.2)
    code, output, error = ended(process)
    assert (code, error, output.count("\n")) == (0, "", 4)
    clickmart.apply(dsn=dsn)
    assert_right(dsn, [event for events in files.values() for event in events])


def test_a_command_ends_when_its_terminal_is_closed(dsn: str, tmp_path: Path, files: dict[str, list[Event]]) -> None:
    clickmart.load(list(files), dsn=dsn)
    terminal, end = pty.openpty()
    # The first terminal that the leader of a session opens is the session's own.
    shell = ["/bin/sh", "-c", 'exec <>"$0" >"$0" 2>&1; exec "$@"', os.ttyname(end), *COMMAND, "--dsn", dsn, "apply"]
    with held(dsn, "stage.loads in share") as waiting:
        process = subprocess.Popen(shell, start_new_session=True)
        os.close(end)
        eventually(waiting)
        os.close(terminal)
        assert process.wait(timeout=60) == 1
        eventually(lambda: not sessions(dsn))
    assert left_behind(dsn) == []
    assert_goes_on(dsn, files)


def test_what_a_client_that_is_killed_has_begun_ends_too(empty_dsn: str, tmp_path: Path) -> None:
    """However long the server would be at it: else the next apply would wait for it."""
    smallest_project(tmp_path, {"sql/cdm/10.sql": "select count(*) from generate_series(1, 1e11);"})
    process = start("apply", "--project", str(tmp_path), dsn=empty_dsn)
    counting = "select pid from pg_stat_activity where query ~ '^select count' and datname = current_database()"
    eventually(lambda: query(empty_dsn, counting))
    process.kill()
    ended(process)
    eventually(lambda: not sessions(empty_dsn))


@pytest.mark.parametrize("command", ["load", "apply", "render"])
def test_a_result_that_finds_no_room_is_one_message_and_the_work_stands(
    dsn: str, files: dict[str, list[Event]], command: str
) -> None:
    if command != "load":
        clickmart.load(list(files), dsn=dsn)
    arguments = [*command.split(), *(files if command == "load" else [])]
    with Path("/dev/full").open("w") as full:
        code, _, error = ended(start(*arguments, dsn=None if command == "render" else dsn, stdout=full))
    assert code == 1
    assert error == "clickmart: the result can't be written to standard output: No space left on device\n"
    assert value(dsn, "select count(*) from stage.loads") == len(files)
    assert (value(dsn, "select count(*) from stage.page_views") > 0) == (command == "apply")


def test_a_command_without_standard_output_does_its_work(dsn: str, files: dict[str, list[Event]]) -> None:
    shell = ["/bin/sh", "-c", 'exec "$@" >&- 2>&-', "sh", *COMMAND, "--dsn", dsn, "load", *files]
    assert subprocess.run(shell, check=False).returncode == 0
    clickmart.apply(dsn=dsn)
    assert_right(dsn, [event for events in files.values() for event in events])


# Many at once


def test_twenty_loads_and_applies_at_once_end_in_the_right_marts(
    empty_dsn: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """From an empty database: some make the tables, and the others wait for them."""
    files = {str(tmp_path / f"{number}.jsonl"): some_events(number) for number in range(10)}
    for file, events in files.items():
        write(Path(file), events)
    loads = [start("load", file, dsn=empty_dsn) for file in files]
    applies = [start("apply", *["--full"] * (number % 2), dsn=empty_dsn) for number in range(10)]
    for process in loads + applies:
        code, _, error = ended(process)
        assert (code, error) == (0, "")
    assert left_behind(empty_dsn) == []
    assert_goes_on(empty_dsn, files)
