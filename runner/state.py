"""What is applied, pending, drifted and unknown, and the last loads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from .applying import plan_and_ledger
from .ledger import Load
from .plan import Plan
from .project import Project
from .tables import Block, Cell, Columns, Table, Tone, counted, line, plain
from .warehouse import Warehouse

LAST_LOADS: Final = 10
_TONES: Final[dict[str, Tone]] = {"loaded": "good", "failed": "bad"}


@dataclass(frozen=True, slots=True)
class StatusReport:
    """`applied`: (path, when) of migrations, then of SQL files; `plan`: what is not."""

    applied: tuple[tuple[str, datetime], ...]
    plan: Plan
    loads: tuple[Load, ...]

    @property
    def pending(self) -> bool:
        """Whether the warehouse is not what the project says: something is to be applied, drifted or unknown."""
        return self.plan.pending or bool(self.plan.drifted or self.plan.unknown)

    def as_dict(self) -> dict[str, Any]:
        return {
            "applied": [{"name": name, "applied_at": when.isoformat()} for name, when in self.applied],
            "pending": [{"name": name, "reason": reason} for name, reason in self._pending_names()],
            "unknown": [migration.path for migration in self.plan.unknown],
            "drifted": [migration.path for migration in self.plan.drifted],
            "gone": list(self.plan.gone),
            "new_loads": self.plan.new_loads,
            "new_rows": self.plan.new_rows,
            "rebuild": self.plan.rebuild,
            "loads": [
                {
                    "id": load.id,
                    "file_name": load.file_name,
                    "format": load.format,
                    "size": load.size,
                    "status": load.status,
                    "rows_loaded": load.rows_loaded,
                    "rows_rejected": load.rows_rejected,
                    "started_at": load.started_at.isoformat(),
                    "finished_at": load.finished_at.isoformat(),
                    "refreshed_at": load.refreshed_at.isoformat() if load.refreshed_at else None,
                }
                for load in self.loads
            ],
        }

    def __str__(self) -> str:
        return plain(self.blocks())

    def blocks(self) -> Iterator[Block]:
        count_migrations = sum(name.startswith("migrations/") for name, _ in self.applied)
        count_files = len(self.applied) - count_migrations
        times = "; times are UTC" if self.applied else ""
        yield line(
            Cell("applied:", "title"),
            f" {counted(count_migrations, 'migration')}, {counted(count_files, 'SQL file')}{times}",
        )
        if self.applied:
            rows = ((Cell(name, is_path=True), f"{when:%Y-%m-%d %H:%M:%S}") for name, when in self.applied)
            yield Columns(tuple(rows), indent=2)
        for name in self.plan.gone:
            yield line(Cell("not in this project:", "quiet"), f" {name}, was applied and is left alone")
        for unknown in self.plan.unknown:
            text = f" {unknown.path}, applied by clickmart {unknown.version} and not in this project"
            yield line(Cell("unknown:", "bad"), text)
        for migration in self.plan.drifted:
            yield line(Cell("drifted:", "bad"), f" {migration.path}, changed since it was applied")
        for pending in self._pending_texts():
            yield line(Cell("pending:", "open"), f" {pending}")
        if not self.pending:
            yield line(Cell("pending:", "good"), " nothing")
        if self.loads:
            names = ("load", "file", "status", "rows", "rejected", "finished (UTC)", "in the marts")
            yield line()
            yield Table(names, tuple(map(_load_row, self.loads)))

    def _pending_texts(self) -> Iterator[str]:
        yield from (f"{name}  {reason}" for name, reason in self._pending_names())
        if self.plan.new_loads:
            yield f"{counted(self.plan.new_loads, 'load')}, {counted(self.plan.new_rows, 'row')} not yet in the marts"
        if self.plan.rebuild:
            yield "marts to be built anew"

    def _pending_names(self) -> list[tuple[str, str]]:
        names = [(migration.path, "new") for migration in self.plan.migrations]
        return names + [(step.file.path, step.reason) for step in self.plan.files]


def _load_row(load: Load) -> tuple[object, ...]:
    return (
        load.id,
        Cell(load.file_name, is_path=True),
        Cell(load.status, _TONES.get(load.status)),
        load.rows_loaded,
        Cell(load.rows_rejected, "open" if load.rows_rejected else None),
        f"{load.finished_at:%Y-%m-%d %H:%M:%S}",
        "yes" if load.refreshed_at else "",
    )


def read_status(warehouse: Warehouse, project: Project) -> StatusReport:
    """Only reads; an embedded warehouse that was never made is not made by it.

    Raises ProjectError where the project can't be read, or has a setting that PostgreSQL doesn't take.
    """
    plan, ledger = plan_and_ledger(warehouse, project, last_loads=LAST_LOADS)
    applied = [(migration.path, migration.applied_at) for migration in ledger.migrations.values()]
    applied += [(f.path, f.applied_at) for f in sorted(ledger.files.values(), key=lambda f: f.applied_at)]
    return StatusReport(tuple(applied), plan, ledger.last_loads)
