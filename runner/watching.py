"""New files taken into the marts as they appear, until somebody stops it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from .applying import ApplyReport, apply
from .errors import ClickmartError, LoadError
from .load_report import LoadReport
from .loading import load_files
from .mappings import SourceMapping
from .paths import find_files, main_files, partner_files
from .project import Project
from .tables import Block, plain
from .warehouse import Warehouse

#: What failed by no fault of a file is tried again after one interval, two, four and so on, but no more than these.
_LONGEST_WAIT: Final = 64

#: What tells a file that was written from one that wasn't: number, size and time of change, its own and of those that
#: belong to it.
Signature = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class WatchReport:
    """One round of a watch in which something was new: what became of the files, and of the apply after them; None
    where there was none of that. `problem` is what went wrong with neither, and is tried again."""

    load: LoadReport | None = None
    apply: ApplyReport | None = None
    problem: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "load": self.load and self.load.as_dict(),
            "apply": self.apply and self.apply.as_dict(),
            "problem": self.problem or None,
        }

    def __str__(self) -> str:
        return plain(self.blocks())

    def blocks(self) -> Iterator[Block]:
        if self.load:
            yield from self.load.blocks()
        if self.apply:
            yield from self.apply.blocks()

    def problems(self) -> Iterator[str]:
        """What failed, a message each."""
        if self.load:
            yield from self.load.problems()
        if self.problem:
            yield self.problem


@dataclass(slots=True)
class _Folder:
    """The files of some paths, and which of them were looked at before; `mapping` is that of their source."""

    paths: Sequence[str]
    mapping: SourceMapping | None = None
    last: dict[str, Signature] = field(default_factory=dict)
    done: dict[str, Signature] = field(default_factory=dict)

    def settled(self) -> list[str]:
        """The files that are not done as they stand, and that nobody has written to since the last look. Raises
        LoadError for a path that can't be read, or a link that leads out."""
        found = dict(self._signatures())
        ready = [file for file, signature in found.items() if self.last.get(file) == signature != self.done.get(file)]
        self.done = {file: signature for file, signature in self.done.items() if file in found}
        self.last = found
        return ready

    def finish(self, files: Sequence[str]) -> None:
        self.done.update((file, self.last[file]) for file in files)

    def _signatures(self) -> Iterator[tuple[str, Signature]]:
        otherwise = self.mapping.format if self.mapping else ""
        for file in main_files(find_files(self.paths, may_be_none=True, otherwise=otherwise), self.mapping):
            try:
                stats = [Path(path).stat() for path in (file, *self._partners(file))]
            except FileNotFoundError:
                continue  # it went meanwhile, is a link to nothing yet, or those beside it are not there yet
            yield file, tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats)

    def _partners(self, file: str) -> Iterable[str]:
        try:
            return partner_files(file, self.mapping).values() if self.mapping else ()
        except LoadError:
            return ()  # as the load of it will say


def watch(
    warehouse: Warehouse,
    project: Callable[[], Project],
    paths: Sequence[str],
    *,
    interval: float,
    max_rejects: int | None = None,
    jobs: int = 1,
    source: str | None = None,
) -> Iterator[WatchReport]:
    """Looks every `interval` seconds for files that are new or have changed, loads them and applies; without end.

    A file counts as written when two looks find it the same. `project` reads the project, for each apply anew. Raises
    what the first apply raises: later ones, and a server that is gone, are reported and tried again, after a while that
    grows.
    """
    mapping = project().mapping(source) if source is not None else None
    folder = _Folder(paths, mapping)
    folder.settled()
    first = apply(warehouse, project())
    if first.files or first.migrations or first.new_loads or first.rebuilt:
        yield WatchReport(apply=first)
    waits, said, is_behind = 1, "", False
    while True:
        time.sleep(interval * waits)
        load: LoadReport | None = None
        applied: ApplyReport | None = None
        problem = ""
        try:
            if files := folder.settled():
                mapping = project().mapping(source) if source is not None else None
                load = load_files(warehouse, files, max_rejects=max_rejects, jobs=jobs, mapping=mapping)
                tried = zip(files, load.files, strict=True)
                folder.finish([file for file, report in tried if not report.is_by_server])
                is_behind = is_behind or any(report.status == "loaded" for report in load.files)
            if is_behind:
                applied = apply(warehouse, project())
                is_behind = False
        except ClickmartError as error:
            problem = str(error)
        is_to_repeat = bool(problem) or (load is not None and any(report.is_by_server for report in load.files))
        waits = min(2 * waits, _LONGEST_WAIT) if is_to_repeat else 1
        if load:
            told = tuple(report for report in load.files if report.status != "skipped")
            load = replace(load, files=told) if told else None
        # What stays as wrong as it was is said once.
        news = WatchReport(load, applied, "" if problem == said else problem)
        if news != WatchReport():
            yield news
        said = problem
