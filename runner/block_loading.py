"""A large file by several processes: each writes blocks of its lines, and all of them become visible at once."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import psycopg

from .bulk_loads import BulkLoad, BulkResult
from .bulk_pieces import CHANGED, BulkFile, Piece, cut, write_spans
from .errors import LoadError, WarehouseError
from .interrupts import raise_interrupt
from .load_report import FileReport
from .loading import KILLED, in_one_line, known_load, refused, stored_text, unread
from .paths import Format, naming
from .readers import Source
from .streams import InputFile
from .warehouse import Connection, Warehouse
from .workers import in_processes

#: Each bulk load makes a partition of stage.events, which smaller files are not worth.
LARGE_BYTES: Final = 2**29
_BLOCK_BYTES: Final = 2**26


def is_large(file: str) -> bool:
    """Whether the file is worth several processes, and its lines can be told apart wherever it is cut."""
    try:
        format_ = Format.of(file)
        path = Path(file)
        return format_ == Format("jsonl", "") and path.is_file() and path.stat().st_size >= LARGE_BYTES
    except (LoadError, OSError):
        return False


def load_in_blocks(warehouse: Warehouse, file: str, *, jobs: int, max_rejects: int | None) -> FileReport:
    """Loads a file as `loading.load_file` does, by as many processes."""
    name = stored_text(file)
    try:
        with warehouse.connect() as connection:
            try:
                return _load(warehouse, connection, file, jobs, max_rejects)
            except psycopg.Error as error:
                return FileReport(name, "failed", problem=refused(error, connection), is_by_server=True)
    except WarehouseError as error:
        raise_interrupt(error)
        return FileReport(name, "failed", problem=in_one_line(str(error)), is_by_server=True)
    except LoadError as error:
        return FileReport(name, "failed", problem=unread(error, file))


def _load(warehouse: Warehouse, connection: Connection, file: str, jobs: int, max_rejects: int | None) -> FileReport:
    name = stored_text(file)
    with Source.open(file) as source:
        if same := known_load(connection, source):
            return FileReport(name, "skipped", problem=same)
    with (
        naming(file),
        Path(file).open("rb", buffering=0) as opened,
        ThreadPoolExecutor(1) as thread,
        BulkLoad.begin(connection, 1) as bulk_load,
    ):
        before = os.fstat(opened.fileno())
        checksum = thread.submit(InputFile(opened, before.st_size).checksum_and_size)
        bulk_file = BulkFile(bulk_load.first_load, file, Format.of(file), before.st_size, b"\n", is_whole=False)
        pieces: list[Piece] = []
        write = partial(write_spans, first_load=bulk_load.first_load, connect=warehouse.connect)
        for _, piece in in_processes(write, cut([(bulk_file, file)], _BLOCK_BYTES), jobs):
            if piece is None:
                return FileReport(name, "failed", problem=KILLED, is_by_server=True)
            pieces.append(piece)
        pieces.sort(key=lambda piece: piece.start)
        problem = next((piece.problem for piece in pieces if piece.problem), "")
        after = Path(file).stat()
        if not problem and (
            (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns)
            or sum(piece.size for piece in pieces) != before.st_size
        ):
            problem = CHANGED
        digest, size = checksum.result()
        result = BulkResult(
            bulk_load.first_load, name, digest, size, str(bulk_file.format), () if problem else tuple(pieces), problem
        )
        (report,) = bulk_load.publish([result], max_rejects)
    return report
