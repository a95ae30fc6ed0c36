"""A file's bytes on their way to a reader: bounded, hashed, and cut into lines.

Errors raised here and in the other readers' modules don't name the file: `paths.naming` puts its name before them.
"""

from __future__ import annotations

import errno
import hashlib
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, Final

from .errors import LoadError
from .records import MAX_RECORD_BYTES

_BOM: Final = b"\xef\xbb\xbf"


class InputFile(io.RawIOBase):
    """A file read up to the size it had when opened, however it grows meanwhile, and hashed as its bytes pass.

    `size` is None for a pipe, which is read to its end. LoadError where the file turns out to be shorter than `size`.
    Closing it leaves the file itself open.
    """

    def __init__(self, file: io.RawIOBase | io.BufferedIOBase, size: int | None) -> None:
        super().__init__()
        self.size: Final = size
        self._file = file
        self._position = 0
        self._hashed = 0
        self._digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self.size is not None

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if self.size is None:
            raise io.UnsupportedOperation("seek")
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        if start + offset < 0:
            raise OSError(errno.EINVAL, "a position before the start of the file")
        self._position = self._file.seek(start + offset)
        return self._position

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes, all that are left where it is below zero; fewer only at the end, or from a pipe."""
        if size < 0:
            return self.readall()
        if self.size is not None:
            size = min(size, max(0, self.size - self._position))
        block = self._file.read(size) or b""
        while self.size is not None and len(block) < size:
            more = self._file.read(size - len(block))
            if not more:
                raise LoadError(
                    f"the file became shorter while it was read ({self._position + len(block)} bytes, not "
                    f"{self.size}): load it once nothing writes to it"
                )
            block += more
        if self._position == self._hashed:
            self._digest.update(block)
            self._hashed += len(block)
        self._position += len(block)
        return block

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        block = self.read(len(view))
        view[: len(block)] = block
        return len(block)

    def checksum_and_size(self) -> tuple[str, int]:
        """SHA-256 and number of all the file's bytes; those that have not passed in order are read for it."""
        if self.size is not None:
            self.seek(self._hashed)
        while self.read(2**20):
            pass
        return self._digest.hexdigest(), self._hashed

    def fingerprint(self) -> str | None:
        """SHA-256 of the bytes by a pass of its own, which leaves position and hash as they were; None for a pipe."""
        if self.size is None:
            return None
        before = self._position
        checksum, _ = InputFile(self._file, self.size).checksum_and_size()
        self.seek(before)
        return checksum


class LentFile(io.RawIOBase):
    """A file for a library that closes what it reads from, to stay open itself."""

    def __init__(self, file: io.RawIOBase | BinaryIO) -> None:
        super().__init__()
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._file.seekable()

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes | None:
        return self._file.read(size)


@contextmanager
def spool(blocks: Iterator[bytes]) -> Iterator[BinaryIO]:
    """A temporary file of that content, open at its start, for a format that is not read from front to back."""
    with temporary_file() as file:
        for block in blocks:
            with set_aside("it"):
                file.write(block)
        with set_aside("it"):
            file.seek(0)
        yield file


@contextmanager
def temporary_file(in_memory: int = 1) -> Iterator[Any]:
    """A file that is gone at the end, and in memory alone up to so many bytes; to be written within `set_aside`."""
    file = tempfile.SpooledTemporaryFile(in_memory)  # noqa: SIM115
    try:
        yield file
    finally:
        # What could not be written is not wanted any more.
        with suppress(OSError):
            file.close()


@contextmanager
def set_aside(what: str) -> Iterator[None]:
    """Says of a temporary file that can't be written what was to be kept in it. Raises LoadError."""
    try:
        yield
    except OSError as error:
        # Where no folder will do, the error is about finding one.
        where = f" in {tempfile.tempdir}" if tempfile.tempdir else ""
        raise LoadError(
            f"{what} can't be set aside{where}: {error.strerror}; make room there, or name another folder by TMPDIR"
        ) from error


def without_bom(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The blocks without the UTF-8 byte order mark that may stand at their start."""
    start = b""
    for block in blocks:
        start += block
        if len(start) >= len(_BOM):
            break
    if start := start.removeprefix(_BOM):
        yield start
    yield from blocks


def refuse_long_line(length: int) -> None:
    """Raises LoadError where so many bytes are more than a line may have."""
    if length > MAX_RECORD_BYTES:
        raise LoadError(f"a line is longer than {MAX_RECORD_BYTES >> 20} MiB: is the file what its name says?")


def whole_lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in blocks that each end with a line feed, but for the last, which may lack it."""
    parts: list[bytes | memoryview] = []
    length = 0
    for block in blocks:
        cut = block.rfind(b"\n") + 1
        if cut:
            parts.append(memoryview(block)[:cut])
            yield b"".join(parts)
            parts, length = [], 0
        if cut < len(block):
            parts.append(memoryview(block)[cut:])
            length += len(block) - cut
            refuse_long_line(length)
    if parts:
        yield b"".join(parts)
