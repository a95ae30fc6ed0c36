"""Batches of records on their way to COPY: what every reader yields, and the fast ones made without a look at each row.

A fast batch holds rows that a parser written in C took whole. Where anything about it is in doubt, `exact` reads the
same records once more by the way that is slow and right whatever the text, and that decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from io import BytesIO
from operator import itemgetter
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from .columns import COLUMNS, TYPED
from .records import Record

#: What a parser of JSON makes of a value, or a text.
Value = str | float | bool | None


class CopyFormat(NamedTuple):
    """How COPY is told to read rows, and what it reads before the first."""

    options: str
    header: bytes


#: Rows as a JSON encoder writes them: `"a",null,"b"` is CSV that says what NULL is, and in which a backslash escapes.
JSON_ROWS: Final = CopyFormat(r"format csv, null 'null', escape '\'", b"")
#: Rows in PostgreSQL's own binary form, which spares it the parsing.
BINARY_ROWS: Final = CopyFormat("format binary", b"PGCOPY\n\xff\r\n\0" + bytes(8))

#: Short texts of booleans, which Arrow does not take, to those that it does.
_BOOLEANS: Final = {"t": "true", "f": "false"}
_BINARY_END: Final = b"\xff\xff"
_ENCODER: Final = msgspec.json.Encoder()


class Batch(Protocol):
    """Some records of a file that follow one another, none of them a reject unless a typed column refuses it."""

    copy_format: CopyFormat

    def __len__(self) -> int: ...

    def distinct(self, index: int) -> set[Any]:
        """The values of a column, each once."""

    def replace(self, index: int, values: Mapping[Any, Value]) -> None:
        """Puts others in the place of some values of a column."""

    def copy_data(self, batch_id: int) -> bytes | None:
        """The rows as COPY reads them, with that number behind each; None where only `exact` can tell what they are."""

    def exact(self) -> list[Record]:
        """The same records, read one by one."""


class RowBatch:
    """Rows of values in the order of the columns, as a JSON parser made them."""

    copy_format = JSON_ROWS

    def __init__(self, rows: list[tuple[Value, ...]], exact: Callable[[], list[Record]]) -> None:
        self._rows = rows
        self.exact = exact

    def __len__(self) -> int:
        return len(self._rows)

    def distinct(self, index: int) -> set[Any]:
        return set(map(itemgetter(index), self._rows))

    def replace(self, index: int, values: Mapping[Any, Value]) -> None:
        self._rows = [
            (*row[:index], values[row[index]], *row[index + 1 :]) if row[index] in values else row for row in self._rows
        ]

    def copy_data(self, batch_id: int) -> bytes | None:
        return json_rows(self._rows, batch_id)


class TableBatch:
    """Columns of text without NUL characters, each an Arrow array or None where the file has no such column."""

    copy_format = BINARY_ROWS

    def __init__(self, columns: Sequence[Any], length: int, exact: Callable[[], list[Record]]) -> None:
        self._columns = list(columns)
        self._length = length
        self.exact = exact

    def __len__(self) -> int:
        return self._length

    def distinct(self, index: int) -> set[Any]:
        column = self._columns[index]
        return {None} if column is None else set(column.unique().to_pylist())

    def replace(self, index: int, values: Mapping[Any, Value]) -> None:
        import pyarrow

        coded = pyarrow.concat_arrays(pyarrow.chunked_array([self._columns[index]]).chunks).dictionary_encode()
        texts = [values.get(text, text) for text in coded.dictionary.to_pylist()]
        self._columns[index] = pyarrow.array(texts, pyarrow.string()).take(coded.indices)

    def copy_data(self, batch_id: int) -> bytes | None:
        import pyarrow

        for index, kind in TYPED:
            if kind == "boolean" and not self.distinct(index).isdisjoint(_BOOLEANS):
                self.replace(index, _BOOLEANS)
        schema = _binary_schema()
        columns = [
            pyarrow.nulls(self._length, kind) if column is None else column
            for column, kind in zip(self._columns, schema.types, strict=False)
        ]
        columns.append(pyarrow.repeat(batch_id, self._length))
        try:
            table = pyarrow.Table.from_arrays(columns, schema.names).cast(schema)
        except pyarrow.ArrowInvalid:
            # A value that PostgreSQL takes, or so it said, and Arrow does not.
            return None
        return _binary_rows(table)


@cache
def _binary_schema() -> Any:
    """The columns of stage.events but for its id, as Arrow has them."""
    import pyarrow

    kinds = {
        "varchar": pyarrow.string(),
        "int4": pyarrow.int32(),
        "float8": pyarrow.float64(),
        "boolean": pyarrow.bool_(),
    }
    fields = [(name, kinds[kind]) for name, kind in COLUMNS.items()]
    return pyarrow.schema([*fields, ("batch_id", pyarrow.int64())])


def _binary_rows(table: Any) -> bytes:
    """The rows of an Arrow table, without what stands before the first and behind the last."""
    from pgpq import ArrowToPostgresBinaryEncoder

    encoder = ArrowToPostgresBinaryEncoder(table.schema)
    encoder.write_header()
    parts: list[bytes] = [encoder.write_batch(batch) for batch in table.to_batches()]
    return b"".join([*parts, encoder.finish()])[: -len(_BINARY_END)]


def json_rows(rows: Sequence[Sequence[Value]], batch_id: int) -> bytes | None:
    """Rows as JSON_ROWS has COPY read them; None where a text holds what PostgreSQL can't store, or a number is too
    large to be written as one."""
    try:
        text = _ENCODER.encode_lines(rows)
    except (msgspec.MsgspecError, UnicodeEncodeError, OverflowError):
        return None
    if b"\\" not in text:
        # JSON has no raw line end within a text: each line is a row in brackets. BytesIO finds them sooner than split.
        end = b",%d\n" % batch_id
        return end.join([*[line[1:-2] for line in BytesIO(text)], b""])
    lines = "".join([f"{_escaped(row)},{batch_id}\n" for row in rows])
    return None if "\0" in lines else lines.encode()


def _escaped(row: Iterable[Value]) -> str:
    """A row with something that JSON escapes; for COPY only a backslash and a quote have a backslash before them."""
    return ",".join(
        [
            "null"
            if value is None
            else '"{}"'.format(value.replace("\\", r"\\").replace('"', r"\""))
            if isinstance(value, str)
            else _ENCODER.encode(value).decode()
            for value in row
        ]
    )
