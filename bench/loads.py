"""Loads: each format and two jobs against the server's own COPY of the same rows, and the memory that they take."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from .figures import Figure, alternate, say
from .inputs import Inputs
from .processes import Run
from .server import Database

FLOOR: Final = "COPY of the same rows by the server"
LIMIT_BYTES: Final = 300_000_000


def measure_loads(
    database: Database, inputs: Inputs, names: set[str], *, events: int, rounds: int
) -> tuple[list[Figure], Path]:
    """The figures of these names, and the CSV file of the floor. The rows are left loaded."""
    source = inputs.events(events)
    rows = inputs.folder / f"rows-{events}.csv"
    database.empty()
    if not rows.exists():
        say("loading once, for the rows of the floor")
        database.clickmart("load", source)
        database.copy_out(rows)

    def floor() -> float:
        database.empty()
        return database.copy_in(rows)

    def load(*arguments: str | Path) -> Run:
        database.empty()
        return database.clickmart("load", *arguments)

    figures = []
    for name, what, target, form, jobs, halved in (
        ("load-jsonl", "load of JSON lines, --jobs 1", 1.25, "jsonl", 1, False),
        ("load-jobs", "load of JSON lines as two files, --jobs 2", 0.85, "jsonl", 2, True),
        ("load-jobs-one-file", "load of JSON lines as one file, --jobs 2", 0.85, "jsonl", 2, False),
        ("load-csv", "load of CSV", 1.1, "csv", 1, False),
        ("load-parquet", "load of Parquet", 1.1, "parquet", 1, False),
    ):
        if name not in names:
            continue
        file = inputs.events(events, form)
        files = inputs.halves(file) if halved else [file]
        pairs = alternate(name, rounds, floor, lambda: load(*files, "--jobs", str(jobs)))  # noqa: B023
        loaded = database.scalar("select count(*) from stage.events")
        figures.append(
            Figure(
                name,
                what,
                f"{events:,} events",
                FLOOR,
                pairs.floor,
                pairs.subject,
                target=target,
                peak_bytes=pairs.peak_bytes,
                limit_bytes=LIMIT_BYTES,
                notes={"rows": loaded, "bytes": sum(path.stat().st_size for path in files)},
            )
        )
        inputs.done(*(files if halved or form != "jsonl" else ()))
    return figures, rows


def measure_array(database: Database, inputs: Inputs, *, events: int, size: int) -> Figure:
    """The memory that one JSON array takes; a single load, since memory hardly differs between two."""
    file = inputs.array(inputs.events(events), size)
    database.empty()
    taken = database.clickmart("load", file)
    say(f"load-array: {taken.peak_bytes / 1e6:,.0f} MB, {taken.seconds:.1f} s")
    found = Figure(
        "load-array",
        "load of one JSON array",
        f"{file.stat().st_size / 1e6:,.0f} MB",
        "",
        (),
        (taken.seconds,),
        peak_bytes=taken.peak_bytes,
        limit_bytes=LIMIT_BYTES,
        notes={"rows": database.scalar("select count(*) from stage.events"), "bytes": file.stat().st_size},
    )
    inputs.done(file)
    return found
