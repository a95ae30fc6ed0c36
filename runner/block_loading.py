"""A large file by several processes: each writes blocks of its lines, and all of them become visible at once."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from .bulk_loads import BulkLoad, BulkResult
from .bulk_pieces import BulkFile, Connect, Piece, cut, write_spans
from .errors import LoadError
from .load_report import FileReport
from .loading import KILLED, known_load, or_failed, stored_text
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


def load_in_blocks(
    connection: Connection, file: str, *, conninfo: str, jobs: int, max_rejects: int | None
) -> FileReport:
    """Loads a file as `loading.load_file` does, by as many processes, which have connections of their own."""
    return or_failed(connection, file, partial(_load, connection, file, Warehouse(conninfo).connect, jobs, max_rejects))


def _load(connection: Connection, file: str, connect: Connect, jobs: int, max_rejects: int | None) -> FileReport:
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
        write = partial(write_spans, first_load=bulk_load.first_load, connect=connect)
        for _, piece in in_processes(write, cut([(bulk_file, file)], _BLOCK_BYTES), jobs):
            if piece is None:
                return FileReport(name, "failed", problem=KILLED, is_by_server=True)
            pieces.append(piece)

        def is_all() -> bool:
            after = Path(file).stat()
            is_same = (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
            return is_same and sum(piece.size for piece in pieces) == before.st_size

        result = BulkResult.of(bulk_file, pieces, is_all, lambda: checksum.result()[0])
        (report,) = bulk_load.publish([result], max_rejects)
    return report
