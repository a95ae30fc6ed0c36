"""CSV to batches: RFC 4180 with a header line.

Arrow's parser takes blocks of rows at a time, where it is sure to say the same as the standard library's; that one, row
by row, takes the others.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any, Final

from .batches import Batch, TableBatch
from .columns import NAMES, TYPED
from .errors import LoadError
from .records import MAX_RECORD_BYTES, Header, Record, Reject, UnknownFields, has_surrogates, is_utf8, text_of
from .streams import whole_lines

#: What the parser takes for one field: all there can be, where its own limit is 128 KiB.
_MAX_FIELD: Final = 2**31 - 1
#: So many records are read exactly before they are handed on.
_LIST_RECORDS: Final = 100
#: So many lines a row may have at the end of a block before that is left to the exact way.
_ROW_LINES: Final = 100
_MAX_BLOCK: Final = 2**26
_BOM: Final = b"\xef\xbb\xbf"
#: What may stand before a stretch in quotes and behind it; nothing is another such stretch, or an end of the block.
_BEFORE_QUOTE: Final = {b",", b"\n", b""}
_BEHIND_QUOTE: Final = {b",", b"\n", b"\r", b""}
_BLANKS: Final = " \t\n\r\v\f"
_TYPED_INDEXES: Final = frozenset(index for index, _ in TYPED)
_TEXT_INDEXES: Final = sorted(set(range(len(NAMES))) - _TYPED_INDEXES)
#: A field as written, quotes and all.
_FIELD: Final = re.compile(r'(?:\A|,)("[^"]*+(?:""[^"]*+)*+"|[^",][^,]*|)')
#: How the parser's messages begin, and what they mean.
_FAULTS: Final = {
    "unexpected end of data": "a quote that is never closed",
    "',' expected after '\"'": "text behind a closing quote",
    "new-line character seen": "a carriage return outside of quotes",
}


def read_csv(
    blocks: Iterator[bytes], unknown: UnknownFields, found: Header | None = None
) -> Iterator[Batch | list[Record]]:
    """The records below the header. Its names that stage.events lacks go into `unknown`, its line into `found`.

    A record's `raw` is its text, with bytes that are not UTF-8 as lone surrogates (`surrogateescape`).
    Raises LoadError where the header names no column of stage.events.
    """
    text = _Text(whole_lines(blocks))
    header: _Header | None = None
    for line, raw, fields in _rows(text):
        header = _Header(line, raw, fields)
        unknown.add(header.unknown)
        if found:
            found.content = raw.removesuffix("\n").encode("utf-8", "surrogateescape")
        break
    while header and (block := text.next_block()):
        line = text.line
        if _is_blank(block):
            text.line += block.count(b"\n")
        elif columns := header.columns(block):
            text.line += block.count(b"\n")
            rows = next(len(column) for column in columns if column is not None)
            yield TableBatch(columns, rows, partial(_all_records, block, line, header))
        else:
            text.put_back(block)
            yield from _records(text, header, len(block))


def read_csv_fields(
    blocks: Iterator[bytes], found: Header | None = None
) -> Iterator[tuple[int, str, dict[str, str | None] | Reject]]:
    """Line, text and fields by their names of each row below the header, whatever its names are; what is wrong with a
    row in the place of its fields. Raises LoadError where the header can't be read."""
    names: list[str] | None = None
    for line, raw, fields in _rows(_Text(whole_lines(blocks))):
        if names is None:
            names = _header_fields(line, fields)
            if found:
                found.content = raw.removesuffix("\n").encode("utf-8", "surrogateescape")
            continue
        try:
            texts = _checked(raw, fields, len(names))
            yield line, raw, {name: text or None for name, text in zip(names, texts, strict=False)}
        except Reject as reject:
            yield line, raw, reject


def row_reader(header: bytes) -> Callable[[int, bytes], list[Record]]:
    """Reads what stood on that line below that header, both without their line feed: one record, or what else comes of
    it. Raises LoadError as read_csv does."""
    columns = _Header(*next(_rows(_Text(iter([header + b"\n"])))))
    return lambda line, row: _all_records(row + b"\n", line, columns)


class _Text:
    """Lines on their way: in blocks, or one by one. `line` is the number of the next one."""

    def __init__(self, blocks: Iterator[bytes], line: int = 1) -> None:
        self._blocks = blocks
        self._block = b""
        self._at = 0
        self.line = line
        #: How many bytes were taken line by line.
        self.taken = 0

    def next_block(self) -> bytes:
        """Some whole lines that end outside of quotes, if none before them is amiss; empty at the end."""
        block = self._block[self._at :] or next(self._blocks, b"")
        end = len(block)
        for _ in range(_ROW_LINES):
            if not block.count(b'"', 0, end) % 2:
                break
            end = block.rfind(b"\n", 0, max(end - 1, 0)) + 1
        self._block, self._at = block, end or len(block)
        return block[: self._at]

    def put_back(self, block: bytes) -> None:
        self._block, self._at = block + self._block[self._at :], 0

    def lines(self) -> Iterator[str]:
        """The lines with their ends; whoever stops taking them leaves the rest where it is."""
        while True:
            if self._at == len(self._block):
                self._block, self._at = next(self._blocks, b""), 0
                if not self._block:
                    return
            end = self._block.find(b"\n", self._at) + 1 or len(self._block)
            line = self._block[self._at : end]
            self._at = end
            self.taken += len(line)
            self.line += 1
            yield line.decode("utf-8", "surrogateescape")


class _Header:
    """Where in a row each column of stage.events stands."""

    def __init__(self, line: int, raw: str, fields: list[str] | csv.Error) -> None:
        fields = _header_fields(line, fields)
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
        self._options: tuple[Any, ...] = ()

    def record(self, line: int, raw: str, fields: list[str] | csv.Error) -> Record:
        """A row read exactly."""
        try:
            return Record(line, raw, self._values(raw, fields), None)
        except Reject as reject:
            return Record(line, raw, None, str(reject))

    def columns(self, block: bytes) -> list[Any] | None:
        """The columns of a block of rows, None in it for those that the file lacks; None where only the exact way can
        tell what they are."""
        import pyarrow
        from pyarrow import csv

        if self._width < 2 or not _is_regular(block):
            return None
        self._options = self._options or self._arrow_options()
        # At an end that is no line end Arrow takes an empty last field for one in quotes.
        lines = block if block.endswith(b"\n") else block + b"\n"
        try:
            table = csv.read_csv(pyarrow.BufferReader(lines), *self._options)
        except pyarrow.ArrowInvalid:
            return None
        columns = [table.column(str(index)) if index < self._width else None for index in self._indexes]
        if b'""' in block:
            for index in _TYPED_INDEXES:
                columns[index] = columns[index] and _without_empty(columns[index])
        return columns if table.num_rows else None

    def _arrow_options(self) -> tuple[Any, ...]:
        """What tells Arrow's parser to read as the standard library's does: all as text, and NULL where nothing is."""
        import pyarrow
        from pyarrow import csv

        names = [str(index) for index in range(self._width)]
        kept = [names[index] for index in self._indexes if index < self._width]
        return (
            csv.ReadOptions(use_threads=False, block_size=_MAX_BLOCK + 1, column_names=names),
            csv.ParseOptions(newlines_in_values=True),
            csv.ConvertOptions(
                include_columns=kept,
                column_types=dict.fromkeys(kept, pyarrow.string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                check_utf8=False,
            ),
        )

    def _values(self, raw: str, fields: list[str] | csv.Error) -> list[str | None]:
        """A row's values in the order of the columns; raises Reject."""
        fields = _checked(raw, fields, self._width)
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


def _header_fields(line: int, fields: list[str] | csv.Error) -> list[str]:
    if isinstance(fields, csv.Error):
        raise LoadError(f"line {line}: the header can't be read: {_fault(fields)}")
    return fields


def _checked(raw: str, fields: list[str] | csv.Error, width: int) -> list[str]:
    """A row's fields. Raises Reject where they are none, or more than the header has."""
    if isinstance(fields, csv.Error):
        raise Reject(_fault(fields))
    if len(fields) > width:
        raise Reject(f"{len(fields)} fields, where the header has {width}")
    if has_surrogates(raw):
        raise Reject("bytes that are not UTF-8")
    return fields


def _is_blank(block: bytes) -> bool:
    """Whether the block has blank lines alone, which are no records."""
    return block.isspace() and _returns_end_lines(block)


def _returns_end_lines(block: bytes) -> bool:
    """Whether no carriage return stands elsewhere than before a line feed."""
    return b"\r" not in block or block.count(b"\r") == block.count(b"\r\n")


def _is_regular(block: bytes) -> bool:
    """Whether every parser of CSV reads the block alike: quotes stand where they may, and so do carriage returns."""
    if len(block) > _MAX_BLOCK or b"\0" in block or block.startswith(_BOM) or not _returns_end_lines(block):
        return False
    pieces = block.split(b'"')
    if len(pieces) % 2 == 0:
        return False
    outside = pieces[::2]
    # Between two quoted stretches stands a comma or a line end on both sides, or nothing, where a quote is doubled.
    if len(outside) > 1:
        first, last = outside[0], outside[-1]
        if first[-1:] not in _BEFORE_QUOTE or last[:1] not in _BEHIND_QUOTE:
            return False
        between = set(outside[1:-1])
        if not ({text[:1] for text in between} <= _BEHIND_QUOTE and {text[-1:] for text in between} <= _BEFORE_QUOTE):
            return False
    return is_utf8(block)


def _without_empty(column: Any) -> Any:
    """A column of a type that is no text: there a field that is empty in quotes is NULL too."""
    import pyarrow
    from pyarrow import compute

    return compute.if_else(compute.equal(column, ""), pyarrow.scalar(None, pyarrow.string()), column)


def _records(text: _Text, header: _Header, length: int) -> Iterator[list[Record]]:
    """The records that begin in so many bytes of the text, read exactly."""
    goal = text.taken + length
    records: list[Record] = []
    rows = _rows(text)
    while text.taken < goal and (row := next(rows, None)):
        records.append(header.record(*row))
        if len(records) >= _LIST_RECORDS:
            yield records
            records = []
    if records:
        yield records


def _all_records(block: bytes, line: int, header: _Header) -> list[Record]:
    return list(chain.from_iterable(_records(_Text(iter([block]), line), header, len(block))))


def _rows(text: _Text) -> Iterator[tuple[int, str, list[str] | csv.Error]]:
    """Each record's line, text, and fields or what is wrong with them; blank lines are passed over."""
    csv.field_size_limit(_MAX_FIELD)
    taken: list[str] = []
    rows = csv.reader(_taken_lines(text, taken), strict=True)
    while True:
        line = text.line
        fields: list[str] | csv.Error
        try:
            fields = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            fields = error
        raw = taken[0] if len(taken) == 1 else "".join(taken)
        taken.clear()
        if isinstance(fields, csv.Error) or len(fields) > 1 or raw.strip(_BLANKS):
            yield line, raw, fields


def _taken_lines(text: _Text, taken: list[str]) -> Iterator[str]:
    """The lines, each put into `taken` as the parser takes it."""
    size = 0
    for line in text.lines():
        size = len(line) + (size if taken else 0)
        if size > MAX_RECORD_BYTES:
            raise LoadError(
                f"a record is longer than {MAX_RECORD_BYTES >> 20} MiB: is there a quote that is not closed?"
            )
        taken.append(line)
        yield line


def _fault(error: csv.Error) -> str:
    message = str(error)
    return next((fault for start, fault in _FAULTS.items() if message.startswith(start)), message)


def _name(field: str) -> str:
    return text_of(field.encode("utf-8", "surrogateescape"))
