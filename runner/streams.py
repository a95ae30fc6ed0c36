"""A file's bytes on their way to a reader: bounded, hashed, unpacked, and cut into lines.

Messages of the errors raised here don't name the file: `readers.Source` puts its name before them.
"""

from __future__ import annotations

import hashlib
import io
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from .errors import LoadError
from .records import MAX_RECORD_BYTES

_BOM: Final = b"\xef\xbb\xbf"
_COPY_AGAIN: Final = "copy or download it again"
_PACKED_BLOCK: Final = 2**16
_ZIP_ERRORS: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


class InputFile(io.RawIOBase):
    """A file read up to the size it had when opened, however it grows meanwhile, and hashed as its bytes pass.

    `size` is None for a pipe, which is read to its end. LoadError where the file turns out to be shorter than `size`.
    """

    def __init__(self, file: io.RawIOBase | io.BufferedIOBase, size: int | None, *, keep_open: bool = False) -> None:
        super().__init__()
        self.size: Final = size
        self._file = file
        self._keep_open = keep_open
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
            raise ValueError("a position before the start of the file")
        self._position = self._file.seek(start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        if self.size is not None:
            view = view[: max(0, self.size - self._position)]
        if not view:
            return 0
        count = self._file.readinto(view) or 0
        if not count and self.size is not None:
            raise LoadError(
                f"the file became shorter while it was read ({self._position} bytes, not {self.size}): "
                "load it when it is no longer written to"
            )
        if self._position == self._hashed:
            self._digest.update(view[:count])
            self._hashed += count
        self._position += count
        return count

    def close(self) -> None:
        if not self._keep_open:
            self._file.close()
        super().close()

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
        other = InputFile(self._file, self.size, keep_open=True)
        other.seek(0)
        checksum, _ = other.checksum_and_size()
        self.seek(before)
        return checksum


def plain(file: io.RawIOBase, block_size: int) -> Iterator[bytes]:
    """The bytes as they are."""
    while block := file.read(block_size):
        yield block


def gunzip(file: io.RawIOBase, block_size: int) -> Iterator[bytes]:
    """The content of all members of a gzip file; zeros behind a member are padding."""
    member: Any = None
    members = 0
    packed = b""
    while packed := packed or file.read(min(block_size, _PACKED_BLOCK)) or b"":
        if member is None:
            if members and not (packed := packed.lstrip(b"\0")):
                continue
            member = zlib.decompressobj(wbits=31)
            members += 1
        try:
            block = member.decompress(packed, block_size)
        except zlib.error as error:
            raise LoadError(_gzip_fault(str(error), members)) from error
        if member.eof:
            packed, member = member.unused_data, None
        else:
            packed = member.unconsumed_tail
        if block:
            yield block
    if not members:
        raise LoadError(f"the file is empty, where gzip data should be: {_COPY_AGAIN}")
    if member is not None:
        raise LoadError(f"the gzip data breaks off: the file is cut short; {_COPY_AGAIN}")


def _gzip_fault(message: str, members: int) -> str:
    if "header check" not in message:
        return f"the gzip data is damaged ({message}): {_COPY_AGAIN}"
    if members > 1:
        return f"something that is no gzip data follows the gzip data: {_COPY_AGAIN}"
    return "the file is no gzip data, as its name says it is: rename or pack it"


def unzstd(file: io.RawIOBase, block_size: int) -> Iterator[bytes]:
    """The content of all frames of a Zstandard file."""
    import pyarrow

    stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd")
    empty = True
    while True:
        try:
            block = stream.read(block_size)
        except OSError as error:
            if error.errno is not None:
                raise
            raise LoadError(f"the Zstandard data is damaged or cut short ({error}): {_COPY_AGAIN}") from error
        if not block:
            break
        empty = False
        yield block
    if empty and not file.tell():
        raise LoadError(f"the file is empty, where Zstandard data should be: {_COPY_AGAIN}")


class ZipEntry:
    """The one file inside a zip archive. LoadError where the archive is damaged, encrypted or holds more or none."""

    def __init__(self, file: io.RawIOBase) -> None:
        try:
            self._archive = zipfile.ZipFile(file)  # type: ignore[arg-type]  # typeshed wants a whole IO[bytes]
        except _ZIP_ERRORS as error:
            raise LoadError(_zip_fault(error)) from error
        entries = [
            entry
            for entry in self._archive.infolist()
            if not entry.is_dir() and not entry.filename.startswith("__MACOSX/")
        ]
        if len(entries) != 1:
            found = ", ".join(entry.filename for entry in entries[:5]) + (", ..." if len(entries) > 5 else "")
            raise LoadError(
                f"the zip archive holds {len(entries)} files ({found}), where one should be: unpack it and load the folder"
                if entries
                else "the zip archive holds no file"
            )
        (self._entry,) = entries
        self.name: Final = self._entry.filename
        if self._entry.flag_bits & 1:
            raise LoadError(f"{self.name} in the zip archive is encrypted: unpack it and load the file")

    def blocks(self, block_size: int) -> Iterator[bytes]:
        """The content of the file inside."""
        try:
            with self._archive.open(self._entry) as stream:
                while block := stream.read(block_size):
                    yield block
        except _ZIP_ERRORS as error:
            raise LoadError(_zip_fault(error)) from error


def _zip_fault(error: Exception) -> str:
    if isinstance(error, NotImplementedError):
        return f"the zip archive needs what is not supported here ({error}): unpack it and load the file"
    return f"the zip archive is damaged or none ({error or 'it breaks off'}): {_COPY_AGAIN}"


def spool(blocks: Iterator[bytes]) -> BinaryIO:
    """A temporary file of that content, open at its start, for a format that is not read from front to back."""
    file = tempfile.TemporaryFile()
    try:
        for block in blocks:
            file.write(block)
        file.seek(0)
    except OSError as error:
        file.close()
        raise LoadError(f"can't be unpacked into {tempfile.gettempdir()}: {error.strerror or error}") from error
    except BaseException:
        file.close()
        raise
    return file


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


def whole_lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in blocks that each end with a line feed, but for the last, which may lack it."""
    parts: list[bytes] = []
    length = 0
    for block in blocks:
        cut = block.rfind(b"\n") + 1
        if cut:
            parts.append(block[:cut])
            yield b"".join(parts)
            parts, length = [], 0
        if rest := block[cut:]:
            parts.append(rest)
            length += len(rest)
            if length > MAX_RECORD_BYTES:
                raise LoadError(f"a line is longer than {MAX_RECORD_BYTES >> 20} MiB: is this the format its name says?")
    if parts:
        yield b"".join(parts)
