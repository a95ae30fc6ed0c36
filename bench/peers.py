"""What else does the same work, run beside clickmart where it is installed; what isn't is named with the reason."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from psycopg.conninfo import conninfo_to_dict

from .errors import BenchError, NotRunError
from .figures import Figure, alternate, say
from .inputs import Inputs
from .marts import MARTS, Rows, compare
from .peer_loads import DLT_DATASET, JDBC_DRIVER, WAYS
from .processes import Run, run
from .refreshes import measure_full
from .server import Database, Server

ROOT: Final = Path(__file__).parents[1]
TABLE: Final = "peers.events"
INSTALL: Final = "make bench installs it"
#: the packages of each way, the first being the peer itself
PACKAGES: Final = {
    "spark": ("pyspark",),
    "spark-rewritten": ("pyspark",),
    "dlt": ("dlt", "psycopg2-binary"),
    "psycopg-insert": ("psycopg",),
    "psycopg-copy": ("psycopg",),
    "pandas": ("pandas", "sqlalchemy"),
    "dbt": ("dbt-core", "dbt-postgres"),
    "duckdb": ("duckdb",),
}
TITLES: Final = {
    "spark": "Spark, JDBC append with its defaults",
    "spark-rewritten": "Spark, JDBC append, reWriteBatchedInserts and batches of 10,000",
    "dlt": "dlt to its destination postgres",
    "psycopg-insert": "psycopg, executemany of json.loads",
    "psycopg-copy": "psycopg, write_row of json.loads",
    "pandas": "pandas, read_json and to_sql",
    "dbt": "dbt-postgres, run --full-refresh",
    "duckdb": "DuckDB, from the JSON lines file to the marts",
}
QUIET: Final = {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR", "DO_NOT_TRACK": "1"}


@dataclass(frozen=True, slots=True)
class Peers:
    """The figures of those that ran, and for those that didn't the reason by name."""

    figures: list[Figure]
    not_run: dict[str, str]


def measure_peer_loads(server: Server, inputs: Inputs, names: set[str], *, events: int, rounds: int) -> Peers:
    """Each way of loading against the server's COPY into the same table; clickmart at the same size comes first."""
    database = server.database("peer_loads")
    file = inputs.events(events)
    database.clickmart("load", file)
    rows = inputs.folder / f"rows-{events}.csv"
    database.copy_out(rows)
    tcp = server.tcp(database)

    def fresh_table() -> None:
        database.execute(
            f"drop schema if exists peers, {DLT_DATASET}, {DLT_DATASET}_staging cascade; create schema peers; "
            f"create table {TABLE} (like stage.events including all); "
            f"alter table {TABLE} alter batch_id set default 1"
        )
        database.settle()

    def floor() -> float:
        fresh_table()
        return database.copy_in(rows, TABLE)

    def own() -> Run:
        database.empty()
        return database.clickmart("load", file)

    def peer(name: str) -> Run:
        fresh_table()
        command: list[str | os.PathLike[str]] = [sys.executable, "-m", "bench.peer_loads", name, tcp, file, TABLE]
        taken = run(command, environment=QUIET, folder=ROOT)
        found = database.scalar(f"select count(*) from {DLT_DATASET + '.events' if name == 'dlt' else TABLE}")
        if found != events:
            raise BenchError(f"{name} loaded {found:,} rows of {events:,}")
        return taken

    def measure(name: str) -> Figure:
        subject: Callable[[], Run] = own if name == "clickmart" else lambda: peer(name)
        pairs = alternate(f"load by {name}", rounds, floor, subject)
        work = [json.loads(output.splitlines()[-1])["seconds"] for output in pairs.outputs if name != "clickmart"]
        seconds = statistics.median(pairs.subject)
        notes = {
            "version": "" if name == "clickmart" else version(PACKAGES[name][0]),
            "rows_per_second": round(events / seconds),
            "work_seconds": work,
        }
        return Figure(
            f"peer-load-{name}",
            TITLES.get(name, "clickmart load"),
            f"{events:,} events",
            "COPY of the same rows by the server, into the same table",
            pairs.floor,
            pairs.subject,
            peak_bytes=pairs.peak_bytes,
            notes=notes,
        )

    peers = _measured([name for name in ("clickmart", *WAYS) if name in {*names, "clickmart"}], measure)
    server.drop(database)
    inputs.done(rows, file)
    return peers


def measure_peer_models(
    server: Server, database: Database, inputs: Inputs, names: set[str], *, events: int, rounds: int
) -> Peers:
    """The same marts by others from the same rows, loaded in `database`; all are compared with clickmart's."""
    own = measure_full(database, "peer-models-clickmart", events=events, rounds=rounds)
    expected: dict[str, Rows] = {mart: _rows(database, query, f"cdm.{mart}") for mart, query in MARTS.items()}
    seconds = statistics.median(own.floor)

    def measure(name: str) -> Figure:
        def taken() -> Run:
            return _dbt(server, database, inputs) if name == "dbt" else _duckdb(inputs, events)

        runs = []
        for number in range(1, rounds + 1):
            database.settle()
            runs.append(taken())
            say(f"models by {name} {number}/{rounds}: {runs[-1].seconds:.3f} s")
        notes: dict[str, Any] = {"version": version(PACKAGES[name][0])}
        if name == "dbt":
            found = {mart: _rows(database, query, f"peer_dbt.{mart}") for mart, query in MARTS.items()}
            notes["work_seconds"] = [json.loads(each.output)["elapsed_time"] for each in runs]
            database.execute("drop schema peer_dbt cascade")
        else:
            reports = [json.loads(each.output) for each in runs]
            found = reports[-1]["marts"]
            notes |= {key: [report[key] for report in reports] for key in ("read_seconds", "model_seconds")}
        notes["marts"] = compare(name, found, expected)
        return Figure(
            f"peer-models-{name}",
            TITLES[name],
            f"{events:,} events",
            own.floor_what,
            # One floor for all, taken around clickmart's own runs.
            (seconds,) * rounds,
            tuple(each.seconds for each in runs),
            peak_bytes=max(each.peak_bytes for each in runs),
            notes=notes,
        )

    peers = _measured([name for name in ("dbt", "duckdb") if name in names], measure)
    return Peers([own, *peers.figures], peers.not_run)


def _measured(names: list[str], measure: Callable[[str], Figure]) -> Peers:
    """Runs each peer that can run; one that fails takes the others not with it."""
    figures: list[Figure] = []
    not_run: dict[str, str] = {}
    for name in names:
        try:
            _require(name)
            figures.append(measure(name))
        except (NotRunError, BenchError) as error:
            not_run[name] = str(error)
            say(f"{name}: not run: {error}")
    return Peers(figures, not_run)


def _require(name: str) -> None:
    """Raises NotRunError where the peer, or what it needs, is not installed."""
    for package in PACKAGES.get(name, ()):
        try:
            version(package)
        except PackageNotFoundError:
            raise NotRunError(f"{package} is not installed here; {INSTALL}") from None
    if name.startswith("spark"):
        if not shutil.which("java"):
            raise NotRunError("no java here, and Spark needs 17 or newer")
        if not JDBC_DRIVER.exists():
            raise NotRunError(f"no {JDBC_DRIVER}; Debian's package libpostgresql-jdbc-java brings it")


def _rows(database: Database, query: str, mart: str) -> Rows:
    return database.execute(query.format(mart=mart))


def _dbt(server: Server, database: Database, inputs: Inputs) -> Run:
    """A full refresh of the project in bench/dbt; the output is dbt's own report of the run."""
    to = conninfo_to_dict(server.tcp(database))
    project = inputs.folder / "dbt"
    shutil.rmtree(project, ignore_errors=True)
    shutil.copytree(Path(__file__).parent / "dbt", project)
    keys = {"BENCH_HOST": "host", "BENCH_PORT": "port", "BENCH_USER": "user", "BENCH_DATABASE": "dbname"}
    taken = run(
        [Path(sys.executable).with_name("dbt"), "run", "--full-refresh", "--profiles-dir", project],
        environment=QUIET | {variable: str(to[key]) for variable, key in keys.items()},
        folder=project,
    )
    report = (project / "target" / "run_results.json").read_text(encoding="utf-8")
    shutil.rmtree(project)
    return Run(taken.seconds, taken.peak_bytes, report)


def _duckdb(inputs: Inputs, events: int) -> Run:
    file = inputs.folder / "peer.duckdb"
    file.unlink(missing_ok=True)
    try:
        return run([sys.executable, "-m", "bench.peer_duckdb", inputs.events(events), file], folder=ROOT)
    finally:
        file.unlink(missing_ok=True)
