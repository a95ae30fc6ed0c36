"""Pieces of files to the tables of a bulk load, each in one transaction: what runs where the files are read.

A local file is read here, from one byte to another. Of others Spark hands on rows of text, each with the separator that
stood behind it: put together they are the file's bytes again. Either way they go the way that every load goes. Nothing
here knows of Spark.
"""

from __future__ import annotations

import io
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Final

import psycopg

from .errors import LoadError
from .event_writer import EventWriter
from .hadoop_files import uri_of
from .loading import refused, unread
from .paths import Format, naming
from .readers import Source
from .reject_file import RejectFile, RejectTable
from .streams import InputFile, temporary_file
from .warehouse import Connection

BOM: Final = b"\xef\xbb\xbf"
CHANGED: Final = "the file changed while it was read: load it once nothing writes to it"
_SPOOL_BYTES: Final = 2**20
_BLOCK_BYTES: Final = 2**20
_LINES: Final = Format("jsonl", "")


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
    first_rejects: tuple[tuple[int, str], ...] = ()
    unknown_columns: tuple[str, ...] = ()
    written_by: int = 0
    format: str = ""
    header: bytes = b""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a local file: all of a whole one, else the lines that begin from `start` on and before `end`."""

    file: BulkFile
    path: str
    start: int
    end: int


class _Counted:
    """A piece's blocks on their way: how many lines and bytes have come so far."""

    def __init__(self, blocks: Iterable[bytes] = (), size: int = 0) -> None:
        self._blocks = blocks
        self.count = 0
        self.size = size

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            self.count += block.count(b"\n")
            self.size += len(block)
            yield block


#: What reads a piece, and counts it.
_Opened = AbstractContextManager[tuple[Source, _Counted]]
Connect = Callable[[], AbstractContextManager[Connection]]


def write_pieces(
    batches: Iterable[Any], files: Mapping[str, BulkFile], first_load: int, connect: Connect
) -> Iterator[Piece]:
    """Writes what comes in Arrow batches of (bytes, file, start of the piece), a piece after the other.

    A file that can't be read is a problem of its pieces. Raises WarehouseError where the connection is lost.
    """
    with connect() as connection:
        for (uri, start), chunks in groupby(_chunks(batches), key=lambda chunk: chunk[0]):
            file = files[uri_of(uri)]
            yield _write_piece(connection, file, start, _handed_on(file, (text for _, text in chunks)), first_load)


def write_spans(spans: Iterable[Span], first_load: int, connect: Connect) -> Iterator[Piece]:
    """Writes spans of local files, one after the other.

    A file that can't be read is a problem of its pieces. Raises WarehouseError where the connection is lost.
    """
    with connect() as connection:
        for span in spans:
            yield _write_piece(connection, span.file, span.start, _opened(span), first_load)


def cut(files: Iterable[tuple[BulkFile, str]], largest: int) -> Iterator[Span]:
    """The files, each with its local path, as spans: of at most so many bytes where their lines can be told apart."""
    for file, path in files:
        if file.is_whole:
            yield Span(file, path, 0, file.size)
        else:
            for start in range(0, file.size, largest):
                yield Span(file, path, start, min(start + largest, file.size))


def check_without_bytes(file: BulkFile) -> Piece:
    """What is to be said of a file of no bytes, of which Spark hands on nothing."""
    try:
        with _handed_on(file, ()) as (source, _):
            for _ in source.batches():
                pass
    except LoadError as error:
        return Piece(file.load, 0, 0, problem=unread(error, file.name))
    return Piece(file.load, 0, 0)


def _write_piece(connection: Connection, file: BulkFile, start: int, piece: _Opened, first_load: int) -> Piece:
    table = RejectTable(f"rejects_{first_load}", "piece_start")
    counted = _Counted()
    try:
        with connection.transaction(), temporary_file(_SPOOL_BYTES) as spool, piece as (source, counted):
            # Rows are numbered by it; pieces that begin in one mebibyte of a file are as one.
            connection.execute("select set_config('clickmart.piece', %s, true)", (str(start >> 20),))
            rejects = RejectFile(spool, file.load, start, source.raw_bytes, table)
            writer = EventWriter(connection, file.load, file.name, rejects, f"events_{first_load}")
            writer.write_rows(source.batches())
            if writer.rows_rejected:
                rejects.write(connection)
            row = connection.execute("select stage.end_bulk_piece(%s)::text::bigint", (first_load,)).fetchone()
        return Piece(
            file.load,
            start,
            counted.size,
            counted.count,
            writer.rows_loaded,
            writer.rows_rejected,
            tuple(writer.first_rejects),
            tuple(source.unknown),
            int(str(row[0])) if row else 0,
            source.format if file.is_whole else "",
            source.header or b"",
        )
    except LoadError as error:
        problem = unread(error, file.name)
    except psycopg.Error as error:
        problem = refused(error, connection)
    return Piece(file.load, start, counted.size, counted.count, problem=problem)


@contextmanager
def _handed_on(file: BulkFile, chunks: Iterable[Any]) -> Iterator[tuple[Source, _Counted]]:
    """A piece that comes as rows of text."""
    counted = _Counted(map(_joined, chunks))
    blocks = _without_last_separator(iter(counted), file) if file.is_whole else iter(counted)
    if file.format.content in ("jsonl", "json", "csv") and not file.format.packing:
        # The file's own mark, if it had one, is gone: of a text that begins with two, the second must stay.
        blocks = chain([BOM], blocks)
    yield Source(file.name, file.format if file.is_whole else _LINES, _PieceFile(blocks)), counted


@contextmanager
def _opened(span: Span) -> Iterator[tuple[Source, _Counted]]:
    """A piece of a local file: a whole one as every load reads it, else lines."""
    with ExitStack() as opened:
        with naming(span.file.name):
            file = opened.enter_context(Path(span.path).open("rb", buffering=0))
        if span.file.is_whole:
            yield Source(span.file.name, span.file.format, InputFile(file, span.end)), _Counted(size=span.end)
        else:
            counted = _Counted(lines_of(span, file))
            # Only the file's own mark is no part of a record.
            blocks = chain([BOM], counted) if span.start else iter(counted)
            yield Source(span.file.name, _LINES, _PieceFile(blocks)), counted


def lines_of(span: Span, file: io.FileIO, block_size: int = _BLOCK_BYTES) -> Iterator[bytes]:
    """The lines that begin in the span, at most so many bytes at a time.

    Raises LoadError where the file has become shorter; how it grows is not looked at.
    """
    # Whether a line begins at the start the byte before tells.
    position = max(span.start - 1, 0)
    is_before = span.start > 0
    file.seek(position)
    while position < span.file.size:
        block = file.read(min(block_size, span.file.size - position)) or b""
        if not block:
            raise LoadError(CHANGED)
        first = 0
        if is_before:
            first = block.find(b"\n") + 1 or len(block)
            if position + first >= span.end:
                return
            is_before = block[first - 1 : first] != b"\n"
        # The last line ends at the first line feed from the last byte of the span on.
        last = block.find(b"\n", max(first, span.end - 1 - position)) + 1
        if text := block[first : last or None]:
            yield text
        if last:
            return
        position += len(block)


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
