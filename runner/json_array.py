"""One JSON array to its elements, however long it is, and however broken some of them are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final, NamedTuple

import msgspec

from .errors import LoadError
from .records import MAX_RECORD_BYTES

#: In so many pieces, each up to one bracket further, the fast way looks for an object that ends there.
_ATTEMPTS: Final = 4
#: So far the end of one object is looked for; a longer one is taken bracket by bracket.
_OBJECT_BYTES: Final = 2**16
#: So many bytes of elements are tried at a time, and after a failure so many elements are taken singly.
_SEVERAL_BYTES: Final = 2**16
_SINGLES: Final = 100
#: With more brackets open at once an element is none, but the rest of a file that nobody closes.
_MAX_OPEN: Final = 2**20
_BLANKS: Final = re.compile(rb"[ \t\n\r]*")
_OBJECT_END: Final = re.compile(rb"\}[ \t\n\r]*[,\]]")
_TEXT: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
#: A whole text, a bracket, or the quote of a text that goes on past the window.
_BRACKETS: Final = re.compile(_TEXT + rb'|["{}\[\]]', re.DOTALL)
#: The same, with what ends an element that is no object and no array.
_BARE_ENDS: Final = re.compile(_TEXT + rb'|[",{\[\]]', re.DOTALL)
_ANY: Final = msgspec.json.Decoder()
#: What a strict parser raises on a text that it doesn't take.
FAULTS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_NO_ELEMENT: Final = "a comma without an element"
_CUT_ELEMENT: Final = "not JSON: the file ends inside of this element"
_NOT_CLOSED: Final = "not JSON: the file ends before the array is closed"
_BEHIND_ARRAY: Final = "not JSON: text behind the end of the array"
#: Reasons of what is no element of the array, whatever stands in it.
NO_ELEMENTS: Final = frozenset((_NO_ELEMENT, _CUT_ELEMENT, _NOT_CLOSED, _BEHIND_ARRAY))
_OPENING: Final = {b"}": b"{", b"]": b"["}


class Element(NamedTuple):
    """A piece of the array's text: an element, what stands where none should, or several elements at a time."""

    line: int
    raw: bytes
    #: What was made of several elements, None for a single piece.
    rows: list[Any] | None = None
    #: Why it is a reject whatever is in it, None for an element.
    reason: str | None = None


def elements(blocks: Iterator[bytes], line: int, many: Callable[[bytes], list[Any]] | None = None) -> Iterator[Element]:
    """The pieces of the array that the blocks begin with, on that line; all but commas between elements is in one.

    `many` makes rows of several whole elements with commas between them, or raises one of FAULTS.
    """
    window = _Window(blocks, line)
    window.skip_blanks()
    window.take(1)
    singles = bracketed = 0
    any_element = False
    separator: Element | None = None
    while window.skip_blanks():
        line = window.line
        first = window.first()
        if first == b"]":
            if separator:
                yield separator
            window.take(1)
            yield from _after_array(window)
            return
        if first == b",":
            comma = Element(line, window.take(1), reason=_NO_ELEMENT)
            if separator or not any_element:
                yield separator or comma
            separator = comma if any_element else None
            continue
        any_element, separator = True, None
        if first == b"{" and many and not singles:
            if found := _several(window, many):
                yield Element(line, window.take(found[1]), found[0])
                continue
            singles = _SINGLES
        singles = max(0, singles - 1)
        if first == b"{" and not bracketed:
            if length := _first_object(window):
                yield Element(line, window.take(length))
                continue
            bracketed = _SINGLES
        bracketed = max(0, bracketed - 1)
        length = _bracketed_length(window) if first in (b"{", b"[") else _bare_length(window)
        if length is None:
            yield Element(line, window.rest(), reason=_CUT_ELEMENT)
            return
        yield Element(line, window.take(length).rstrip())
    yield Element(window.line, b"", reason=_NOT_CLOSED)


class _Window:
    """The stretch of a stream that is looked at: grows at its end on demand, forgets what was taken from its start.

    What is not taken yet starts at `data[at]`, on the line `line`.
    """

    def __init__(self, blocks: Iterator[bytes], line: int) -> None:
        self._blocks = blocks
        self.data = b""
        self.at = 0
        self.line = line

    def first(self) -> bytes:
        return self.data[self.at : self.at + 1]

    def take(self, length: int) -> bytes:
        taken = self.data[self.at : self.at + length]
        self.line += taken.count(b"\n")
        self.at += length
        return taken

    def rest(self) -> bytes:
        """All that is left of the stream, without the blanks at its end."""
        while self.grow():
            pass
        return self.take(len(self.data)).rstrip()

    def grow(self) -> bool:
        """Read on, by at least as much as is still there, so that growing often costs little; False at the end."""
        parts = [self.data[self.at :]]
        kept = len(parts[0])
        if kept > MAX_RECORD_BYTES:
            raise LoadError(f"line {self.line}: an element is longer than {MAX_RECORD_BYTES >> 20} MiB: is it closed?")
        added = 0
        for block in self._blocks:
            parts.append(block)
            added += len(block)
            if added >= max(kept, 1):
                break
        self.data = b"".join(parts)
        self.at = 0
        return added > 0

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


def _several(window: _Window, many: Callable[[bytes], list[Any]]) -> tuple[list[Any], int] | None:
    """The rows of the objects that the window starts with, and their length; None where that is not so easily told.

    What reads as a list of objects is one: no other way to part the array can begin with the same text.
    """
    end = window.at + _SEVERAL_BYTES
    for _ in range(_ATTEMPTS):
        end = window.data.rfind(b"},", window.at, end) + 1
        if not end:
            return None
        with suppress(*FAULTS):
            return many(window.data[window.at : end]), end - window.at
    return None


def _first_object(window: _Window) -> int | None:
    """Length of the object that the window starts with; None where the fast way doesn't find it.

    No object is the beginning of another one, so the first piece that is one is the right one.
    """
    end = window.at
    last = window.at + _OBJECT_BYTES
    for _ in range(_ATTEMPTS):
        found = _OBJECT_END.search(window.data, end, last)
        if found is None:
            return None
        end = found.start() + 1
        with suppress(*FAULTS):
            _ANY.decode(window.data[window.at : end])
            return end - window.at
    return None


def _bracketed_length(window: _Window) -> int | None:
    """Length of the object or array, be it broken, that the window starts with; None where the stream ends inside.

    A closing bracket closes the nearest open one of its kind, with all that was opened in between. If there is none,
    it closes nothing.
    """
    opened: list[bytes] = []
    count = {b"{": 0, b"[": 0}
    for mark, end in _marks(window, _BRACKETS):
        opening = _OPENING.get(mark)
        if opening is None:
            opened.append(mark)
            count[mark] += 1
            if len(opened) > _MAX_OPEN:
                raise LoadError(f"line {window.line}: an element opens more than {_MAX_OPEN:,} brackets: is it closed?")
        elif count[opening]:
            closed = None
            while closed != opening:
                closed = opened.pop()
                count[closed] -= 1
            if not opened:
                return end
    return None


def _bare_length(window: _Window) -> int | None:
    """Length of what the window starts with, up to a comma or bracket; None where the stream ends before one."""
    for _, end in _marks(window, _BARE_ENDS):
        return end - 1
    return None


def _marks(window: _Window, pattern: re.Pattern[bytes]) -> Iterator[tuple[bytes, int]]:
    """The pattern's marks outside of texts, each with the length from the window's start to behind it."""
    length = 0
    while True:
        for token in pattern.finditer(window.data, window.at + length):
            mark = token[0]
            if mark == b'"':
                length = token.start() - window.at
                break
            length = token.end() - window.at
            if len(mark) == 1:
                yield mark, length
        if not window.grow():
            return


def _after_array(window: _Window) -> Iterator[Element]:
    if window.skip_blanks():
        yield Element(window.line, window.rest(), reason=_BEHIND_ARRAY)
