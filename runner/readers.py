"""Paths to batches of records: opens a file by what its name says it is, and reads it once from front to back.

with Source.open("events.jsonl.gz") as source:
    for batch in source.batches():
        ...
"""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Self

from .batches import Batch
from .compression import ZipEntry, bounded, gunzip, plain, unzstd
from .errors import LoadError
from .paths import STANDARD_INPUT, Format, naming
from .records import Header, Record, UnknownFields
from .streams import InputFile, spool, without_bom

if TYPE_CHECKING:
    from .mapped_reader import Found, MappedReader
    from .mappings import SourceMapping

__all__ = ["Batch", "Record", "Source"]

#: So much that Arrow's parser is at its full speed.
BLOCK_BYTES: Final = 2**20


class Source:
    """One file, or standard input, to be read once; LoadError wherever that can't be done.

    `name` is the path as given, `file_size` the number of its bytes on opening, None for a pipe. Once `batches` is
    exhausted, `checksum` (SHA-256) and `size` (bytes) are those of what was read, as it is packed.
    """

    def __init__(
        self,
        name: str,
        format_: Format,
        file: InputFile,
        block_size: int = BLOCK_BYTES,
        mapping: SourceMapping | None = None,
    ) -> None:
        self.name: Final = name
        self.file_size = file.size
        self.checksum = ""
        self.size = 0
        self._format = format_
        self._file = file
        self._block_size = block_size
        self._unknown = UnknownFields()
        self._header = Header()
        self._mapped = _mapped_reader(mapping, name, self._header) if mapping else None
        self._open_files = ExitStack()
        self._zip_entry: ZipEntry | None = None
        if format_.packing == "zip":
            self._zip_entry = ZipEntry(self._seekable())
            self._format = _zip_format(format_, self._zip_entry.name, mapping.format if mapping else "")

    @classmethod
    def open(cls, path: str, *, block_size: int = BLOCK_BYTES, mapping: SourceMapping | None = None) -> Source:
        """Open a file by its extension, or standard input for "-" (JSON lines), to read so many bytes at a time; by a
        mapping, which may say what files are whose names don't tell."""
        otherwise = mapping.format if mapping else ""
        if mapping and mapping.parts and cls is Source:
            from .joined_files import JoinedSource

            return JoinedSource.open(path, block_size=block_size, mapping=mapping)
        with naming(path), ExitStack() as open_files:
            if path == STANDARD_INPUT:
                standard_input = getattr(sys.stdin, "buffer", None)
                if standard_input is None:
                    raise LoadError("standard input is closed")
                return cls(path, Format(otherwise or "jsonl", ""), InputFile(standard_input, None), block_size, mapping)
            format_ = Format.of(path, otherwise)
            file = open_files.enter_context(Path(path).open("rb", buffering=0))
            status = os.fstat(file.fileno())
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode)):
                raise LoadError("it is neither a file nor a pipe, but a device, whose content may have no end")
            size = status.st_size if stat.S_ISREG(status.st_mode) else None
            source = cls(path, format_, InputFile(file, size), block_size, mapping)
            source._open_files.push(open_files.pop_all())
            return source

    @property
    def format(self) -> str:
        """What the file is, such as "json.zip"."""
        return str(self._format)

    @property
    def unknown(self) -> list[str]:
        """Names of fields that stage.events lacks, in order of appearance in the records read so far; at most 1,000."""
        return self._unknown.names

    @property
    def passed(self) -> int:
        """How many events a mapping has passed over so far."""
        return self._mapped.passed if self._mapped else 0

    @property
    def header(self) -> bytes | None:
        """What says how to read the records (see Header), once the first of them is read."""
        return self._header.content

    def fingerprint(self) -> str | None:
        """What `checksum` will be, by a pass over the file ahead of its records; None for a pipe."""
        with naming(self.name):
            return self._file.fingerprint()

    def batches(self) -> Iterator[Batch | list[Record]]:
        """Every record once, in the file's order: in batches of rows, or, rejects among them, one by one in lists.

        Raises LoadError where the file can't be read to its end.
        """
        with naming(self.name):
            yield from self._batches()
            self.checksum, self.size = self._file.checksum_and_size()

    def fields(self) -> Iterator[Found]:
        """Every record once, before the mapping has made a row of it. Raises LoadError as `batches` does."""
        assert self._mapped
        with naming(self.name):
            yield from self._fields(self._mapped)
            self.checksum, self.size = self._file.checksum_and_size()

    @staticmethod
    def raw_bytes(raw: object) -> bytes:
        """A record's `raw` as bytes: as it stood, without the line feed behind it; a row of Parquet as JSON."""
        if isinstance(raw, bytes):
            return raw
        if callable(raw):  # a part of a record, or one of several
            return str(raw()).encode("utf-8", "surrogatepass")
        if isinstance(raw, tuple):
            from .parquet_reader import row_text

            raw = row_text(*raw)
        return str(raw).removesuffix("\n").encode("utf-8", "surrogateescape")

    def close(self) -> None:
        self._open_files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _batches(self) -> Iterator[Batch | list[Record]]:
        if self._mapped:
            return self._mapped.records(self._fields(self._mapped))
        if self._format.content == "parquet":
            from .parquet_reader import read_parquet

            return read_parquet(self._seekable(), self._unknown)
        blocks = without_bom(self._blocks())
        if self._format.content == "csv":
            from .csv_reader import read_csv

            return read_csv(blocks, self._unknown, self._header)
        from .json_reader import JsonReader

        reader = JsonReader(self._unknown, self._header)
        return reader.lines_or_array(blocks) if self._format.content == "json" else reader.lines(blocks)

    def _fields(self, mapped: MappedReader) -> Iterator[Found]:
        if self._format.content == "parquet":
            return mapped.parquet_fields(self._seekable())
        return mapped.fields(self._format.content, without_bom(self._blocks()))

    def _blocks(self) -> Iterator[bytes]:
        """The content, unpacked."""
        if self._zip_entry:
            return self._zip_entry.blocks(self._block_size)
        if not self._format.packing:
            return plain(self._file, self._block_size)
        unpack = {"gz": gunzip, "zst": unzstd}[self._format.packing]
        return bounded(unpack(self._file, self._block_size), self._file)

    def _seekable(self) -> io.RawIOBase | BinaryIO:
        """A file to be read from any place: this one where it allows that, else a temporary copy, unpacked."""
        if self._file.seekable() and self._format.packing != "gz":
            return self._file
        if self._format.packing == "gz":
            blocks = bounded(gunzip(self._file, self._block_size), self._file)
        else:
            blocks = plain(self._file, self._block_size)
        return self._open_files.enter_context(spool(blocks))


def _mapped_reader(mapping: SourceMapping, name: str, header: Header) -> MappedReader:
    from .mapped_reader import MappedReader

    return MappedReader(mapping, name, header)


def _zip_format(outer: Format, inner_name: str, otherwise: str) -> Format:
    """The format of a zip archive: by its own name, else by that of the file inside; `otherwise` as in Format.of."""
    if outer.content:
        return outer
    try:
        inner = Format.of(inner_name, otherwise)
    except LoadError:
        inner = None
    if inner is None or inner.packing or inner.content == "parquet":
        raise LoadError(f"{inner_name} in the zip archive is none of .jsonl, .ndjson, .json, .csv: unpack it")
    return inner._replace(packing="zip")
