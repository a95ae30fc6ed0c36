"""Takes the figures of docs/performance.md: Markdown tables on stdout, progress on stderr.

    python -m bench --events 100000 --history 200000 --rounds 1
    python -m bench --only load-jsonl apply-full --no-peers --output figures.json

Nothing is asserted of a time. What each figure is, is in bench/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from clickmart.errors import ClickmartError

from . import commands, disk, loads, peers, refreshes
from .errors import BenchError
from .inputs import Inputs
from .report import Report, machine_facts
from .server import Server, run_server

LOADS: Final = ("load-jsonl", "load-jobs", "load-jobs-one-file", "load-csv", "load-parquet")
ARRAY: Final = "load-array"
FULL, FULL_HISTORY = "apply-full", "apply-full-history"
ADDITIONS, BUSY_USER = "apply-new", "apply-busy-user"
COMMANDS: Final = "commands"
DISK: Final = "disk"
NAMES: Final = (*LOADS, ARRAY, FULL, COMMANDS, DISK, FULL_HISTORY, ADDITIONS, BUSY_USER)


def main(argv: Sequence[str] | None = None) -> int:
    options = _options(argv)
    for name in [name for name in os.environ if name.startswith(("PG", "CLICKMART_"))]:
        del os.environ[name]  # the commands must find the bench's server
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the server must not outlive the bench
    try:
        with _work_folder(options.work) as inputs, run_server(inputs.folder) as server:
            report = Report(
                {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()},
                machine_facts(server.own_database()),
            )
            try:
                for _ in _steps(server, inputs, options, report):
                    # Whatever comes after, what was found is kept.
                    _write(report, options.output)
            finally:
                print(report.as_markdown(), end="")
    except (BenchError, ClickmartError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 1
    return 0


def _steps(server: Server, inputs: Inputs, options: argparse.Namespace, report: Report) -> Iterator[None]:
    """Takes the figures asked for, one step after the other, each leaving the disk as it found it."""
    names = set(options.only or NAMES)
    chosen_peers = set(peers.NAMES) & names if options.only else set(peers.NAMES)
    if not options.peers:
        chosen_peers = set()
    events, rounds = options.events, options.rounds
    main_database = server.own_database()
    model_peers = chosen_peers & {"dbt", "duckdb"}

    if names & {*LOADS, ARRAY, FULL, COMMANDS, DISK} or model_peers:
        main_database.empty()
    if names & set(LOADS):
        figures, rows = loads.measure_loads(main_database, inputs, names, events=events, rounds=rounds)
        report.figures += figures
        inputs.done(rows)
        yield
    if ARRAY in names:
        report.figures.append(loads.measure_array(main_database, inputs, events=events, size=options.array))
        yield
    if names & {FULL, COMMANDS, DISK} or model_peers:
        main_database.empty()
        main_database.clickmart("load", inputs.events(events))
        main_database.clickmart("apply")
        main_database.execute("vacuum analyze")
    if DISK in names:
        # Before a full refresh, which leaves what it replaced in the files until a vacuum.
        report.disk = disk.measure_disk(main_database)
        yield
    if COMMANDS in names:
        report.figures += commands.measure_commands(server, main_database, rounds=rounds)
        yield
    if FULL in names:
        report.figures.append(refreshes.measure_full(main_database, FULL, events=events, rounds=rounds))
        yield
    if model_peers:
        found = peers.measure_peer_models(server, main_database, inputs, model_peers, events=events, rounds=rounds)
        report.figures += found.figures
        report.not_run |= found.not_run
        yield
    main_database.empty()
    inputs.done(inputs.folder / f"events-{events}.jsonl")
    if load_peers := chosen_peers - model_peers:
        found = peers.measure_peer_loads(server, inputs, load_peers, events=options.peer_events, rounds=rounds)
        report.figures += found.figures
        report.not_run |= found.not_run
        yield
    if names & {FULL_HISTORY, ADDITIONS, BUSY_USER}:
        yield from _history_steps(server, inputs, options, report, names)


def _history_steps(
    server: Server, inputs: Inputs, options: argparse.Namespace, report: Report, names: set[str]
) -> Iterator[None]:
    """The figures that need a long history, and one that is 10 times shorter."""
    history, rounds = options.history, options.rounds
    with ExitStack() as small_database:
        if names & {ADDITIONS, BUSY_USER}:
            found = refreshes.loaded_history(server, inputs, "history_small", history // 10)
            small = small_database.enter_context(found)
        with ExitStack() as large_database:
            if names & {FULL_HISTORY, ADDITIONS}:
                large = large_database.enter_context(refreshes.loaded_history(server, inputs, "history", history))
            if ADDITIONS in names:
                report.figures.append(
                    refreshes.measure_additions(
                        small, large, inputs, history=history, additions=options.additions, rounds=rounds
                    )
                )
                yield
            if FULL_HISTORY in names:
                report.figures.append(refreshes.measure_full(large, FULL_HISTORY, events=history, rounds=rounds))
                yield
        if BUSY_USER in names:
            report.figures.append(
                refreshes.measure_busy_user(small, inputs, events=history // 10, views=options.busy, rounds=rounds)
            )
            yield


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Takes the figures of docs/performance.md (see bench/README.md)."
    )

    def count(text: str) -> int:
        number = int(text.replace(",", "").replace("_", ""))
        if number < 1:
            raise ValueError
        return number

    for name, default, text in (
        ("events", 2_000_000, "of the loads, the full refresh, the commands, the disk and the peers' marts"),
        ("history", 10_000_000, "of the refreshes that come to a history"),
        ("additions", 10_000, "new events that come to it"),
        ("busy", 1_000_000, "views of the busy user"),
        ("array", 1_000_000_000, "bytes of the JSON array"),
        ("peer-events", 200_000, "of the peers' loads"),
        ("rounds", 3, "how often floor and subject take turns"),
    ):
        parser.add_argument(f"--{name}", type=count, metavar="N", default=default, help=f"{text} ({default:,})")
    choices = (*NAMES, *peers.NAMES)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=choices, help=f"some of: {', '.join(choices)}")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="run the peers too (yes)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write what was found as JSON, too")
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="keep the server and the files there; else a folder that is deleted"
    )
    options = parser.parse_args(argv)
    if options.history < 10:
        parser.error("--history must be 10 or more")
    if not options.peers and set(options.only or ()) & set(peers.NAMES):
        parser.error("--no-peers and a peer's name in --only")
    return options


@contextmanager
def _work_folder(folder: Path | None) -> Iterator[Inputs]:
    """The folder of server and files, which the server's own user must be able to enter."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield Inputs(folder.resolve(), kept=True)
        return
    with tempfile.TemporaryDirectory(prefix="clickmart-bench-", ignore_cleanup_errors=True) as name:
        path = Path(name).resolve()
        path.chmod(0o755)
        yield Inputs(path, kept=False)


def _write(report: Report, path: Path | None) -> None:
    if path is not None:
        text = json.dumps(report.as_dict(), ensure_ascii=False, indent=1)
        path.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
