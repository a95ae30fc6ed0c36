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
from .refreshes import FLOOR, floor_seconds, full_refresh
from .server import Database, Server

ROOT: Final = Path(__file__).parents[1]
TABLE: Final = "peers.events"
DBT_SCHEMA: Final = "peer_dbt"  # as bench/dbt/profiles.yml has it
OWN, OWN_WHOLE, OWN_FULL = "clickmart", "clickmart-whole", "clickmart-full"
OWN_ON_SPARK: Final = "spark-clickmart"
INSTALL: Final = "make bench installs it"
#: the packages of each way, the first being the peer itself
PACKAGES: Final = {
    OWN: ("clickmart",),
    OWN_WHOLE: ("clickmart",),
    OWN_FULL: ("clickmart",),
    "spark": ("pyspark",),
    "spark-rewritten": ("pyspark",),
    "spark-clickmart": ("clickmart", "pyspark", "pandas"),
    "dlt": ("dlt", "psycopg2-binary"),
    "psycopg-insert": ("psycopg",),
    "psycopg-copy": ("psycopg",),
    "pandas": ("pandas", "sqlalchemy"),
    "dbt": ("dbt-core", "dbt-postgres"),
    "duckdb": ("duckdb",),
}
TITLES: Final = {
    OWN: "clickmart load",
    OWN_WHOLE: "clickmart load and apply, from the JSON lines file to the marts",
    OWN_FULL: "clickmart apply --full",
    "spark": "Spark, JDBC append with its defaults",
    "spark-rewritten": "Spark, JDBC append, reWriteBatchedInserts and batches of 10,000",
    "spark-clickmart": "clickmart-spark",
    "dlt": "dlt to its destination postgres",
    "psycopg-insert": "psycopg, executemany of json.loads",
    "psycopg-copy": "psycopg, write_row of json.loads",
    "pandas": "pandas, read_json and to_sql",
    "dbt": "dbt-postgres, run --full-refresh",
    "duckdb": "DuckDB, from the JSON lines file to the marts",
}
#: nothing is sent home, and Spark asks no name server for this machine's name
QUIET: Final = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "ERROR",
    "DO_NOT_TRACK": "1",
    "SPARK_LOCAL_IP": "127.0.0.1",
    "SPARK_LOCAL_HOSTNAME": "localhost",
}


#: those that can be asked for by name
NAMES: Final = tuple(name for name in PACKAGES if not name.startswith(OWN))


@dataclass(frozen=True, slots=True)
class Peers:
    """The figures of those that ran, and for those that didn't the reason by name."""

    figures: list[Figure]
    not_run: dict[str, str]


def measure_peer_loads(server: Server, inputs: Inputs, names: set[str], *, events: int, rounds: int) -> Peers:
    """Each way of loading against the server's COPY into the same table; clickmart at the same size comes first."""
    file = inputs.events(events)
    rows = inputs.folder / f"peer-rows-{events}.csv"
    with server.database("peer_loads") as database:
        database.clickmart("load", file)
        database.copy_out(rows)
        loads = _PeerLoads(server, database, file, rows, events)
        chosen = [OWN, *(name for name in WAYS if name in names)]
        found = _measured(chosen, lambda name: loads.measure(name, rounds))
    inputs.done(rows, file)
    return found


@dataclass(frozen=True, slots=True)
class _PeerLoads:
    """Loads of one file by others than clickmart, into a table of their own that is like stage.events."""

    server: Server
    database: Database
    file: Path
    rows: Path
    events: int

    def measure(self, name: str, rounds: int) -> Figure:
        pairs = alternate(f"load by {name}", rounds, self.floor, lambda: self.own() if name == OWN else self.peer(name))
        return Figure(
            f"peer-load-{name}",
            TITLES[name],
            f"{self.events:,} events",
            "COPY of the same rows by the server, into the same table",
            pairs.floor,
            pairs.subject,
            peak_bytes=pairs.peak_bytes,
            notes={
                "version": version(PACKAGES[name][0]),
                "rows_per_second": round(self.events / statistics.median(pairs.subject)),
                "work_seconds": [] if name == OWN else [_last_line(output)["seconds"] for output in pairs.outputs],
            },
        )

    def floor(self) -> float:
        self.fresh_table()
        return self.database.copy_in(self.rows, TABLE)

    def own(self) -> Run:
        self.database.empty()
        return self.database.clickmart("load", self.file)

    def peer(self, name: str) -> Run:
        self.fresh_table()
        if name == OWN_ON_SPARK:
            self.database.empty()
        command: list[str | os.PathLike[str]] = [sys.executable, "-m", "bench.peer_loads", name]
        taken = run([*command, self.server.tcp(self.database), self.file, TABLE], environment=QUIET, folder=ROOT)
        table = {"dlt": f"{DLT_DATASET}.events", OWN_ON_SPARK: "stage.events"}.get(name, TABLE)
        found = self.database.scalar(f"select count(*) from {table}")
        if found != self.events:
            raise BenchError(f"{name} loaded {found:,} rows of {self.events:,}")
        return taken

    def fresh_table(self) -> None:
        self.database.execute(
            f"drop schema if exists peers, {DLT_DATASET}, {DLT_DATASET}_staging cascade; create schema peers; "
            f"create table {TABLE} (like stage.events including all); "
            f"alter table {TABLE} alter batch_id set default 1"
        )
        self.database.settle()


def measure_peer_models(
    server: Server, database: Database, inputs: Inputs, names: set[str], *, events: int, rounds: int
) -> Peers:
    """The same marts by others from the same rows, against the floor of a full refresh; clickmart comes first."""
    file = inputs.events(events)

    def whole() -> Run:
        """What DuckDB does in one process."""
        database.empty()
        loaded, applied = database.clickmart("load", file), database.clickmart("apply")
        peak = max(loaded.peak_bytes, applied.peak_bytes)
        return Run(loaded.seconds + applied.seconds, peak, json.dumps({"read_seconds": loaded.seconds}))

    subjects: dict[str, Callable[[], Run]] = {
        OWN_WHOLE: whole,
        OWN_FULL: lambda: full_refresh(database),
        "dbt": lambda: _dbt(server, database, inputs),
        "duckdb": lambda: _duckdb(inputs, file),
    }
    own: dict[str, Rows] = {}

    def measure(name: str) -> Figure:
        pairs = alternate(f"marts by {name}", rounds, lambda: floor_seconds(database), subjects[name])
        reports = [_last_line(output) for output in pairs.outputs if name != OWN_FULL]
        notes: dict[str, Any] = {"version": version(PACKAGES[name][0])}
        for key in ("read_seconds", "model_seconds", "elapsed_time"):
            notes |= {key: [report[key] for report in reports]} if reports and key in reports[0] else {}
        if name == OWN_FULL:
            own.update({mart: _rows(database, query, f"cdm.{mart}") for mart, query in MARTS.items()})
        elif name == "dbt":
            found = {mart: _rows(database, query, f"{DBT_SCHEMA}.{mart}") for mart, query in MARTS.items()}
            notes["marts"] = compare(name, found, own)
            database.execute(f"drop schema {DBT_SCHEMA} cascade")
        elif name == "duckdb":
            notes["marts"] = compare(name, reports[-1]["marts"], own)
        return Figure(
            f"peer-models-{name}",
            TITLES[name],
            f"{events:,} events",
            FLOOR,
            pairs.floor,
            pairs.subject,
            peak_bytes=pairs.peak_bytes,
            notes=notes,
        )

    return _measured([name for name in subjects if name in {OWN_WHOLE, OWN_FULL, *names}], measure)


def _last_line(output: str) -> dict[str, Any]:
    """The JSON that a peer's process ends with, whatever else it has printed."""
    found: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return found


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
        if name != OWN_ON_SPARK and not JDBC_DRIVER.exists():
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
    report = json.loads((project / "target" / "run_results.json").read_text(encoding="utf-8"))
    shutil.rmtree(project)
    return Run(taken.seconds, taken.peak_bytes, json.dumps({"elapsed_time": report["elapsed_time"]}))


def _duckdb(inputs: Inputs, events: Path) -> Run:
    """From the file to the marts, in a database of its own."""
    database = inputs.folder / "peer.duckdb"
    database.unlink(missing_ok=True)
    try:
        return run([sys.executable, "-m", "bench.peer_duckdb", events, database], folder=ROOT)
    finally:
        database.unlink(missing_ok=True)
