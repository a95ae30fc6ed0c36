"""Reading made short for the tests of the readers."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from clickmart.batches import BINARY_ROWS, Batch, CopyFormat
from clickmart.columns import COLUMNS, NAMES
from clickmart.readers import BLOCK_BYTES, Record, Source
from clickmart.records import raw_text
from clickmart.typed_values import TypedColumns

SHARED_DATA = Path(__file__).parents[2] / "shared/data"


@dataclass(frozen=True)
class Reading:
    """All that one pass over a source yields; a record's fields are those that are not None."""

    records: list[Record]
    raws: list[str]
    unknown: list[str]
    format: str
    checksum: str
    size: int

    @property
    def fields(self) -> list[dict[str, str] | None]:
        """The values by name, without the missing ones; None for a reject."""
        return [record.values and given(record) for record in self.records]

    @property
    def rejects(self) -> list[tuple[int, str, str]]:
        """Line, reason and raw text of each reject."""
        return [
            (record.line, record.reason, raw)
            for record, raw in zip(self.records, self.raws, strict=True)
            if record.reason is not None
        ]

    @property
    def lines(self) -> list[int]:
        return [record.line for record in self.records]


def given(record: Record) -> dict[str, str]:
    return {name: value for name, value in zip(NAMES, record.values, strict=True) if value is not None}


def read(path: Path | str, block_size: int = BLOCK_BYTES) -> Reading:
    with Source.open(str(path), block_size=block_size) as source:
        return reading_of(source)


def reading_of(source: Source) -> Reading:
    records = exact(source.batches())
    raws = [raw_text(source.raw_bytes(record.raw)) for record in records]
    for record in records:
        assert (record.values is None) != (record.reason is None)
    return Reading(records, raws, source.unknown, source.format, source.checksum, source.size)


def read_bytes(folder: Path, name: str, content: bytes | str, block_size: int = BLOCK_BYTES) -> Reading:
    """Write a file and read it."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read(path, block_size)


def exact(batches: Iterable[Batch | list[Record]]) -> list[Record]:
    """All records, read exactly; those of a fast batch are held against what that would have COPY store."""
    columns = TypedColumns(lambda kind, texts: [None] * len(texts))
    records: list[Record] = []
    for batch in batches:
        if isinstance(batch, list):
            records += batch
            continue
        found = batch.exact()
        assert len(found) == len(batch)
        if columns.settle(batch) and (data := batch.copy_data(77)) is not None:
            rows = copied(data, batch.copy_format)
            assert [row[-1] for row in rows] == ["77"] * len(batch)
            for row, record in zip(rows, found, strict=True):
                assert record.values, record
                assert stored(row[:-1]) == stored(record.values)
        records += found
    return records


_FIELD = re.compile(r'(?:"((?:[^"\\]|\\.)*)"|([^",\n]*))([,\n])', re.DOTALL)
#: What COPY's binary form holds of each type, the load's number last, as its text.
_BINARY = {
    "varchar": bytes.decode,
    "int4": lambda value: str(*struct.unpack(">i", value)),
    "float8": lambda value: repr(*struct.unpack(">d", value)),
    "boolean": lambda value: {b"\0": "f", b"\1": "t"}[value],
    "int8": lambda value: str(*struct.unpack(">q", value)),
}


def copied(data: bytes, copy_format: CopyFormat) -> list[list[str | None]]:
    """The values that COPY reads in these rows."""
    return binary_values(data) if copy_format == BINARY_ROWS else json_values(data)


def binary_values(data: bytes) -> list[list[str | None]]:
    file = BytesIO(data)
    rows: list[list[str | None]] = []
    while start := file.read(2):
        assert struct.unpack(">h", start) == (len(NAMES) + 1,)
        rows.append([])
        for kind in (*COLUMNS.values(), "int8"):
            (length,) = struct.unpack(">i", file.read(4))
            rows[-1].append(None if length == -1 else _BINARY[kind](file.read(length)))
    return rows


def json_values(data: bytes) -> list[list[str | None]]:
    rows: list[list[str | None]] = [[]]
    at = 0
    content = data.decode()
    while at < len(content):
        match = _FIELD.match(content, at)
        assert match, content[at : at + 100]
        at = match.end()
        quoted, bare, end = match.groups()
        value = None if bare == "null" else bare
        rows[-1].append(value if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL))
        if end == "\n":
            rows.append([])
    assert rows.pop() == []
    return rows


def stored(values: Iterable[str | None]) -> list[object]:
    """What the table would hold, of values that every PostgreSQL takes."""
    numbers = {"int4": float, "float8": float, "boolean": lambda text: text.lower() in {"t", "true", "1"}}
    return [
        value if value is None else numbers.get(kind, str)(value)
        for value, kind in zip(values, COLUMNS.values(), strict=True)
    ]
