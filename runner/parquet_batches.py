"""A Parquet file to Arrow batches of bounded size: a few bytes of it may stand for many long texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from .errors import LoadError
from .records import MAX_RECORD_BYTES

#: Some megabyte of text, mostly; of what Arrow makes of them, where texts are long, so many bytes at a time or one row.
_BATCH_ROWS: Final = 2048
_BATCH_BYTES: Final = 2**26


def bounded_batches(source: Any) -> Iterator[Any]:
    """The rows of Arrow's reader in batches, since what is made of a batch takes several times its size.

    Raises LoadError for a row that is longer than a record may be, and as Arrow does.
    """
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

    columns = []
    for column in batch.columns:
        texts = column.dictionary if types.is_dictionary(column.type) else column
        if types.is_string(texts.type) or types.is_binary(texts.type):
            columns.append((column, texts))
    # A dictionary's texts may come many times: how often is looked at where there are any.
    if all(texts is column for column, texts in columns) and batch.nbytes <= _BATCH_BYTES:
        return []
    total = pyarrow.repeat(pyarrow.scalar(0, pyarrow.int64()), batch.num_rows)
    for column, texts in columns:
        lengths = compute.binary_length(texts).cast(pyarrow.int64())
        total = compute.add(total, (lengths if texts is column else lengths.take(column.indices)).fill_null(0))
    return list(total.to_pylist()) if (compute.sum(total).as_py() or 0) > _BATCH_BYTES else []
