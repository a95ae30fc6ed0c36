"""Records to COPY: rows go to stage.events as they come, rejects to who takes them (see reject_file.py).

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
from queue import SimpleQueue
from typing import Final, Protocol

import psycopg
from psycopg import sql
from psycopg.abc import Buffer
from psycopg.copy import LibpqWriter, QueuedLibpqWriter

from .batches import BINARY_ROWS, JSON_ROWS, Batch, CopyFormat, json_rows
from .columns import COLUMNS, NAMES
from .records import Record, text_of
from .typed_values import Row, TypedColumns
from .warehouse import Connection

logger = logging.getLogger(__name__)

#: Each of at most 128 KiB.
_WAITING_BLOCKS: Final = 16
_WAIT_SECONDS: Final = 0.001
_QUEUED_BYTES: Final = 2**20
_TURN_SECONDS: Final = 0.0003
_MAX_REASON: Final = 500
_PROGRESS_SECONDS: Final = 5.0
#: So many of the first rejects are told.
FIRST_REJECTS: Final = 5

_COPY: Final = sql.SQL("copy stage.{} ({}) from stdin ({})")
#: A shop may have made a column wider than the source's, and COPY's binary form has no word for that.
_TAKES_BINARY: Final = (
    b"select bool_and(case when kind = 'varchar' then typcategory = 'S' else atttypid = kind::regtype end) "
    b"from unnest(%s::text[], %s::text[]) as columns (name, kind) "
    b"join pg_attribute on attrelid = to_regclass('stage.' || quote_ident(%s)) and attname = name "
    b"join pg_type on pg_type.oid = atttypid"
)
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


class Rejects(Protocol):
    """Takes the records that can't be stored, in their order."""

    def add(self, record: Record, reason: str) -> None: ...


class EventWriter:
    """Writes the events of one load to a table of the schema stage, None for one that only looks what would come of it;
    `name` is what its progress is told of."""

    def __init__(
        self, connection: Connection, batch_id: int, name: str, rejects: Rejects, table: str | None = "events"
    ) -> None:
        self.rows_loaded = 0
        self.rows_rejected = 0
        #: Lines and reasons of the first rejects.
        self.first_rejects: list[tuple[int, str]] = []
        self._connection = connection
        self.batch_id: Final = batch_id
        self._name = name
        self._table = table
        self._rejects = rejects
        self._columns = TypedColumns(self._ask)
        self._takes_binary: bool | None = None
        self._copy: psycopg.Copy | None = None
        self._copy_format: CopyFormat | None = None
        self._open_copy = ExitStack()

    def write_rows(self, batches: Iterable[Batch | list[Record]]) -> None:
        """Writes what a source reads, to its end."""
        reported = time.monotonic()
        with _swift_turns(), self._open_copy:
            for batch in batches:
                if isinstance(batch, list):
                    self._write_exactly(batch)
                elif (
                    self._columns.settle(batch)
                    and self._takes(batch.copy_format)
                    and (data := batch.copy_data(self.batch_id)) is not None
                ):
                    self._write(data, len(batch), batch.copy_format)
                else:
                    self._write_exactly(batch.exact())
                if time.monotonic() - reported > _PROGRESS_SECONDS:
                    reported = time.monotonic()
                    logger.info("%s: %s rows so far", self._name, f"{self.rows_loaded:,}")

    def _takes(self, copy_format: CopyFormat) -> bool:
        """Whether the table's columns can be sent in that format; text they all take."""
        if copy_format != BINARY_ROWS or self._table is None:
            return True
        if self._takes_binary is None:
            self._close_copy()
            parameters = (list(COLUMNS), list(COLUMNS.values()), self._table)
            row = self._connection.execute(_TAKES_BINARY, parameters).fetchone()
            self._takes_binary = bool(row and row[0])
        return self._takes_binary

    def _write(self, data: bytes, count: int, copy_format: CopyFormat) -> None:
        """Sends so many rows in that format."""
        if self._table is None:
            self.rows_loaded += count
            return
        if not data:  # which would tell the sender that no more comes
            return
        if self._copy is None or self._copy_format != copy_format:
            self._close_copy()
            statement = copy_statement(self._table, (*NAMES, "batch_id"), copy_format)
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

    def _write_exactly(self, batch: Sequence[Record]) -> None:
        """Sends the rows of records whose every value was looked at, and puts the rejects among them aside."""
        if rows := self._rows(batch):
            text = json_rows(rows, self.batch_id)
            assert text is not None  # NUL characters and the like are rejects already
            self._write(text, len(rows), JSON_ROWS)

    def _rows(self, batch: Sequence[Record]) -> list[Row]:
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
            self._reject(record, reason or "")
        return stored

    def _reject(self, record: Record, reason: str) -> None:
        reason = text_of(reason.encode("utf-8", "backslashreplace"))
        self.rows_rejected += 1
        if len(self.first_rejects) < FIRST_REJECTS:
            self.first_rejects.append((record.line, reason))
        self._rejects.add(record, reason)

    def _ask(self, kind: str, texts: Sequence[str]) -> list[str | None]:
        """What the server has against texts as input of a type."""
        self._close_copy()
        answers = self._connection.execute(_ASK, (kind, _MAX_REASON, list(texts))).fetchall()
        return [None if error is None else str(error) for (error,) in answers]


def copy_statement(table: str, columns: Iterable[str], copy_format: CopyFormat) -> sql.Composed:
    """COPY to a table of the schema stage."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    return _COPY.format(sql.Identifier(table), names, sql.SQL(copy_format.options))
