"""Files to the raw layer: each in one transaction, with one row of stage.loads that says what became of it."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from typing import Final

import psycopg

from .errors import LoadError, WarehouseError
from .event_writer import EventWriter
from .interrupts import raise_interrupt, standing
from .load_report import FileReport, LoadReport, shown, without_repeats
from .mappings import SourceMapping
from .paths import STANDARD_INPUT
from .progress import NOTICE, progress
from .readers import Source
from .records import Record
from .reject_file import RejectFile
from .streams import temporary_file
from .tables import counted
from .warehouse import Connection, Warehouse, is_lost, lost, message_of
from .workers import in_processes

logger = logging.getLogger(__name__)

#: Loads one file over a connection.
Load = Callable[[Connection, str], FileReport]

KILLED: Final = "the process that loaded it was killed: load it again"
_SPOOL_BYTES: Final = 2**20


def load_files(
    warehouse: Warehouse,
    files: Sequence[str],
    *,
    max_rejects: int | None = None,
    jobs: int = 1,
    dry_run: bool = False,
    mapping: SourceMapping | None = None,
) -> LoadReport:
    """Loads each file in a transaction of its own, up to `jobs` of them at a time; where there are fewer, a large one
    by so many processes.

    `max_rejects` is how many rejects a file may have before it fails; None is any number. A file that can't be
    loaded, for whatever reason, is reported as failed, and the others are loaded all the same. `dry_run` writes
    nothing, and reports what would become of them. `mapping`: the source whose files they are.
    """
    started = time.monotonic()
    conninfo = warehouse.start()
    load_one = partial(load_file, max_rejects=max_rejects, dry_run=dry_run, mapping=mapping)
    load = partial(_load_in_turn, conninfo, load_one)
    if mapping and mapping.unfed:
        logger.log(NOTICE, "source %s (%s): nothing feeds %s", mapping.name, mapping.place, ", ".join(mapping.unfed))
    in_blocks: list[str] = []
    load_in_blocks = load
    if len(files) < jobs and not (dry_run or mapping):
        from . import block_loading

        in_blocks = [file for file in files if block_loading.is_large(file)]
        load_large = partial(block_loading.load_in_blocks, conninfo=conninfo, jobs=jobs, max_rejects=max_rejects)
        load_in_blocks = partial(_load_in_turn, conninfo, load_large)
    others = [file for file in files if file not in in_blocks]
    parallel = [file for file in others if file != STANDARD_INPUT] if jobs > 1 else []
    if len(parallel) < 2:
        parallel = []
    in_turn = [file for file in others if file == STANDARD_INPUT] if parallel else others
    reports: dict[str, FileReport] = {}
    what = "reading" if dry_run else "loading"
    logger.info("%s %s", what, counted(len(files), "file"), extra=progress(0, len(files)))
    with standing(lambda: f"done with {len(reports)} of {len(files)} files" if reports else ""):
        for file, found in chain(
            zip(in_blocks, load_in_blocks(in_blocks), strict=True),
            in_processes(load, parallel, jobs),
            zip(in_turn, load(in_turn), strict=True),
        ):
            lost = FileReport(stored_text(file), "failed", problem=KILLED, is_by_server=True)
            report = replace(found or lost, dry_run=dry_run)
            reports[file] = report
            logger.info("%s: %s", report.file, report, extra=progress(len(reports), len(files)))
    in_order = [reports[file] for file in files]
    told = without_repeats(in_order) if dry_run else in_order
    return LoadReport(tuple(told), time.monotonic() - started, dry_run)


def _load_in_turn(conninfo: str, load: Load, files: Iterable[str]) -> Iterator[FileReport]:
    """Loads files one after the other over one connection, or a new one where it was lost."""
    with ExitStack() as connections:
        connection: Connection | None = None
        for file in files:
            try:
                if connection is None or connection.closed:
                    connection = connections.enter_context(Warehouse(conninfo).connect())
                report = load(connection, file)
            except WarehouseError as error:
                raise_interrupt(error)
                report = FileReport(stored_text(file), "failed", problem=in_one_line(str(error)), is_by_server=True)
            yield report


def load_file(
    connection: Connection,
    file: str,
    *,
    max_rejects: int | None = None,
    dry_run: bool = False,
    mapping: SourceMapping | None = None,
) -> FileReport:
    """Loads one file, or looks what would come of it; "-" is standard input. A file that can't be loaded is reported as
    failed.

    Raises WarehouseError where the connection is lost.
    """

    def load() -> FileReport:
        with Source.open(file, mapping=mapping) as source:
            if dry_run:
                return _try_source(connection, source, max_rejects)
            return _load_source(connection, source, max_rejects, mapping.name if mapping else None)

    return or_failed(connection, file, load)


def or_failed(connection: Connection, file: str, load: Callable[[], FileReport]) -> FileReport:
    """What `load` says of a file, or why it can't be loaded. Raises WarehouseError where the connection is lost."""
    name = stored_text(file)
    try:
        return load()
    except LoadError as error:
        return FileReport(name, "failed", problem=unread(error, file))
    except psycopg.Error as error:
        return FileReport(name, "failed", problem=refused(error, connection), is_by_server=True)


def _load_source(
    connection: Connection, source: Source, max_rejects: int | None, mapping_name: str | None
) -> FileReport:
    started_at, started = datetime.now(UTC), time.monotonic()
    name = stored_text(source.name)
    if same := known_load(connection, source):
        return FileReport(name, "skipped", problem=same)

    # A transaction of its own, as other loads wait for it to end.
    batch_id = _scalar(connection, "select stage.begin_load()")
    with connection.transaction() as transaction, temporary_file(_SPOOL_BYTES) as spool:
        rejects = RejectFile(spool, int(str(batch_id)), name, source.raw_bytes)
        writer = EventWriter(connection, int(str(batch_id)), name, rejects)
        with connection.transaction() as rows:
            writer.write_rows(source.batches())
            problem = _failure(writer, max_rejects)
            if problem:
                raise psycopg.Rollback(rows)
        loaded = 0 if problem else writer.rows_loaded
        # The unique index makes a load of the same content wait here for the one that came first.
        row = connection.execute(
            "insert into stage.loads (id, file_name, checksum, size, format, rows_loaded, rows_rejected, started_at, "
            "status, header, source, events_passed) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
            "on conflict (checksum) where status = 'loaded' do nothing returning id",
            (batch_id, name, source.checksum, source.size, source.format, loaded, writer.rows_rejected, started_at,
             "failed" if problem else "loaded", source.header, mapping_name, source.passed),
        ).fetchone()  # fmt: skip
        if row is None:
            raise psycopg.Rollback(transaction)
        rejects.write(connection)
    if row is None:
        return FileReport(name, "skipped", problem=same_content(connection, source.checksum))
    return _report(source, writer, problem, started)


class _NoRejects:
    def add(self, record: Record, reason: str) -> None:
        """Of a dry run they are counted, and no more."""


def _try_source(connection: Connection, source: Source, max_rejects: int | None) -> FileReport:
    """Reads all that a load would, and asks the server all that it would, but sends no row."""
    started = time.monotonic()
    name = stored_text(source.name)
    if same := known_load(connection, source):
        return FileReport(name, "skipped", problem=same)
    writer = EventWriter(connection, 0, name, _NoRejects(), table=None)
    writer.write_rows(source.batches())
    if same := same_content(connection, source.checksum):
        return FileReport(name, "skipped", problem=same)
    return replace(_report(source, writer, _failure(writer, max_rejects), started), checksum=source.checksum)


def _report(source: Source, writer: EventWriter, problem: str, started: float) -> FileReport:
    """What became of a file that was read to its end, or would become of it."""
    return FileReport(
        stored_text(source.name),
        "failed" if problem else "loaded",
        0 if problem else writer.rows_loaded,
        writer.rows_rejected,
        tuple(source.unknown),
        time.monotonic() - started,
        problem,
        tuple(writer.first_rejects),
        events_passed=source.passed,
    )


def _failure(writer: EventWriter, max_rejects: int | None) -> str:
    return failure(writer.batch_id, writer.rows_loaded, writer.rows_rejected, writer.first_rejects, max_rejects)


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
    batch_id: int,
    rows_loaded: int,
    rows_rejected: int,
    first_rejects: Sequence[tuple[int, str]],
    max_rejects: int | None,
) -> str:
    """Why the rows of a file don't count; empty where they do. The load 0 is none: its rejects are nowhere."""
    where = f"; they are in stage.events_rejected, batch_id {batch_id}" if batch_id else ""
    if max_rejects is not None and rows_rejected > max_rejects:
        return f"{rows_rejected:,} rejects, more than the {max_rejects:,} allowed{where}"
    if rows_rejected and not rows_loaded:
        line, reason = first_rejects[0]
        return f"none of its {rows_rejected:,} records could be stored{where}; first: line {line}: {reason}"
    return ""


def known_load(connection: Connection, source: Source) -> str:
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


def in_one_line(message: str) -> str:
    """A message from outside as a part of a line."""
    return shown(re.sub(r"\s*\n\s*", "; ", message.strip()))
