"""The rejects that stand in the warehouse, and how each is read again: for the commands on rejects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from psycopg.rows import class_row

from .csv_reader import row_reader
from .errors import UsageError
from .json_array import NO_ELEMENTS
from .json_reader import JsonReader
from .load_report import shown
from .mapped_reader import MappedReader
from .mappings import SourceMapping
from .records import Record, UnknownFields, raw_bytes
from .tables import Block, Cell, counted, line
from .warehouse import Connection

#: So many are fetched at a time.
_FETCHED: Final = 100
_LOADS: Final = """
    select
        batch_id as id,
        file_name,
        format,
        status,
        header,
        source,
        count(*) as count_rejects,
        bool_or(strpos(raw, E'\\n') > 0) as spans_lines
    from stage.standing_rejects
    where %(loads)s::bigint[] is null or batch_id = any (%(loads)s)
    group by batch_id, file_name, format, status, header, source
    order by batch_id"""
_REJECTS: Final = """
    select id, batch_id as load, line_number as line, reason, raw, raw_bytes
    from stage.standing_rejects
    where batch_id = any (%s) and (%s::bigint[] is null or id = any (%s))
    order by batch_id, id"""


@dataclass(frozen=True, slots=True)
class RejectingLoad:
    """A load with rejects that stand. `header` is that of stage.loads, and so is `source`; `spans_lines`: some reject
    has a line feed in it."""

    id: int
    file_name: str
    format: str
    status: str
    header: bytes | None
    source: str | None
    count_rejects: int
    spans_lines: bool

    @property
    def content(self) -> str:
        """The format without its packing."""
        return self.format.partition(".")[0]

    @property
    def header_is_missing(self) -> bool:
        """Whether its rejects can't be read, since it was loaded before clickmart kept the header."""
        return self.content == "csv" and self.header is None

    def reader(self, mapping: SourceMapping | None) -> Callable[[StoredReject], Record | None]:
        """Reads a reject as it is read in the file, by the mapping of its source; None where it is no single record, or
        its bytes are unknown."""
        if mapping:
            mapped = MappedReader(mapping)
            read_mapped = partial(mapped.record, self.content, header=self.header or b"")
            return lambda reject: None if self._is_none(reject) else read_mapped(reject.line, reject.content or b"")
        if self.content == "csv":
            if self.header is None:
                return lambda _: None
            read = row_reader(self.header)
        else:
            json = JsonReader(UnknownFields(), as_written=self.content == "parquet")
            read = lambda line, raw: [json.record(line, raw)]  # noqa: E731

        def record(reject: StoredReject) -> Record | None:
            if self._is_none(reject):
                return None
            records = read(reject.line, reject.content or b"")
            return records[0] if len(records) == 1 else None

        return record

    def _is_none(self, reject: StoredReject) -> bool:
        """Whether it is no record at all, or can't be read again."""
        return reject.content is None or (self.content == "json" and reject.reason in NO_ELEMENTS)


@dataclass(frozen=True, slots=True)
class StoredReject:
    """A row of stage.standing_rejects."""

    id: int
    load: int
    line: int
    reason: str
    raw: str
    raw_bytes: bytes | None

    @property
    def content(self) -> bytes | None:
        """The record as it stood, without the line feed behind it; None where that is unknown: it was set aside before
        clickmart kept the bytes, and has a `\\xNN` that may be one."""
        return raw_bytes(self.raw) if self.raw_bytes is None else self.raw_bytes


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Rejects of a load that can't be read again, as they were set aside by an older clickmart, and why."""

    load: int
    file: str
    count: int
    reason: str

    def as_dict(self) -> dict[str, Any]:
        return {"load": self.load, "file": self.file, "count": self.count, "reason": self.reason}

    def line(self) -> Block:
        return line(Cell(shown(str(self)), "open"))

    def __str__(self) -> str:
        return f"left out {counted(self.count, 'reject')} of load {self.load}, {self.file}: {self.reason}"


def left_out(load: RejectingLoad, count: int, reason: str = "") -> LeftOut:
    """That so many of a load's rejects are left out; without a `reason` since what reads them is not known."""
    if reason:
        return LeftOut(load.id, load.file_name, count, reason)
    what = "header is" if load.header_is_missing else "exact bytes are"
    return LeftOut(
        load.id, load.file_name, count, f"loaded before clickmart kept what they need: their {what} not known"
    )


def rejecting_loads(connection: Connection, numbers: Sequence[int] = ()) -> list[RejectingLoad]:
    """The loads that have rejects that stand, or those of them with these numbers. Raises UsageError for a number that
    no load has."""
    check_numbers(connection, numbers)
    with connection.cursor(row_factory=class_row(RejectingLoad)) as cursor:
        return cursor.execute(_LOADS, {"loads": list(numbers) or None}).fetchall()


def check_numbers(connection: Connection, numbers: Sequence[int]) -> None:
    """Raises UsageError for a number that no load has."""
    known = connection.execute("select id from stage.loads where id = any (%s)", (list(numbers),)).fetchall()
    for number in numbers:
        if (number,) not in known:
            raise UsageError(f"there is no load {number}; `clickmart status` shows the last ones")


def stored_rejects(
    connection: Connection, loads: Sequence[RejectingLoad], numbers: Sequence[int] | None = None
) -> Iterator[tuple[RejectingLoad, StoredReject]]:
    """The rejects of these loads in the order of loading, some at a time; `numbers`: those alone. To be called within a
    transaction."""
    by_id = {load.id: load for load in loads}
    only = None if numbers is None else list(numbers)
    with connection.cursor("stored_rejects", row_factory=class_row(StoredReject)) as cursor:
        cursor.itersize = _FETCHED
        for reject in cursor.execute(_REJECTS, (list(by_id), only, only)):
            yield by_id[reject.load], reject
