"""CSV to records: RFC 4180 with a header line, by the standard library's parser."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from operator import itemgetter
from typing import Final

from .columns import NAMES, TYPED
from .errors import LoadError
from .records import MAX_RECORD_BYTES, Record, Reject, UnknownFields, has_surrogates, text_of
from .streams import whole_lines

#: What the parser takes for one field: all there can be, where its own limit is 128 KiB.
_MAX_FIELD: Final = 2**31 - 1
_BLANKS: Final = " \t\n\r\v\f"
_TEXT_INDEXES: Final = sorted(set(range(len(NAMES))) - {index for index, _ in TYPED})
#: A field as written, quotes and all.
_FIELD: Final = re.compile(r'(?:\A|,)("[^"]*+(?:""[^"]*+)*+"|[^",][^,]*|)')
#: How the parser's messages begin, and what they mean.
_FAULTS: Final = {
    "unexpected end of data": "a quote that is never closed",
    "',' expected after '\"'": "text behind a closing quote",
    "new-line character seen": "a carriage return outside of quotes",
}


def read_csv(blocks: Iterator[bytes], unknown: UnknownFields) -> Iterator[Record]:
    """The records below the header. The header's names that stage.events lacks go into `unknown`.

    A record's `raw` is its text, with bytes that are not UTF-8 as lone surrogates (`surrogateescape`).
    Raises LoadError where the header names no column of stage.events.
    """
    header: _Header | None = None
    for line, raw, fields in _rows(blocks):
        if header is None:
            header = _Header(line, raw, fields)
            unknown.add(header.unknown)
            continue
        try:
            yield Record(line, raw, header.values(raw, fields), None)
        except Reject as reject:
            yield Record(line, raw, None, str(reject))


class _Header:
    """Where in a row each column of stage.events stands."""

    def __init__(self, line: int, raw: str, fields: list[str] | csv.Error) -> None:
        if isinstance(fields, csv.Error):
            raise LoadError(f"line {line}: the header can't be read: {_fault(fields)}")
        self._width: Final = len(fields)
        indexes = {name: index for index, name in enumerate(fields)}
        if indexes.keys().isdisjoint(NAMES):
            found = text_of(raw[:200].strip().encode("utf-8", "surrogateescape"))
            raise LoadError(
                f"line {line}: the header names no column of stage.events: found {found!r}, "
                f"expected names like {','.join(NAMES[:4])}, with commas between them"
            )
        self.unknown: Final = [_name(field) for field in fields if field not in NAMES]
        self._indexes: Final = [indexes.get(name, self._width) for name in NAMES]
        self._pick: Final = itemgetter(*self._indexes)

    def values(self, raw: str, fields: list[str] | csv.Error) -> list[str | None]:
        """A row's values in the order of the columns; raises Reject."""
        if isinstance(fields, csv.Error):
            raise Reject(_fault(fields))
        if len(fields) > self._width:
            raise Reject(f"{len(fields)} fields, where the header has {self._width}")
        if has_surrogates(raw):
            raise Reject("bytes that are not UTF-8")
        # Behind the fields stands what columns that the header lacks, and fields that the row lacks, come to: nothing.
        fields.extend([""] * (self._width + 1 - len(fields)))
        picked: tuple[str, ...] = self._pick(fields)
        values = [value or None for value in picked]
        if '""' in raw and "" in picked:
            written = _FIELD.findall(raw.rstrip("\r\n"))
            for index in _TEXT_INDEXES:
                field = self._indexes[index]
                if field < len(written) and written[field] == '""':
                    values[index] = ""
        if "\0" in raw:
            for name, value in zip(NAMES, values, strict=True):
                if value and "\0" in value:
                    raise Reject(f"a NUL character in {name}")
        return values


def _rows(blocks: Iterator[bytes]) -> Iterator[tuple[int, str, list[str] | csv.Error]]:
    """Each record's line, text, and fields or what is wrong with them; blank lines are passed over."""
    csv.field_size_limit(_MAX_FIELD)
    taken: list[str] = []
    rows = csv.reader(_lines(blocks, taken), strict=True)
    line = 1
    while True:
        fields: list[str] | csv.Error
        try:
            fields = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            fields = error
        raw = taken[0] if len(taken) == 1 else "".join(taken)
        if isinstance(fields, csv.Error) or len(fields) > 1 or raw.strip(_BLANKS):
            yield line, raw, fields
        line += len(taken)
        taken.clear()


def _lines(blocks: Iterator[bytes], taken: list[str]) -> Iterator[str]:
    """The lines with their ends, each put into `taken` as the parser takes it."""
    for block in whole_lines(blocks):
        if sum(map(len, taken)) > MAX_RECORD_BYTES:
            raise LoadError(
                f"a record is longer than {MAX_RECORD_BYTES >> 20} MiB: is there a quote that is not closed?"
            )
        for line in io.StringIO(block.decode("utf-8", "surrogateescape"), newline="\n"):
            taken.append(line)
            yield line


def _fault(error: csv.Error) -> str:
    message = str(error)
    return next((fault for start, fault in _FAULTS.items() if message.startswith(start)), message)


def _name(field: str) -> str:
    return text_of(field.encode("utf-8", "surrogateescape"))
