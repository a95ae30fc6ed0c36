"""Rejects to the raw layer after all: those that a load would take by now, by the way of every load.

A replay is a load of its own in stage.loads, and one transaction. Which rejects it brought, these say themselves: so
the load that met them keeps its count, and none can be brought twice.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

import psycopg

from .errors import LoadError
from .event_writer import EventWriter
from .load_report import shown
from .loading import refused
from .records import Record
from .stored_rejects import LeftOut, RejectingLoad, left_out, rejecting_loads, stored_rejects
from .tables import Block, Cell, Columns, counted, line, plain
from .warehouse import Connection, Warehouse

logger = logging.getLogger(__name__)

#: What a replay has in stage.loads in place of a file's format.
FORMAT: Final = "rejects"
_BATCH_RECORDS: Final = 100
#: Another replay may have some of them: this waits for its end, and takes what it left.
_CLAIM: Final = """
    with claimed as (
        select id
        from stage.events_rejected
        where id = any (%s) and replayed_by is null
        order by id
        for update
    )
    update stage.events_rejected
    set replayed_by = %s
    from claimed
    where events_rejected.id = claimed.id
    returning events_rejected.id"""


@dataclass(frozen=True, slots=True)
class LoadReplay:
    """What became of the rejects of one load."""

    load: int
    file: str
    rows_loaded: int
    rows_left: int

    def __str__(self) -> str:
        if not self.rows_left:
            return f"{self.rows_loaded:,} loaded"
        return f"{self.rows_loaded:,} loaded, {self.rows_left:,} still rejected"


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay came to: `load` is its number in stage.loads, None where it brought nothing."""

    load: int | None
    loads: tuple[LoadReplay, ...]
    left_out: tuple[LeftOut, ...]
    seconds: float

    @property
    def rows_loaded(self) -> int:
        return sum(load.rows_loaded for load in self.loads)

    @property
    def rows_left(self) -> int:
        return sum(load.rows_left for load in self.loads)

    def as_dict(self) -> dict[str, Any]:
        return {
            "load": self.load,
            "rows_loaded": self.rows_loaded,
            "rows_left": self.rows_left,
            "loads": [
                {
                    "load": load.load,
                    "file": load.file,
                    "rows_loaded": load.rows_loaded,
                    "rows_left": load.rows_left,
                }
                for load in self.loads
            ],
            "left_out": [left.as_dict() for left in self.left_out],
            "seconds": round(self.seconds, 3),
        }

    def __str__(self) -> str:
        return plain(self.blocks())

    def blocks(self) -> Iterator[Block]:
        changed = [load for load in self.loads if load.rows_loaded]
        if changed:
            yield Columns(
                tuple(
                    (Cell(f"load {load.load}"), Cell(shown(load.file), is_path=True), Cell(str(load), "good"))
                    for load in changed
                )
            )
        for left in self.left_out:
            yield left.line()
        if self.load is None:
            still = f"; {counted(self.rows_left, 'reject')} would be rejected again" if self.rows_left else ""
            yield line(Cell("nothing to replay", "good"), still)
        else:
            text = f"{self.rows_loaded:,} rows as load {self.load}, {self.rows_left:,} still rejected"
            yield line(Cell(text, "title"), f" in {self.seconds:.1f} s; `clickmart apply` takes them into the marts")


def replay(warehouse: Warehouse, numbers: Sequence[int] = ()) -> ReplayReport:
    """Loads the rejects, all or those of loads with these numbers, that can be stored by now.

    Those of loads that failed stay: nothing of their files is there, and these can be loaded. Raises LoadError where
    the server refuses the rows, or for the number of a load that failed; UsageError for one that no load has.
    """
    started_at, started = datetime.now(UTC), time.monotonic()
    with warehouse.connect() as connection, warehouse.connect() as reading:
        found = rejecting_loads(reading, numbers)
        for load in found:
            if numbers and load.status == "failed":
                raise LoadError(f"load {load.id} failed, so nothing of {shown(load.file_name)} is there: load the file")
        loads = [load for load in found if load.status == "loaded"]
        logger.info("reading %s", counted(sum(load.count_rejects for load in loads), "reject"))
        try:
            trial = _Rereading(reading, loads)
            trial.write_to(EventWriter(connection, 0, FORMAT, trial, table=None))
            brought = _bring(connection, reading, loads, list(trial.stored), started_at) if trial.stored else None
        except psycopg.Error as error:
            raise LoadError(f"nothing is replayed: {refused(error, connection)}") from error
    taken = Counter(brought.stored.values() if brought else ())
    # Of those that would be stored another replay may have brought some meanwhile: they are no rejects any more.
    left = trial.read - Counter(trial.stored.values())
    return ReplayReport(
        brought.batch_id if brought else None,
        tuple(LoadReplay(load.id, load.file_name, taken[load.id], left[load.id]) for load in loads),
        tuple(left_out(load, trial.unknown[load.id]) for load in loads if trial.unknown[load.id]),
        time.monotonic() - started,
    )


class _Rereading:
    """Reads rejects of these loads, all or those with these numbers, and notes which are not rejected again."""

    def __init__(
        self, connection: Connection, loads: Sequence[RejectingLoad], numbers: Sequence[int] | None = None
    ) -> None:
        self._connection = connection
        self._loads = loads
        self._numbers = numbers
        self.batch_id = 0
        #: The load of each that is stored, by its number.
        self.stored: dict[int, int] = {}
        #: By load, how many were read, and how many of them can't be since their bytes or their header are unknown.
        self.read: Counter[int] = Counter()
        self.unknown: Counter[int] = Counter()
        #: Bytes of all that were read.
        self.size = 0

    def write_to(self, writer: EventWriter) -> None:
        self.batch_id = writer.batch_id
        with self._connection.transaction():
            writer.write_rows(self._batches())

    def add(self, record: Record, reason: str) -> None:
        """Takes what is rejected again."""
        assert isinstance(record.raw, int)
        del self.stored[record.raw]

    def _batches(self) -> Iterator[list[Record]]:
        records = self._records()
        while batch := list(islice(records, _BATCH_RECORDS)):
            yield batch

    def _records(self) -> Iterator[Record]:
        """A record's `raw` is the number of the reject."""
        of_load = 0
        for load, reject in stored_rejects(self._connection, self._loads, self._numbers):
            if of_load != load.id:
                of_load, record_of = load.id, load.reader()
            self.read[load.id] += 1
            content = reject.content
            if content is None or load.header_is_missing:
                self.unknown[load.id] += 1
            elif record := record_of(reject):
                self.stored[reject.id] = load.id
                self.size += len(content) + 1
                yield record._replace(raw=reject.id)


def _bring(
    connection: Connection,
    reading: Connection,
    loads: Sequence[RejectingLoad],
    numbers: Sequence[int],
    started_at: datetime,
) -> _Rereading | None:
    """Stores the rejects with these numbers, but for those that another replay has brought; None where that is all."""
    # A transaction of its own, as other loads wait for it to end.
    row = connection.execute("select stage.begin_load()").fetchone()
    batch_id = int(str(row[0])) if row else 0
    with connection.transaction() as transaction:
        claimed = [int(str(number)) for (number,) in connection.execute(_CLAIM, (list(numbers), batch_id)).fetchall()]
        if not claimed:
            raise psycopg.Rollback(transaction)
        written = _Rereading(reading, loads, claimed)
        written.write_to(EventWriter(connection, batch_id, FORMAT, written))
        if written.stored.keys() != set(claimed):
            raise LoadError("nothing is replayed: what the columns take has changed meanwhile; replay again")
        connection.execute(
            "insert into stage.loads (id, file_name, checksum, size, format, rows_loaded, rows_rejected, started_at, "
            "status) values (%s, %s, %s, %s, %s, %s, 0, %s, 'loaded')",
            (batch_id, _name(loads, written), _checksum(claimed), written.size, FORMAT, len(claimed), started_at),
        )
        return written
    return None


def _name(loads: Sequence[RejectingLoad], written: _Rereading) -> str:
    """Which rejects they are."""
    numbers = set(written.stored.values())
    if len(numbers) == 1:
        return next(f"rejects of load {load.id}, {load.file_name}" for load in loads if load.id in numbers)
    return f"rejects of {len(numbers)} loads"


def _checksum(numbers: Sequence[int]) -> str:
    """No other replay has it, as a reject is brought once."""
    return hashlib.sha256(f"rejects {sorted(numbers)}".encode()).hexdigest()
