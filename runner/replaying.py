"""Rejects to the raw layer after all: those that a load would take by now, by the way of every load.

A replay is one transaction, and for each source that its rejects are of a load of its own in stage.loads. Which rejects
it brought, these say themselves: so the load that met them keeps its count, and none can be brought twice.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any, Final

import psycopg

from .errors import LoadError
from .event_writer import EventWriter
from .load_report import shown
from .loading import refused
from .mappings import SourceMapping
from .project import Project
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
    """What a replay came to: `replays` are its numbers in stage.loads, one for each source of which it brought some."""

    replays: tuple[int, ...]
    loads: tuple[LoadReplay, ...]
    left_out: tuple[LeftOut, ...]
    seconds: float

    @property
    def load(self) -> int | None:
        """The number of the first of them, None where it brought nothing."""
        return self.replays[0] if self.replays else None

    @property
    def rows_loaded(self) -> int:
        return sum(load.rows_loaded for load in self.loads)

    @property
    def rows_left(self) -> int:
        return sum(load.rows_left for load in self.loads)

    def as_dict(self) -> dict[str, Any]:
        return {
            "load": self.load,
            "replays": list(self.replays),
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
        if not self.replays:
            still = f"; {counted(self.rows_left, 'reject')} would be rejected again" if self.rows_left else ""
            yield line(Cell("nothing to replay", "good"), still)
        else:
            loads = f"load{'s' * (len(self.replays) > 1)} {' and '.join(map(str, self.replays))}"
            text = f"{self.rows_loaded:,} rows as {loads}, {self.rows_left:,} still rejected"
            yield line(Cell(text, "title"), f" in {self.seconds:.1f} s; `clickmart apply` takes them into the marts")


def replay(warehouse: Warehouse, project: Project, numbers: Sequence[int] = ()) -> ReplayReport:
    """Loads the rejects, all or those of loads with these numbers, that can be stored by now; of a source as the
    project has it.

    Those of loads that failed stay: nothing of their files is there, and these can be loaded. Raises LoadError where
    the server refuses the rows, or for the number of a load that failed; UsageError for one that no load has;
    ProjectError for a source that is amiss.
    """
    started_at, started = datetime.now(UTC), time.monotonic()
    with warehouse.connect() as connection, warehouse.connect() as reading:
        found = rejecting_loads(reading, numbers)
        for load in found:
            if numbers and load.status == "failed":
                raise LoadError(f"load {load.id} failed, so nothing of {shown(load.file_name)} is there: load the file")
        loaded = [load for load in found if load.status == "loaded"]
        loads = [load for load in loaded if load.source is None or load.source in project.source_files]
        logger.info("reading %s", counted(sum(load.count_rejects for load in loads), "reject"))
        trials: list[_Rereading] = []
        try:
            for source in sorted({load.source for load in loads}, key=lambda source: source or ""):
                mapping = None if source is None else project.mapping(source)
                trial = _Rereading(reading, [load for load in loads if load.source == source], mapping)
                trial.write_to(EventWriter(connection, 0, FORMAT, trial, table=None))
                trials.append(trial)
            brought = _bring_all(connection, [trial for trial in trials if trial.stored], started_at)
        except psycopg.Error as error:
            raise LoadError(f"nothing is replayed: {refused(error, connection)}") from error
    taken = Counter(chain.from_iterable(written.stored.values() for written in brought))
    # Of those that would be stored another replay may have brought some meanwhile: they are no rejects any more.
    left: Counter[int] = Counter()
    unknown: Counter[int] = Counter()
    for trial in trials:
        left += trial.read - Counter(trial.stored.values())
        unknown += trial.unknown
    sourceless = [
        left_out(load, load.count_rejects, f"the project has no source {load.source!r}: name one that has by --project")
        for load in loaded
        if load not in loads
    ]
    return ReplayReport(
        tuple(written.batch_id for written in brought),
        tuple(LoadReplay(load.id, load.file_name, taken[load.id], left[load.id]) for load in loads),
        (*(left_out(load, unknown[load.id]) for load in loads if unknown[load.id]), *sourceless),
        time.monotonic() - started,
    )


class _Rereading:
    """Reads rejects of these loads of one source, all or those with these numbers, by its mapping, and notes which are
    not rejected again."""

    def __init__(
        self,
        connection: Connection,
        loads: Sequence[RejectingLoad],
        mapping: SourceMapping | None,
        numbers: Sequence[int] | None = None,
    ) -> None:
        self._connection = connection
        self.loads = loads
        self.mapping = mapping
        self._numbers = numbers
        self.batch_id = 0
        #: The load of each that is stored, by its number.
        self.stored: dict[int, int] = {}
        #: By load, how many were read, and how many of them can't be since their bytes or their header are unknown.
        self.read: Counter[int] = Counter()
        self.unknown: Counter[int] = Counter()
        #: Bytes of all that were read.
        self.size = 0

    def of(self, numbers: Sequence[int]) -> _Rereading:
        """The same of those with these numbers alone."""
        return _Rereading(self._connection, self.loads, self.mapping, numbers)

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
        for load, reject in stored_rejects(self._connection, self.loads, self._numbers):
            if of_load != load.id:
                of_load, record_of = load.id, load.reader(self.mapping)
            self.read[load.id] += 1
            content = reject.content
            if content is None or load.header_is_missing:
                self.unknown[load.id] += 1
            elif record := record_of(reject):
                self.stored[reject.id] = load.id
                self.size += len(content) + 1
                yield record._replace(raw=reject.id)


def _bring_all(connection: Connection, trials: Sequence[_Rereading], started_at: datetime) -> list[_Rereading]:
    """Stores the rejects that were read without being rejected again, of each source as a load, all or none."""
    # Transactions of their own, as other loads wait for them to end.
    rows = [connection.execute("select stage.begin_load()").fetchone() for _ in trials]
    batch_ids = [int(str(row[0])) if row else 0 for row in rows]
    with connection.transaction():
        brought = [_bring(connection, trial, load, started_at) for trial, load in zip(trials, batch_ids, strict=True)]
    return [written for written in brought if written]


def _bring(connection: Connection, trial: _Rereading, batch_id: int, started_at: datetime) -> _Rereading | None:
    """Stores what a trial would, but for those that another replay has brought; None where that is all."""
    numbers = list(trial.stored)
    with connection.transaction() as transaction:
        claimed = [int(str(number)) for (number,) in connection.execute(_CLAIM, (numbers, batch_id)).fetchall()]
        if not claimed:
            raise psycopg.Rollback(transaction)
        written = trial.of(claimed)
        written.write_to(EventWriter(connection, batch_id, FORMAT, written))
        if written.stored.keys() != set(claimed):
            raise LoadError("nothing is replayed: what the columns take has changed meanwhile; replay again")
        connection.execute(
            "insert into stage.loads (id, file_name, checksum, size, format, rows_loaded, rows_rejected, started_at, "
            "status, source) values (%s, %s, %s, %s, %s, %s, 0, %s, 'loaded', %s)",
            (batch_id, _name(written), _checksum(claimed), written.size, FORMAT, len(claimed), started_at,
             written.mapping and written.mapping.name),
        )  # fmt: skip
        return written
    return None


def _name(written: _Rereading) -> str:
    """Which rejects they are."""
    numbers = set(written.stored.values())
    if len(numbers) == 1:
        return next(f"rejects of load {load.id}, {load.file_name}" for load in written.loads if load.id in numbers)
    return f"rejects of {len(numbers)} loads"


def _checksum(numbers: Sequence[int]) -> str:
    """No other replay has it, as a reject is brought once."""
    return hashlib.sha256(f"rejects {sorted(numbers)}".encode()).hexdigest()
