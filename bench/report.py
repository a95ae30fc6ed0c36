"""What a run found: as JSON with the machine's facts, and as the tables of docs/performance.md."""

from __future__ import annotations

import os
import platform
import re
import shutil
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import clickmart
from clickmart.version import __version__

from .figures import Figure
from .server import Database

#: the server's settings that bear on the figures
SETTINGS: Final = (
    "shared_buffers",
    "work_mem",
    "maintenance_work_mem",
    "max_wal_size",
    "wal_level",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "jit",
    "max_parallel_workers_per_gather",
    "max_parallel_maintenance_workers",
    "autovacuum",
    "listen_addresses",
)


@dataclass(slots=True)
class Report:
    """All that one run found so far."""

    options: dict[str, Any]
    machine: dict[str, Any]
    figures: list[Figure] = field(default_factory=list)
    disk: dict[str, Any] | None = None
    not_run: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "options": self.options,
            "figures": [figure.as_dict() for figure in self.figures],
            "disk": self.disk,
            "not_run": self.not_run,
        }

    def as_markdown(self) -> str:
        own = [figure for figure in self.figures if not figure.name.startswith("peer-")]
        parts = [_machine_line(self.machine), _ratios(own), _memory(own)]
        if self.disk:
            parts.append(_disk(self.disk))
        parts.append(_loads_of_peers([figure for figure in self.figures if figure.name.startswith("peer-load-")]))
        parts.append(_models_of_peers([figure for figure in self.figures if figure.name.startswith("peer-models-")]))
        parts.append("\n".join(f"- not run: {name}: {reason}" for name, reason in self.not_run.items()))
        return "\n\n".join(part for part in parts if part) + "\n"


def machine_facts(database: Database) -> dict[str, Any]:
    """The machine, the server with its settings, and what is measured."""
    settings = ", ".join(f"'{name}'" for name in SETTINGS)
    found = database.execute(f"select name, current_setting(name) from pg_settings where name in ({settings})")
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu": _first(r"model name\s*:\s*(.+)", "/proc/cpuinfo") or platform.processor() or platform.machine(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "postgresql": database.scalar("select current_setting('server_version')"),
        "settings": dict(sorted(found)),
        "clickmart": __version__,
        "commit": _commit(),
    }


def _first(pattern: str, path: str) -> str:
    with suppress(OSError):
        if found := re.search(pattern, Path(path).read_text(encoding="utf-8")):
            return found[1].strip()
    return ""


def _commit() -> str:
    """The commit of the checkout, with + where files differ from it; empty outside of one."""
    git = shutil.which("git")
    if not git or not clickmart.__file__:
        return ""
    command = [git, "-C", str(Path(clickmart.__file__).parent), "describe", "--always", "--abbrev=12", "--dirty=+"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


# The tables


def _machine_line(machine: dict[str, Any]) -> str:
    return (
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_bytes'] / 2**30:.0f} GiB of memory, "
        f"PostgreSQL {machine['postgresql']}, Python {machine['python']}, "
        f"clickmart {machine['clickmart']} ({machine['commit']})."
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(["| " + " | ".join(head) + " |", "|" + " --- |" * len(head), *lines]) if lines else ""


def _spread(seconds: Sequence[float]) -> str:
    """Median, and in brackets the least and the most."""
    if not seconds:
        return ""
    digits = 3 if statistics.median(seconds) < 10 else 1
    median, *ends = (f"{value:.{digits}f}" for value in (statistics.median(seconds), min(seconds), max(seconds)))
    return f"{median} s" if len(seconds) == 1 else f"{median} s ({' to '.join(ends)})"


def _ratio(figure: Figure) -> str:
    if figure.ratio is None:
        return ""
    pairs = f" ({min(figure.pair_ratios):.2f} to {max(figure.pair_ratios):.2f})" if len(figure.floor) > 1 else ""
    work = figure.notes.get("work_ratio")
    return f"{figure.ratio:.2f}{pairs}" + (f"; {work:.2f} without the command's start" if work else "")


def _ratios(figures: Sequence[Figure]) -> str:
    def aim(figure: Figure) -> str:
        aims = [f"<= {figure.target:g}"] if figure.target else []
        aims += [f"< {figure.limit:g} s"] if figure.limit else []
        return ", ".join(aims)

    return _table(
        ("what", "size", "floor", "floor's time", "clickmart", "ratio", "target"),
        [
            (
                figure.what,
                figure.size,
                figure.floor_what,
                _spread(figure.floor),
                _spread(figure.subject),
                _ratio(figure),
                aim(figure),
            )
            for figure in figures
            if figure.floor
        ],
    )


def _megabytes(count: float | None) -> str:
    return "" if count is None else f"{count / 1e6:,.0f} MB"


def _memory(figures: Sequence[Figure]) -> str:
    return _table(
        ("peak memory of a", "size", "the files", "with its children", "target"),
        [
            (
                figure.what,
                figure.size,
                _megabytes(figure.notes.get("bytes")),
                _megabytes(figure.peak_bytes),
                f"< {_megabytes(figure.limit_bytes)}",
            )
            for figure in figures
            if figure.limit_bytes
        ],
    )


def _disk(disk: dict[str, Any]) -> str:
    rows = [
        (table["table"], _megabytes(table["bytes_per_million"]), _megabytes(table["index_bytes_per_million"]))
        for table in disk["tables"]
        if table["bytes_per_million"] + table["index_bytes_per_million"] >= 0.01 * disk["bytes_per_million"]
    ]
    whole = ("all tables", _megabytes(disk["bytes_per_million"]), _megabytes(disk["index_bytes_per_million"]))
    return _table((f"disk for a million events (of {disk['events']:,})", "rows", "indexes"), [*rows, whole])


def _loads_of_peers(figures: Sequence[Figure]) -> str:
    return _table(
        ("load", "version", "size", "time", "rows/s", "ratio to COPY", "peak memory", "without its start"),
        [
            (
                figure.what,
                figure.notes["version"],
                figure.size,
                _spread(figure.subject),
                f"{figure.notes['rows_per_second']:,}",
                _ratio(figure),
                _megabytes(figure.peak_bytes),
                _spread(figure.notes["work_seconds"]),
            )
            for figure in figures
        ],
    )


def _models_of_peers(figures: Sequence[Figure]) -> str:
    def said(figure: Figure) -> str:
        marts = dict(figure.notes.get("marts", {}))
        if not marts:
            return ""
        differing = marts.pop("marts that differ")
        which = f"differ: {', '.join(differing)}" if differing else "equal"
        return f"{which}; " + ", ".join(f"{name} {count:,}" for name, count in marts.items())

    def parts(figure: Figure) -> str:
        names = {"elapsed_time": "", "read_seconds": "reading ", "model_seconds": "models "}
        return ", ".join(text + _spread(figure.notes[key]) for key, text in names.items() if key in figure.notes)

    return _table(
        ("marts", "version", "size", "time", "ratio to the floor", "of that", "peak memory", "against clickmart's"),
        [
            (
                figure.what,
                figure.notes["version"],
                figure.size,
                _spread(figure.subject),
                _ratio(figure),
                parts(figure),
                _megabytes(figure.peak_bytes),
                said(figure),
            )
            for figure in figures
        ],
    )
