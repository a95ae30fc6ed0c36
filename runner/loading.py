"""Files to the raw layer: each in one transaction, with one row of stage.loads that says what became of it."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Literal

import psycopg

from .errors import LoadError, WarehouseError
from .event_writer import EventWriter
from .interrupts import raise_interrupt, standing
from .paths import STANDARD_INPUT
from .progress import progress
from .readers import Source
from .streams import temporary_file
from .tables import Block, Cell, Columns, Tone, counted, line, plain
from .warehouse import Connection, Warehouse, is_lost, lost, message_of
from .workers import in_processes

logger = logging.getLogger(__name__)

Status = Literal["loaded", "skipped", "failed"]

_SPOOL_BYTES: Final = 2**20
#: What a summary says of columns that stage.events lacks; a name may be as long as a file.
_MAX_COLUMNS: Final = 20
_MAX_NAME: Final = 60
_MAX_MESSAGE: Final = 1000


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

    @property
    def tone(self) -> Tone | None:
        if self.status == "loaded":
            return "open" if self.rows_rejected or self.unknown_columns else None
        return "bad" if self.status == "failed" else "quiet"

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
        rejects = _count_rejects(self.rows_rejected)
        if self.status == "failed":
            return f"failed{rejects}: {self.problem}"
        names = [shown(name, _MAX_NAME) for name in self.unknown_columns[:_MAX_COLUMNS]]
        ignored = f", ignored columns: {', '.join(names)}" if names else ""
        more = f" and {len(self.unknown_columns) - len(names)} more" if len(self.unknown_columns) > len(names) else ""
        return f"{self.rows_loaded:,} rows{rejects} in {self.seconds:.1f} s{ignored}{more}"


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What became of each file of a load, in the order in which they were named."""

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
        return plain(self.blocks())

    def blocks(self) -> Iterator[Block]:
        if self.files:
            yield Columns(tuple((Cell(shown(file.file), is_path=True), Cell(file, file.tone)) for file in self.files))
        if len(self.files) != 1:
            rejects = _count_rejects(self.rows_rejected)
            text = f"{self.rows_loaded:,} rows{rejects} from {len(self.files)} files in {self.seconds:.1f} s"
            yield line(Cell(text, "title"))


def load_files(
    warehouse: Warehouse, files: Sequence[str], *, max_rejects: int | None = None, jobs: int = 1
) -> LoadReport:
    """Loads each file in a transaction of its own, up to `jobs` of them at a time.

    `max_rejects` is how many rejects a file may have before it fails; None is any number. A file that can't be
    loaded, for whatever reason, is reported as failed, and the others are loaded all the same.
    """
    started = time.monotonic()
    load = partial(_load_in_turn, warehouse.start(), max_rejects)
    parallel = [file for file in files if file != STANDARD_INPUT] if jobs > 1 else []
    if len(parallel) < 2:
        parallel = []
    reports: dict[str, FileReport] = {}
    logger.info("loading %s", counted(len(files), "file"), extra=progress(0, len(files)))
    with standing(lambda: f"done with {len(reports)} of {len(files)} files" if reports else ""):
        for file, report in in_processes(load, parallel, jobs):
            report = report or FileReport(
                stored_text(file), "failed", problem="the process that loaded it was killed: load it again"
            )
            reports[file] = report
            logger.info("%s: %s", report.file, report, extra=progress(len(reports), len(files)))
        in_turn = [file for file in files if file not in reports]
        for file, report in zip(in_turn, load(in_turn), strict=True):
            reports[file] = report
            logger.info("%s: %s", report.file, report, extra=progress(len(reports), len(files)))
    return LoadReport(tuple(reports[file] for file in files), time.monotonic() - started)


def _load_in_turn(conninfo: str, max_rejects: int | None, files: Iterable[str]) -> Iterator[FileReport]:
    """Loads files one after the other over one connection, or a new one where it was lost."""
    with ExitStack() as connections:
        connection: Connection | None = None
        for file in files:
            try:
                if connection is None or connection.closed:
                    connection = connections.enter_context(Warehouse(conninfo).connect())
                yield load_file(connection, file, max_rejects=max_rejects)
            except WarehouseError as error:
                raise_interrupt(error)
                yield FileReport(stored_text(file), "failed", problem=in_one_line(str(error)))


def load_file(connection: Connection, file: str, *, max_rejects: int | None = None) -> FileReport:
    """Loads one file; "-" is standard input. A file that can't be loaded is reported as failed.

    Raises WarehouseError where the connection is lost.
    """
    name = stored_text(file)
    try:
        with Source.open(file) as source:
            return _load_source(connection, source, max_rejects)
    except LoadError as error:
        return FileReport(name, "failed", problem=unread(error, file))
    except psycopg.Error as error:
        return FileReport(name, "failed", problem=refused(error, connection))


def _load_source(connection: Connection, source: Source, max_rejects: int | None) -> FileReport:
    started_at, started = datetime.now(UTC), time.monotonic()
    name = stored_text(source.name)
    if same := _known_load(connection, source):
        return FileReport(name, "skipped", problem=same)

    # A transaction of its own, as other loads wait for it to end.
    batch_id = _scalar(connection, "select stage.begin_load()")
    with connection.transaction() as transaction, temporary_file(_SPOOL_BYTES) as rejects:
        writer = EventWriter(connection, int(str(batch_id)), name, rejects)
        with connection.transaction() as rows:
            writer.write_rows(source)
            counts = (writer.batch_id, writer.rows_loaded, writer.rows_rejected)
            problem = failure(*counts, writer.first_reject, max_rejects)
            if problem:
                raise psycopg.Rollback(rows)
        loaded = 0 if problem else writer.rows_loaded
        # The unique index makes a load of the same content wait here for the one that came first.
        row = connection.execute(
            "insert into stage.loads (id, file_name, checksum, size, format, rows_loaded, rows_rejected, started_at, "
            "status) values (%s, %s, %s, %s, %s, %s, %s, %s, %s) "
            "on conflict (checksum) where status = 'loaded' do nothing returning id",
            (batch_id, name, source.checksum, source.size, source.format, loaded, writer.rows_rejected, started_at,
             "failed" if problem else "loaded"),
        ).fetchone()  # fmt: skip
        if row is None:
            raise psycopg.Rollback(transaction)
        writer.write_rejects()
    if row is None:
        return FileReport(name, "skipped", problem=same_content(connection, source.checksum))
    return FileReport(
        name,
        "failed" if problem else "loaded",
        loaded,
        writer.rows_rejected,
        tuple(source.unknown),
        time.monotonic() - started,
        problem,
    )


def unread(error: LoadError, file: str) -> str:
    """Why a file can't be read, as a part of a line that names it."""
    return shown(stored_text(str(error)).removeprefix(f"{stored_text(file)}: "))


def refused(error: psycopg.Error, connection: Connection) -> str:
    """Why the server refused a file, as a part of a line that names it. Raises WarehouseError if it is gone."""
    raise_interrupt(error)
    if connection.closed or is_lost(error):
        raise lost(error) from error
    context = f" ({error.diag.context})" if error.diag.context else ""
    return in_one_line(f"{message_of(error)}{context}")


def failure(
    batch_id: int, rows_loaded: int, rows_rejected: int, first_reject: tuple[int, str], max_rejects: int | None
) -> str:
    """Why the rows of a file don't count; empty where they do."""
    where = f"they are in stage.events_rejected, batch_id {batch_id}"
    if max_rejects is not None and rows_rejected > max_rejects:
        return f"{rows_rejected:,} rejects, more than the {max_rejects:,} allowed; {where}"
    if rows_rejected and not rows_loaded:
        line, reason = first_reject
        return f"none of its {rows_rejected:,} records could be stored; {where}; first: line {line}: {reason}"
    return ""


def _known_load(connection: Connection, source: Source) -> str:
    """Says which load has the content already; empty where none has. Only a file of a known size is read for it."""
    if source.file_size is None:
        return ""
    same_size = "select exists (select from stage.loads where size = %s and status = 'loaded')"
    if not _scalar(connection, same_size, source.file_size):
        return ""
    checksum = source.fingerprint()
    return same_content(connection, checksum) if checksum else ""


def same_content(connection: Connection, checksum: str) -> str:
    """Says which load has the content; empty where none has."""
    row = connection.execute(
        "select id, file_name from stage.loads where checksum = %s and status = 'loaded'", (checksum,)
    ).fetchone()
    return f"its content is loaded already, load {row[0]}, {shown(str(row[1]))}" if row else ""


def _scalar(connection: Connection, query: str, *parameters: object) -> object:
    row = connection.execute(query.encode(), parameters).fetchone()
    return row[0] if row else None


def stored_text(text: str) -> str:
    """A path, or what names one, as a text that PostgreSQL can store and a terminal can show, also where its bytes
    are no UTF-8."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def shown(text: str, length: int = _MAX_MESSAGE) -> str:
    """A text from outside as a part of a line: without control characters, and no longer than that."""
    cut = text if len(text) <= length else f"{text[:length]}..."
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in cut)


def in_one_line(message: str) -> str:
    """A message from outside as a part of a line."""
    return shown(re.sub(r"\s*\n\s*", "; ", message.strip()))


def _count_rejects(count: int) -> str:
    return f", {count:,} rejected" if count else ""
