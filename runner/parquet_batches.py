"""A Parquet file to Arrow batches of bounded size. A few bytes of it may stand for many long texts, so they are decoded
when it is known how much comes of them."""

from __future__ import annotations

from collections.abc import Iterator
from io import RawIOBase
from typing import Any, BinaryIO, Final

from .errors import LoadError
from .records import MAX_RECORD_BYTES
from .streams import LentFile

#: Some megabyte of text, mostly; where texts are long so many bytes, or one row.
_BATCH_ROWS: Final = 2048
_BATCH_BYTES: Final = 2**26
#: Bytes of a column that are held at a time, where it would be all of a row group.
_COLUMN_BUFFER: Final = 2**18
#: Encodings that Arrow decodes to texts alone.
_DELTA: Final = frozenset({"DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"})


def open_parquet(file: RawIOBase | BinaryIO) -> Any:
    """Arrow's reader of the file, which has texts as numbers of a dictionary where it can. Raises as Arrow does."""
    from pyarrow import parquet

    with parquet.ParquetFile(LentFile(file), pre_buffer=False) as found:
        metadata = found.metadata
    return parquet.ParquetFile(
        LentFile(file),
        metadata=metadata,
        read_dictionary=_text_columns(metadata),
        pre_buffer=False,
        buffer_size=_COLUMN_BUFFER,
        coerce_int96_timestamp_unit="us",
    )


def bounded_batches(source: Any) -> Iterator[Any]:
    """The rows in batches. Raises LoadError for a row that is longer than a record may be, and as Arrow does."""
    row = 1
    for batch in source.iter_batches(_BATCH_ROWS, use_threads=False):
        start = size = 0
        for index, row_size in enumerate(_row_sizes(batch)):
            if row_size > MAX_RECORD_BYTES:
                raise LoadError(f"row {row + index} is longer than {MAX_RECORD_BYTES >> 20} MiB")
            if size and size + row_size > _BATCH_BYTES:
                yield batch.slice(start, index - start)
                start, size = index, 0
            size += row_size
        yield batch.slice(start)
        row += batch.num_rows


def _row_sizes(batch: Any) -> list[int]:
    """The bytes of each row's texts; empty where all of them are few."""
    import pyarrow
    from pyarrow import compute, types

    sizes = [
        compute.binary_length(column.dictionary).take(column.indices).cast(pyarrow.int64()).fill_null(0)
        for column in batch.columns
        if types.is_dictionary(column.type) and _is_text(column.type.value_type)
    ]
    if sum(compute.sum(column).as_py() or 0 for column in sizes) <= _BATCH_BYTES:
        return []
    total = sizes[0]
    for column in sizes[1:]:
        total = compute.add(total, column)
    return list(total.to_pylist())


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return bool(
        types.is_string(kind) or types.is_binary(kind) or types.is_large_string(kind) or types.is_large_binary(kind)
    )


def _text_columns(metadata: Any) -> list[str]:
    """The columns of texts that can be had with a dictionary."""
    schema = metadata.schema
    columns = [schema.column(index) for index in range(len(schema.names))]
    texts = [
        index
        for index, column in enumerate(columns)
        if column.physical_type == "BYTE_ARRAY" and not column.max_repetition_level
    ]
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    return [
        columns[index].path
        for index in texts
        if all(_DELTA.isdisjoint(group.column(index).encodings) for group in groups)
    ]
