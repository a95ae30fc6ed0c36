"""Packed files to their content, block by block: gzip, Zstandard, zip. What is damaged or cut short is a LoadError."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, BinaryIO, Final

from .errors import LoadError
from .streams import LentFile

_COPY_AGAIN: Final = "copy or download it again"
_GZIP_BLOCK: Final = 2**16
#: So much may come out of any file. Beyond it a packed file is a bomb, made to fill a disk or never to end, if so many
#: times its size came out: events come to 50 times at most, one and the same again and again to some 300.
_SURE_BYTES: Final = 2**30
_MAX_RATIO: Final = 500
#: Ways to pack of which so much comes out at a time as is asked for; of the others a small file may fill the memory.
_ZIP_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_ZIP_ERRORS: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


def plain(file: io.RawIOBase | IO[bytes], block_size: int) -> Iterator[bytes]:
    """The bytes as they are."""
    while block := file.read(block_size):
        yield block


def bounded(blocks: Iterator[bytes], file: io.RawIOBase | BinaryIO) -> Iterator[bytes]:
    """The blocks that were unpacked from what of the file was read so far. Raises LoadError for a bomb."""
    size = 0
    for block in blocks:
        size += len(block)
        if size > _SURE_BYTES and size > _MAX_RATIO * file.tell():
            raise LoadError(
                f"it unpacks to more than {_MAX_RATIO} times its size, as events never do: unpack it and load that"
            )
        yield block


def gunzip(file: io.RawIOBase, block_size: int) -> Iterator[bytes]:
    """The content of all members of a gzip file; zeros behind a member are padding."""
    member: Any = None
    members = 0
    packed = b""
    while packed := packed or file.read(min(block_size, _GZIP_BLOCK)) or b"":
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
        raise LoadError(f"the gzip data breaks off, so the file is cut short: {_COPY_AGAIN}")


def _gzip_fault(message: str, members: int) -> str:
    if "header check" not in message:
        return f"the gzip data is damaged ({message}): {_COPY_AGAIN}"
    if members > 1:
        return f"something follows the gzip data that is none: {_COPY_AGAIN}"
    return "the file is not packed by gzip, as its name says: rename it to what it is"


def unzstd(file: io.RawIOBase, block_size: int) -> Iterator[bytes]:
    """The content of all frames of a Zstandard file."""
    import pyarrow

    stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(LentFile(file), mode="r"), "zstd")
    while True:
        try:
            block = stream.read(block_size)
        except OSError as error:
            if error.errno is not None:
                raise
            raise LoadError(f"the Zstandard data is damaged, cut short or none ({error}): {_COPY_AGAIN}") from error
        if not block:
            break
        yield block
    if not file.tell():
        raise LoadError(f"the file is empty, where Zstandard data should be: {_COPY_AGAIN}")


class ZipEntry:
    """The one file inside a zip archive. LoadError where the archive is damaged, encrypted or holds more or none."""

    def __init__(self, file: io.RawIOBase | BinaryIO) -> None:
        self._file = file
        try:
            self._archive = zipfile.ZipFile(file)
        except _ZIP_ERRORS as error:
            raise LoadError(_zip_fault(error)) from error
        entries = [
            entry
            for entry in self._archive.infolist()
            if not entry.filename.endswith("/") and not entry.filename.startswith("__MACOSX/")
        ]
        if not entries:
            raise LoadError("the zip archive holds no file")
        if len(entries) > 1:
            found = ", ".join(entry.filename for entry in entries[:5]) + ", ..." * (len(entries) > 5)
            raise LoadError(
                f"the zip archive holds {len(entries)} files, where one should be ({found}): "
                "unpack it and load the folder"
            )
        self._entry = entries[0]
        self.name: Final = self._entry.filename
        if self._entry.flag_bits & 1:
            raise LoadError(f"{self.name} in the zip archive is encrypted: unpack it and load the file")
        if self._entry.compress_type not in _ZIP_METHODS:
            raise LoadError(f"{self.name} in the zip archive is packed by another way than deflate: unpack it")

    def blocks(self, block_size: int) -> Iterator[bytes]:
        """The content of the file inside."""
        try:
            with self._archive.open(self._entry) as stream:
                yield from bounded(plain(stream, block_size), self._file)
        except _ZIP_ERRORS as error:
            raise LoadError(_zip_fault(error)) from error


def _zip_fault(error: Exception) -> str:
    if isinstance(error, NotImplementedError):
        return f"the zip archive is packed in a way that is not supported ({error}): unpack it and load the file"
    return f"the zip archive is damaged, cut short or none ({error or 'it breaks off'}): {_COPY_AGAIN}"
