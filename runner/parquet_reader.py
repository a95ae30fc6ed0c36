"""Parquet to batches of rows: every column becomes text by its type, and Arrow does that where its text is the same."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from datetime import date, timedelta
from decimal import Decimal
from functools import partial
from io import RawIOBase
from itertools import repeat
from typing import Any, BinaryIO, Final

from .batches import Batch, TableBatch
from .columns import COLUMNS, INDEX, NAMES
from .errors import LoadError
from .parquet_batches import bounded_batches
from .records import Record, UnknownFields, has_surrogates
from .streams import LentFile

#: Bytes of a column that are held at a time, where it would be all of a row group.
_COLUMN_BUFFER: Final = 2**18
_EPOCH: Final = date(1970, 1, 1)
#: The Gregorian calendar repeats itself: so many days are so many years.
_CYCLE_DAYS: Final = 146_097
_CYCLE_YEARS: Final = 400
_DAY_SECONDS: Final = 86_400
#: Of each unit: how many a second has.
_PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_NO_JSON_NUMBERS: Final = frozenset(("NaN", "Infinity", "-Infinity"))
_quoted: Final = json.JSONEncoder(ensure_ascii=False).encode


def read_parquet(file: RawIOBase | BinaryIO, unknown: UnknownFields) -> Iterator[Batch | list[Record]]:
    """The rows in batches, counted from 1. The columns that stage.events lacks go into `unknown`.

    A record's `raw` is its batch and its place in it, for `row_text`.
    Raises LoadError where the file is damaged, or none of its columns is one of stage.events.
    """
    with _opened(file) as source:
        names: list[str] = source.schema_arrow.names
        if INDEX.keys().isdisjoint(names):
            raise LoadError(
                f"no column is one of stage.events: found {', '.join(names[:10])}; "
                f"expected names like {', '.join(NAMES[:4])}"
            )
        unknown.add(name for name in names if name not in INDEX)
        row = 1
        for batch in bounded_batches(source):
            yield _batch(batch, row)
            row += batch.num_rows


def read_parquet_rows(file: RawIOBase | BinaryIO, names: Set[str] | None) -> Iterator[tuple[int, Any, str]]:
    """Number, `raw` for `row_text`, and compact JSON of each row: with those of its columns alone that are among
    `names`, None being all. Raises LoadError where the file is damaged."""
    with _opened(file) as source:
        row = 1
        for batch in bounded_batches(source):
            columns = [
                (name, _json(column))
                for name, column in zip(batch.schema.names, batch.columns, strict=True)
                if names is None or name in names
            ]
            for index in range(batch.num_rows):
                yield row + index, (batch, index), _object((name, texts[index]) for name, texts in columns)
            row += batch.num_rows


@contextmanager
def _opened(file: RawIOBase | BinaryIO) -> Iterator[Any]:
    """The file as Arrow reads it. Raises LoadError where what is done with it shows that it is damaged."""
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(
            LentFile(file), pre_buffer=False, buffer_size=_COLUMN_BUFFER, coerce_int96_timestamp_unit="us"
        ) as source:
            yield source
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise LoadError(f"the Parquet data is damaged, or none ({error}): copy or download it again") from error


def row_text(batch: Any, index: int) -> str:
    """A row as compact JSON with all its columns; bytes that are not UTF-8 are lone surrogates (`surrogateescape`)."""
    row = batch.slice(index, 1)
    return _object((name, _json(column)[0]) for name, column in zip(row.schema.names, row.columns, strict=True))


def _batch(batch: Any, first: int) -> Batch | list[Record]:
    """The rows of an Arrow batch, whose first has that number in the file."""
    import pyarrow

    exact = partial(_records, batch, first)
    columns: list[Any] = [None] * len(NAMES)
    try:
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if name in INDEX:
                columns[INDEX[name]] = _storable(_text_column(column, COLUMNS[name]))
    except (pyarrow.ArrowException, UnicodeEncodeError):
        return exact()
    return TableBatch(columns, batch.num_rows, exact)


def _text_column(column: Any, kind: str) -> Any:
    """An Arrow array's values as one of texts. Raises ArrowException or UnicodeEncodeError where some can't be text."""
    import pyarrow
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    source = column.type
    as_it_is = types.is_string(source) or types.is_large_string(source) or types.is_boolean(source)
    if as_it_is or types.is_integer(source) or (types.is_float64(source) and kind == "float8"):
        return column.cast(pyarrow.string())
    if types.is_float64(source) and kind == "int4":
        # As pandas writes integers with gaps among them.
        return column.cast(pyarrow.int64()).cast(pyarrow.string())
    return pyarrow.array(_texts(column)[0], pyarrow.string())


def _storable(texts: Any) -> Any:
    """The same array. Raises ArrowInvalid where one of its texts holds a NUL character or is not UTF-8."""
    import pyarrow

    texts.validate(full=True)
    _, offsets, content = texts.buffers()
    if content:
        ends = memoryview(offsets).cast("i")
        first, end = ends[texts.offset], ends[texts.offset + len(texts)]
        if b"\0" in content.slice(first, end - first).to_pybytes():
            raise pyarrow.ArrowInvalid("a NUL character")
    return texts


def _records(batch: Any, first: int) -> list[Record]:
    columns: dict[str, list[str | None]] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if name in INDEX:
            columns[name] = _texts(column)[0]
    reasons: dict[int, str] = {}
    for name, texts in columns.items():
        for index, fault in _faults(texts):
            reasons.setdefault(index, f"{fault} in {name}")
    rows = zip(*(columns.get(name, repeat(None)) for name in NAMES), strict=False)
    return [
        Record(first + index, (batch, index), None if index in reasons else list(values), reasons.get(index))
        for index, values in enumerate(rows)
    ]


def _faults(texts: list[str | None]) -> Iterator[tuple[int, str]]:
    """The texts that can't be stored: index and why."""
    together = "".join(filter(None, texts))
    if "\0" not in together and not has_surrogates(together):
        return
    for index, text in enumerate(texts):
        if text and "\0" in text:
            yield index, "a NUL character"
        elif text and has_surrogates(text):
            yield index, "bytes that are not UTF-8"


def _texts(array: Any) -> tuple[list[str | None], bool]:
    """An Arrow array's values as texts, and whether these are JSON as they stand, without quotes.

    Bytes that are not UTF-8 come out as lone surrogates.
    """
    import pyarrow
    from pyarrow import types

    kind = array.type
    if isinstance(kind, pyarrow.BaseExtensionType) and kind.extension_name != "arrow.uuid":
        return _texts(array.storage)
    if types.is_dictionary(kind):
        return _texts(array.dictionary_decode())
    if types.is_boolean(kind):
        return _each(lambda value: "true" if value else "false", array.to_pylist()), True
    if types.is_integer(kind):
        return _each(str, array.to_pylist()), True
    if types.is_float64(kind):
        return _each(_float_text, array.to_pylist()), True
    if types.is_floating(kind):
        # Arrow's own text is the shortest for the width of the type, though not in the form that others have.
        shortest = array.cast(pyarrow.float32()).cast(pyarrow.string())
        return _each(lambda text: _float_text(float(text)), shortest.to_pylist()), True
    if types.is_decimal(kind):
        return _each(_decimal_text, array.to_pylist()), True
    if types.is_temporal(kind):
        return _temporal_texts(array, kind), types.is_duration(kind)
    if types.is_struct(kind):
        return _struct_texts(array), True
    if types.is_nested(kind):
        return [_list_text(value.values, types.is_map(kind)) for value in array], True
    all_text = types.is_unicode(kind) or types.is_large_unicode(kind)
    try:
        values = array.to_pylist()
    except UnicodeDecodeError:
        values, all_text = array.cast(pyarrow.large_binary()).to_pylist(), False
    return (values if all_text else _each(_other_text, values)), False


def _each(text_of: Callable[[Any], str], values: Iterable[Any]) -> list[str | None]:
    return [None if value is None else text_of(value) for value in values]


def _other_text(value: object) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def _float_text(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _decimal_text(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _temporal_texts(array: Any, kind: Any) -> list[str | None]:
    """Texts by whole numbers alone, since Python's own dates end with the year 9999 and with microseconds."""
    import pyarrow
    from pyarrow import types

    numbers = array.view(pyarrow.int64() if kind.bit_width == 64 else pyarrow.int32()).to_pylist()
    if types.is_date32(kind):
        return _each(_date_text, numbers)
    if types.is_duration(kind):
        return _each(str, numbers)
    per_second = _PER_SECOND["ms" if types.is_date64(kind) else kind.unit]
    if types.is_date64(kind):
        return _each(lambda number: _date_text(number // per_second // _DAY_SECONDS), numbers)
    if types.is_time(kind):
        return _each(lambda number: _time_text(number, per_second), numbers)
    zone = "+00" if kind.tz else ""

    def timestamp_text(number: int) -> str:
        day, time = divmod(number, _DAY_SECONDS * per_second)
        return f"{_date_text(day)} {_time_text(time, per_second)}{zone}"

    return _each(timestamp_text, numbers)


def _date_text(day: int) -> str:
    """The date so many days after 1970-01-01, or before."""
    cycle, day = divmod(day, _CYCLE_DAYS)
    moment = _EPOCH + timedelta(day)
    return f"{moment.year + cycle * _CYCLE_YEARS:04}-{moment.month:02}-{moment.day:02}"


def _time_text(number: int, per_second: int) -> str:
    """The time of day, whose seconds have so many parts; what is finer than a microsecond is cut."""
    second, part = divmod(number, per_second)
    microsecond = part * 10**6 // per_second
    text = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
    return f"{text}.{microsecond:06}" if microsecond else text


def _json(array: Any) -> list[str]:
    """An Arrow array's values as compact JSON each."""
    texts, bare = _texts(array)
    return [
        "null" if text is None else text if bare and text not in _NO_JSON_NUMBERS else _quoted(text) for text in texts
    ]


def _object(fields: Iterable[tuple[str, str]]) -> str:
    """A JSON object of names and JSON texts; of a name given twice the last counts."""
    return f"{{{','.join(f'{_quoted(name)}:{text}' for name, text in dict(fields).items())}}}"


def _struct_texts(array: Any) -> list[str | None]:
    names = [field.name for field in array.type]
    rows = zip(*map(_json, array.flatten()), strict=True)
    return [
        _object(zip(names, row, strict=True)) if there else None
        for row, there in zip(rows, array.is_valid().to_pylist(), strict=True)
    ]


def _list_text(values: Any, is_map: bool) -> str | None:
    """JSON of one list's or one map's values, None for a null; a map's keys are texts, whatever they were."""
    if values is None:
        return None
    if not is_map:
        return f"[{','.join(_json(values))}]"
    keys, items = values.flatten()
    return _object(zip((key or "" for key in _texts(keys)[0]), _json(items), strict=True))
