"""What an apply would do, decided from the project and the ledger alone; so apply, --plan and status agree."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from .ledger import AppliedFile, Ledger
from .project import Migration, Project, SqlFile

#: By this call an SQL file has the refresh build anew what stands on it.
_REQUEST: Final = "cdm.request_rebuild("


@dataclass(frozen=True, slots=True)
class FileStep:
    """An SQL file to apply, and why."""

    file: SqlFile
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """`drifted`: migrations that were applied with another content. `gone`: migrations and files that were applied and
    that the project lacks; they are left alone. The rest is what would run, in order: `rebuild` says that the refresh
    would build marts anew, and not only take in the new loads."""

    drifted: tuple[Migration, ...]
    gone: tuple[str, ...]
    migrations: tuple[Migration, ...]
    files: tuple[FileStep, ...]
    new_loads: int
    new_rows: int
    rebuild: bool

    @property
    def pending(self) -> bool:
        return bool(self.migrations or self.files or self.new_loads or self.rebuild)


def make_plan(project: Project, ledger: Ledger, *, full: bool = False) -> Plan:
    """Raises ProjectError where the project's files can't be read or rendered."""
    applied = ledger.migrations
    gone = {f"migrations/{name}" for name in applied} | set(ledger.files)
    gone -= {migration.path for migration in project.migrations} | project.file_paths
    files: tuple[FileStep, ...] = ()
    if ledger.fingerprint != project.fingerprint or project.file_paths - set(ledger.files):
        files = tuple(
            FileStep(file, reason)
            for file in project.files
            if (reason := _reason(file, ledger.files.get(file.path), project))
        )
    return Plan(
        drifted=tuple(m for m in project.migrations if m.name in applied and applied[m.name].checksum != m.checksum),
        gone=tuple(sorted(gone)),
        migrations=tuple(m for m in project.migrations if m.name not in applied),
        files=files,
        new_loads=ledger.new_loads,
        new_rows=ledger.new_rows,
        rebuild=full or ledger.rebuild or any(_REQUEST in step.file.text for step in files),
    )


def _reason(file: SqlFile, applied: AppliedFile | None, project: Project) -> str:
    """Why the file must be applied; empty where it stands as it is."""
    if applied is None:
        return "new"
    if applied.checksum == file.checksum:
        return ""
    if applied.template_checksum != file.template_checksum:
        return "changed"
    changes = [
        f"{name} {applied.settings[name]!r} -> {value!r}"
        for name, value in project.settings.as_dict().items()
        if name in applied.settings and applied.settings[name] != value
        # One that doesn't show in this file is no reason.
        if project.text_with(file, replace(project.settings, **{name: applied.settings[name]})) != file.text
    ]
    return f"setting changed: {', '.join(changes)}" if changes else "a template that it imports changed"
