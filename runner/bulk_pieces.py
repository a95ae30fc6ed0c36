"""Pieces of files to the tables of a bulk load, each in one transaction: what runs where the files are read.

Spark hands on a file as rows of text, each with the separator that stood behind it: put together they are the file's
bytes again, and go the way that every load goes. Nothing here knows of Spark.
"""

from __future__ import annotations

import io
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any, Final

import psycopg

from .errors import LoadError
from .event_writer import EventWriter
from .hadoop_files import uri_of
from .loading import refused, unread
from .paths import Format
from .readers import Source
from .reject_file import RejectFile, RejectTable
from .streams import InputFile, temporary_file
from .warehouse import Connection

BOM: Final = b"\xef\xbb\xbf"
CHANGED: Final = "the file changed while it was read: load it once nothing writes to it"
_SPOOL_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class BulkFile:
    """A file of a bulk load: its number, its bytes, and what stands between its rows of text.

    `is_whole`: it comes in one piece, and as what its format says; else in lines, each piece of them a JSON lines file.
    """

    load: int
    name: str
    format: Format
    size: int
    separator: bytes
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """What was written of a file from a byte on: by which transaction, 0 for none, or which `problem` it met.

    Lines are counted where a file is cut, `size` is that of the bytes that came, separators and all.
    """

    load: int
    start: int
    size: int
    lines: int = 0
    rows_loaded: int = 0
    rows_rejected: int = 0
    first_reject: tuple[int, str] = (0, "")
    unknown_columns: tuple[str, ...] = ()
    written_by: int = 0
    format: str = ""
    header: bytes = b""
    problem: str = ""


Connect = Callable[[], AbstractContextManager[Connection]]


def write_pieces(
    batches: Iterable[Any], files: Mapping[str, BulkFile], first_load: int, connect: Connect
) -> Iterator[Piece]:
    """Writes what comes in Arrow batches of (bytes, file, start of the piece), a piece after the other.

    A file that can't be read is a problem of its pieces. Raises WarehouseError where the connection is lost.
    """
    with connect() as connection:
        for (uri, start), chunks in groupby(_chunks(batches), key=lambda chunk: chunk[0]):
            texts = _Texts(text for _, text in chunks)
            yield _write_piece(connection, files[uri_of(uri)], start, texts, first_load)


def check_without_bytes(file: BulkFile) -> Piece:
    """What is to be said of a file of no bytes, of which Spark hands on nothing."""
    try:
        for _ in _source(file, iter(())).batches():
            pass
    except LoadError as error:
        return Piece(file.load, 0, 0, problem=unread(error, file.name))
    return Piece(file.load, 0, 0)


def _write_piece(connection: Connection, file: BulkFile, start: int, texts: _Texts, first_load: int) -> Piece:
    table = RejectTable(f"rejects_{first_load}", "piece_start")
    problem = ""
    try:
        with connection.transaction(), temporary_file(_SPOOL_BYTES) as spool:
            source = _source(file, iter(texts))
            rejects = RejectFile(spool, file.load, start, source.raw_bytes, table)
            writer = EventWriter(connection, file.load, file.name, rejects, f"events_{first_load}")
            writer.write_rows(source.batches())
            if writer.rows_rejected:
                rejects.write(connection)
            row = connection.execute("select stage.end_bulk_piece(%s)::text::bigint", (first_load,)).fetchone()
        return Piece(
            file.load,
            start,
            texts.size,
            texts.count,
            writer.rows_loaded,
            writer.rows_rejected,
            writer.first_rejects[0] if writer.first_rejects else (0, ""),
            tuple(source.unknown),
            int(str(row[0])) if row else 0,
            source.format if file.is_whole else "",
            source.header or b"",
        )
    except LoadError as error:
        problem = unread(error, file.name)
    except psycopg.Error as error:
        problem = refused(error, connection)
    return Piece(file.load, start, texts.size, texts.count, problem=problem)


def _source(file: BulkFile, texts: Iterator[bytes]) -> Source:
    """The texts as the content of a file."""
    blocks = _without_last_separator(texts, file) if file.is_whole else texts
    if file.format.content in ("jsonl", "json", "csv") and not file.format.packing:
        # The file's own mark, if it had one, is gone: of a text that begins with two, the second must stay.
        blocks = chain([BOM], blocks)
    return Source(file.name, file.format if file.is_whole else Format("jsonl", ""), _PieceFile(blocks))


class _Texts:
    """The bytes of a piece on their way, counted."""

    def __init__(self, chunks: Iterable[Any]) -> None:
        self._chunks = chunks
        self.count = 0
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            text = _joined(chunk)
            self.count += len(chunk)
            self.size += len(text)
            yield text


class _PieceFile(InputFile):
    """Blocks as a pipe. Nothing is hashed: the file as a whole is, elsewhere."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        super().__init__(io.BytesIO(), None)
        self._blocks = blocks
        self._block = b""

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            return self.readall()
        self._block = self._block or next(self._blocks, b"")
        block, self._block = self._block[:size], self._block[size:]
        self._position += len(block)
        return block

    def checksum_and_size(self) -> tuple[str, int]:
        return "", 0


def _without_last_separator(texts: Iterator[bytes], file: BulkFile) -> Iterator[bytes]:
    """The texts without the separator behind the last, where the file's size shows that none stood there."""
    length = len(file.separator)
    size = 0
    held = b""
    for text in texts:
        size += len(text)
        held += text
        if len(held) > length:
            yield held[:-length]
        held = held[-length:]
    # Of a text's mark at the start the reader has left nothing.
    if size in (file.size, file.size - len(BOM)):
        yield held
    elif size - length not in (file.size, file.size - len(BOM)):
        raise LoadError(CHANGED)


def _chunks(batches: Iterable[Any]) -> Iterator[tuple[tuple[str, int], Any]]:
    """The batches, cut where another piece begins: its file and start, and the texts. A piece comes in one stretch."""
    for batch in batches:
        texts, uris, starts = batch.columns
        first = 0
        while first < batch.num_rows:
            key = (uris[first].as_py(), starts[first].as_py())

            def is_other(row: int, key: tuple[str, int] = key) -> bool:
                return bool((uris[row].as_py(), starts[row].as_py()) != key)  # noqa: B023

            end = bisect_left(range(batch.num_rows), True, lo=first, key=is_other)
            yield key, texts.slice(first, end - first)
            first = end


def _joined(texts: Any) -> bytes:
    """The texts of an Arrow array, which has them one behind the other."""
    _, offsets, content = texts.buffers()
    ends = memoryview(offsets).cast("i")
    first, end = ends[texts.offset], ends[texts.offset + len(texts)]
    return bytes(content.slice(first, end - first).to_pybytes())
