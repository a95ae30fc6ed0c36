"""Records of a file to stage.events, its rejects to stage.events_rejected, one row of stage.loads: one transaction."""

from __future__ import annotations

import logging
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from typing import IO, Any, Final, Literal

import psycopg

from .columns import NAMES, TYPED
from .errors import LoadError, WarehouseError
from .readers import Source
from .records import Record
from .warehouse import Connection, Warehouse

logger = logging.getLogger(__name__)

Status = Literal["loaded", "skipped", "failed"]

#: Records that are taken together: one question to the server about all their doubtful values.
BATCH_RECORDS: Final = 2000
BATCH_BYTES: Final = 4 * 2**20
_SPOOL_BYTES: Final = 2**20
_MAX_VERDICTS: Final = 100_000

#: Texts that the type's input takes on every server; any other is doubtful, and the server is asked.
_PLAIN: Final = {
    "int4": re.compile(r"[+-]?[0-9]{1,9}"),
    "float8": re.compile(r"[+-]?[0-9]{1,15}(?:\.[0-9]{1,15})?"),
    "boolean": re.compile(r"true|false|True|False|t|f|1|0"),
}
_WHOLE: Final = re.compile(r"\s*([+-]?[0-9]+)\.0+\s*")
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_PLAIN_TYPED: Final = tuple((index, kind, _PLAIN[kind].fullmatch) for index, kind in TYPED)
_COPY_EVENTS: Final = f"copy stage.events ({', '.join(NAMES)}, batch_id) from stdin"
_COPY_REJECTS: Final = "copy stage.events_rejected (batch_id, source_file, line_number, reason, raw) from stdin"


@dataclass(frozen=True, slots=True)
class FileReport:
    """What became of one file. `problem` says why it failed, or which load it is the same as where it was skipped."""

    file: str
    status: Status
    rows_loaded: int = 0
    rows_rejected: int = 0
    unknown_columns: tuple[str, ...] = ()
    seconds: float = 0.0
    problem: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "status": self.status,
            "rows_loaded": self.rows_loaded,
            "rows_rejected": self.rows_rejected,
            "unknown_columns": list(self.unknown_columns),
            "seconds": round(self.seconds, 3),
            "problem": self.problem or None,
        }

    def __str__(self) -> str:
        if self.status == "skipped":
            return f"skipped: {self.problem}"
        rejects = f", {self.rows_rejected:,} rejected" if self.rows_rejected else ""
        if self.status == "failed":
            return f"failed{rejects}: {self.problem}"
        ignored = f", ignored columns: {', '.join(self.unknown_columns[:20])}" if self.unknown_columns else ""
        more = f" and {len(self.unknown_columns) - 20} more" if len(self.unknown_columns) > 20 else ""
        return f"{self.rows_loaded:,} rows{rejects} in {self.seconds:.1f} s{ignored}{more}"


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What became of each file of a load."""

    files: tuple[FileReport, ...]
    seconds: float

    @property
    def rows_loaded(self) -> int:
        return sum(file.rows_loaded for file in self.files)

    @property
    def rows_rejected(self) -> int:
        return sum(file.rows_rejected for file in self.files)

    @property
    def failed(self) -> bool:
        return any(file.status == "failed" for file in self.files)

    def as_dict(self) -> dict[str, Any]:
        return {
            "files": [file.as_dict() for file in self.files],
            "rows_loaded": self.rows_loaded,
            "rows_rejected": self.rows_rejected,
            "seconds": round(self.seconds, 3),
        }

    def __str__(self) -> str:
        width = max(len(file.file) for file in self.files)
        lines = [f"{file.file:<{width}}  {file}" for file in self.files]
        if len(self.files) > 1:
            rejects = f", {self.rows_rejected:,} rejected" if self.rows_rejected else ""
            lines.append(f"{self.rows_loaded:,} rows{rejects} from {len(self.files)} files in {self.seconds:.1f} s")
        return "\n".join(lines)


def load_files(
    warehouse: Warehouse, files: Sequence[str], *, max_rejects: int | None = None, jobs: int = 1
) -> LoadReport:
    """Loads each file in a transaction of its own, up to `jobs` of them at a time.

    `max_rejects` is how many rejects a file may have before it fails; None is any number. A file that can't be read
    is reported as failed, and the others are loaded all the same.
    """
    started = time.monotonic()
    conninfo = warehouse.start()
    load = partial(_load_alone, Warehouse(conninfo), max_rejects=max_rejects)
    parallel = [file for file in files if file != "-"] if jobs > 1 else []
    reports: dict[str, FileReport] = {}
    if len(parallel) > 1:
        with ProcessPoolExecutor(min(jobs, len(parallel)), mp_context=get_context("spawn")) as executor:
            for file, report in zip(parallel, executor.map(load, parallel), strict=True):
                logger.info("%s: %s", file, report)
                reports[file] = report
    with Warehouse(conninfo).connect() as connection:
        for file in files:
            if file not in reports:
                reports[file] = load_file(connection, file, max_rejects=max_rejects)
                logger.info("%s: %s", file, reports[file])
    return LoadReport(tuple(reports[file] for file in files), time.monotonic() - started)


def _load_alone(warehouse: Warehouse, file: str, *, max_rejects: int | None) -> FileReport:
    with warehouse.connect() as connection:
        return load_file(connection, file, max_rejects=max_rejects)


def load_file(connection: Connection, file: str, *, max_rejects: int | None = None) -> FileReport:
    """Loads one file; "-" is standard input. A file that can't be read leaves no row behind and is reported as failed.

    Raises WarehouseError where the connection is lost.
    """
    try:
        with Source.open(file) as source:
            return _load_source(connection, source, max_rejects)
    except LoadError as error:
        return FileReport(_stored_name(file), "failed", problem=str(error))
    except psycopg.OperationalError as error:
        if connection.broken:
            raise WarehouseError(f"{file}: the connection was lost, nothing of it is loaded: {error}") from error
        return FileReport(_stored_name(file), "failed", problem=str(error).strip())
    except psycopg.Error as error:
        return FileReport(_stored_name(file), "failed", problem=str(error).strip())


def _load_source(connection: Connection, source: Source, max_rejects: int | None) -> FileReport:
    started_at, started = datetime.now(UTC), time.monotonic()
    name = _stored_name(source.name)
    if same := _known_load(connection, source):
        return FileReport(name, "skipped", problem=same)

    with connection.transaction() as transaction, tempfile.SpooledTemporaryFile(_SPOOL_BYTES) as rejects:
        batch_id = _scalar(connection, "select nextval(pg_get_serial_sequence('stage.loads', 'id'))")
        writer = _Writer(connection, int(str(batch_id)), name, rejects)
        problem = ""
        with connection.transaction() as rows:
            writer.write(source)
            problem = _failure(writer, max_rejects)
            if problem:
                raise psycopg.Rollback(rows)
        loaded = 0 if problem else writer.rows_loaded
        # The unique index makes a load of the same content wait here for the one that came first.
        row = connection.execute(
            "insert into stage.loads (id, file_name, checksum, size, format, rows_loaded, rows_rejected, started_at, "
            "status) values (%s, %s, %s, %s, %s, %s, %s, %s, %s) "
            "on conflict (checksum) where status = 'loaded' do nothing returning id",
            (writer.batch_id, name, source.checksum, source.size, source.format, loaded, writer.rows_rejected,
             started_at, "failed" if problem else "loaded"),
        ).fetchone()  # fmt: skip
        if row is None:
            raise psycopg.Rollback(transaction)
        rejects.seek(0)
        with connection.cursor().copy(_COPY_REJECTS) as copy:
            while block := rejects.read(2**20):
                copy.write(block)
    if row is None:
        return FileReport(name, "skipped", problem=_same_content(connection, source.checksum))
    return FileReport(
        name,
        "failed" if problem else "loaded",
        loaded,
        writer.rows_rejected,
        tuple(source.unknown),
        time.monotonic() - started,
        problem,
    )


def _failure(writer: _Writer, max_rejects: int | None) -> str:
    """Why the rows of a file don't count; empty where they do."""
    where = f"they are in stage.events_rejected, batch_id {writer.batch_id}"
    if max_rejects is not None and writer.rows_rejected > max_rejects:
        return f"{writer.rows_rejected:,} rejects, more than the {max_rejects:,} allowed; {where}"
    if writer.rows_rejected and not writer.rows_loaded:
        return f"none of its {writer.rows_rejected:,} records could be stored; {where}; first: {writer.first_reason}"
    return ""


def _known_load(connection: Connection, source: Source) -> str:
    """Says which load has the content already; empty where none has. Only a file of a known size is read for it."""
    if source.file_size is None:
        return ""
    same_size = "select exists (select from stage.loads where size = %s and status = 'loaded')"
    if not _scalar(connection, same_size, source.file_size):
        return ""
    checksum = source.fingerprint()
    return _same_content(connection, checksum) if checksum else ""


def _same_content(connection: Connection, checksum: str) -> str:
    row = connection.execute(
        "select id, file_name from stage.loads where checksum = %s and status = 'loaded'", (checksum,)
    ).fetchone()
    return f"its content is loaded already, load {row[0]}, {row[1]}" if row else ""


def _scalar(connection: Connection, query: str, *parameters: object) -> object:
    row = connection.execute(query.encode(), parameters).fetchone()
    return row[0] if row else None


def _stored_name(file: str) -> str:
    """A path as a text that PostgreSQL can store, also where its bytes are no UTF-8."""
    return os.fsencode(file).decode("utf-8", "backslashreplace")


@dataclass(slots=True)
class _Writer:
    """Streams a source's records to COPY, and its rejects to a file that is copied when the rows are in."""

    connection: Connection
    batch_id: int
    file: str
    rejects: IO[bytes]
    rows_loaded: int = 0
    rows_rejected: int = 0
    first_reason: str = ""
    #: (type, text) -> what the server says against it, None where it takes it
    _verdicts: dict[tuple[str, str], str | None] = field(default_factory=dict)
    _all_plain: bool = True

    def write(self, source: Source) -> None:
        batches = _batches(source.records())
        batch = next(batches, None)
        while batch is not None:
            # One COPY runs until a batch has values about which the server must be asked.
            with self.connection.cursor().copy(_COPY_EVENTS) as copy:
                while batch is not None and not self._doubtful(batch):
                    copy.write(self._lines(source, batch))
                    batch = next(batches, None)
            if batch is not None:
                self._ask(self._doubtful(batch))

    def _doubtful(self, batch: Sequence[Record]) -> list[tuple[str, str]]:
        """The typed values of the batch that are neither plain nor known."""
        if len(self._verdicts) > _MAX_VERDICTS:
            self._verdicts.clear()
        doubtful = []
        self._all_plain = True
        for record in batch:
            values = record.values
            if values is None:
                continue
            for index, kind, plain in _PLAIN_TYPED:
                value = values[index]
                if value is not None and not plain(value):
                    self._all_plain = False
                    if kind == "int4" and (whole := _WHOLE.fullmatch(value)):
                        value = values[index] = whole[1]
                    if (kind, value) not in self._verdicts:
                        doubtful.append((kind, value))
        return doubtful

    def _ask(self, values: Sequence[tuple[str, str]]) -> None:
        """Has the types' own input decide."""
        unique = list(dict.fromkeys(values))
        rows = self.connection.execute(
            "select stage.input_error(value, kind) from unnest(%s::text[], %s::text[]) with ordinality "
            "as asked (kind, value, number) order by number",
            ([kind for kind, _ in unique], [value for _, value in unique]),
        ).fetchall()
        for asked, (verdict,) in zip(unique, rows, strict=True):
            self._verdicts[asked] = None if verdict is None else str(verdict)

    def _lines(self, source: Source, batch: Sequence[Record]) -> bytes:
        """The rows of the batch in COPY's text format; its rejects go to their file."""
        lines: list[bytes] = []
        end = f"\t{self.batch_id}\n"
        for record in batch:
            values, reason = record.values, record.reason
            if values is not None and not self._all_plain:
                reason = self._reason(values)
            if values is None or reason is not None:
                self._reject(record.line, reason or "", source.raw_text(record.raw))
                continue
            lines.append(_copy_row(values, end))
        self.rows_loaded += len(lines)
        return b"".join(lines)

    def _reason(self, values: Sequence[str | None]) -> str | None:
        """Why a value can't be stored; None where all can."""
        for index, kind, plain in _PLAIN_TYPED:
            value = values[index]
            if value is not None and not plain(value) and (verdict := self._verdicts[kind, value]):
                return f"{NAMES[index]}: {verdict}"
        return None

    def _reject(self, line: int, reason: str, raw: str) -> None:
        self.rows_rejected += 1
        self.first_reason = self.first_reason or f"line {line}: {reason}"
        reason = reason.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
        self.rejects.write(_copy_row([str(self.batch_id), self.file, str(line), reason, raw], "\n"))


def _copy_row(values: list[str | None], end: str) -> bytes:
    """A row in COPY's text format."""
    text = "\t".join([r"\N" if value is None else value for value in values])
    if (
        text.count("\t") != len(values) - 1
        or text.count("\\") != values.count(None)
        or "\n" in text
        or "\r" in text
    ):
        text = "\t".join([r"\N" if value is None else value.translate(_ESCAPES) for value in values])
    return (text + end).encode()


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    """The records in lists, each bounded in number and, roughly, in bytes."""
    batch: list[Record] = []
    size = 0
    for record in records:
        batch.append(record)
        raw = record.raw
        size += len(raw) if isinstance(raw, (bytes, str)) else 500
        if len(batch) >= BATCH_RECORDS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
