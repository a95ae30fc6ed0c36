"""Parquet: every type as text, rows that can't be stored, files that can't be read."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from decimal import Decimal

import pyarrow as pa
import pytest
from clickmart.columns import NAMES
from clickmart.errors import LoadError
from pyarrow import parquet
from reading import read, read_bytes


@pytest.fixture
def table(tmp_path):
    def read_table(columns, **options):
        path = tmp_path / "events.parquet"
        parquet.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path, **options)
        return read(path)

    return read_table


def string_array(*values: bytes) -> pa.Array:
    """Strings by their bytes, which need not be UTF-8."""
    array = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(array), array.buffers())


TYPES = {
    "string": (pa.string(), [("Ж", "Ж"), ("", "")]),
    "large string": (pa.large_string(), [("Ж", "Ж")]),
    "string view": (pa.string_view(), [("Ж", "Ж")]),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), [("Ж", "Ж"), ("b", "b"), ("Ж", "Ж")]),
    "dictionary of numbers": (pa.dictionary(pa.int8(), pa.int64()), [(7, "7")]),
    "binary": (pa.binary(), [("Ж".encode(), "Ж")]),
    "large binary": (pa.large_binary(), [(b"a", "a")]),
    "fixed binary": (pa.binary(2), [(b"ab", "ab")]),
    "uuid": (
        pa.uuid(),
        [(uuid.UUID(int=2**100).bytes, "00000010-0000-0000-0000-000000000000")],
    ),
    "json": (pa.json_(), [('{"a": 1}', '{"a": 1}')]),
    "boolean": (pa.bool_(), [(True, "true"), (False, "false")]),
    "int8": (pa.int8(), [(-128, "-128")]),
    "int64": (pa.int64(), [(-(2**63), "-9223372036854775808"), (0, "0")]),
    "uint64": (pa.uint64(), [(2**64 - 1, "18446744073709551615")]),
    "float64": (
        pa.float64(),
        [
            (34.5, "34.5"),
            (80.0, "80.0"),
            (-0.0, "-0.0"),
            (1e22, "1e+22"),
            (5e-324, "5e-324"),
            (float("nan"), "NaN"),
            (float("inf"), "Infinity"),
            (float("-inf"), "-Infinity"),
        ],
    ),
    "float32": (
        pa.float32(),
        [
            (34.09, "34.09"),
            (80.0, "80.0"),
            (0.1, "0.1"),
            (-0.0, "-0.0"),
            (1e10, "10000000000.0"),
            (float("nan"), "NaN"),
        ],
    ),
    "float16": (pa.float16(), [(1.5, "1.5"), (float("inf"), "Infinity")]),
    "decimal": (
        pa.decimal128(38, 4),
        [
            (Decimal("80"), "80"),
            (Decimal("100"), "100"),
            (Decimal("0"), "0"),
            (Decimal("-0.0500"), "-0.05"),
            (Decimal("1234567890123456789012345678901234.5678"), "1234567890123456789012345678901234.5678"),
        ],
    ),
    "whole decimal": (pa.decimal128(38, 0), [(Decimal(10) ** 37, "1" + "0" * 37)]),
    "wide decimal": (pa.decimal256(76, 2), [(Decimal("9" * 74 + ".10"), "9" * 74 + ".1")]),
    "timestamp of seconds": (
        pa.timestamp("s"),
        [(0, "1970-01-01 00:00:00"), (-1, "1969-12-31 23:59:59"), (253402300799, "9999-12-31 23:59:59")],
    ),
    "timestamp of milliseconds": (pa.timestamp("ms"), [(1, "1970-01-01 00:00:00.001000")]),
    "timestamp of microseconds": (
        pa.timestamp("us"),
        [
            (dt.datetime(2022, 9, 30, 21, 34, 5, 627882), "2022-09-30 21:34:05.627882"),
            (dt.datetime(2022, 9, 30, 21, 34, 5), "2022-09-30 21:34:05"),
            (-62135596800_000000, "0001-01-01 00:00:00"),
        ],
    ),
    "timestamp of nanoseconds": (
        pa.timestamp("ns"),
        [(1999, "1970-01-01 00:00:00.000001"), (999, "1970-01-01 00:00:00"), (-1, "1969-12-31 23:59:59.999999")],
    ),
    "timestamp with a zone": (
        pa.timestamp("us", "Europe/Moscow"),
        [(0, "1970-01-01 00:00:00+00"), (1, "1970-01-01 00:00:00.000001+00")],
    ),
    "timestamp past the years of Python": (
        pa.timestamp("us"),
        [(253402300800_000000, "10000-01-01 00:00:00"), (2**63 - 1, "294247-01-10 04:00:54.775807")],
    ),
    "date32": (pa.date32(), [(dt.date(2024, 2, 29), "2024-02-29"), (-1, "1969-12-31")]),
    "date64": (pa.date64(), [(dt.date(2024, 2, 29), "2024-02-29")]),
    "time of seconds": (pa.time32("s"), [(86399, "23:59:59")]),
    "time of microseconds": (pa.time64("us"), [(dt.time(1, 2, 3, 4), "01:02:03.000004"), (dt.time(1, 2), "01:02:00")]),
    "time of nanoseconds": (pa.time64("ns"), [(1999, "00:00:00.000001"), (999, "00:00:00")]),
    "list": (
        pa.list_(pa.string()),
        [(["a", None, 'Ж"'], '["a",null,"Ж\\""]'), ([], "[]"), (["\0"], '["\\u0000"]')],
    ),
    "large list": (pa.large_list(pa.float64()), [([1.0, float("nan")], '[1.0,"NaN"]')]),
    "fixed list": (pa.list_(pa.int8(), 2), [([1, 2], "[1,2]")]),
    "struct": (
        pa.struct([("a", pa.int64()), ("b", pa.list_(pa.timestamp("s"))), ("c", pa.struct([("d", pa.bool_())]))]),
        [
            ({"a": 1, "b": [0], "c": {"d": True}}, '{"a":1,"b":["1970-01-01 00:00:00"],"c":{"d":true}}'),
            ({"a": None, "b": None, "c": None}, '{"a":null,"b":null,"c":null}'),
        ],
    ),
    "map": (
        pa.map_(pa.string(), pa.decimal128(5, 2)),
        [([("a", Decimal("1.50")), ("b", None)], '{"a":1.5,"b":null}'), ([], "{}")],
    ),
    "map of numbers": (pa.map_(pa.int64(), pa.string()), [([(1, "a")], '{"1":"a"}')]),
}


@pytest.mark.parametrize("name", TYPES)
def test_a_parquet_value_becomes_text_and_null_is_missing(table, name):
    kind, cases = TYPES[name]
    values = [value for value, _ in cases]
    columns = {"page_url": pa.array([*values, None], kind), "os": pa.array([None, *values], kind)}
    found = [
        (record.values[NAMES.index("page_url")], record.values[NAMES.index("os")]) for record in table(columns).records
    ]
    texts = [text for _, text in cases]
    assert found == list(zip([*texts, None], [None, *texts], strict=True))


def test_a_column_of_nulls_is_missing(table):
    assert table({"os": pa.nulls(2), "page_url": ["a", None]}).fields == [{"page_url": "a"}, {}]


def test_every_column_gets_its_own_value_in_whatever_order(table):
    reading = table({name: [f"<{name}>"] for name in reversed(NAMES)})
    assert reading.records[0].values == [f"<{name}>" for name in NAMES]


def test_rows_are_counted_across_batches_and_row_groups(table):
    reading = table({"os": [str(number) for number in range(10_000)]}, row_group_size=3_000)
    assert reading.lines == list(range(1, 10_001))
    assert [fields["os"] for fields in reading.fields] == [str(number) for number in range(10_000)]


def test_a_file_without_rows_has_no_records(table):
    assert table({"os": pa.array([], pa.string())}).records == []


def test_a_row_group_may_be_empty(tmp_path):
    some, none = pa.table({"os": ["a"]}), pa.table({"os": pa.array([], pa.string())})
    with parquet.ParquetWriter(tmp_path / "events.parquet", some.schema) as writer:
        for rows in (none, some, none, some):
            writer.write_table(rows)
    assert read(tmp_path / "events.parquet").lines == [1, 2]


def test_columns_that_stage_events_lacks_are_named_once(table):
    reading = table({"colour": [1], "os": ["a"], "__index_level_0__": [0]})
    assert reading.unknown == ["colour", "__index_level_0__"]
    assert reading.fields == [{"os": "a"}]


def test_of_a_column_given_twice_the_last_counts(table):
    columns = pa.table([pa.array(["a"]), pa.array(["b"]), pa.array(["c"])], names=["os", "page_url", "os"])
    assert table(columns).fields == [{"os": "c", "page_url": "b"}]


def test_timestamps_of_96_bits_are_read_to_the_microsecond(table):
    moment = dt.datetime(3000, 1, 2, 3, 4, 5, 678901)
    reading = table({"event_timestamp": pa.array([moment], pa.timestamp("us"))}, use_deprecated_int96_timestamps=True)
    assert reading.fields == [{"event_timestamp": "3000-01-02 03:04:05.678901"}]


# Rejects


def test_a_nul_character_is_a_reject_with_the_whole_row_as_json(table):
    reading = table({"colour": [None, "Ж", "x"], "os": ["a", "a\0b", "c"], "geo_latitude": [1.0, 2.5, None]})
    assert reading.rejects == [(2, "a NUL character in os", '{"colour":"Ж","os":"a\\u0000b","geo_latitude":2.5}')]
    assert reading.fields == [{"os": "a", "geo_latitude": "1.0"}, None, {"os": "c"}]


@pytest.mark.parametrize("array", [string_array(b"a", b"\xff\xd0", b"c"), pa.array([b"a", b"\xff\xd0", b"c"])])
def test_bytes_that_are_not_utf8_are_a_reject(table, array):
    reading = table({"os": array})
    assert reading.rejects == [(2, "bytes that are not UTF-8 in os", r'{"os":"\xff\xd0"}')]
    assert reading.fields == [{"os": "a"}, None, {"os": "c"}]


def test_bytes_that_are_not_utf8_inside_of_a_list_are_a_reject(table):
    assert table({"os": pa.array([[b"\xff"]])}).rejects == [(1, "bytes that are not UTF-8 in os", r'{"os":["\xff"]}')]


def test_bytes_that_are_not_utf8_do_no_harm_in_a_column_that_is_not_stored(table):
    assert table({"os": ["a"], "colour": string_array(b"\xff")}).fields == [{"os": "a"}]


@pytest.mark.parametrize("name", TYPES)
def test_the_raw_text_of_a_row_has_every_type_as_json(table, name):
    kind, cases = TYPES[name]
    for value, _ in cases:
        ((_, _, raw),) = table(
            {"colour": pa.array([value], kind), "none": pa.array([None], kind), "os": ["\0"]}
        ).rejects
        assert json.loads(raw)["os"] == "\0"
        assert json.loads(raw)["none"] is None
        assert json.loads(raw)["colour"] is not None


# Files


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no Parquet at all", b"PAR1" + b"\xff" * 100 + b"PAR1"])
def test_what_is_no_parquet_is_an_error(tmp_path, content):
    with pytest.raises(LoadError, match=r"events\.parquet: the Parquet data is damaged, or none \(.*copy or download"):
        read_bytes(tmp_path, "events.parquet", content)


def test_a_parquet_file_that_is_cut_short_is_an_error(table, tmp_path):
    table({"os": ["a"] * 1000})
    content = (tmp_path / "events.parquet").read_bytes()
    for length in range(0, len(content), 97):
        with pytest.raises(LoadError, match="damaged, or none"):
            read_bytes(tmp_path, "cut.parquet", content[:length])


def test_a_damaged_page_is_an_error(tmp_path):
    path = tmp_path / "events.parquet"
    parquet.write_table(pa.table({"os": [f"text {number}" for number in range(1000)]}), path)
    content = bytearray(path.read_bytes())
    content[4:200] = b"\xff" * 196
    with pytest.raises(LoadError, match="damaged, or none"):
        read_bytes(tmp_path, "events.parquet", bytes(content))


def test_a_file_without_a_known_column_is_an_error(table):
    with pytest.raises(
        LoadError, match=r"no column is one of stage\.events: found colour, size; expected names like event_id"
    ):
        table({"colour": ["red"], "size": [1]})
