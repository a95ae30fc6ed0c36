"""JSON to records: an object a line, or the objects of one array.

Most records are decided by orjson, which is fast. Whatever it refuses, and whatever it can't tell exactly (numbers that
64 bits don't hold, `-0`, nested values), is decided by json_values, which is exact.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

import orjson

from .columns import INDEX, NAMES
from .json_array import elements
from .json_values import MAX_DEPTH, parse_object, text_of_value
from .records import Record, Reject, UnknownFields
from .streams import whole_lines

_MAX_SHAPES: Final = 1000
#: Below it, what orjson makes a float was written as one; from it on it may be a whole number that lost digits.
_INT64_END: Final = 2.0**63
_MINUS_ZERO: Final = re.compile(rb":[ \t\n\r]*-0")


class JsonReader:
    """Records of one JSON file. The names that stage.events lacks go into `unknown`."""

    def __init__(self, unknown: UnknownFields) -> None:
        self._unknown = unknown
        #: Names of one record -> whether all are columns.
        self._shapes: dict[tuple[str, ...], bool] = {}

    def lines(self, blocks: Iterator[bytes], line: int = 1) -> Iterator[Record]:
        """An object a line, counted from `line`; blank lines are passed over."""
        for block in whole_lines(blocks):
            texts = block.split(b"\n")
            for number, text in enumerate(texts, line):
                if text and not text.isspace():
                    yield self.record(number, text)
            line += len(texts) - 1

    def lines_or_array(self, blocks: Iterator[bytes]) -> Iterator[Record]:
        """The elements of an array if the first character is its bracket, else an object a line."""
        line = 1
        start = b""
        for block in blocks:
            start += block
            if not start.isspace():
                break
            line += start.count(b"\n")
            start = start[start.rfind(b"\n") + 1 :]
        blocks = chain([start], blocks)
        return self._array(blocks, line) if start.lstrip().startswith(b"[") else self.lines(blocks, line)

    def record(self, line: int, raw: bytes) -> Record:
        """The record of a text that should be one object."""
        try:
            fields = orjson.loads(raw)
        except orjson.JSONDecodeError:
            return self.exact_record(line, raw)
        return self._record_of(fields, line, raw)

    def exact_record(self, line: int, raw: bytes) -> Record:
        """The same without orjson: slower, and right whatever the text."""
        try:
            fields = parse_object(raw)
            self._note(tuple(fields))
            return Record(line, raw, [text_of_value(name, fields.get(name)) for name in NAMES], None)
        except Reject as reject:
            return Record(line, raw, None, str(reject))

    def _array(self, blocks: Iterator[bytes], line: int) -> Iterator[Record]:
        for number, raw, fields, reason in elements(blocks, line):
            if reason:
                yield Record(number, raw, None, reason)
            elif fields is None:
                yield self.record(number, raw)
            else:
                yield self._record_of(fields, number, raw)

    def _record_of(self, fields: Any, line: int, raw: bytes) -> Record:
        """The record of what orjson made of `raw`, if that is sure to be exact, else the exact one."""
        if type(fields) is not dict or (b"\\" in raw and b"\\u0000" in raw):
            return self.exact_record(line, raw)
        names = tuple(fields)
        all_known = self._shapes.get(names)
        if not all_known:
            if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
                return self.exact_record(line, raw)
            if all_known is None:
                self._note(names)
        values: list[Any] = list(fields.values()) if names == NAMES else list(map(fields.get, NAMES))
        for index, value in enumerate(values):
            if type(value) is str or value is None:
                continue
            if type(value) is bool:
                values[index] = "true" if value else "false"
            elif type(value) is int and (value or not _MINUS_ZERO.search(raw)):
                values[index] = str(value)
            elif type(value) is float and 0 < abs(value) < _INT64_END:
                values[index] = repr(value)
            else:
                return self.exact_record(line, raw)
        return Record(line, raw, values, None)

    def _note(self, names: tuple[str, ...]) -> None:
        """Gather the unknown ones among a record's names, and remember that this is done."""
        unknown = [name for name in names if name not in INDEX]
        self._unknown.add(unknown)
        if len(self._shapes) >= _MAX_SHAPES:
            self._shapes.clear()
        if len(names) <= 2 * len(NAMES):
            self._shapes[names] = not unknown
