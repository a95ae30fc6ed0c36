"""A record of a source: what every reader yields, and the text of what can't be stored."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

#: A longer record ends the load: it is a quote or bracket that is never closed, and PostgreSQL could not hold its text.
MAX_RECORD_BYTES: Final = 2**28

#: So many names of fields that stage.events lacks are kept, and so many characters of each.
MAX_UNKNOWN: Final = 1000
_MAX_NAME: Final = 1000

#: What `text_of` writes for a byte that text can't hold; the same may have stood in the record.
_BYTE: Final = re.compile(r"\\x[0-9a-f]{2}")


class Record(NamedTuple):
    """One record of a file: the texts of its fields, or the reason why there are none.

    `line` is the line on which the record starts, from 1 (a CSV header's too); in Parquet the number of the row.
    `raw` is the record as it stood, for `Source.raw_bytes` alone to make sense of.
    `values` are in the order of `columns.NAMES`, None where a value is missing; None as a whole for a reject.
    `reason` says why the record is a reject, else it is None.
    """

    line: int
    raw: object
    values: list[str | None] | None
    reason: str | None


class Reject(Exception):  # noqa: N818 - it is no error of the program: a record that turns out to be a reject
    """Raised on the way to a record's values; its text is the reason."""


class UnknownFields:
    """Names of fields that stage.events lacks: in order of appearance, each once, no more than MAX_UNKNOWN."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    @property
    def names(self) -> list[str]:
        return list(self._names)

    def add(self, names: Iterable[str]) -> None:
        for name in names:
            if len(self._names) >= MAX_UNKNOWN:
                return
            self._names[_printable(name[:_MAX_NAME])] = None


class Header:
    """What stands before a file's records and says how to read one: a CSV's header line without its line feed, the
    bracket of a JSON array. None until a reader has found it, and for files that have none."""

    content: bytes | None = None


def raw_text(raw: bytes) -> str:
    """The text to be kept of a record's bytes: without their line end, and with `\\xNN` for what no text holds."""
    return text_of(raw.removesuffix(b"\r"))


def raw_bytes(text: str) -> bytes | None:
    """The bytes of which raw_text has made the text, if it had no more than the line feed to take from them; None where
    the text can't tell, as it has a `\\xNN` in it."""
    return None if _BYTE.search(text) else text.encode()


def text_of(raw: bytes) -> str:
    """Bytes as text that PostgreSQL can store: those that are no UTF-8, and NUL, become `\\xNN`."""
    return raw.decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def is_utf8(content: bytes) -> bool:
    """Whether the bytes are text."""
    if content.isascii():
        return True
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def has_surrogates(text: str) -> bool:
    """Whether some of the text can't be written as UTF-8."""
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _printable(name: str) -> str:
    return text_of(name.encode("utf-8", "backslashreplace"))
