"""Texts of the typed columns: which of them the type's own input takes.

Most are plainly fine. About the others the server is asked, since only it knows: `0x1F` is an integer for
PostgreSQL 16, and none for 15.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from .columns import NAMES, TYPED

#: The texts of a record, in the order of `columns.NAMES`.
Row = list[str | None]
#: Asks the server: a type's name and texts to what it says against each, None where it takes it.
Ask = Callable[[str, Sequence[str]], Sequence[str | None]]

#: Texts that the type's input takes on every server.
_PLAIN: Final = {
    "int4": re.compile(r"[+-]?[0-9]{1,9}"),
    "float8": re.compile(r"[+-]?[0-9]{1,100}(?:\.[0-9]{1,100})?(?:[eE][+-]?[0-9]{1,2})?"),
    "boolean": re.compile(r"true|false|True|False|t|f|1|0"),
}
#: A whole number written as pandas does in a column with gaps, with the blanks that PostgreSQL passes over.
_WHOLE: Final = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)\.0+[ \t\n\v\f\r]*")
_KEPT_BYTES: Final = 2**22


class TypedColumns:
    """The typed columns of one file, and what is known of the texts that came in them so far."""

    def __init__(self, ask: Ask) -> None:
        self._columns = [_TypedColumn(index, kind, ask) for index, kind in TYPED]

    def refusals(self, rows: Sequence[Row]) -> dict[int, str]:
        """Why rows can't be stored, by their places. A whole number written `80.0` becomes 80 in its row."""
        reasons: dict[int, str] = {}
        for column in self._columns:
            for place, reason in column.refusals(rows).items():
                reasons.setdefault(place, reason)
        return reasons


class _TypedColumn:
    def __init__(self, index: int, kind: str, ask: Ask) -> None:
        self._index: Final = index
        self._kind: Final = kind
        self._ask: Final = ask
        self._taken: set[str | None] = {None}
        self._refused: dict[str | None, str] = {}
        self._kept_bytes = 0

    def refusals(self, rows: Sequence[Row]) -> dict[int, str]:
        unsure = self._unsure(rows)
        if unsure and self._kind == "int4" and _shorten(rows, self._index, unsure):
            unsure = self._unsure(rows)
        if not unsure:
            return {}
        self._learn(unsure)
        if self._refused.keys().isdisjoint(unsure):
            return {}
        texts = enumerate(row[self._index] for row in rows)
        return {place: self._refused[text] for place, text in texts if text in self._refused}

    def _unsure(self, rows: Sequence[Row]) -> set[str]:
        """The texts in the rows that are not known to be taken."""
        texts = {row[self._index] for row in rows} - self._taken
        return {text for text in texts if text is not None}

    def _learn(self, texts: set[str]) -> None:
        """Sorts the texts into taken and refused ones. Forgets what came before where that became too much."""
        if self._kept_bytes > _KEPT_BYTES:
            self._taken, self._refused, self._kept_bytes = {None}, {}, 0
        new = [text for text in texts if text not in self._refused]
        self._kept_bytes += sum(len(text) + 100 for text in new)
        doubtful = [text for text in new if not _PLAIN[self._kind].fullmatch(text)]
        self._taken.update(new)
        if doubtful:
            for text, error in zip(doubtful, self._ask(self._kind, doubtful), strict=True):
                if error is not None:
                    self._taken.remove(text)
                    self._refused[text] = f"{NAMES[self._index]}: {error}"


def _shorten(rows: Sequence[Row], index: int, texts: set[str]) -> bool:
    """Writes 80 for such as 80.0 in a column of the rows; False where none of its texts is one."""
    whole: dict[str | None, str] = {text: match[1] for text in texts if (match := _WHOLE.fullmatch(text))}
    if whole:
        for row in rows:
            row[index] = whole.get(row[index], row[index])
    return bool(whole)
