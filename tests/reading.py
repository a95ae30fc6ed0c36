"""Reading made short for the tests of the readers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from clickmart.batches import JSON_ROWS, Batch
from clickmart.columns import COLUMNS, NAMES
from clickmart.readers import BLOCK_BYTES, Record, Source
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
        records = exact(source.batches())
        raws = [source.raw_text(record.raw) for record in records]
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
        if columns.settle(batch) and (text := batch.csv(77)) is not None:
            assert [row[-1] for row in copied(text, batch.copy_options)] == ["77"] * len(batch)
            for row, record in zip(copied(text, batch.copy_options), found, strict=True):
                assert record.values, record
                assert stored(row[:-1]) == stored(record.values)
        records += found
    return records


_FIELD = {
    True: re.compile(r'(?:"((?:[^"\\]|\\.)*)"|([^",\n]*))([,\n])', re.DOTALL),
    False: re.compile(r'(?:"((?:[^"]|"")*)"|([^",\n]*))([,\n])'),
}


def copied(text: bytes, options: str) -> list[list[str | None]]:
    """The values that COPY reads in a text."""
    as_json = options == JSON_ROWS
    rows: list[list[str | None]] = [[]]
    at = 0
    content = text.decode()
    while at < len(content):
        match = _FIELD[as_json].match(content, at)
        assert match, content[at : at + 100]
        at = match.end()
        quoted, bare, end = match.groups()
        if quoted is not None:
            value = re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL) if as_json else quoted.replace('""', '"')
        else:
            value = None if bare == ("null" if as_json else "") else bare
        rows[-1].append(value)
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
