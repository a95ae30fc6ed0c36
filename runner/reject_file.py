"""Rejects on their way to stage.events_rejected: they wait in a file, and are copied when the rows are in."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Final

from .batches import BINARY_ROWS
from .event_writer import copy_statement
from .records import Record, raw_bytes, raw_text
from .streams import set_aside
from .warehouse import Connection

_BLOCK_BYTES: Final = 2**18


@dataclass(frozen=True, slots=True)
class RejectTable:
    """A table of the schema stage, and its column that says where a reject is from."""

    name: str
    source: str


EVENTS_REJECTED: Final = RejectTable("events_rejected", "source_file")


class RejectFile:
    """The rejects of one load. `file` is an empty file to keep them in; `source` is what they have in the column that
    says where they are from; `bytes_of` tells the bytes of a record by its `raw`.

    As COPY's binary form: its other one would double the bytes of a record, which may be as many as a line can hold.
    """

    def __init__(
        self,
        file: IO[bytes],
        batch_id: int,
        source: str | int,
        bytes_of: Callable[[object], bytes],
        table: RejectTable = EVENTS_REJECTED,
    ) -> None:
        self._file = file
        self._batch_id = _field(batch_id)
        self._source = _field(source)
        self._bytes_of = bytes_of
        self._table = table

    def add(self, record: Record, reason: str) -> None:
        raw = self._bytes_of(record.raw)
        text = raw_text(raw)
        row = (
            self._source,
            _field(record.line),
            _field(reason),
            _field(text),
            _field(None if raw_bytes(text) == raw else raw),
            self._batch_id,
        )
        with set_aside("the rejects"):
            self._file.write(struct.pack(">h", len(row)))
            self._file.writelines(row)

    def write(self, connection: Connection) -> None:
        """Copies the rejects that were put aside."""
        with set_aside("the rejects"):
            self._file.seek(0)
        columns = (self._table.source, "line_number", "reason", "raw", "raw_bytes", "batch_id")
        with connection.cursor().copy(copy_statement(self._table.name, columns, BINARY_ROWS)) as copy:
            copy.write(BINARY_ROWS.header)
            while block := self._file.read(_BLOCK_BYTES):
                copy.write(block)


def _field(value: str | bytes | int | None) -> bytes:
    """A value, a number as int8, as COPY's binary form has it."""
    if value is None:
        return struct.pack(">i", -1)
    if isinstance(value, int):
        return struct.pack(">iq", 8, value)
    content = value.encode() if isinstance(value, str) else value
    return struct.pack(">i", len(content)) + content
