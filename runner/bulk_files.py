"""The files of a bulk load: which of them are new, how each is read, and whether what came of it is all of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from .bulk_loads import BulkResult
from .bulk_pieces import BOM, BulkFile, Piece, check_without_bytes
from .errors import LoadError
from .hadoop_files import FileStatus, HadoopFiles
from .loading import same_content, unread
from .paths import Format
from .warehouse import Connection

#: What stands between the objects of an array, however it is laid out; its lines may be as long as the file.
_ARRAY_SEPARATOR: Final = b"},"
_THREADS: Final = 8


@dataclass(frozen=True, slots=True)
class Found:
    """A file that can be opened: its state then, and how it is read."""

    name: str
    status: FileStatus
    format: Format
    separator: bytes
    is_whole: bool

    @property
    def local_path(self) -> str:
        """Where an executor finds the file by itself; nothing where only Spark does."""
        path = self.status.path
        return path.removeprefix("file:") if path.startswith("file:/") else ""

    def numbered(self, load: int) -> BulkFile:
        return BulkFile(load, self.name, self.format, self.status.size, self.separator, self.is_whole)


def look_at(files: HadoopFiles, name: str) -> Found:
    """Raises LoadError where Spark can't read the file."""
    format_ = Format.of(name)
    status = files.status(name)
    whole, separator = True, b"\n"
    if not format_.packing and format_.content == "jsonl":
        whole = False
    elif not format_.packing and format_.content == "json":
        start = files.head(name).removeprefix(BOM).lstrip()
        # Where nothing but blanks came, it may be either.
        whole = not start or start.startswith(b"[")
        separator = _ARRAY_SEPARATOR if start and whole else separator
    return Found(name, status, format_, separator, whole)


class Checksums:
    """The checksums of files, each computed once, some at a time in threads."""

    def __init__(self, files: HadoopFiles, threads: ThreadPoolExecutor) -> None:
        self._files = files
        self._threads = threads
        self._futures: dict[str, Future[str]] = {}

    @classmethod
    @contextmanager
    def of(cls, files: HadoopFiles) -> Iterator[Checksums]:
        threads = ThreadPoolExecutor(_THREADS)
        try:
            yield cls(files, threads)
        finally:
            threads.shutdown(cancel_futures=True)

    def begin(self, names: Iterable[str]) -> None:
        """Has them computed while something else is done."""
        for name in names:
            if name not in self._futures:
                self._futures[name] = self._threads.submit(self._files.checksum, name)

    def get(self, name: str) -> str:
        """Raises LoadError where the file can't be read."""
        self.begin([name])
        return self._futures[name].result()


@dataclass(frozen=True, slots=True)
class Sorted:
    """Files to read, and for each of the others why it isn't read: it can't be, or its content is loaded already."""

    new: list[Found]
    unreadable: dict[str, str]
    known: dict[str, str]


def sort_out(connection: Connection, files: HadoopFiles, checksums: Checksums, names: Sequence[str]) -> Sorted:
    """Only files of a size that a load has are read for it."""
    found: dict[str, Found] = {}
    unreadable: dict[str, str] = {}
    known: dict[str, str] = {}
    for name in names:
        try:
            found[name] = look_at(files, name)
        except LoadError as error:
            unreadable[name] = unread(error, name)
    sizes = connection.execute(
        "select distinct size from stage.loads where size = any (%s) and status = 'loaded'",
        ([file.status.size for file in found.values()],),
    ).fetchall()
    doubtful = [name for name, file in found.items() if (file.status.size,) in sizes]
    checksums.begin(doubtful)
    for name in doubtful:
        try:
            if same := same_content(connection, checksums.get(name)):
                known[name] = same
        except LoadError as error:
            unreadable[name] = unread(error, name)
    others = unreadable.keys() | known.keys()
    return Sorted([file for name, file in found.items() if name not in others], unreadable, known)


def result_of(files: HadoopFiles, checksums: Checksums, found: Found, load: int, pieces: list[Piece]) -> BulkResult:
    """What the pieces of a file come to, if it is all of the file, and it is still the same."""
    file = found.numbered(load)
    if not file.size:
        pieces = [check_without_bytes(file)]
    return BulkResult.of(
        file,
        pieces,
        lambda: files.status(found.name) == found.status and _is_whole(file, pieces),
        lambda: checksums.get(found.name),
    )


def _is_whole(file: BulkFile, pieces: Sequence[Piece]) -> bool:
    """Whether these are all bytes of the file, but for its mark at the start, and with a separator behind the last."""
    size = sum(piece.size for piece in pieces)
    if not file.size:
        return True
    return {size, size - len(file.separator)} & {file.size, file.size - len(BOM)} != set()
