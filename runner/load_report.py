"""What became of the files of a load, or would become of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from .tables import Block, Cell, Columns, Tone, counted, line, plain

Status = Literal["loaded", "skipped", "failed"]

#: What a summary says of columns that stage.events lacks; a name may be as long as a file.
_MAX_COLUMNS: Final = 20
_MAX_NAME: Final = 60
_MAX_MESSAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class FileReport:
    """What became of one file, or in a dry run would. `problem` says why it failed, or what it is the same as where it
    was skipped; `first_rejects` are lines and reasons; `checksum` is known of a dry run alone. `is_by_server`: that it
    failed is no fault of the file, which may load as it is another time. `events_passed`: how many the source's mapping
    didn't ask for."""

    file: str
    status: Status
    rows_loaded: int = 0
    rows_rejected: int = 0
    unknown_columns: tuple[str, ...] = ()
    seconds: float = 0.0
    problem: str = ""
    first_rejects: tuple[tuple[int, str], ...] = ()
    dry_run: bool = False
    checksum: str = ""
    is_by_server: bool = False
    events_passed: int = 0

    @property
    def tone(self) -> Tone | None:
        if self.status == "loaded":
            return "open" if self.rows_rejected or self.unknown_columns else None
        return "bad" if self.status == "failed" else "quiet"

    def as_dict(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "status": self.status,
            "rows_loaded": self.rows_loaded,
            "rows_rejected": self.rows_rejected,
            "events_passed": self.events_passed,
            "first_rejects": [{"line": number, "reason": reason} for number, reason in self.first_rejects],
            "unknown_columns": list(self.unknown_columns),
            "seconds": round(self.seconds, 3),
            "problem": self.problem or None,
        }

    def __str__(self) -> str:
        if self.status == "skipped":
            return f"{'would be ' * self.dry_run}skipped: {self.problem}"
        rejects = _count_rejects(self.rows_rejected)
        if self.status == "failed":
            return f"{'would fail' if self.dry_run else 'failed'}{rejects}: {self.problem}"
        names = [shown(name, _MAX_NAME) for name in self.unknown_columns[:_MAX_COLUMNS]]
        ignored = f", ignored columns: {', '.join(names)}" if names else ""
        more = f" and {len(self.unknown_columns) - len(names)} more" if len(self.unknown_columns) > len(names) else ""
        would = "would load " * self.dry_run
        passed = _count_passed(self.events_passed)
        return f"{would}{counted(self.rows_loaded, 'row')}{rejects}{passed} in {self.seconds:.1f} s{ignored}{more}"


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What became of each file of a load, or in a dry run would, in the order in which they were named."""

    files: tuple[FileReport, ...]
    seconds: float
    dry_run: bool = False

    @property
    def rows_loaded(self) -> int:
        return sum(file.rows_loaded for file in self.files)

    @property
    def rows_rejected(self) -> int:
        return sum(file.rows_rejected for file in self.files)

    @property
    def events_passed(self) -> int:
        return sum(file.events_passed for file in self.files)

    @property
    def failed(self) -> bool:
        return any(file.status == "failed" for file in self.files)

    def problems(self) -> Iterator[str]:
        """Why files failed, a message each that names the file."""
        for file in self.files:
            if file.status == "failed":
                yield file.problem if file.problem.startswith(file.file) else f"{file.file}: {file.problem}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "files": [file.as_dict() for file in self.files],
            "rows_loaded": self.rows_loaded,
            "rows_rejected": self.rows_rejected,
            "events_passed": self.events_passed,
            "seconds": round(self.seconds, 3),
            "dry_run": self.dry_run,
        }

    def __str__(self) -> str:
        return plain(self.blocks())

    def blocks(self) -> Iterator[Block]:
        if self.files:
            yield Columns(tuple((Cell(shown(file.file), is_path=True), Cell(file, file.tone)) for file in self.files))
        if len(self.files) != 1:
            rejects = _count_rejects(self.rows_rejected)
            would = "would load " * self.dry_run
            rows, files = counted(self.rows_loaded, "row"), counted(len(self.files), "file")
            passed = _count_passed(self.events_passed)
            text = f"{would}{rows}{rejects}{passed} from {files} in {self.seconds:.1f} s"
            yield line(Cell(text, "title"))
        found = [
            (Cell(f"{shown(file.file)}:{number}", is_path=True), shown(reason))
            for file in self.files
            for number, reason in file.first_rejects
        ]
        if self.dry_run and found:
            yield line(Cell("first rejects:", "title"))
            yield Columns(tuple(found), indent=2)


def without_repeats(files: Iterable[FileReport]) -> Iterator[FileReport]:
    """What a dry run found of files, those with the content of one before them being skipped, as a load would."""
    first: dict[str, FileReport] = {}
    for file in files:
        if file.status == "loaded" and (same := first.setdefault(file.checksum, file)) is not file:
            problem = f"its content is that of {shown(same.file)}"
            yield FileReport(file.file, "skipped", problem=problem, dry_run=True)
        else:
            yield file


def shown(text: str, length: int = _MAX_MESSAGE) -> str:
    """A text from outside as a part of a line: without control characters, and no longer than that."""
    cut = text if len(text) <= length else f"{text[:length]}..."
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in cut)


def _count_passed(count: int) -> str:
    return f", {count:,} passed over" if count else ""


def _count_rejects(count: int) -> str:
    return f", {count:,} rejected" if count else ""
