"""`clickmart metabase pull`: what was changed at Metabase, written into the project's files. Metabase is only read."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..dashboards import FILE_NAME, Dashboard, file_sql, metabase_sql, read_dashboards
from ..errors import MetabaseError, ProjectError
from ..project import Project
from ..tables import counted
from ..whole_files import write_whole
from .adoption import with_brought
from .client import Metabase
from .found import read_found, read_version
from .objects import CardKey
from .pushing import MetabaseOptions
from .said import Said, Table, said_by_metabase, said_by_project
from .toml_edits import edited


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file of the project, by its path from the folder: its text before and after, None where there is none."""

    path: str
    before: str | None
    after: str | None

    @property
    def diff(self) -> str:
        old, new = (
            name if text is not None else "/dev/null"
            for name, text in ((f"a/{self.path}", self.before), (f"b/{self.path}", self.after))
        )
        lines = difflib.unified_diff(
            (self.before or "").splitlines(), (self.after or "").splitlines(), old, new, lineterm=""
        )
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class MetabasePull:
    """The files that were changed, and what could not be brought."""

    url: str
    changes: tuple[FileChange, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        files = [{"path": change.path, "diff": change.diff} for change in self.changes]
        return {"url": self.url, "files": files, "notes": list(self.notes)}

    def __str__(self) -> str:
        lines = [change.diff for change in self.changes]
        lines.append(f"{counted(len(self.changes), 'file')} changed" if self.changes else "nothing to pull")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def pull(project: Project, metabase: Metabase, options: MetabaseOptions) -> MetabasePull:
    """Writes what differs at Metabase into the project's dashboards; nothing where the new files couldn't be read.

    Raises MetabaseError, ProjectError.
    """
    dashboards = read_dashboards(project)
    found = read_found(
        metabase,
        options.collection,
        [CardKey(dashboard.name, card.name) for dashboard in dashboards for card in dashboard.cards],
        [dashboard.name for dashboard in dashboards],
        version=read_version(metabase),
        database=None,
    )
    found = with_brought(dashboards, found)
    notes = list(found.notes)
    changes: list[FileChange] = []
    wanted: dict[str, Said] = {}
    for dashboard in dashboards:
        there = found.dashboards.get(dashboard.name)
        if there is None:
            notes.append(f"{dashboard.name}: not at Metabase yet; push makes it")
        elif there.archived:
            notes.append(f"{dashboard.name}: in Metabase's trash; push brings it back")
        elif not there.dashcards and (dashboard.cards or dashboard.texts):
            notes.append(
                f"{dashboard.name}: has nothing on it at Metabase, as after a push that was cut off; push first"
            )
        else:
            theirs = said_by_metabase(dashboard, there, found)
            notes += theirs.notes
            wanted[dashboard.name] = theirs
            changes += _changed_files(project, dashboard, theirs)
    _check(project, changes, wanted)
    _write(project, changes)
    return MetabasePull(metabase.url, tuple(changes), tuple(notes))


def _changed_files(project: Project, dashboard: Dashboard, theirs: Said) -> list[FileChange]:
    ours = said_by_project(dashboard)
    changes = []
    if ours.table != theirs.table:
        before = _read(project.folder / dashboard.path)
        changes.append(FileChange(dashboard.path, before, edited(before, ours.table, theirs.table)))
    folder = dashboard.path.removesuffix(FILE_NAME)
    for name in dict.fromkeys([*ours.sql, *theirs.sql]):
        path = f"{folder}{name}.sql"
        if name not in theirs.sql:
            changes.append(FileChange(path, _read(project.folder / path), None))
        elif name not in ours.sql:
            changes.append(FileChange(path, None, f"{file_sql(theirs.sql[name])}\n"))
        elif ours.sql[name] != theirs.sql[name]:
            before = _read(project.folder / path)
            changes.append(FileChange(path, before, _changed_sql(before, theirs.sql[name])))
    return changes


def _changed_sql(before: str, native: str) -> str:
    """The file with Metabase's SQL in it; lines that are the same there stay as they were written."""
    lines, theirs = before.splitlines(), native.split("\n")
    matcher = difflib.SequenceMatcher(None, [metabase_sql(line) for line in lines], theirs, autojunk=False)
    result: list[str] = []
    for tag, start, end, their_start, their_end in matcher.get_opcodes():
        result += lines[start:end] if tag == "equal" else [file_sql(line) for line in theirs[their_start:their_end]]
    return "\n".join(result).rstrip("\n") + "\n"


def _check(project: Project, changes: list[FileChange], wanted: Mapping[str, Said]) -> None:
    """Raises MetabaseError where the files as they are to be can't be read, or don't say what Metabase has."""
    if not changes:
        return
    with tempfile.TemporaryDirectory(prefix="clickmart-") as folder:
        for file in (project.folder / "dashboards").glob("*/*"):
            if file.name == FILE_NAME or file.suffix == ".sql":
                _put(Path(folder), file.relative_to(project.folder).as_posix(), _read(file))
        for change in changes:
            _put(Path(folder), change.path, change.after)
        try:
            dashboards = read_dashboards(replace(project, folder=Path(folder)))
        except ProjectError as error:
            raise MetabaseError(f"what Metabase has makes no project, and no file was changed: {error}") from None
    for dashboard in dashboards:
        if dashboard.name in wanted and _sorted(said_by_project(dashboard)) != _sorted(wanted[dashboard.name]):
            raise MetabaseError(f"{dashboard.path}: can't be edited to say what Metabase has; no file was changed")


def _sorted(said: Said) -> tuple[Table, Mapping[str, str]]:
    return {**said.table, "texts": sorted(said.table["texts"], key=repr)}, said.sql


def _put(folder: Path, path: str, text: str | None) -> None:
    file = folder / path
    if text is None:
        file.unlink()
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", newline="")


def _write(project: Project, changes: list[FileChange]) -> None:
    """Each file at once: a reader sees the old one or the new one. Removed ones go last."""
    for change in sorted(changes, key=lambda change: change.after is None):
        file = project.folder / change.path
        try:
            if change.after is None:
                file.unlink()
                continue
            write_whole(file, change.after.encode())
        except OSError as error:
            raise ProjectError(f"{change.path}: can't be written: {error.strerror}") from None


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8-sig")
