"""JSON to batches: an object a line, or the objects of one array.

Nearly every record is taken by msgspec, which is fast and as strict as it has to be. Whatever it refuses, and whatever
it can't tell exactly (fractions in text columns, `-0`, nested values), is decided by json_values, which is exact.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache, partial
from io import BytesIO
from itertools import chain, islice
from operator import attrgetter
from typing import Any, Final

import msgspec

from .batches import Batch, RowBatch
from .columns import COLUMNS, INDEX, NAMES
from .json_array import FAULTS, elements
from .json_values import MAX_DEPTH, parse_object, text_of_value
from .records import Header, Record, Reject, UnknownFields
from .streams import refuse_long_line, whole_lines

#: Enough for the parser's own work to outweigh what is done for each batch.
BATCH_RECORDS: Final = 100
_BATCH_BYTES: Final = 2**17
#: So many names that stage.events lacks are passed over fast; a record with others is read exactly.
_MAX_PASSED: Final = 100
#: After so many records to which no parser could be found, no more is looked for.
_MAX_FUTILE: Final = 100
_PASSABLE: Final = re.compile(r"[^\x00-\x1f\"\\\ud800-\udfff]{1,100}")
_MINUS_ZERO: Final = re.compile(rb":[ \t\n\r]*-0")
#: What each kind of column may hold for a batch to be sure of its text.
_KINDS: Final[dict[str, Any]] = {
    "varchar": str | None,
    "int4": str | float | None,
    "float8": str | float | None,
    "boolean": str | bool | None,
}
_Row = tuple[str | float | bool | None, ...]


class JsonReader:
    """Batches of one JSON file. The names that stage.events lacks go into `unknown`, an array's bracket into `header`;
    `as_written` is parse_object's, for single records."""

    def __init__(self, unknown: UnknownFields, header: Header | None = None, *, as_written: bool = False) -> None:
        self._unknown = unknown
        self._header = header or Header()
        self._as_written = as_written
        self._parser = _parser((), False)
        self._futile = 0

    def lines(self, blocks: Iterator[bytes], line: int = 1) -> Iterator[Batch | list[Record]]:
        """An object a line, counted from `line`; blank lines are passed over."""
        for block in whole_lines(blocks):
            for text in _pieces(block):
                if text.isspace():
                    line += text.count(b"\n")
                    continue
                if rows := self._parser.lines(text):
                    yield RowBatch(rows, partial(self._line_records, text, line))
                    line += len(rows)
                    continue
                texts = _split(text)
                size = min(BATCH_RECORDS, _BATCH_BYTES * len(texts) // len(text) + 1)
                for start in range(0, len(texts), size):
                    yield from self._batches(texts[start : start + size], line + start)
                line += len(texts)

    def lines_or_array(self, blocks: Iterator[bytes]) -> Iterator[Batch | list[Record]]:
        """The elements of an array if the first character is its bracket, else an object a line."""
        line, is_array, blocks = beginning(blocks)
        if not is_array:
            return self.lines(blocks, line)
        self._header.content = b"["
        return self._array(blocks, line)

    def record(self, line: int, raw: bytes, *, learn: bool = False) -> Record:
        """The record of a text that should be one object, read exactly; `learn`: others like it shall go fast."""
        try:
            fields = parse_object(raw, as_written=self._as_written)
            names = tuple(fields)
            self._unknown.add(name for name in names if name not in INDEX)
            record = Record(line, raw, [text_of_value(name, fields.get(name)) for name in NAMES], None)
        except Reject as reject:
            return Record(line, raw, None, str(reject))
        if learn and self._futile < _MAX_FUTILE:
            before, self._parser = self._parser, self._parser.adapted(names, raw)
            self._futile += before is self._parser
        return record

    def _line_records(self, text: bytes, line: int) -> list[Record]:
        return self._records(_split(text), line)

    def _records(self, texts: list[bytes], line: int) -> list[Record]:
        return [self.record(number, text.removesuffix(b"\n")) for number, text in enumerate(texts, line)]

    def _batches(self, texts: list[bytes], line: int) -> Iterator[Batch | list[Record]]:
        """The records of these lines, those that the fast way doesn't take in lists of their own."""
        done = 0
        exact: list[Record] = []
        while done < len(texts):
            rows: list[_Row] = []
            with suppress(*FAULTS):
                rows.extend(self._parser.each(islice(texts, done, None)))
            if rows:
                if exact:
                    yield exact
                    exact = []
                taken = texts[done : done + len(rows)]
                yield RowBatch(rows, partial(self._records, taken, line + done))
                done += len(rows)
            if done < len(texts):
                if not texts[done].isspace():
                    exact.append(self.record(line + done, texts[done].removesuffix(b"\n"), learn=True))
                done += 1
        if exact:
            yield exact

    def _array(self, blocks: Iterator[bytes], line: int) -> Iterator[Batch | list[Record]]:
        exact: list[Record] = []
        for number, raw, rows, reason in elements(blocks, line, lambda text: self._parser.rows(text)):
            if rows is None:
                exact.append(Record(number, raw, None, reason) if reason else self.record(number, raw, learn=True))
            if exact and (rows is not None or len(exact) >= BATCH_RECORDS or len(raw) >= _BATCH_BYTES):
                yield exact
                exact = []
            if rows is not None:
                yield RowBatch(rows, partial(self._array_records, raw, number))
        if exact:
            yield exact

    def _array_records(self, raw: bytes, line: int) -> list[Record]:
        """The records of some elements of an array."""
        return [self.record(number, text) for number, text, _, _ in elements(iter([b"[" + raw + b"]"]), line)]


class _Parser:
    """The fast way to rows, for records that have no other names than those of the columns and the `passed` ones.

    `any_scalar`: whether text columns may hold whole numbers, true and false, which takes a closer look at each record.
    """

    def __init__(self, passed: tuple[str, ...], any_scalar: bool) -> None:
        self._passed = passed
        self._any_scalar = any_scalar
        self._doubtful = any_scalar or bool(passed)
        kinds = _KINDS | ({"varchar": str | int | bool | None} if any_scalar else {})
        columns = [(f"c{index}", kinds[kind], None) for index, kind in enumerate(COLUMNS.values())]
        others = [(f"p{index}", Any, None) for index in range(len(passed))]
        shape = msgspec.defstruct(
            "Event",
            [*columns, *others],
            rename=dict(zip([name for name, _, _ in (*columns, *others)], (*NAMES, *passed), strict=True)),
            forbid_unknown_fields=True,
            gc=False,
        )
        decoder = msgspec.json.Decoder(shape)
        self._decode: Callable[[bytes], Any] = decoder.decode
        self._decode_lines: Callable[[bytes], list[Any]] = decoder.decode_lines
        self._decode_array: Callable[[bytes], list[Any]] = msgspec.json.Decoder(list[shape]).decode  # type: ignore[valid-type]
        self._values: Callable[[Any], _Row] = (
            attrgetter(*[name for name, _, _ in columns]) if passed else msgspec.structs.astuple
        )

    def row(self, text: bytes) -> _Row:
        """The values of an object's text. Raises one of FAULTS."""
        row = self._values(self._decode(text))
        if self._doubtful:
            self._look_closer(text, [row])
        return row

    def each(self, texts: Iterable[bytes]) -> Iterator[_Row]:
        """The values of each object's text, none of them in Python's own time if that can be. Raises one of FAULTS."""
        return map(self.row, texts) if self._doubtful else map(self._values, map(self._decode, texts))

    def lines(self, text: bytes) -> list[_Row]:
        """The values of the object on each line; none at all where some line may not be an object."""
        count = 0 if self._doubtful else _count_brackets(text)
        if not count:
            return []
        try:
            rows = list(map(self._values, self._decode_lines(text)))
        except FAULTS:
            return []
        # A bracket that starts a line starts an object, as these hold no others: each line has one, or more.
        return rows if len(rows) == count else []

    def rows(self, text: bytes) -> list[_Row]:
        """The values of each of some objects with commas between them. Raises one of FAULTS."""
        rows = list(map(self._values, self._decode_array(b"[" + text + b"]")))
        if self._doubtful:
            self._look_closer(text, rows)
        return rows

    def takes(self, text: bytes) -> bool:
        try:
            self.row(text)
        except FAULTS:
            return False
        return True

    def adapted(self, names: tuple[str, ...], text: bytes) -> _Parser:
        """A parser that takes this object, which is valid and has those names, and others like it; this one where it
        does, or where none is found."""
        if self.takes(text):
            return self
        new = [name for name in names if name not in INDEX and name not in self._passed and _PASSABLE.fullmatch(name)]
        if len(self._passed) + len(new) <= _MAX_PASSED:
            for any_scalar in (self._any_scalar, True):
                other = _parser((*self._passed, *new), any_scalar)
                if other.takes(text):
                    return other
        return self

    def _look_closer(self, text: bytes, rows: list[_Row]) -> None:
        """Raises ValidationError where the exact way may say something else of these rows' text."""
        if self._passed and text.count(b"[") + text.count(b"{") - len(rows) >= MAX_DEPTH:
            raise msgspec.ValidationError("not to be decided here")
        if self._any_scalar and any(0 in row for row in rows) and _MINUS_ZERO.search(text):
            raise msgspec.ValidationError("not to be decided here")


def beginning(blocks: Iterator[bytes]) -> tuple[int, bool, Iterator[bytes]]:
    """The line of the first character that is no blank, whether that is an array's bracket, and the blocks from there
    on, or from the start of its line."""
    line = 1
    kept: list[bytes] = []
    for block in blocks:
        kept.append(block)
        if not block.isspace():
            break
        if count := block.count(b"\n"):
            line += count
            kept = [block[block.rfind(b"\n") + 1 :]]
        refuse_long_line(sum(map(len, kept)))
    start = b"".join(kept)
    return line, start.lstrip().startswith(b"["), chain([start], blocks)


def _pieces(block: bytes) -> Iterator[bytes]:
    """Some whole lines at a time."""
    start = 0
    while start < len(block):
        end = block.rfind(b"\n", start, start + _BATCH_BYTES) + 1 or block.find(b"\n", start) + 1 or len(block)
        yield block[start:end]
        start = end


def _count_brackets(text: bytes) -> int:
    """How many lines there are, if each starts with a bracket; else 0."""
    count = start = 0
    # Nothing else goes through a text as fast as find() does.
    while text.startswith(b"{", start):
        count += 1
        start = text.find(b"\n", start) + 1
        if start in (0, len(text)):
            return count
    return 0


def _split(text: bytes) -> list[bytes]:
    """The lines with their ends."""
    return BytesIO(text).readlines()  # which looks for line ends much faster than split() does


#: A parser takes long to make, and is the same for every file.
_parser: Final = lru_cache(maxsize=100)(_Parser)
