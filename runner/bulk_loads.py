"""A bulk load in the warehouse: from the numbers that it takes to the moment when all its rows become visible."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Final

import psycopg

from .bulk_pieces import CHANGED, BulkFile, Piece
from .errors import LoadError
from .event_writer import FIRST_REJECTS
from .load_report import FileReport
from .loading import failure, same_content, stored_text, unread
from .warehouse import Connection

#: A session that stands still amid its commit is ended then.
_IMPATIENT: Final = "set local lock_timeout = '2s'"
_KEEP_REJECTS: Final = """
    select stage.keep_bulk_rejects(%s, %s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[])"""
_INSERT_LOADS: Final = """
    insert into stage.loads (
        id, file_name, checksum, size, format, rows_loaded, rows_rejected, started_at, status, header
    )
    select id, file_name, checksum, size, format, rows_loaded, rows_rejected, %s, status, header
    from unnest(
        %s::bigint[], %s::text[], %s::text[], %s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::text[],
        %s::bytea[]
    ) as results (id, file_name, checksum, size, format, rows_loaded, rows_rejected, status, header)
    order by id
    on conflict (checksum) where status = 'loaded' do nothing
    returning id"""


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What came of one file: its pieces in their order, or the `problem` that kept it from being read."""

    load: int
    name: str
    checksum: str
    size: int
    format: str
    pieces: tuple[Piece, ...] = ()
    problem: str = ""

    @classmethod
    def of(
        cls, file: BulkFile, pieces: Iterable[Piece], is_all: Callable[[], bool], checksum: Callable[[], str]
    ) -> BulkResult:
        """What the pieces of a file come to. `is_all`: whether they are all of it, and it is still the same; either
        may raise LoadError where the file can't be read any more."""
        in_order = tuple(sorted(pieces, key=lambda piece: piece.start))
        problem = next((piece.problem for piece in in_order if piece.problem), "")
        digest = ""
        try:
            if not problem and not is_all():
                problem = CHANGED
            digest = "" if problem else checksum()
        except LoadError as error:
            problem = unread(error, file.name)
        # What a zip archive holds, only who has opened it knows.
        format_ = next((piece.format for piece in in_order if piece.format), str(file.format))
        written = in_order if file.size and not problem else ()
        return cls(file.load, stored_text(file.name), digest, file.size, format_, written, problem)

    @property
    def rows_loaded(self) -> int:
        return sum(piece.rows_loaded for piece in self.pieces)

    @property
    def rows_rejected(self) -> int:
        return sum(piece.rows_rejected for piece in self.pieces)

    @property
    def header(self) -> bytes | None:
        """Only a file that comes in one piece may have one."""
        return next((piece.header for piece in self.pieces if piece.header), None)

    @property
    def unknown_columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for piece in self.pieces for name in piece.unknown_columns))

    @property
    def lines_before(self) -> list[int]:
        """For each piece, how many lines of the file come before it."""
        return list(accumulate((piece.lines for piece in self.pieces[:-1]), initial=0)) if self.pieces else []

    @property
    def first_rejects(self) -> tuple[tuple[int, str], ...]:
        """Lines and reasons."""
        pieces = zip(self.pieces, self.lines_before, strict=True)
        return tuple((lines + line, reason) for piece, lines in pieces for line, reason in piece.first_rejects)[
            :FIRST_REJECTS
        ]


@dataclass(frozen=True, slots=True)
class BulkLoad:
    """A bulk load that this session runs; its files have the numbers from `first_load` on."""

    connection: Connection
    first_load: int
    started_at: datetime
    started: float

    @classmethod
    @contextmanager
    def begin(cls, connection: Connection, count_loads: int) -> Iterator[BulkLoad]:
        """Takes so many numbers. What is written until the end and not published by then is dropped; so is what loads
        that are dead have left."""
        for (dead,) in connection.execute("select stage.dead_bulk_loads()").fetchall():
            _drop(connection, dead)
        row = connection.execute("select stage.begin_bulk_load(%s), clock_timestamp()", (count_loads,)).fetchone()
        assert row
        first_load, started_at = row
        assert isinstance(first_load, int)
        assert isinstance(started_at, datetime)
        try:
            yield cls(connection, first_load, started_at, time.monotonic())
        finally:
            with suppress(psycopg.Error):  # a lost connection: the next bulk load drops it
                _close(connection, first_load)
                _drop(connection, first_load)
                connection.execute(
                    "select pg_advisory_unlock(hashtextextended('clickmart.bulk_load', %s))", (first_load,)
                )

    def publish(self, results: Sequence[BulkResult], max_rejects: int | None) -> list[FileReport]:
        """Makes all rows that count visible, in one transaction, and says what became of each file."""
        connection = self.connection
        _close(connection, self.first_load)
        read = [result for result in results if not result.problem]
        failed = {result.load: self._failure(result, max_rejects) for result in read}
        known = {result.load for result in read if same_content(connection, result.checksum)}
        first: dict[str, int] = {}
        for result in read:
            if not failed[result.load] and first.setdefault(result.checksum, result.load) != result.load:
                known.add(result.load)
        stored = [result for result in read if result.load not in known]
        loaded = {result.load for result in stored if not failed[result.load]}
        has_rows = any(result.rows_loaded for result in stored if result.load in loaded)
        pieces = [
            (piece, lines) for result in stored for piece, lines in zip(result.pieces, result.lines_before, strict=True)
        ]
        without = [result.load for result in results if result.load not in loaded]
        connection.execute(
            "select stage.finish_bulk_load(%s, %s::text[]::xid8[], %s::bigint[])",
            (self.first_load, [str(piece.written_by) for piece, _ in pieces], without),
        )
        with connection.transaction():
            connection.execute(
                _KEEP_REJECTS,
                (
                    self.first_load,
                    [result.load for result in stored],
                    [result.name for result in stored],
                    [piece.load for piece, _ in pieces],
                    [piece.start for piece, _ in pieces],
                    [lines for _, lines in pieces],
                ),
            )
            if has_rows:
                connection.execute("select stage.attach_bulk_load(%s)", (self.first_load,))
            # The unique index makes this wait for a load of the same content that came first.
            inserted = connection.execute(
                _INSERT_LOADS,
                (
                    self.started_at,
                    [result.load for result in stored],
                    [result.name for result in stored],
                    [result.checksum for result in stored],
                    [result.size for result in stored],
                    [result.format for result in stored],
                    [result.rows_loaded if result.load in loaded else 0 for result in stored],
                    [result.rows_rejected for result in stored],
                    ["loaded" if result.load in loaded else "failed" for result in stored],
                    [result.header for result in stored],
                ),
            ).fetchall()
            late = [result.load for result in stored if (result.load,) not in inserted]
            if late:
                connection.execute("select stage.drop_bulk_rows(%s, %s::bigint[])", (self.first_load, late))
        known.update(late)
        return [self._report(result, failed.get(result.load, ""), result.load in known) for result in results]

    def _failure(self, result: BulkResult, max_rejects: int | None) -> str:
        return failure(result.load, result.rows_loaded, result.rows_rejected, result.first_rejects, max_rejects)

    def _report(self, result: BulkResult, problem: str, is_known: bool) -> FileReport:
        seconds = time.monotonic() - self.started
        if result.problem:
            return FileReport(result.name, "failed", problem=result.problem)
        if is_known:
            return FileReport(result.name, "skipped", problem=same_content(self.connection, result.checksum))
        return FileReport(
            result.name,
            "failed" if problem else "loaded",
            0 if problem else result.rows_loaded,
            result.rows_rejected,
            result.unknown_columns,
            seconds,
            problem,
            result.first_rejects,
        )


def _close(connection: Connection, load: object) -> None:
    """Lets nobody write any more. Whoever still does is of no account: what counts is committed by now."""
    is_closed = False
    while not is_closed:
        _end_writers(connection, load)
        with suppress(psycopg.errors.LockNotAvailable), connection.transaction():
            connection.execute(_IMPATIENT)
            connection.execute("select stage.close_bulk_load(%s)", (load,))
            is_closed = True
    _end_writers(connection, load)


def _drop(connection: Connection, load: object) -> None:
    _end_writers(connection, load)
    connection.execute("select stage.drop_bulk_load(%s)", (load,))


def _end_writers(connection: Connection, load: object) -> None:
    """Ends what still writes; where it belongs to another role, it is waited for."""
    with suppress(psycopg.errors.InsufficientPrivilege):
        connection.execute("select stage.end_bulk_writers(%s)", (load,))
