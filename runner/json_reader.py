"""JSON to records: an object a line, or the objects of one array however long it is.

Most records are decided by orjson, which is fast. Whatever it refuses, and whatever it can't tell exactly (numbers that
64 bits don't hold, `-0`, nested values), is decided by the standard library, whose hooks see each number as written.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final, NoReturn

import orjson

from .columns import INDEX, NAMES
from .errors import LoadError
from .records import MAX_RECORD_BYTES, Record, Reject, UnknownFields, has_surrogates
from .streams import whole_lines

#: Deeper nesting is a reject: a limit of its own is the same on every Python, unlike that of the stack.
MAX_DEPTH: Final = 500

_MAX_SHAPES: Final = 1000
_INT64_END: Final = 2.0**63
_MINUS_ZERO: Final = re.compile(rb":\s*-0")

_BLANKS: Final = re.compile(rb"[ \t\n\r]*")
_OBJECT_END: Final = re.compile(rb"\}[ \t\n\r]*[,\]]")
_TEXT: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
#: A whole text, a bracket, or the quote of a text that goes on past the end.
_BRACKETS: Final = re.compile(_TEXT + rb'|["{}\[\]]', re.DOTALL)
#: The same, with all that ends an element which is no object and no array.
_BARE_ENDS: Final = re.compile(_TEXT + rb'|[",{\[\]]', re.DOTALL)
_OPENING: Final = {b"}": b"{", b"]": b"["}


class JsonReader:
    """Records of one JSON file. The names that stage.events lacks go into `unknown`."""

    def __init__(self, unknown: UnknownFields) -> None:
        self._unknown = unknown
        self._shapes: dict[tuple[str, ...], tuple[bool, bool]] = {}

    def lines(self, blocks: Iterator[bytes], line: int = 1) -> Iterator[Record]:
        """An object a line, counted from `line`; blank lines are passed over."""
        for block in whole_lines(blocks):
            texts = block.split(b"\n")
            for number, text in enumerate(texts, line):
                if text and not text.isspace():
                    yield self.record(number, text)
            line += len(texts) - 1

    def lines_or_array(self, blocks: Iterator[bytes]) -> Iterator[Record]:
        """The objects of an array if the first character is its bracket, else an object a line."""
        line = 1
        start = b""
        for block in blocks:
            start += block
            if not start.isspace():
                break
            line += start.count(b"\n")
            start = start[start.rfind(b"\n") + 1 :]
        if start:
            blocks = chain([start], blocks)
        return self._array(_Window(blocks, line)) if start.lstrip().startswith(b"[") else self.lines(blocks, line)

    def record(self, line: int, raw: bytes) -> Record:
        """The record of a text that should be one object."""
        try:
            fields = orjson.loads(raw)
        except orjson.JSONDecodeError:
            return self.exact_record(line, raw)
        return self._fast_record(line, raw, fields)

    def exact_record(self, line: int, raw: bytes) -> Record:
        """The same by the standard library alone: slower, and right for every text there is."""
        try:
            fields = _exact_object(raw)
            self._shape(tuple(fields))
            return Record(line, raw, [_exact_text(name, fields.get(name)) for name in NAMES], None)
        except Reject as reject:
            return Record(line, raw, None, str(reject))

    def _fast_record(self, line: int, raw: bytes, fields: Any) -> Record:
        """The record of what orjson made of `raw`, by way of exact_record where that may differ."""
        if type(fields) is not dict or b"\\u0000" in raw:
            return self.exact_record(line, raw)
        names = tuple(fields)
        ordered, all_known = self._shapes.get(names) or self._shape(names)
        if not all_known and raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
            return self.exact_record(line, raw)
        values = list(fields.values()) if ordered else list(map(fields.get, NAMES))
        for index, value in enumerate(values):
            kind = type(value)
            if kind is str or value is None:
                continue
            if kind is bool:
                values[index] = "true" if value else "false"
            elif kind is int and (value or not _MINUS_ZERO.search(raw)):
                values[index] = str(value)
            elif kind is float and 0 < abs(value) < _INT64_END:
                # Past this bound it may be a whole number, of which a float holds the first digits only.
                values[index] = repr(value)
            else:
                return self.exact_record(line, raw)
        return Record(line, raw, values, None)

    def _shape(self, names: tuple[str, ...]) -> tuple[bool, bool]:
        """Whether the names are the columns in their order, and whether all of them are columns."""
        unknown = [name for name in names if name not in INDEX]
        self._unknown.add(unknown)
        shape = (names == NAMES, not unknown)
        if len(names) < 2 * len(NAMES):
            if len(self._shapes) >= _MAX_SHAPES:
                self._shapes.clear()
            self._shapes[names] = shape
        return shape

    def _array(self, window: _Window) -> Iterator[Record]:
        """The elements of the array that starts in the window; what stands between them is a reject of its own."""
        window.skip_blanks()
        window.take(1)
        element_before = False
        comma_line: int | None = None
        while window.skip_blanks():
            line = window.line
            match window.data[window.at : window.at + 1]:
                case b",":
                    window.take(1)
                    if not element_before:
                        yield Record(line, b",", None, "a comma with no element before it")
                    comma_line, element_before = (line, False) if element_before else (comma_line, False)
                case b"]":
                    if comma_line is not None:
                        yield Record(comma_line, b",", None, "a comma with no element behind it")
                    window.take(1)
                    yield from _after_array(window)
                    return
                case b"{" if whole := _first_object(window):
                    yield self._fast_record(line, window.take(whole[1]), whole[0])
                    element_before, comma_line = True, None
                case first:
                    length = _bracketed_length(window) if first in (b"{", b"[") else _bare_length(window)
                    if length is None:
                        raw = window.take(len(window.data) - window.at).rstrip()
                        yield Record(line, raw, None, "not JSON: the file ends inside of this element")
                        return
                    yield self.record(line, window.take(length).rstrip())
                    element_before, comma_line = True, None
        yield Record(window.line, b"", None, "not JSON: the file ends before the array is closed")


class _Window:
    """The stretch of a stream that is looked at: grows at its end on demand, forgets what was taken from its start.

    What is not yet taken starts at `data[at]`, on the line `line`.
    """

    def __init__(self, blocks: Iterator[bytes], line: int) -> None:
        self._blocks = blocks
        self.data = b""
        self.at = 0
        self.line = line

    def grow(self) -> bool:
        """Read on, at least as much again as is still there, so that all growth together costs little; False at the end."""
        rest = self.data[self.at :]
        parts = [rest]
        added = 0
        for block in self._blocks:
            parts.append(block)
            added += len(block)
            if added >= len(rest):
                break
        self.data = b"".join(parts)
        self.at = 0
        if len(rest) > MAX_RECORD_BYTES:
            raise LoadError(f"line {self.line}: an element is longer than {MAX_RECORD_BYTES >> 20} MiB: is it closed?")
        return added > 0

    def take(self, length: int) -> bytes:
        taken = self.data[self.at : self.at + length]
        self.line += taken.count(b"\n")
        self.at += length
        return taken

    def skip_blanks(self) -> bool:
        """Go to the next character that is none; False where the stream ends first."""
        while True:
            blanks = _BLANKS.match(self.data, self.at)
            if blanks and blanks[0]:
                self.take(len(blanks[0]))
            if self.at < len(self.data):
                return True
            if not self.grow():
                return False


def _first_object(window: _Window) -> tuple[Any, int] | None:
    """The object at the window's start and its length, by the shortest piece that is one; None where that is unclear.

    No object is the beginning of another one, so the first piece that can be read is right.
    """
    search_from = window.at
    for _ in range(4):
        end = _OBJECT_END.search(window.data, search_from)
        if end is None:
            return None
        search_from = end.start() + 1
        try:
            return orjson.loads(window.data[window.at : search_from]), search_from - window.at
        except orjson.JSONDecodeError:
            continue
    return None


def _bracketed_length(window: _Window) -> int | None:
    """Length of the object or array at the window's start, broken or not; None where the stream ends inside of it.

    A closing bracket closes the nearest one of its kind, with all that was left open since; without one it is nothing.
    """
    opened: list[bytes] = []
    count = {b"{": 0, b"[": 0}
    for mark, end in _marks(window, _BRACKETS):
        opening = _OPENING.get(mark)
        if opening is None:
            opened.append(mark)
            count[mark] += 1
        elif count[opening]:
            closed = None
            while closed != opening:
                closed = opened.pop()
                count[closed] -= 1
            if not opened:
                return end
    return None


def _bare_length(window: _Window) -> int | None:
    """Length of what is no object and no array at the window's start; None where nothing ends it."""
    for _, end in _marks(window, _BARE_ENDS):
        return end - 1
    return None


def _marks(window: _Window, pattern: re.Pattern[bytes]) -> Iterator[tuple[bytes, int]]:
    """The marks of the pattern outside of texts, each with the length from the window's start to behind it."""
    length = 0
    while True:
        for token in pattern.finditer(window.data, window.at + length):
            if token[0] == b'"':
                length = token.start() - window.at
                break
            length = token.end() - window.at
            if token[0][0] != ord('"'):
                yield token[0], length
        if not window.grow():
            return


def _after_array(window: _Window) -> Iterator[Record]:
    if window.skip_blanks():
        while window.grow():
            pass
        yield Record(window.line, window.data.rstrip(), None, "text behind the end of the array")


class _Number(str):
    """A number's text as it is to be stored, to be told from a string."""

    __slots__ = ()


def _fraction(literal: str) -> _Number:
    """The shortest text that reads back the same; as written where a float can't hold the number at all."""
    value = float(literal)
    mantissa = literal.lower().partition("e")[0]
    lost = math.isinf(value) or (value == 0 and mantissa.strip("-0."))
    return _Number(literal if lost else repr(value))


def _no_constant(name: str) -> NoReturn:
    raise Reject(f"not JSON: {name}")


_DECODER: Final = json.JSONDecoder(parse_int=_Number, parse_float=_fraction, parse_constant=_no_constant)
_quoted: Final = json.JSONEncoder(ensure_ascii=False).encode


def _exact_object(raw: bytes) -> dict[str, object]:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise Reject(f"not UTF-8: the byte {raw[error.start]:#04x} after {error.start} others") from error
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth_exceeds(MAX_DEPTH, raw):
        raise Reject(f"nested deeper than {MAX_DEPTH} levels")
    try:
        fields = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise Reject(f"not JSON: {error.msg} after {error.pos} characters") from error
    except RecursionError as error:
        raise Reject("nested too deep") from error
    if not isinstance(fields, dict):
        raise Reject(f"{_kind(fields)}, not a JSON object")
    return fields


def _depth_exceeds(limit: int, raw: bytes) -> bool:
    depth = 0
    for token in _BRACKETS.finditer(raw):
        if token[0] in (b"{", b"["):
            depth += 1
            if depth > limit:
                return True
        elif token[0] in _OPENING:
            depth -= 1
    return False


def _kind(value: object) -> str:
    if isinstance(value, list):
        return "an array"
    if isinstance(value, _Number):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return _compact(value)


def _exact_text(name: str, value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        text = str(value)
        if "\0" in text:
            raise Reject(f"a NUL character in {name}")
    else:
        text = _compact(value)
    if has_surrogates(text):
        raise Reject(f"a lone surrogate in {name}")
    return text


def _compact(value: object) -> str:
    """JSON without blanks, and with nothing escaped that need not be."""
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, list):
        items = []
        for item in value:
            items.append(_compact(item))  # noqa: PERF401 - a comprehension takes a stack frame more for every level
        return f"[{','.join(items)}]"
    if isinstance(value, dict):
        items = []
        for key, item in value.items():
            items.append(f"{_quoted(key)}:{_compact(item)}")
        return f"{{{','.join(items)}}}"
    return _quoted(value)
