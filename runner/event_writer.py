"""Records to COPY: rows go to stage.events as they come, rejects to a file that is copied when the rows are in.

COPY reads CSV that JSON's encoder writes: `"a",null,"b"` is both, told that null is NULL and that a backslash escapes.
So orjson makes the rows, which is several times as fast as anything written in Python.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import IO, Final

import orjson
import psycopg

from .columns import NAMES
from .readers import Source
from .records import Record, text_of
from .typed_values import Row, TypedColumns
from .warehouse import Connection

logger = logging.getLogger(__name__)

#: Few enough to fit into a socket's buffer: the server works on them while the next ones are read.
_BATCH_RECORDS: Final = 100
_BATCH_BYTES: Final = 2**17
_BLOCK_BYTES: Final = 2**18
_MAX_REASON: Final = 500
_PROGRESS_SECONDS: Final = 5.0

_CSV: Final = r"(format csv, null 'null', escape '\')"
_COPY_EVENTS: Final = f"copy stage.events ({', '.join(NAMES)}, batch_id) from stdin {_CSV}".encode()
_REJECT: Final = "batch_id, source_file, line_number, reason, raw"
_COPY_REJECTS: Final = f"copy stage.events_rejected ({_REJECT}) from stdin {_CSV}".encode()
_ASK: Final = (
    b"select left(stage.input_error(value, %s), %s) "
    b"from unnest(%s::text[]) with ordinality as asked (value, number) order by number"
)


class EventWriter:
    """Writes the events of one load. `rejects` is an empty file to keep its rejects in meanwhile."""

    def __init__(self, connection: Connection, batch_id: int, file: str, rejects: IO[bytes]) -> None:
        self.rows_loaded = 0
        self.rows_rejected = 0
        #: The first reject's line and reason; empty where there is none.
        self.first_reject = ""
        self._connection = connection
        self.batch_id: Final = batch_id
        self._file = file
        self._rejects = rejects
        self._columns = TypedColumns(self._ask)
        self._copy: psycopg.Copy | None = None
        self._open_copy = ExitStack()

    def write_rows(self, source: Source) -> None:
        """Reads the source to its end."""
        reported = time.monotonic()
        with self._open_copy:
            for batch in _batches(source.records()):
                rows = self._rows(source, batch)
                if self._copy is None:
                    self._copy = self._open_copy.enter_context(self._connection.cursor().copy(_COPY_EVENTS))
                self._copy.write(_csv(rows, b",%d\n" % self.batch_id))
                self.rows_loaded += len(rows)
                if time.monotonic() - reported > _PROGRESS_SECONDS:
                    reported = time.monotonic()
                    logger.info("%s: %s rows so far", self._file, f"{self.rows_loaded:,}")

    def write_rejects(self) -> None:
        """Copies the rejects that were put aside."""
        self._rejects.seek(0)
        with self._connection.cursor().copy(_COPY_REJECTS) as copy:
            while block := self._rejects.read(_BLOCK_BYTES):
                copy.write(block)

    def _rows(self, source: Source, batch: Sequence[Record]) -> list[Row]:
        """The rows to be stored, the rejects of the batch being put aside."""
        rows = [record.values for record in batch if record.values is not None]
        refusals = self._columns.refusals(rows)
        if not refusals and len(rows) == len(batch):
            return rows
        stored: list[Row] = []
        place = 0
        for record in batch:
            reason = record.reason
            if record.values is not None:
                reason = refusals.get(place)
                place += 1
                if reason is None:
                    stored.append(record.values)
                    continue
            self._reject(record.line, reason or "", source.raw_text(record.raw))
        return stored

    def _reject(self, line: int, reason: str, raw: str) -> None:
        reason = text_of(reason.encode("utf-8", "backslashreplace"))
        self.rows_rejected += 1
        self.first_reject = self.first_reject or f"line {line}: {reason}"
        self._rejects.write(_csv([[str(self.batch_id), self._file, str(line), reason, raw]], b"\n"))

    def _ask(self, kind: str, texts: Sequence[str]) -> list[str | None]:
        """What the server has against texts as input of a type; ends the COPY, as nothing can be asked amid one."""
        self._open_copy.close()
        self._copy = None
        answers = self._connection.execute(_ASK, (kind, _MAX_REASON, list(texts))).fetchall()
        return [None if error is None else str(error) for (error,) in answers]


def _csv(rows: Iterable[Row], end: bytes) -> bytes:
    """The rows as COPY is told to read them, each with that end."""
    lines = []
    for row in rows:
        line = orjson.dumps(row)
        lines.append(_escaped(row) if b"\\" in line else line[1:-1])
    lines.append(b"")
    return end.join(lines)


def _escaped(row: Row) -> bytes:
    """A row with something that JSON escapes; for COPY only a backslash and a quote have a backslash before them."""
    texts = [None if text is None else text.replace("\\", r"\\").replace('"', r"\"") for text in row]
    return ",".join(["null" if text is None else f'"{text}"' for text in texts]).encode()


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    """The records in lists, each bounded in number and, roughly, in bytes."""
    batch: list[Record] = []
    size = 0
    for record in records:
        batch.append(record)
        raw = record.raw
        size += len(raw) if isinstance(raw, (bytes, str)) else 0
        if len(batch) >= _BATCH_RECORDS or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
