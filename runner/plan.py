"""What an apply would do, decided from the project and the ledger alone; so apply, --plan and status agree."""

from __future__ import annotations

from dataclasses import dataclass

from .ledger import AppliedFile, Ledger
from .project import Migration, Project, SqlFile


@dataclass(frozen=True, slots=True)
class FileStep:
    """An SQL file to apply, and why."""

    file: SqlFile
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """`drifted`: migrations that were applied with another content. The rest is what would run, in order."""

    drifted: tuple[Migration, ...]
    migrations: tuple[Migration, ...]
    files: tuple[FileStep, ...]
    new_loads: int
    new_rows: int

    @property
    def pending(self) -> bool:
        return bool(self.migrations or self.files or self.new_loads)


def make_plan(project: Project, ledger: Ledger) -> Plan:
    """Raises ProjectError where the project's files can't be read or rendered."""
    applied = ledger.migrations
    return Plan(
        drifted=tuple(m for m in project.migrations if m.name in applied and applied[m.name].checksum != m.checksum),
        migrations=tuple(m for m in project.migrations if m.name not in applied),
        files=tuple(
            FileStep(file, reason)
            for file in project.files
            if (reason := _reason(file, ledger.files.get(file.path), project))
        ),
        new_loads=ledger.new_loads,
        new_rows=ledger.new_rows,
    )


def _reason(file: SqlFile, applied: AppliedFile | None, project: Project) -> str:
    """Why the file must be applied; empty where it stands as it is."""
    if applied is None:
        return "new"
    if applied.checksum == file.checksum:
        return ""
    if applied.template_checksum != file.template_checksum:
        return "changed"
    settings = project.settings.as_dict()
    changes = [
        f"{name} {applied.settings[name]!r} -> {value!r}"
        for name, value in settings.items()
        if name in applied.settings and applied.settings[name] != value
    ]
    return f"setting changed: {', '.join(changes)}" if changes else "a template that it imports changed"
