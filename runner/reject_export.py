"""Rejects to files, as they came, to be corrected there and loaded.

A file holds records of one kind and one source alone: rows of CSV below one header line, lines of JSON or of another
text, or elements of an array.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, Final

from .errors import LoadError, UsageError
from .load_report import shown
from .paths import STANDARD_INPUT, Format
from .stored_rejects import LeftOut, RejectingLoad, StoredReject, left_out, rejecting_loads, stored_rejects
from .tables import Block, Cell, Columns, counted, line, plain
from .warehouse import Connection
from .whole_files import writing_whole

STANDARD_OUTPUT: Final = "-"
_EXTENSIONS: Final = re.compile(r"(\.(jsonl|ndjson|json|csv|parquet|tsv|log|gz|zst|zip))+$", re.IGNORECASE)
_MAX_NAME: Final = 100
#: Files of lines that are no JSON, by their extension.
_LINES: Final = {"csv": "CSV", "tsv": "TSV", "log": "lines of a log"}
_SHOWN_LOADS: Final = 5


@dataclass(frozen=True, slots=True)
class Layout:
    """What a file of rejects is: its extension, the header line without its end where it has one, and the source whose
    mapping reads it."""

    extension: str
    header: bytes = b""
    source: str | None = None

    @classmethod
    def of(cls, load: RejectingLoad) -> Layout:
        """That of the rejects of a load, as they were in its file; a row of Parquet is a line of JSON."""
        if load.content in _LINES:
            return cls(load.content, (load.header or b"").removesuffix(b"\r"), load.source)
        # Of what was loaded before the bracket was kept, a line feed tells of an array.
        is_array = load.content == "json" and (load.header is not None or load.spans_lines)
        return cls("json" if is_array else "jsonl", source=load.source)

    def __str__(self) -> str:
        what = _LINES.get(self.extension) or ("elements of a JSON array" if self.extension == "json" else "JSON lines")
        below = f" below {shown(self.header.decode('utf-8', 'backslashreplace'), 60)}" if self.header else ""
        return f"{what}{below}{f' of source {self.source}' if self.source else ''}"

    def write(self, file: BinaryIO, header: bytes, records: Iterable[bytes]) -> int:
        """Writes the records; returns how many."""
        is_array = self.extension == "json"
        file.write(b"[\n" if is_array else header + b"\n" if header and self.extension in _LINES else b"")
        count = 0
        for record in records:
            if is_array:
                if not record:  # what a cut off array lacks
                    continue
                file.write(b",\n" * (count > 0) + record)
            else:
                file.write(record + b"\n")
            count += 1
        file.write(b"\n]\n" * is_array)
        return count


@dataclass(frozen=True, slots=True)
class ExportReport:
    """The files that were written, each with its number of records."""

    files: tuple[tuple[str, int], ...]
    left_out: tuple[LeftOut, ...]
    count_failed: int

    def as_dict(self) -> dict[str, Any]:
        return {
            "files": [{"file": file, "rejects": count} for file, count in self.files],
            "left_out": [left.as_dict() for left in self.left_out],
            "of_failed_loads": self.count_failed,
        }

    def __str__(self) -> str:
        return plain(self.blocks())

    def blocks(self) -> Iterator[Block]:
        if self.files:
            yield Columns(tuple((Cell(file, is_path=True), counted(count, "reject")) for file, count in self.files))
        else:
            yield line(Cell("no rejects to export", "good"))
        yield from self.warnings()

    def warnings(self) -> Iterator[Block]:
        """What is not in the files."""
        for left in self.left_out:
            yield left.line()
        if self.count_failed:
            count = counted(self.count_failed, "reject")
            yield line(
                f"left out {count} of loads that failed, whose files can be loaded; --load N exports those of one"
            )


def export_rejects(connection: Connection, output: str, numbers: Sequence[int] = ()) -> ExportReport:
    """Writes the rejects of loads that count, or those of the loads with these numbers, to a file, to standard output
    for "-", or to a folder a file a load.

    Raises LoadError where they don't fit one file, or it can't be written; UsageError for a name that contradicts what
    they are, and for the number of no load.
    """
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        found = rejecting_loads(connection, numbers)
        loads = [load for load in found if numbers or load.status == "loaded"]
        failed = sum(load.count_rejects for load in found if load not in loads)
        readable = [load for load in loads if not load.header_is_missing]
        is_folder = output != STANDARD_OUTPUT and (output.endswith("/") or Path(output).is_dir())
        if readable and not is_folder:
            _refuse_mixture(readable, output)
        export = _Export(connection, readable)
        written: list[tuple[str, int]] = []
        try:
            if is_folder and readable:
                Path(output).mkdir(parents=True, exist_ok=True)
                written += export.to_folder(Path(output))
            elif readable:
                written.append((output, export.to_file(output)))
        except BrokenPipeError:
            raise  # nobody reads any more
        except OSError as error:
            raise LoadError(f"{error.filename or output}: can't be written: {error.strerror or error}") from error
    missing = {load: load.count_rejects if load.header_is_missing else export.unknown[load.id] for load in loads}
    left = tuple(left_out(load, count) for load, count in missing.items() if count)
    return ExportReport(tuple((shown(file), count) for file, count in written), left, failed)


class _Export:
    def __init__(self, connection: Connection, loads: Sequence[RejectingLoad]) -> None:
        self._connection = connection
        self._loads = loads
        #: By load, how many are left out since their bytes are unknown.
        self.unknown: Counter[int] = Counter()

    def to_file(self, output: str) -> int:
        first = self._loads[0]
        is_stdout = output == STANDARD_OUTPUT
        opened: AbstractContextManager[BinaryIO] = (
            nullcontext(sys.stdout.buffer) if is_stdout else writing_whole(Path(output))
        )
        with opened as file:
            rejects = stored_rejects(self._connection, self._loads)
            count = Layout.of(first).write(file, first.header or b"", self._contents(rejects))
            file.flush()
        return count

    def to_folder(self, folder: Path) -> Iterator[tuple[str, int]]:
        rejects = stored_rejects(self._connection, self._loads)
        for load, of_load in groupby(rejects, key=lambda found: found[0]):
            layout = Layout.of(load)
            path = folder / f"{load.id}-{_stem(load.file_name)}.{layout.extension}"
            with writing_whole(path) as file:
                count = layout.write(file, load.header or b"", self._contents(of_load))
            yield str(path), count

    def _contents(self, rejects: Iterable[tuple[RejectingLoad, StoredReject]]) -> Iterator[bytes]:
        for load, reject in rejects:
            content = reject.content
            if content is None:
                self.unknown[load.id] += 1
            else:
                yield content


def _refuse_mixture(loads: Sequence[RejectingLoad], output: str) -> None:
    """Raises LoadError where the rejects don't fit one file, UsageError where its name says that it is another."""
    layouts: dict[Layout, RejectingLoad] = {}
    for load in loads:
        layouts.setdefault(Layout.of(load), load)
    if len(layouts) > 1:
        parts = [f"load {load.id}, {shown(load.file_name)}: {layout}" for layout, load in layouts.items()]
        more = f"; and {len(parts) - _SHOWN_LOADS} more" if len(parts) > _SHOWN_LOADS else ""
        raise LoadError(
            f"the rejects don't fit one file ({'; '.join(parts[:_SHOWN_LOADS])}{more}): "
            "take those of a load by --load N, or name a folder, which gets a file a load"
        )
    (layout,) = layouts
    try:
        named = Format.of(output)
    except LoadError:
        return
    if named.packing or named.content != layout.extension:
        raise UsageError(f"{output}: the rejects are {layout}: name the file .{layout.extension}")


def _stem(file_name: str) -> str:
    """What the file of a load's rejects is called after."""
    if file_name == STANDARD_INPUT:
        return "stdin"
    return _EXTENSIONS.sub("", Path(file_name).name)[:_MAX_NAME] or "rejects"
