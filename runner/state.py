"""What is applied, pending and drifted, and the last loads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from .applying import plan_and_ledger
from .ledger import Load
from .plan import Plan
from .project import Project
from .tables import counted, text_table
from .warehouse import Warehouse

LAST_LOADS: Final = 10


@dataclass(frozen=True, slots=True)
class StatusReport:
    """`applied`: (path, when) of migrations, then of SQL files; `plan`: what is not."""

    applied: tuple[tuple[str, datetime], ...]
    plan: Plan
    loads: tuple[Load, ...]

    @property
    def pending(self) -> bool:
        """Whether the warehouse is not what the project says: something is to be applied, or has drifted."""
        return self.plan.pending or bool(self.plan.drifted)

    def as_dict(self) -> dict[str, Any]:
        return {
            "applied": [{"name": name, "applied_at": when.isoformat()} for name, when in self.applied],
            "pending": [{"name": name, "reason": reason} for name, reason in self._pending_names()],
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
        count_migrations = sum(name.startswith("migrations/") for name, _ in self.applied)
        count_files = len(self.applied) - count_migrations
        times = "; times are UTC" if self.applied else ""
        lines = [f"applied: {counted(count_migrations, 'migration')}, {counted(count_files, 'SQL file')}{times}"]
        width = max((len(name) for name, _ in self.applied), default=0)
        lines += [f"  {name:<{width}}  {when:%Y-%m-%d %H:%M:%S}" for name, when in self.applied]
        lines += [f"not in this project: {name}, was applied and is left alone" for name in self.plan.gone]
        lines += [f"drifted: {migration.path}, changed since it was applied" for migration in self.plan.drifted]
        lines += [f"pending: {name}  {reason}" for name, reason in self._pending_names()]
        if self.plan.new_loads:
            loads = f"{counted(self.plan.new_loads, 'load')}, {counted(self.plan.new_rows, 'row')}"
            lines.append(f"pending: {loads} not yet in the marts")
        if self.plan.rebuild:
            lines.append("pending: marts to be built anew")
        if not self.pending:
            lines.append("pending: nothing")
        if self.loads:
            rows = [
                (load.id, load.file_name, load.status, load.rows_loaded, load.rows_rejected,
                 f"{load.finished_at:%Y-%m-%d %H:%M:%S}", "yes" if load.refreshed_at else "")
                for load in self.loads
            ]  # fmt: skip
            names = ("load", "file", "status", "rows", "rejected", "finished (UTC)", "in the marts")
            lines += ["", text_table(names, rows)]
        return "\n".join(lines)

    def _pending_names(self) -> list[tuple[str, str]]:
        names = [(migration.path, "new") for migration in self.plan.migrations]
        return names + [(step.file.path, step.reason) for step in self.plan.files]


def read_status(warehouse: Warehouse, project: Project) -> StatusReport:
    """Only reads; an embedded warehouse that was never made is not made by it.

    Raises ProjectError where the project can't be read, or has a setting that PostgreSQL doesn't take.
    """
    plan, ledger = plan_and_ledger(warehouse, project, last_loads=LAST_LOADS)
    applied = [(f"migrations/{m.name}", m.applied_at) for m in sorted(ledger.migrations.values(), key=lambda m: m.name)]
    applied += [(f.path, f.applied_at) for f in sorted(ledger.files.values(), key=lambda f: f.applied_at)]
    return StatusReport(tuple(applied), plan, ledger.last_loads)
