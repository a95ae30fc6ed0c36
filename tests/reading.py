"""Reading made short for the tests of the readers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clickmart.columns import NAMES
from clickmart.readers import BLOCK_BYTES, Record, Source

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
        records = list(source.records())
        raws = [source.raw_text(record.raw) for record in records]
        for record in records:
            assert (record.values is None) != (record.reason is None)
        return Reading(records, raws, source.unknown, source.format, source.checksum, source.size)


def read_bytes(folder: Path, name: str, content: bytes | str, block_size: int = BLOCK_BYTES) -> Reading:
    """Write a file and read it."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read(path, block_size)
