"""Values of the typed columns: which of them the type's own input takes.

Most are plainly fine. About the others the server is asked, since only it knows: `0x1F` is an integer for
PostgreSQL 16, and none for 15.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from .batches import Batch, Value
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
#: Below it a number that a JSON parser made is the one that was written, but for zero, to which a tiny one comes too.
_SURE_END: Final = 2.0**63
_INT4_END: Final = 2.0**31
_KEPT_BYTES: Final = 2**22


class TypedColumns:
    """The typed columns of one file, and what is known of the values that came in them so far."""

    def __init__(self, ask: Ask) -> None:
        self._columns = [_TypedColumn(index, kind, ask) for index, kind in TYPED]

    def settle(self, batch: Batch) -> bool:
        """Whether all values of the batch are sure to be taken. A whole number written `80.0` becomes 80 in it."""
        return all(column.settle(batch) for column in self._columns)

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
        self._taken: set[Value] = {None}
        self._refused: dict[str | None, str] = {}
        self._kept_bytes = 0

    def settle(self, batch: Batch) -> bool:
        """Whether the column's values in the batch are sure to be taken, be it with others in the place of some."""
        unsure = batch.distinct(self._index) - self._taken
        if not unsure:
            return True
        others = {value: other for value in unsure if (other := self._other(value)) is not value}
        if others:
            batch.replace(self._index, others)
        texts = {others.get(value, value) for value in unsure} - self._taken
        if not all(self._is_plain(value) for value in texts):
            return False
        # Numbers are not remembered: to a set, 1, 1.0 and True are the same.
        self._remember(text for text in texts if isinstance(text, str))
        return True

    def _other(self, value: Value) -> Value:
        """What is stored in the place of a value that a fast batch holds."""
        if self._kind == "int4" and isinstance(value, str) and (match := _WHOLE.fullmatch(value)):
            return match[1]
        if self._kind == "int4" and isinstance(value, float) and value.is_integer() and abs(value) < _INT4_END:
            return int(value)
        return value

    def _is_plain(self, value: Value) -> bool:
        if isinstance(value, str):
            return _PLAIN[self._kind].fullmatch(value) is not None
        if isinstance(value, float):
            return self._kind == "float8" and 0 < abs(value) < _SURE_END
        return True

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
        return {text for text in texts if isinstance(text, str)}

    def _learn(self, texts: set[str]) -> None:
        """Sorts the texts into taken and refused ones."""
        new = [text for text in texts if text not in self._refused]
        doubtful = [text for text in new if not self._is_plain(text)]
        self._remember(new)
        if doubtful:
            for text, error in zip(doubtful, self._ask(self._kind, doubtful), strict=True):
                if error is not None:
                    self._taken.remove(text)
                    self._refused[text] = f"{NAMES[self._index]}: {error}"

    def _remember(self, texts: Iterable[str]) -> None:
        """Counts the texts among the taken ones; forgets what came before where that became too much."""
        if self._kept_bytes > _KEPT_BYTES:
            self._taken, self._refused, self._kept_bytes = {None}, {}, 0
        for text in texts:
            self._kept_bytes += len(text) + 100
            self._taken.add(text)


def _shorten(rows: Sequence[Row], index: int, texts: set[str]) -> bool:
    """Writes 80 for such as 80.0 in a column of the rows; False where none of its texts is one."""
    whole: dict[str | None, str] = {text: match[1] for text in texts if (match := _WHOLE.fullmatch(text))}
    if whole:
        for row in rows:
            row[index] = whole.get(row[index], row[index])
    return bool(whole)
