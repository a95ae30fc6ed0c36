"""What stage.events and stage.events_rejected hold of a file's records (docs/meaning.md 1), on real servers."""

from __future__ import annotations

import io
import itertools
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from clickmart.columns import NAMES, TYPED
from clickmart.json_reader import BATCH_RECORDS
from clickmart.loading import FileReport, load_file
from conftest import Server, Shop, open_shop
from hypothesis import example, given
from hypothesis import strategies as st
from pyarrow import parquet

Row = dict[str, Any]

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def one_shop(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A warehouse that the tests of this module share: each sees its own load only, by its batch_id."""
    with open_shop(server, tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture(params=["jsonl", "json", "csv", "parquet"])
def form(request: pytest.FixtureRequest) -> str:
    """Each test that uses it runs for every format."""
    return str(request.param)


def test_a_column_that_a_shop_has_made_wider_takes_every_form(shop: Shop, form: str) -> None:
    shop.connection.execute("alter table stage.events alter column referer_url_port type int8")
    file = shop.folder / f"e.{form}"
    file.write_bytes(content(form, [{"event_id": str(port), "referer_url_port": str(port)} for port in range(300)]))
    assert load_file(shop.connection, str(file)).rows_loaded == 300
    assert shop.query("select count(*) from stage.events where event_id::int8 = referer_url_port") == [(300,)]


# Files of a form


def content(form: str, rows: Sequence[Row]) -> bytes:
    """A file with those records: all of the same columns, texts or None."""
    if form == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    if form == "json":
        return json.dumps(rows, ensure_ascii=False, indent=1).encode()
    if form == "csv":
        # Python's own writer quotes no empty text, which is how RFC 4180 files tell it from a missing one here.
        lines = [",".join("" if row[name] is None else quoted(row[name]) for name in rows[0]) for row in rows]
        return "".join(f"{line}\r\n" for line in [",".join(rows[0]), *lines]).encode()
    file = io.BytesIO()
    parquet.write_table(pa.table({name: pa.array([row[name] for row in rows], pa.string()) for name in rows[0]}), file)
    return file.getvalue()


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def load(shop: Shop, name: str, data: bytes, max_rejects: int | None = None) -> FileReport:
    """Loads a file with that content, also if it was loaded before."""
    path = shop.folder / f"{next(_numbers)}.{name}"
    path.write_bytes(data)
    shop.query("update stage.loads set checksum = id::text where status = 'loaded' returning id")
    try:
        return load_file(shop.connection, str(path), max_rejects=max_rejects)
    finally:
        path.unlink()


def events(shop: Shop, *columns: str) -> list[Any]:
    """The rows of the last load in their order; values alone where there is one column."""
    query = (
        f"select {', '.join(columns)} from stage.events where batch_id = (select max(id) from stage.loads) order by id"
    )
    return [row[0] if len(columns) == 1 else row for row in shop.query(query)]


def rejects(shop: Shop) -> list[tuple[int, str, str]]:
    """Line, reason and raw text of the last load's rejects in their order."""
    return shop.query(
        "select line_number, reason, raw from stage.events_rejected "
        "where batch_id = (select max(id) from stage.loads) order by id"
    )  # type: ignore[return-value]


def stored(shop: Shop, column: str, value: Any) -> Any:
    """What the column holds of a JSON value; the reason where it is a reject."""
    load(shop, "jsonl", json.dumps({"os": "x", column: value}).encode())
    found = events(shop, column)
    return found[0] if found else rejects(shop)[0][1]


# Typed columns


@pytest.mark.parametrize("value", [80, "80", 80.0, "80.0", "80.000", "+80", " 80 ", "\t80.0\n", "080"], ids=repr)
def test_a_whole_number_however_it_is_written_is_one_in_an_integer_column(one_shop: Shop, value: Any) -> None:
    assert stored(one_shop, "referer_url_port", value) == 80


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        ("-0.0", 0),
        (-5, -5),
        (2147483647, 2147483647),
        ("-2147483648", -2147483648),
        ("2147483647.0", 2147483647),
    ],
)
def test_an_integer_column_holds_all_integers_of_its_type(one_shop: Shop, value: Any, expected: Any) -> None:
    assert stored(one_shop, "referer_url_port", value) == expected


@pytest.mark.parametrize(
    "value",
    [2147483648, -2147483649, "2147483648", "99999999999.0", 10**30, 1e300, "9" * 400],
    ids=lambda v: repr(v)[:20],
)
def test_a_number_out_of_an_integers_range_is_a_reject(one_shop: Shop, value: Any) -> None:
    reason = stored(one_shop, "referer_url_port", value)
    assert reason.startswith("referer_url_port: ")
    assert "out of range for type integer" in reason or "invalid input syntax for type integer" in reason


@pytest.mark.parametrize(
    "value",
    ["abc", "", " ", "80.5", 80.5, "80.", "1e2", "8 0", "٨٠", "\N{NO-BREAK SPACE}80.0", True, [80], {"a": 80}],
    ids=repr,
)
def test_what_is_no_integer_is_a_reject_in_an_integer_column(one_shop: Shop, value: Any) -> None:
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    assert (
        stored(one_shop, "referer_url_port", value)
        == f'referer_url_port: invalid input syntax for type integer: "{text}"'
    )


@pytest.mark.parametrize("value", ["0x1F", "0b11111", "0o37", "3_1"])
def test_the_server_decides_what_an_integer_is(one_shop: Shop, value: Any) -> None:
    """PostgreSQL 16 and later take other bases and underscores."""
    takes = one_shop.connection.info.server_version >= 160000
    refusal = f'referer_url_port: invalid input syntax for type integer: "{value}"'
    assert stored(one_shop, "referer_url_port", value) == (31 if takes else refusal)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("34.09", 34.09),
        (34.09, 34.09),
        (34, 34.0),
        ("-122.41942", -122.41942),
        (0.1 + 0.2, 0.1 + 0.2),
        ("1e-5", 1e-5),
        (1e-5, 1e-5),
        (1.7976931348623157e308, 1.7976931348623157e308),
        ("5e-324", 5e-324),
        (" 34.09\n", 34.09),
        (".5", 0.5),
        ("5.", 5.0),
        ("9" * 100, 1e100),
        ("9" * 300, 1e300),
        (2**70, float(2**70)),
        ("Infinity", math.inf),
        ("-inf", -math.inf),
    ],
)
def test_a_float_column_holds_the_nearest_number(one_shop: Shop, value: Any, expected: Any) -> None:
    assert stored(one_shop, "geo_latitude", value) == expected


def test_a_float_column_takes_the_text_nan(one_shop: Shop) -> None:
    assert math.isnan(stored(one_shop, "geo_longitude", "NaN"))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("abc", 'invalid input syntax for type double precision: "abc"'),
        ("", 'invalid input syntax for type double precision: ""'),
        ("34,09", 'invalid input syntax for type double precision: "34,09"'),
        (False, 'invalid input syntax for type double precision: "false"'),
        ("1e400", '"1e400" is out of range for type double precision'),
        ("1e-400", '"1e-400" is out of range for type double precision'),
        ("1" * 400, f'"{"1" * 300}'),
    ],
)
def test_what_is_no_float_is_a_reject_in_a_float_column(one_shop: Shop, value: Any, reason: str) -> None:
    assert stored(one_shop, "geo_latitude", value)[:300] == f"geo_latitude: {reason}"[:300]


@pytest.mark.parametrize("value", [True, "true", "t", "T", "yes", "on", "1", 1, " TRUE ", "tr"], ids=repr)
def test_a_boolean_column_takes_every_true(one_shop: Shop, value: Any) -> None:
    assert stored(one_shop, "device_is_mobile", value) is True


@pytest.mark.parametrize("value", [False, "false", "f", "no", "off", "0", 0, "\nFalse", "of"], ids=repr)
def test_a_boolean_column_takes_every_false(one_shop: Shop, value: Any) -> None:
    assert stored(one_shop, "device_is_mobile", value) is False


@pytest.mark.parametrize("value", ["", "2", 2, "o", "1.0", 1.0, "ja", []], ids=repr)
def test_what_is_no_boolean_is_a_reject_in_a_boolean_column(one_shop: Shop, value: Any) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    assert (
        stored(one_shop, "device_is_mobile", value)
        == f'device_is_mobile: invalid input syntax for type boolean: "{text}"'
    )


def test_null_is_null_in_every_column(one_shop: Shop) -> None:
    load(one_shop, "jsonl", json.dumps(dict.fromkeys(NAMES)).encode())
    assert events(one_shop, *NAMES) == [(None,) * len(NAMES)]


def test_an_empty_field_of_a_csv_is_null_in_a_typed_column_quoted_or_not(one_shop: Shop) -> None:
    names = [NAMES[index] for index, _ in TYPED]
    report = load(one_shop, "csv", f'os,{",".join(names)}\nbare,,,,\nquoted,"","","",""\n'.encode())
    assert (report.rows_loaded, report.rows_rejected) == (2, 0)
    assert events(one_shop, *names) == [(None,) * 4] * 2


def test_an_empty_field_of_a_csv_is_null_in_a_text_column_unless_quoted(one_shop: Shop) -> None:
    load(one_shop, "csv", b'os,page_url\nbare,\nquoted,""\n')
    assert events(one_shop, "page_url") == [None, ""]


def test_a_column_of_floats_with_gaps_as_pandas_writes_it_is_one_of_integers(one_shop: Shop) -> None:
    csv_report = load(one_shop, "csv", b"referer_url_port,os\n80.0,a\n,b\n443.0,c\n")
    assert csv_report.rows_rejected == 0
    assert events(one_shop, "referer_url_port") == [80, None, 443]
    file = io.BytesIO()
    parquet.write_table(pa.table({"referer_url_port": [80.0, None, 443.0]}), file)
    load(one_shop, "parquet", file.getvalue())
    assert events(one_shop, "referer_url_port") == [80, None, 443]


# Text columns


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (12345678901234567890123456789, "12345678901234567890123456789"),
        (-0, "0"),
        (1.50, "1.5"),
        (True, "true"),
        ({"b": [1, None, "ж\n"], "a": {}}, '{"b":[1,null,"ж\\n"],"a":{}}'),
        ("2022-09-30", "2022-09-30"),
        ("no timestamp", "no timestamp"),
        ("", ""),
        ("null", "null"),
        (" x ", " x "),
    ],
)
def test_a_text_column_holds_the_text_of_the_value(one_shop: Shop, value: Any, expected: Any) -> None:
    assert stored(one_shop, "event_timestamp", value) == expected


def test_a_parquet_timestamp_becomes_its_text(one_shop: Shop) -> None:
    file = io.BytesIO()
    parquet.write_table(pa.table({"event_timestamp": pa.array([1664532000500000], pa.timestamp("us", tz="UTC"))}), file)
    load(one_shop, "parquet", file.getvalue())
    assert events(one_shop, "event_timestamp") == ["2022-09-30 10:00:00.500000+00"]


SPECIAL = [
    r"\N",
    r"\.",
    "\\",
    "\\\\n",
    '"',
    '""',
    '\\"',
    "\t",
    "\n",
    "\r\n",
    "\r",
    "a\n\\.\nb",
    "null",
    "None",
    "],[",
    '","',
    ",",
    "",
    " ",
    "\x01\x1f\x7f\x85\u2028\ufeff",
    "ж😀é\u0301",
    "\U0010ffff",
]
#: What every format can hold: CSV has no way to say the line end of a text from that of the file, but by quotes.
TEXTS = st.one_of(
    st.none(),
    st.sampled_from(SPECIAL),
    st.lists(st.sampled_from(SPECIAL), max_size=4).map("".join),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
)
ROWS = st.lists(
    st.fixed_dictionaries({"event_id": TEXTS, "page_url": TEXTS, "user_domain_id": TEXTS}), min_size=1, max_size=12
)


@given(rows=ROWS)
@example(rows=[{"event_id": text, "page_url": None, "user_domain_id": text} for text in SPECIAL])
def test_every_text_reads_back_as_it_was(one_shop: Shop, form: str, rows: list[Row]) -> None:
    report = load(one_shop, form, content(form, rows))
    assert (report.status, report.rows_loaded, report.rows_rejected) == ("loaded", len(rows), 0)
    assert events(one_shop, *rows[0]) == [tuple(row[name] for name in rows[0]) for row in rows]


def test_a_text_of_many_megabytes_reads_back_as_it_was(one_shop: Shop, form: str) -> None:
    rows: list[Row] = [
        {"event_id": "before", "page_url": None},
        {"event_id": "long", "page_url": 'ж\t\\"' * 1_000_000},
        {"event_id": "after", "page_url": "x"},
    ]
    load(one_shop, form, content(form, rows))
    assert events(one_shop, "event_id", "page_url") == [tuple(row.values()) for row in rows]


# Rejects

TYPED_TEXTS = st.one_of(
    st.none(),
    st.integers(-(2**33), 2**33).map(str),
    st.sampled_from(["80", "80.0", "0x1F", "1_0", "abc", "", " 7", "NaN", "1e3", "t", "true", "no", "1e999", "0.5"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5),
)
TYPED_ROWS = st.lists(
    st.fixed_dictionaries({"event_id": TEXTS, **{NAMES[index]: TYPED_TEXTS for index, _ in TYPED}}),
    min_size=1,
    max_size=30,
)


@given(rows=TYPED_ROWS)
def test_a_record_is_a_row_where_the_server_takes_its_values_and_else_a_reject(
    one_shop: Shop, form: str, rows: list[Row]
) -> None:
    report = load(one_shop, form, content(form, rows))
    taken = [row["event_id"] for row in rows if is_taken(one_shop, form, row)]
    assert report.rows_rejected == len(rejects(one_shop)) == len(rows) - len(taken)
    assert report.rows_loaded == len(taken)
    assert events(one_shop, "event_id") == taken


def is_taken(shop: Shop, form: str, row: Row) -> bool:
    """Whether an insert would take the record's values."""
    for index, kind in TYPED:
        text = row[NAMES[index]]
        if kind == "int4" and text:
            text = text.removesuffix(".0")
        if form == "csv" and text == "":
            text = None
        if shop.query("select stage.input_error(%s, %s)", text, kind) != [(None,)]:
            return False
    return True


def test_a_reject_is_kept_with_its_load_file_line_reason_and_text(one_shop: Shop) -> None:
    lines = [
        b'{"os": "a"}',
        b'{"os": "b", "referer_url_port": "abc", "more": [1,  2]}',
        b"",
        b'{"os": "\xff\xfe \xc3(", "page_url": "\xd0\xb6"}',
        b'{"os": "\x00"}\r',
        b"no JSON \\ \t at all",
        b'{"os": "z"}',
    ]
    report = load(one_shop, "jsonl", b"\n".join(lines))
    assert (report.rows_loaded, report.rows_rejected) == (2, 4)
    batch_id = one_shop.query("select max(id) from stage.loads")[0][0]
    found = one_shop.query(
        "select batch_id, source_file, line_number, reason, raw, rejected_at > now() - interval '1 minute' "
        "from stage.events_rejected where batch_id = %s order by id",
        batch_id,
    )
    reasons = [
        'referer_url_port: invalid input syntax for type integer: "abc"',
        "not UTF-8: the byte 0xff after 8 others",
        "not JSON: Invalid control character at after 8 characters",
        "not JSON: Expecting value after 0 characters",
    ]
    raws = [
        '{"os": "b", "referer_url_port": "abc", "more": [1,  2]}',
        r'{"os": "\xff\xfe \xc3(", "page_url": "ж"}',
        r'{"os": "\x00"}',
        "no JSON \\ \t at all",
    ]
    assert found == [
        (batch_id, report.file, line, reason, raw, True)
        for line, reason, raw in zip([2, 4, 5, 6], reasons, raws, strict=True)
    ]


@given(raws=st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=20))
def test_the_raw_text_of_a_reject_is_the_record_as_it_stood(one_shop: Shop, raws: list[bytes]) -> None:
    lines = [b"!" + raw.translate(None, b"\n") + b"!" for raw in raws]
    report = load(one_shop, "jsonl", b"\n".join(lines))
    assert report.rows_rejected == len(lines)
    expected = [line.decode("utf-8", "backslashreplace").replace("\0", r"\x00") for line in lines]
    assert [raw for _, _, raw in rejects(one_shop)] == expected


def test_the_reason_names_the_first_column_that_refuses_and_stays_short(one_shop: Shop) -> None:
    long = "x" * 3_000_000
    record = {"os": "x", "device_is_mobile": "maybe", "geo_latitude": long, "referer_url_port": 80}
    load(one_shop, "jsonl", json.dumps(record).encode())
    ((_, reason, raw),) = rejects(one_shop)
    assert reason.startswith("geo_latitude: invalid input syntax for type double precision: ")
    assert len(reason) < 1000
    assert raw == json.dumps(record)


def test_rows_and_rejects_keep_the_files_order_where_doubtful_values_come_amid_it(one_shop: Shop, form: str) -> None:
    """The server is asked between batches, in which the rows wait."""
    count = 5 * BATCH_RECORDS
    ports = {number: "0" * 10 + str(number) if number % 3 else "abc" for number in range(7, count, 113)}
    rows = [{"event_id": str(number), "referer_url_port": ports.get(number, "80")} for number in range(count)]
    load(one_shop, form, content(form, rows))
    bad = {number for number, port in ports.items() if port == "abc"}
    assert [int(event_id) for event_id in events(one_shop, "event_id")] == sorted(set(range(count)) - bad)
    found = rejects(one_shop)
    assert [json.loads(raw)["event_id"] if raw[0] == "{" else raw.split('"')[1] for _, _, raw in found] == [
        str(number) for number in sorted(bad)
    ]
    assert [line for line, _, _ in found] == sorted(line for line, _, _ in found)


class Counted:
    """A connection's statements, counted."""

    def __init__(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        self.statements = 0
        execute = shop.connection.execute

        def counting(*arguments: Any, **options: Any) -> Any:
            self.statements += 1
            return execute(*arguments, **options)

        monkeypatch.setattr(shop.connection, "execute", counting)


PORTS = {"zeros": "{:012}", "words": "x{}", "halves": "{}.5", "whole": "{}.0"}


def doubtful_file(folder: Path, port: str) -> Path:
    """A hundred thousand records, each with a port that no other has and that the server is to be asked about."""
    path = folder / "doubtful.jsonl"
    with path.open("w") as file:
        file.writelines(f'{{"event_id": "{n}", "referer_url_port": "{port.format(n)}"}}\n' for n in range(100_000))
        file.write('{"event_id": "last"}\n')
    return path


@pytest.mark.parametrize("server", ["embedded"], indirect=True)
@pytest.mark.parametrize("port", PORTS.values(), ids=PORTS)
def test_no_statement_is_spent_on_a_single_doubtful_value(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, port: str
) -> None:
    path = doubtful_file(shop.folder, port)
    counted = Counted(shop, monkeypatch)
    report = load_file(shop.connection, str(path))
    assert report.rows_loaded + report.rows_rejected == 100_001
    assert counted.statements < 100_000 / 50


MEASURED = """
import resource, sys
from clickmart.loading import load_file
from clickmart.warehouse import Warehouse
with Warehouse(sys.argv[1]).connect() as connection:
    load_file(connection, sys.argv[2])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert load_file(connection, sys.argv[3]).rows_rejected == 100_000
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_hundred_thousand_rejects_are_not_held_in_memory(dsn: str, tmp_path: Path) -> None:
    small = tmp_path / "small.jsonl"
    small.write_text('{"referer_url_port": "x"}\n{}\n')
    many = doubtful_file(tmp_path, "a word of some length {}")
    run = subprocess.run(
        [sys.executable, "-c", MEASURED, dsn, str(small), str(many)], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 24 * 1024  # KiB; the rejects alone take as much in the file
