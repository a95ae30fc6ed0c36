"""Events in several files: the records of a main one, each joined with its partners in the files beside it.

The partners wait in a table of SQLite, which is in memory as long as they are few and in a temporary file else.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, Self

from .batches import Batch
from .errors import LoadError
from .field_paths import Fields
from .json_values import parse_object, text_of_value
from .mappings import SourceMapping
from .paths import Format, partner_files
from .readers import Source
from .records import Record, Reject
from .streams import InputFile

_CACHE_KIB: Final = 2**16


class JoinedSource(Source):
    """A main file with those beside it: one content, whose records are those of the main file."""

    def __init__(
        self, name: str, format_: Format, file: InputFile, block_size: int, mapping: SourceMapping | None = None
    ) -> None:
        assert mapping
        super().__init__(name, format_, file, block_size, mapping)
        self._mapping = mapping
        self._partners: dict[str, Source] = {}
        self._count_unused = 0
        alone = replace(mapping, main="", parts={})
        try:
            for part, path in partner_files(name, mapping).items():
                partner = Source.open(path, block_size=block_size, mapping=alone)
                self._partners[part] = self._open_files.enter_context(partner)
        except BaseException:
            self.close()
            raise
        sizes = [source.file_size for source in self._sources]
        self.file_size = None if None in sizes else sum(size or 0 for size in sizes)

    @property
    def passed(self) -> int:
        return super().passed + self._count_unused

    def fingerprint(self) -> str | None:
        found = [Source.fingerprint(source) for source in self._sources]
        return None if None in found else _fingerprint(filter(None, found))

    def batches(self) -> Iterator[Batch | list[Record]]:
        assert self._mapped
        with Partners(self._mapping) as partners:
            for part, source in self._partners.items():
                for line, raw, reject in partners.add(part, source.fields()):
                    yield [Record(line, raw, None, str(reject))]
            self._mapped.partners = partners
            yield from super().batches()
            self._count_unused = partners.count_unused()
        self.size = sum(source.size for source in self._sources)
        self.checksum = _fingerprint(source.checksum for source in self._sources)

    @property
    def _sources(self) -> list[Source]:
        return [self, *self._partners.values()]


def _fingerprint(checksums: Iterable[str]) -> str:
    return hashlib.sha256(" ".join(checksums).encode()).hexdigest()


class Partners:
    """The partners of one main file's records; to be closed."""

    def __init__(self, mapping: SourceMapping) -> None:
        self._parts = mapping.parts
        # Of no name: a database of its own, in a temporary file that is gone at the end.
        self._database = sqlite3.connect("", isolation_level=None)
        with _room():
            self._database.execute(f"pragma cache_size = -{_CACHE_KIB}")
            self._database.execute(
                "create table partners (part, key, record, used default 0, primary key (part, key)) without rowid"
            )
            self._database.execute("begin")

    def add(self, part: str, found: Iterable[tuple[int, Any, Fields | Reject]]) -> Iterator[tuple[int, Any, Reject]]:
        """Takes the records of a part's file, of several with one key the first; those that are none come back."""
        with _room():
            for line, raw, fields in found:
                try:
                    if isinstance(fields, Reject):
                        raise fields
                    row = (part, self._key(part, fields), text_of_value("the record", fields))
                    self._database.execute("insert or ignore into partners (part, key, record) values (?, ?, ?)", row)
                except Reject as reject:
                    yield line, raw, Reject(f"{part}: {reject}")

    def joined(self, fields: Fields) -> Fields:
        """The record with the fields of its partners, its own standing before theirs. Raises Reject where one lacks."""
        joined: dict[str, object] = {}
        with _room():
            for part in self._parts:
                key = self._key(part, fields)
                row = self._database.execute(
                    "select record, used from partners where part = ? and key = ?", (part, key)
                ).fetchone()
                if row is None:
                    raise Reject(f"no {part} with its {self._parts[part]}")
                if not row[1]:
                    self._database.execute("update partners set used = 1 where part = ? and key = ?", (part, key))
                joined |= parse_object(row[0].encode(), as_written=True)
        return joined | dict(fields)

    def count_unused(self) -> int:
        """How many partners no record has asked for."""
        with _room():
            (count,) = self._database.execute("select count(*) from partners where not used").fetchone()
        return int(count)

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _key(self, part: str, fields: Fields) -> str:
        name = self._parts[part]
        key = text_of_value(name, fields.get(name))
        if not key:
            raise Reject(f"no {name} to find its {part} by")
        return key


@contextmanager
def _room() -> Iterator[None]:
    """Raises LoadError where there is no room for the partners."""
    try:
        yield
    except sqlite3.Error as error:
        raise LoadError(
            f"the files beside it can't be set aside: {error}; make room for temporary files, or name another folder "
            "by TMPDIR"
        ) from error
