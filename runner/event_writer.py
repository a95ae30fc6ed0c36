"""Records to COPY: rows go to stage.events as they come, rejects to a file that is copied when the rows are in.

A batch is sent as soon as it is read, from a thread of its own: the server works on it while the next one is read, so
that a load takes as long as the slower of the two and not as both.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import IO, Final

import psycopg
from psycopg import sql
from psycopg.abc import Buffer
from psycopg.copy import LibpqWriter, QueuedLibpqWriter

from .batches import JSON_ROWS, CopyFormat, json_rows
from .columns import NAMES
from .readers import Source
from .records import Record, text_of
from .streams import set_aside
from .typed_values import Row, TypedColumns
from .warehouse import Connection

logger = logging.getLogger(__name__)

_BLOCK_BYTES: Final = 2**18
#: Each of at most 128 KiB.
_WAITING_BLOCKS: Final = 16
_WAIT_SECONDS: Final = 0.001
_QUEUED_BYTES: Final = 2**20
_TURN_SECONDS: Final = 0.0003
_MAX_REASON: Final = 500
_PROGRESS_SECONDS: Final = 5.0

_COPY: Final = sql.SQL("copy stage.{} ({}) from stdin ({})")
_ASK: Final = (
    b"select left(stage.input_error(value, %s), %s) "
    b"from unnest(%s::text[]) with ordinality as asked (value, number) order by number"
)


class _Blocks(SimpleQueue[Buffer]):
    """Blocks on their way to the sender; where the server is the slower one, no more than so many wait in memory.

    No queue.Queue, whose threads may miss one another for good when an interrupt comes amid its put().
    """

    def put(self, item: Buffer, block: bool = True, timeout: float | None = None) -> None:
        while self.qsize() >= _WAITING_BLOCKS:
            time.sleep(_WAIT_SECONDS)
        super().put(item, block, timeout)


class _Sender(QueuedLibpqWriter):
    """Sends from a thread of its own, while the next batches are read."""

    def __init__(self, cursor: psycopg.Cursor[tuple[object, ...]]) -> None:
        super().__init__(cursor)
        self._queue = _Blocks()  # type: ignore[assignment]
        _lengthen_queue(cursor.connection.pgconn.socket)

    def _put(self, data: Buffer) -> None:
        try:
            super()._put(data)
        except psycopg.Error as error:
            # psycopg leaves the COPY open. Ended, the server says what it has against it, and the connection can be
            # used for something else.
            try:
                LibpqWriter.finish(self, error)
            except psycopg.Error as reason:
                if reason.diag.message_primary:
                    raise
            raise


def _lengthen_queue(descriptor: int) -> None:
    """Lets more wait in a Unix socket than by default, which the server would have read before the sender's next turn.

    The system gives what it may. The queues of TCP it sizes by itself.
    """
    if hasattr(socket, "AF_UNIX"):
        with socket.socket(fileno=os.dup(descriptor)) as connection:
            if connection.family == socket.AF_UNIX:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _QUEUED_BYTES)


@contextmanager
def _swift_turns() -> Iterator[None]:
    """Lets the sender have its turn soon: by default Python leaves a thread waiting while the server runs dry."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@dataclass(frozen=True, slots=True)
class Target:
    """The tables of the schema stage that rows and rejects go to, and the column that says where a reject is from."""

    events: str
    rejects: str
    source: str


STAGE_EVENTS: Final = Target("events", "events_rejected", "source_file")


class EventWriter:
    """Writes the events of one load. `rejects` is an empty file to keep its rejects in meanwhile; `source` is what they
    have in the column of the target that says where they are from."""

    def __init__(
        self, connection: Connection, batch_id: int, source: str, rejects: IO[bytes], target: Target = STAGE_EVENTS
    ) -> None:
        self.rows_loaded = 0
        self.rows_rejected = 0
        #: The first reject's line, 0 where there is none, and reason.
        self.first_reject: tuple[int, str] = (0, "")
        self._connection = connection
        self.batch_id: Final = batch_id
        self._source = source
        self._target = target
        self._rejects = rejects
        self._columns = TypedColumns(self._ask)
        self._copy: psycopg.Copy | None = None
        self._copy_format: CopyFormat | None = None
        self._open_copy = ExitStack()

    def write_rows(self, source: Source) -> None:
        """Reads the source to its end."""
        reported = time.monotonic()
        with _swift_turns(), self._open_copy:
            for batch in source.batches():
                if isinstance(batch, list):
                    self._write_exactly(source, batch)
                elif self._columns.settle(batch) and (data := batch.copy_data(self.batch_id)) is not None:
                    self._write(data, len(batch), batch.copy_format)
                else:
                    self._write_exactly(source, batch.exact())
                if time.monotonic() - reported > _PROGRESS_SECONDS:
                    reported = time.monotonic()
                    logger.info("%s: %s rows so far", self._source, f"{self.rows_loaded:,}")

    def write_rejects(self) -> None:
        """Copies the rejects that were put aside."""
        with set_aside("the rejects"):
            self._rejects.seek(0)
        columns = (self._target.source, "line_number", "reason", "raw", "batch_id")
        with self._connection.cursor().copy(_copy(self._target.rejects, columns, JSON_ROWS)) as copy:
            while block := self._rejects.read(_BLOCK_BYTES):
                copy.write(block)

    def _write(self, data: bytes, count: int, copy_format: CopyFormat) -> None:
        """Sends so many rows in that format."""
        if not data:  # which would tell the sender that no more comes
            return
        if self._copy is None or self._copy_format != copy_format:
            self._close_copy()
            statement = _copy(self._target.events, (*NAMES, "batch_id"), copy_format)
            cursor = self._connection.cursor()
            self._copy = self._open_copy.enter_context(cursor.copy(statement, writer=_Sender(cursor)))
            self._copy_format = copy_format
            data = copy_format.header + data
        self._copy.write(data)
        self.rows_loaded += count

    def _close_copy(self) -> None:
        """Ends the COPY, as nothing else can be asked amid one."""
        self._open_copy.close()
        self._copy = None

    def _write_exactly(self, source: Source, batch: Sequence[Record]) -> None:
        """Sends the rows of records whose every value was looked at, and puts the rejects among them aside."""
        if rows := self._rows(source, batch):
            text = json_rows(rows, self.batch_id)
            assert text is not None  # NUL characters and the like are rejects already
            self._write(text, len(rows), JSON_ROWS)

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
        if self.rows_rejected == 1:
            self.first_reject = (line, reason)
        text = json_rows([[self._source, str(line), reason, raw]], self.batch_id)
        assert text is not None
        with set_aside("the rejects"):
            self._rejects.write(text)

    def _ask(self, kind: str, texts: Sequence[str]) -> list[str | None]:
        """What the server has against texts as input of a type."""
        self._close_copy()
        answers = self._connection.execute(_ASK, (kind, _MAX_REASON, list(texts))).fetchall()
        return [None if error is None else str(error) for (error,) in answers]


def _copy(table: str, columns: Iterable[str], copy_format: CopyFormat) -> sql.Composed:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    return _COPY.format(sql.Identifier(table), names, sql.SQL(copy_format.options))
