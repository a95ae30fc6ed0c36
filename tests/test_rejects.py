"""Rejects (docs/rejects.md): what `clickmart rejects` shows, exports and replays; none is lost, or comes twice."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import clickmart
import pyarrow as pa
import pytest
from clickmart import cli, reject_export
from clickmart.columns import NAMES
from clickmart.errors import LoadError, ProjectError, UsageError
from clickmart.loading import FileReport, load_file
from clickmart.project import init_project, read_project
from clickmart.replaying import ReplayReport, replay
from clickmart.warehouse import Warehouse
from conftest import Server, Shop, open_shop
from hypothesis import given, settings
from hypothesis import strategies as st
from projects import apply, clean_environment, outcome, run, run_json
from pyarrow import parquet
from test_bulk_loads import attempt, bulk_load, result
from test_loading import COMMAND, eventually, loads_held_up, query

BIG_PORT = 99_999_999_999
#: A shop's own migration: ports as large as they come. The server's word on what a column takes goes with it.
WIDER = """
alter table stage.events alter column referer_url_port type int8;
create or replace function stage.input_error(value text, type_name text) returns text
language plpgsql stable strict as $$
begin
    case type_name
        when 'int4' then perform value::int8;
        when 'float8' then perform value::float8;
        when 'boolean' then perform value::boolean;
    end case;
    return null;
exception when data_exception then
    return sqlerrm;
end
$$;
"""

_numbers = itertools.count(1)


@pytest.fixture
def shop(dsn: str, tmp_path: Path) -> Iterator[Shop]:
    """A warehouse with the built-in project applied and nothing loaded."""
    with Warehouse(dsn).connect() as connection:
        yield Shop(dsn, connection, tmp_path)


@pytest.fixture(scope="module")
def one_shop(embedded_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A warehouse that properties share: each example sees its own load only."""
    with open_shop(embedded_server, tmp_path_factory.mktemp("shop")) as opened:
        yield opened


def load(shop: Shop, name: str, content: bytes, max_rejects: int | None = None) -> FileReport:
    path = shop.folder / name
    path.write_bytes(content)
    return load_file(shop.connection, str(path), max_rejects=max_rejects)


def last_load(shop: Shop) -> int:
    return int(str(shop.query("select max(id) from stage.loads")[0][0]))


def widen(shop: Shop) -> None:
    with shop.connection.transaction():
        shop.connection.execute(WIDER.encode())


def standing(shop: Shop) -> list[tuple[Any, ...]]:
    return shop.query("select line_number, reason, raw from stage.standing_rejects order by batch_id, id")


def ports(shop: Shop) -> list[tuple[Any, ...]]:
    return shop.query("select event_id, referer_url_port from stage.events order by batch_id, id")


def all_of(shop: Shop) -> list[list[tuple[Any, ...]]]:
    """Everything that a replay may change, and which numbers are taken."""
    return [
        shop.query("select * from stage.events order by id"),
        shop.query("select * from stage.events_rejected order by id"),
        shop.query("select * from stage.loads order by id"),
        shop.query("select last_value from stage.loads_id_seq"),
    ]


def others(shop: Shop) -> list[tuple[Any, ...]]:
    """The server's processes for anybody else in this database."""
    return shop.query(
        "select pid from pg_stat_activity where datname = current_database() and backend_type = 'client backend' "
        "and pid <> pg_backend_pid()"
    )


def lines(*records: object) -> bytes:
    return "".join(f"{json.dumps(record)}\n" for record in records).encode()


GOOD = lines({"event_id": "good"})
WIDE = lines({"event_id": "wide", "referer_url_port": BIG_PORT})
NEVER = lines({"event_id": "never", "referer_url_port": "x"})


# By reason


def test_rejects_are_told_by_reason_with_their_number_files_and_the_first(shop: Shop) -> None:
    load(shop, "a.jsonl", GOOD + lines({"referer_url_port": "x"}, {"referer_url_port": 'y"z'}) + b"\xff\n")
    load(shop, "b.csv", b"event_id,os\n1,2\n1,2,3\n1,2,3,4\n")
    load(shop, "c.jsonl", GOOD + lines({"referer_url_port": "other"}) + b'""\xfe\n')
    groups = clickmart.rejects(dsn=shop.dsn).groups
    folder = shop.folder
    assert [(g.reason, g.count, g.files, g.file, g.line, g.record) for g in groups] == [
        (
            'referer_url_port: invalid input syntax for type integer: "..."',
            3,
            [f"{folder}/a.jsonl", f"{folder}/c.jsonl"],
            f"{folder}/a.jsonl",
            2,
            '{"referer_url_port": "x"}',
        ),
        ("N fields, where the header has N", 2, [f"{folder}/b.csv"], f"{folder}/b.csv", 3, "1,2,3"),
        (
            "not UTF-8: the byte 0xNN after N others",
            2,
            [f"{folder}/a.jsonl", f"{folder}/c.jsonl"],
            f"{folder}/a.jsonl",
            4,
            r"\xff",
        ),
    ]
    printed = run("rejects", dsn=shop.dsn)
    assert printed.exit_code == 0
    assert printed.stdout.splitlines()[:3] == [
        '3  referer_url_port: invalid input syntax for type integer: "..."',
        f"  in {folder}/a.jsonl, {folder}/c.jsonl",
        f'  as {folder}/a.jsonl:2: {{"referer_url_port": "x"}}',
    ]
    assert printed.stdout.splitlines()[-1] == "7 rejects by 3 reasons in 3 files"
    assert run_json("rejects", dsn=shop.dsn) == clickmart.rejects(dsn=shop.dsn).as_dict()
    assert clickmart.rejects(dsn=shop.dsn, loads=[2]).count == 2


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ('geo_latitude: "1e999" is out of range for type float', 'geo_latitude: "..." is out of range for type float'),
        ('os: syntax: "a"b" "c"', 'os: syntax: "..."'),
        (f'os: syntax: "{"x" * 500}', 'os: syntax: "..."'),
        (f'os: syntax: "a"{"x" * 500}', 'os: syntax: "..."'),
        ("not JSON: Expecting value after 17 characters", "not JSON: Expecting value after N characters"),
        ("12 fields, where the header has 3", "N fields, where the header has N"),
        ("not UTF-8: the byte 0xd0 after 1 others", "not UTF-8: the byte 0xNN after N others"),
        ("bytes that are not UTF-8", "bytes that are not UTF-8"),
    ],
)
def test_of_a_reason_remains_what_is_common_to_all_its_records(one_shop: Shop, reason: str, kind: str) -> None:
    assert one_shop.query("select stage.reason_kind(%s)", reason) == [(kind,)]


def test_without_rejects_it_says_so(shop: Shop) -> None:
    load(shop, "a.jsonl", GOOD)
    assert outcome(run("rejects", dsn=shop.dsn)) == (0, "no rejects\n", "")
    assert outcome(run("rejects", "export", str(shop.folder / "x"), dsn=shop.dsn))[:2] == (0, "no rejects to export\n")
    assert not (shop.folder / "x").exists()
    assert outcome(run("rejects", "replay", dsn=shop.dsn)) == (0, "nothing to replay\n", "")


@pytest.mark.parametrize("command", [["rejects"], ["rejects", "export", "x.jsonl"], ["rejects", "replay"]])
def test_a_load_that_is_none_is_wrong_usage(one_shop: Shop, command: list[str]) -> None:
    code, stdout, stderr = outcome(run(*command, "--load", "999999", dsn=one_shop.dsn))
    assert (code, stdout) == (2, "")
    assert stderr == "clickmart: there is no load 999999; `clickmart status` shows the last ones\n"


def test_a_warehouse_without_tables_is_named_as_such(
    empty_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for call in (clickmart.rejects, clickmart.rejects_replay, lambda dsn: clickmart.rejects_export("x", dsn=dsn)):
        with pytest.raises(ProjectError, match=r"this warehouse has no tables yet; run `clickmart apply`"):
            call(dsn=empty_dsn)
    clean_environment(monkeypatch)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProjectError, match="nothing to show: no warehouse in"):
        clickmart.rejects()
    assert list(tmp_path.iterdir()) == []


# Export

LINES = b'\xff\0 \r\n{"os": "\\u0000"}\r\nliteral \\x00\n[1]'
ROWS = b'1,2,"\xff\r\n\0"\r\n3,\0\r\n5,6,7'
ELEMENTS = [b'{"os":\n "\\u0000"}', b"[1,\r\n 2]", b'"\xff\0"']


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", GOOD + LINES, LINES + b"\n"),
        ("a.ndjson.gz", gzip.compress(GOOD + LINES, mtime=0), LINES + b"\n"),
        ("a.csv", b"event_id,os\r\n1,2\r\n" + ROWS, b"event_id,os\r\n" + ROWS + b"\n"),
        ("a.json", b"[" + b", ".join([b"{}", *ELEMENTS]) + b"]", b"[\n" + b",\n".join(ELEMENTS) + b"\n]\n"),
    ],
    ids=["jsonl", "packed", "csv", "json"],
)
def test_an_export_is_what_came_byte_for_byte(shop: Shop, name: str, content: bytes, expected: bytes) -> None:
    assert load(shop, name, content).rows_loaded == 1
    file = shop.folder / "out"
    clickmart.rejects_export(file, dsn=shop.dsn)
    assert file.read_bytes() == expected
    result = run("rejects", "export", "-", dsn=shop.dsn)
    assert (result.exit_code, result.stdout_bytes, result.stderr) == (0, expected, "")


def test_a_row_of_parquet_is_exported_as_a_line_of_json(shop: Shop) -> None:
    parquet.write_table(pa.table({"os": ["x", "\0"], "n": [1, 2]}), shop.folder / "a.parquet")
    load_file(shop.connection, str(shop.folder / "a.parquet"))
    clickmart.rejects_export(shop.folder / "out.jsonl", dsn=shop.dsn)
    assert (shop.folder / "out.jsonl").read_bytes() == b'{"os":"\\u0000","n":2}\n'


@pytest.mark.parametrize(
    ("name", "content", "correct"),
    [
        ("out.jsonl", GOOD + WIDE + NEVER, lambda content: content.replace(b'"x"', b"80")),
        (
            "out.csv",
            b"os,event_id,referer_url_port\na,1,2\nb,1,x\nc,1,x\n",
            lambda content: content.replace(b"x", b"80"),
        ),
        ("out.json", b'[{},{"os":\n"b","referer_url_port":"x"}]', lambda content: content.replace(b'"x"', b"80")),
    ],
    ids=["jsonl", "csv", "json"],
)
def test_what_was_exported_and_corrected_is_loaded(shop: Shop, name: str, content: bytes, correct: Any) -> None:
    before = load(shop, f"in-{name}", content)
    file = shop.folder / name
    assert clickmart.rejects_export(file, dsn=shop.dsn).files == ((str(file), before.rows_rejected),)
    file.write_bytes(correct(file.read_bytes()).replace(str(BIG_PORT).encode(), b"81"))
    report = load_file(shop.connection, str(file))
    assert (report.status, report.rows_loaded, report.rows_rejected) == ("loaded", before.rows_rejected, 0)


def test_rejects_of_several_files_fit_one_where_they_are_alike(shop: Shop) -> None:
    load(shop, "a.csv", b"event_id,os\n1,2\n1,2,3\n")
    load(shop, "b.csv", b"event_id,os\r\n1,2\r\n4,5,6\r\n")
    clickmart.rejects_export(shop.folder / "out.csv", dsn=shop.dsn)
    assert (shop.folder / "out.csv").read_bytes() == b"event_id,os\n1,2,3\n4,5,6\r\n"


def test_what_does_not_fit_one_file_is_refused_and_goes_to_a_folder(shop: Shop) -> None:
    load(shop, "a.csv", b"event_id,os\n1,2\n1,2,3\n")
    load(shop, "b.csv.gz", gzip.compress(b"os,event_id\n1,2\n4,5,6\n"))
    load(shop, "c.jsonl", GOOD + NEVER)
    output = shop.folder / "out.csv"
    with pytest.raises(LoadError) as error:
        clickmart.rejects_export(output, dsn=shop.dsn)
    assert str(error.value) == (
        f"the rejects don't fit one file (load 1, {shop.folder}/a.csv: CSV below event_id,os; load 2, "
        f"{shop.folder}/b.csv.gz: CSV below os,event_id; load 3, {shop.folder}/c.jsonl: JSON lines): "
        "take those of a load by --load N, or name a folder, which gets a file a load"
    )
    assert not output.exists()
    clickmart.rejects_export(output, loads=[2], dsn=shop.dsn)
    assert output.read_bytes() == b"os,event_id\n4,5,6\n"
    report = clickmart.rejects_export(f"{shop.folder}/rejects/", dsn=shop.dsn)
    written = {file.name: file.read_bytes() for file in (shop.folder / "rejects").iterdir()}
    assert written == {
        "1-a.csv": b"event_id,os\n1,2,3\n",
        "2-b.csv": b"os,event_id\n4,5,6\n",
        "3-c.jsonl": NEVER,
    }
    assert [Path(file).name for file, _ in report.files] == sorted(written)
    load(shop, ".jsonl", NEVER)
    report = clickmart.rejects_export(f"{shop.folder}/rejects/", loads=[4], dsn=shop.dsn)
    assert [Path(file).name for file, _ in report.files] == ["4-rejects.jsonl"]


@pytest.mark.parametrize("name", ["out.csv", "out.json", "out.jsonl.gz", "out.parquet"])
def test_a_name_that_says_another_format_is_wrong_usage(shop: Shop, name: str) -> None:
    load(shop, "a.jsonl", GOOD + NEVER)
    with pytest.raises(UsageError, match=r"the rejects are JSON lines: name the file .jsonl"):
        clickmart.rejects_export(shop.folder / name, dsn=shop.dsn)
    assert not (shop.folder / name).exists()


def test_an_export_that_fails_leaves_the_file_as_it_was(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    load(shop, "a.jsonl", GOOD + NEVER + WIDE)
    file = shop.folder / "out.jsonl"
    file.write_text("before")
    stored = reject_export.stored_rejects

    def ended(*arguments: Any) -> Any:
        yield next(stored(*arguments))
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(reject_export, "stored_rejects", ended)
        code, _, stderr = outcome(run("rejects", "export", str(file), dsn=shop.dsn))
    assert (code, stderr) == (1, f"clickmart: {file}: can't be written: No space left on device\n")
    assert file.read_text() == "before"
    assert sorted(path.name for path in shop.folder.iterdir()) == ["a.jsonl", "out.jsonl"]


def test_rejects_of_a_load_that_failed_are_exported_where_it_is_named(shop: Shop) -> None:
    load(shop, "a.jsonl", GOOD + NEVER, max_rejects=0)
    file = shop.folder / "out.jsonl"
    assert run("rejects", "export", str(file), dsn=shop.dsn).stdout == (
        "no rejects to export\n"
        "left out 1 reject of loads that failed, whose files can be loaded; --load N exports those of one\n"
    )
    clickmart.rejects_export(file, loads=[last_load(shop)], dsn=shop.dsn)
    assert file.read_bytes() == NEVER
    assert "1 of them of loads that failed" in run("rejects", dsn=shop.dsn).stdout


def rejects_of(shop: Shop, number: int) -> list[tuple[Any, ...]]:
    """Reason, text and bytes of a load's rejects."""
    return shop.query(
        "select reason, raw, raw_bytes from stage.events_rejected where batch_id = %s order by id", number
    )


@pytest.mark.parametrize("form", ["jsonl", "csv", "json"])
def test_what_is_exported_reads_again_as_it_did_and_no_replay_lets_it_in(one_shop: Shop, form: str) -> None:
    """Whatever the bytes are. What belongs to the array's frame, and ends it, may come out otherwise."""
    pieces = st.sampled_from(
        [
            b"\r",
            b"\r\n",
            b"\n",
            b'"',
            b",",
            b"a",
            b"\0",
            b"\xff",
            b"\\x00",
            b"{",
            b"}",
            b'{"event_id": "1"}',
            b"[",
            b"]",
        ]
    )

    @given(st.lists(pieces, max_size=12).map(b"".join))
    @settings(max_examples=25)
    def law(content: bytes) -> None:
        mark = f"{next(_numbers)}"  # which makes each file's content its own
        starts = {
            "jsonl": lines({"os": mark}),
            "csv": f"event_id,os\n1,{mark}\n".encode(),
            "json": b'[{"os": "%s"},' % mark.encode(),
        }
        report = load(one_shop, f"x.{form}", starts[form] + content)
        number = last_load(one_shop)
        rejects = rejects_of(one_shop, number)
        assert len(rejects) == report.rows_rejected
        if report.status == "loaded":
            assert clickmart.rejects_replay(loads=[number], dsn=one_shop.dsn).rows_loaded == 0
        if form != "json" and rejects:
            file = one_shop.folder / f"out.{form}"
            clickmart.rejects_export(file, loads=[number], dsn=one_shop.dsn)
            load_file(one_shop.connection, str(file))
            assert rejects_of(one_shop, last_load(one_shop)) == rejects

    law()


# Replay


def content_of(form: str) -> bytes:
    """A file with rows, with rejects that a wider column takes, and with others."""
    if form == "parquet":
        file = pa.BufferOutputStream()
        rows = {
            "event_id": ["1", "2", "3", "4\0", "5"],
            "referer_url_port": ["80", f"{BIG_PORT}", "x", f"{BIG_PORT}", f"{BIG_PORT}.0"],
            "geo_latitude": [1.5, 0.1, 0.1, 0.1, float("nan")],
            "os": [Decimal("1.10"), Decimal("12345678901234567890.123"), None, None, None],
            "utm_content": [{"a": 1.0, "b": "ü\n"}, {"a": 1e300, "b": None}, None, None, {"a": float("nan"), "b": ""}],
            "device_is_mobile": [True, False, None, True, None],
            "page_url": [b"x", b"y", b"z", b"\xff", b"w"],
            "stranger": [1, 2, 3, 4, 5],
        }
        kinds = {"os": pa.decimal128(30, 3)}
        parquet.write_table(pa.table({name: pa.array(values, kinds.get(name)) for name, values in rows.items()}), file)
        return bytes(file.getvalue().to_pybytes())
    if form == "csv":
        return (
            b'os,referer_url_port,event_id,"x\ny"\r\na,80,1,\r\n"",99999999999,2,\r\n"b\r\n""c""",99999999999.0,3\r\n'
            b"d,x,4,\r\ne,99999999999,\xff,\r\nf,99999999999,6,7,8\r\ng,99999999999,7"
        )
    records = [
        {"event_id": "1", "referer_url_port": 80},
        {"event_id": "2", "referer_url_port": BIG_PORT, "geo_latitude": 1e-7, "os": 1.10, "x": [1]},
        {"event_id": "3", "referer_url_port": f"{BIG_PORT}.0", "os": {"a": [1.50, None, "ü"]}},
        {"event_id": "4", "referer_url_port": "x"},
        {"event_id": "5\0", "referer_url_port": BIG_PORT},
    ]
    if form == "json":
        return json.dumps(records, indent=1).encode() + b' {"event_id": "behind"}'
    return lines(*records) + b'{"event_id": "\xff", "referer_url_port": 99999999999}\r\n[\n'


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "parquet"])
def test_a_replay_comes_to_what_a_load_would_come_to_by_now(embedded_server: Server, tmp_path: Path, form: str) -> None:
    name, content = f"a.{form}", content_of(form)

    def stored(shop: Shop) -> list[str]:
        rows = shop.query(f"select {', '.join(NAMES)} from stage.events order by event_id")
        # The first load names the type that it knew.
        rejects = [(line, reason.replace("bigint", "integer"), raw) for line, reason, raw in standing(shop)]
        return [repr(row) for row in (*rows, *rejects)]

    with open_shop(embedded_server, tmp_path) as shop:
        widen(shop)
        assert load(shop, name, content).status == "loaded"
        expected = stored(shop)
    with open_shop(embedded_server, tmp_path) as shop:
        before = load(shop, name, content)
        widen(shop)
        report = clickmart.rejects_replay(dsn=shop.dsn)
        assert report.rows_loaded == {"jsonl": 2, "json": 2, "csv": 3, "parquet": 2}[form]
        assert stored(shop) == expected
        assert report.rows_loaded + report.rows_left == before.rows_rejected
        assert shop.apply().new_rows == before.rows_loaded + report.rows_loaded
        assert shop.failures() == []


def test_a_replay_is_a_load_of_its_own_and_that_of_the_file_keeps_its_counts(shop: Shop) -> None:
    load(shop, "a.jsonl", GOOD + WIDE + NEVER)
    shop.apply()
    widen(shop)
    report = run_json("rejects", "replay", dsn=shop.dsn)
    assert report.pop("seconds") >= 0
    first = {"load": 1, "file": f"{shop.folder}/a.jsonl", "rows_loaded": 1, "rows_left": 1}
    assert report == {"load": 2, "replays": [2], "rows_loaded": 1, "rows_left": 1, "loads": [first], "left_out": []}
    assert shop.query("select id, rows_loaded, rows_rejected, rows_replayed, format, status from cdm.loads") == [
        (1, 1, 2, 1, "jsonl", "loaded"),
        (2, 1, 0, 0, "rejects", "loaded"),
    ]
    assert shop.query("select file_name, size from stage.loads where id = 2") == [
        (f"rejects of load 1, {shop.folder}/a.jsonl", len(WIDE))
    ]
    assert shop.query("select raw, replayed_by from stage.events_rejected order by id") == [
        (WIDE.decode().strip(), 2),
        (NEVER.decode().strip(), None),
    ]
    assert [count for *_, count in shop.query("select * from cdm.rejects")] == [1]
    assert clickmart.rejects(dsn=shop.dsn).count == 1
    assert shop.apply().new_rows == 1
    assert shop.failures() == []


def test_rejects_of_many_files_and_formats_come_in_one_replay(shop: Shop) -> None:
    for form in ("csv", "jsonl", "json", "parquet"):
        load(shop, f"a.{form}", content_of(form))
    widen(shop)
    before = shop.query("select count(*) from stage.standing_rejects")[0][0]
    replayed = clickmart.rejects_replay(loads=[1, 3], dsn=shop.dsn)
    assert (replayed.load, replayed.rows_loaded) == (5, 5)
    printed = run("rejects", "replay", dsn=shop.dsn).stdout
    assert f"load 2  {shop.folder}/a.jsonl" in printed
    assert "4 rows as load 6, " in printed
    assert shop.query("select file_name from stage.loads where format = 'rejects'") == [("rejects of 2 loads",)] * 2
    assert shop.query("select count(*) from stage.standing_rejects") == [(int(str(before)) - 9,)]
    assert shop.failures() == []


def test_a_replay_with_nothing_to_do_leaves_no_trace(shop: Shop) -> None:
    load(shop, "a.jsonl", GOOD + WIDE + NEVER)
    before = all_of(shop)
    report = clickmart.rejects_replay(dsn=shop.dsn)
    assert (report.load, report.rows_loaded, report.rows_left) == (None, 0, 2)
    assert str(report) == "nothing to replay; 2 rejects would be rejected again"
    assert all_of(shop) == before


def test_a_replay_that_is_run_again_brings_nothing_more(shop: Shop) -> None:
    load(shop, "a.jsonl", GOOD + WIDE + NEVER)
    widen(shop)
    assert clickmart.rejects_replay(dsn=shop.dsn).rows_loaded == 1
    before = all_of(shop)
    assert clickmart.rejects_replay(dsn=shop.dsn).rows_loaded == 0
    assert all_of(shop) == before


def test_of_two_replays_at_once_one_brings_each_reject(shop: Shop) -> None:
    load(shop, "a.jsonl", GOOD + WIDE * 5 + NEVER)
    widen(shop)
    blocked = "select from pg_locks where not granted"
    with ThreadPoolExecutor(2) as threads:
        with loads_held_up(shop.dsn):
            # Both have read all rejects; one has them, and the other waits for what becomes of it.
            replays = [threads.submit(clickmart.rejects_replay, dsn=shop.dsn) for _ in range(2)]
            eventually(lambda: len(query(shop.dsn, blocked)) == 2)
        reports: list[ReplayReport] = sorted((run.result() for run in replays), key=lambda report: report.rows_loaded)
    assert [(report.rows_loaded, report.rows_left) for report in reports] == [(0, 1), (5, 1)]
    assert reports[0].load is None
    assert len(ports(shop)) == 6
    assert shop.failures() == []


def test_a_replay_that_is_killed_leaves_nothing_and_the_next_does_it_all(shop: Shop) -> None:
    load(shop, "a.jsonl", GOOD + WIDE * 5 + NEVER)
    widen(shop)
    before = all_of(shop)[:3]
    with loads_held_up(shop.dsn) as is_waiting:
        process = subprocess.Popen([*COMMAND, "--dsn", shop.dsn, "rejects", "replay"])
        eventually(is_waiting)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    eventually(lambda: not others(shop))
    assert all_of(shop)[:3] == before
    assert clickmart.rejects_replay(dsn=shop.dsn).rows_loaded == 5
    assert shop.failures() == []


def test_rejects_of_a_load_that_failed_are_never_replayed(shop: Shop) -> None:
    load(shop, "a.jsonl", GOOD + WIDE, max_rejects=0)
    load(shop, "b.jsonl", WIDE)
    widen(shop)
    before = all_of(shop)
    assert clickmart.rejects_replay(dsn=shop.dsn).rows_loaded == 0
    code, _, stderr = outcome(run("rejects", "replay", "--load", "2", dsn=shop.dsn))
    assert (code, stderr) == (
        1,
        f"clickmart: load 2 failed, so nothing of {shop.folder}/b.jsonl is there: load the file\n",
    )
    assert all_of(shop) == before
    assert load(shop, "b.jsonl", WIDE).status == "loaded"


def test_rejects_of_rows_that_were_detached_are_replayed(shop: Shop) -> None:
    for number in range(11):
        load(shop, "a.jsonl", lines({"event_id": f"{number}"}) + WIDE)
    shop.apply()
    assert shop.query("select stage.detach_events(now())") == [("events_1",)]
    widen(shop)
    assert clickmart.rejects_replay(dsn=shop.dsn, loads=range(1, 11)).rows_loaded == 10
    assert shop.apply().new_rows == 10
    assert shop.failures() == []


def test_rows_that_the_table_refuses_are_one_clear_message_and_nothing_changes(shop: Shop) -> None:
    load(shop, "a.jsonl", GOOD + WIDE)
    load(shop, "b.jsonl", GOOD + NEVER)
    # The server's word is given, and the column was forgotten.
    shop.connection.execute(WIDER.partition(";")[2].encode())
    before = all_of(shop)[:3]
    code, stdout, stderr = outcome(run("rejects", "replay", dsn=shop.dsn))
    assert (code, stdout) == (1, "")
    assert stderr.startswith('clickmart: nothing is replayed: value "99999999999" is out of range for type integer (')
    assert stderr.count("\n") == 1
    assert all_of(shop)[:3] == before


def test_rejects_of_a_bulk_load_are_exported_and_replayed_as_others(shop: Shop) -> None:
    bad = b"\xff\0\r\nliteral \\x00\n"
    with bulk_load(shop.dsn) as running:
        number = running.first_load
        pieces = [
            attempt(shop.dsn, running, number, GOOD + bad),
            attempt(shop.dsn, running, number, GOOD + WIDE, start=1000),
        ]
        running.publish([result(number, pieces)], None)
    clickmart.rejects_export(shop.folder / "out", dsn=shop.dsn)
    assert (shop.folder / "out").read_bytes() == bad + WIDE
    widen(shop)
    assert clickmart.rejects_replay(dsn=shop.dsn).rows_loaded == 1
    assert shop.failures() == []


# Before clickmart kept the bytes

BEFORE = """
insert into stage.loads (id, file_name, checksum, size, format, rows_loaded, rows_rejected, started_at, status) values
(101, 'a.jsonl', '101', 1, 'jsonl', 0, 3, now(), 'loaded'),
(102, 'b.csv', '102', 1, 'csv', 0, 2, now(), 'loaded'),
(103, 'c.json', '103', 1, 'json', 0, 1, now(), 'loaded');
insert into stage.events_rejected (batch_id, source_file, line_number, reason, raw) values
(101, 'a.jsonl', 1, 'r', '{"event_id": "1", "referer_url_port": 99999999999}'),
(101, 'a.jsonl', 2, 'r', '{"event_id": "\\x00", "referer_url_port": 99999999999}'),
(101, 'a.jsonl', 3, 'r', 'a\\xffb'),
(102, 'b.csv', 2, 'r', '1,99999999999'),
(102, 'b.csv', 3, 'r', '2,99999999999'),
(103, 'c.json', 2, 'r', E'{"event_id": "3",\\n "referer_url_port": 99999999999}');
"""


@pytest.fixture
def older_shop(embedded_server: Server, tmp_path: Path) -> Iterator[Shop]:
    """A warehouse with rejects of an older clickmart, brought up to date."""
    project = init_project(tmp_path / "older")
    later = ("0004_rejects.sql", "0006_sources.sql")
    for name in later:
        (project / "migrations" / name).unlink()
    (tmp_path / "a.jsonl").write_bytes(GOOD)
    with embedded_server.database(template=False) as dsn:
        with pytest.raises(ProjectError, match=r"is of an older clickmart and lacks migrations/0004_rejects\.sql"):
            clickmart.load(tmp_path / "a.jsonl", dsn=dsn, project=project)
        for call in (clickmart.rejects, clickmart.rejects_replay):
            with pytest.raises(ProjectError, match="is of an older clickmart"):
                call(dsn=dsn)
        with Warehouse(dsn).connect() as connection:
            connection.execute(BEFORE.encode())
            assert apply(dsn, read_project()).migrations == tuple(f"migrations/{name}" for name in later)
            yield Shop(dsn, connection, tmp_path)


def test_of_older_rejects_only_those_are_exported_and_replayed_whose_bytes_are_known(older_shop: Shop) -> None:
    folder = older_shop.folder / "out"
    folder.mkdir()
    report = clickmart.rejects_export(folder, dsn=older_shop.dsn)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
        "101-a.jsonl": b'{"event_id": "1", "referer_url_port": 99999999999}\n',
        "103-c.json": b'[\n{"event_id": "3",\n "referer_url_port": 99999999999}\n]\n',
    }
    left = [
        "left out 2 rejects of load 101, a.jsonl: loaded before clickmart kept what they need: "
        "their exact bytes are not known",
        "left out 2 rejects of load 102, b.csv: loaded before clickmart kept what they need: their header is not known",
    ]
    assert str(report).splitlines()[2:] == left
    alone = run("rejects", "export", "--load", "101", "-", dsn=older_shop.dsn)
    assert alone.stdout == '{"event_id": "1", "referer_url_port": 99999999999}\n'
    assert alone.stderr == f"clickmart: {left[0]}\n"

    widen(older_shop)
    replayed = replay(Warehouse(older_shop.dsn), read_project())
    assert [str(line) for line in replayed.left_out] == left
    assert ports(older_shop) == [("1", BIG_PORT), ("3", BIG_PORT)]
    assert [line for line, *_ in standing(older_shop)] == [2, 3, 2, 3]


# The command


def test_options_of_the_list_stand_behind_no_command() -> None:
    code, _, stderr = outcome(run("rejects", "--load", "1", "replay"))
    assert code == 2
    assert "options stand behind the command: clickmart rejects replay ..." in stderr


def test_whoever_stops_reading_an_export_sees_no_error(shop: Shop) -> None:
    load(shop, "a.jsonl", GOOD + NEVER * 20_000)
    command = f"{sys.executable} -m clickmart --dsn '{shop.dsn}' rejects export - | head -c 5"
    done = subprocess.run(["bash", "-c", command], capture_output=True)
    assert (done.stdout, done.stderr) == (NEVER[:5], b"")


def test_each_command_is_a_function_of_the_package() -> None:
    assert isinstance(cli.rejects, cli.click.Group)
    for name in cli.rejects.commands:
        assert callable(getattr(clickmart, f"rejects_{name}"))
