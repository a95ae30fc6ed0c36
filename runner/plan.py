"""What an apply would do, decided from the project and the ledger alone; so apply, --plan and status agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from .errors import ProjectError
from .ledger import AppliedFile, AppliedMigration, Ledger
from .project import Migration, Project, SqlFile, builtin_folder
from .version import __version__

#: By this call an SQL file has the refresh build anew what stands on it.
_REQUEST: Final = "cdm.request_rebuild("


@dataclass(frozen=True, slots=True)
class FileStep:
    """An SQL file to apply, and why."""

    file: SqlFile
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """`unknown`: migrations that were applied and that the project lacks. `drifted`: those that were applied with
    another content. `gone`: SQL files that were applied and that the project lacks; they are left alone. The rest is
    what would run, in order: `rebuild` says that the refresh would build marts anew, and not only take in the new
    loads."""

    unknown: tuple[AppliedMigration, ...]
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
    files: tuple[FileStep, ...] = ()
    if ledger.fingerprint != project.fingerprint or project.file_paths - set(ledger.files):
        files = tuple(
            FileStep(file, reason)
            for file in project.files
            if (reason := _reason(file, ledger.files.get(file.path), project))
        )
    return Plan(
        unknown=unknown_migrations(project, ledger),
        drifted=tuple(m for m in project.migrations if m.name in applied and applied[m.name].checksum != m.checksum),
        gone=tuple(sorted(set(ledger.files) - project.file_paths)),
        migrations=tuple(m for m in project.migrations if m.name not in applied),
        files=files,
        new_loads=ledger.new_loads,
        new_rows=ledger.new_rows,
        rebuild=full or ledger.rebuild or any(_REQUEST in step.file.text for step in files),
    )


def unknown_migrations(project: Project, ledger: Ledger) -> tuple[AppliedMigration, ...]:
    """What was applied and the project lacks: the warehouse is that of another project, or of a newer clickmart."""
    names = {migration.name for migration in project.migrations}
    return tuple(applied for name, applied in ledger.migrations.items() if name not in names)


def refuse(project: Project, planned: Plan) -> None:
    """Raises ProjectError for migrations that are unknown or have drifted, by name."""
    refuse_unknown(project, planned.unknown)
    if planned.drifted:
        names = ", ".join(migration.path for migration in planned.drifted)
        raise ProjectError(
            f"{names}: changed since it was applied; bring back what was applied, and put the change in a new migration"
        )


def refuse_unknown(project: Project, unknown: Sequence[AppliedMigration]) -> None:
    """Refuses to work on a warehouse of which the project knows a part alone."""
    if not unknown:
        return
    names = ", ".join(migration.path for migration in unknown)
    versions = " and ".join(sorted({migration.version for migration in unknown}))
    is_builtin = project.folder == builtin_folder()
    newer = [migration.version for migration in unknown if migration.is_by_newer]
    do = [f"install clickmart {newer[-1]} or newer"] if newer else []
    do += [] if is_builtin else ["bring back what is missing"]
    do += ["name the project that has it by --project"]
    raise ProjectError(
        f"{names}: applied here by clickmart {versions}, but not in "
        f"{f'the built-in project of clickmart {__version__}' if is_builtin else project.folder}; {', or '.join(do)}"
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
    return f"setting changed: {', '.join(changes)}" if changes else "a template or source that it uses changed"
