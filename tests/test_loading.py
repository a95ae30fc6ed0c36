"""Loads of files (docs/meaning.md 1): what each leaves in stage.loads; each content is there once and whole, or not
at all."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import clickmart
import psutil
import psycopg
import pyarrow as pa
import pyarrow.parquet
import pytest
from clickmart.columns import NAMES
from clickmart.errors import LoadError, ProjectError, WarehouseError
from clickmart.loading import FileReport, LoadReport, load_file, load_files
from clickmart.readers import Source
from clickmart.warehouse import Warehouse
from conftest import Server, Shop
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.copy import LibpqWriter

GOOD = b'{"event_id": "1"}\n'
BAD = b'{"referer_url_port": "x"}\n'
#: The command in a process of its own.
COMMAND = [sys.executable, "-m", "clickmart"]
#: Records of a file that takes long enough to load for something to happen meanwhile.
MANY = 60_000


def write(folder: Path, name: str, content: bytes) -> str:
    path = folder / name
    path.write_bytes(content)
    return str(path)


def lines(count: int, mark: str = "") -> bytes:
    """So many records of JSON lines."""
    return "".join(f'{{"event_id": "{mark}{number}", "os": "some system"}}\n' for number in range(count)).encode()


@pytest.fixture
def big(tmp_path: Path) -> str:
    return write(tmp_path, "big.jsonl", lines(MANY))


def query(dsn: str, text: str, *parameters: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(text.encode(), parameters or None).fetchall()


def counts(dsn: str) -> tuple[int, int, int]:
    """How many rows, rejects and loads there are."""
    tables = ("events", "events_rejected", "loads")
    return tuple(query(dsn, f"select count(*) from stage.{table}")[0][0] for table in tables)  # type: ignore[return-value]


def load(dsn: str, *files: str, max_rejects: int | None = None, jobs: int = 1) -> LoadReport:
    return load_files(Warehouse(dsn), files, max_rejects=max_rejects, jobs=jobs)


def eventually(condition: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)


def backends(dsn: str) -> list[int]:
    """The server's processes for clickmart in this database."""
    rows = query(
        dsn,
        "select pid from pg_stat_activity where application_name = 'clickmart' and datname = current_database() "
        "and pid <> pg_backend_pid()",
    )
    return [pid for (pid,) in rows]


def copied(dsn: str) -> int:
    """How many rows the COPYs that run now have taken."""
    rows = query(dsn, "select tuples_processed from pg_stat_progress_copy where datname = current_database()")
    return sum(count for (count,) in rows)


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    return subprocess.Popen([*COMMAND, *arguments], **options)


@contextmanager
def loads_held_up(dsn: str) -> Iterator[Callable[[], bool]]:
    """Lets loads come to their row of stage.loads and no further; says whether one is there."""
    with psycopg.connect(dsn) as holder:
        holder.execute("lock table stage.loads in share mode")
        waiting = "select from pg_locks where relation = 'stage.loads'::regclass and not granted"
        yield lambda: bool(query(dsn, waiting))


# The row of stage.loads


@pytest.mark.parametrize(
    ("name", "content", "form"),
    [
        ("a.jsonl", GOOD + BAD, "jsonl"),
        ("a.ndjson", GOOD + BAD, "jsonl"),
        ("a.json", b"[" + GOOD + b"," + BAD + b"]", "json"),
        ("a.csv.gz", gzip.compress(b"event_id,referer_url_port\n1,\n2,x\n", mtime=0), "csv.gz"),
        ("a.jsonl.zst", pa.compress(GOOD + BAD, codec="zstd", asbytes=True), "jsonl.zst"),
    ],
)
def test_a_load_says_what_was_loaded_and_when(shop: Shop, name: str, content: bytes, form: str) -> None:
    file = write(shop.folder, name, content)
    report = load_file(shop.connection, file)
    assert (report.file, report.status, report.rows_loaded, report.rows_rejected) == (file, "loaded", 1, 1)
    (row,) = shop.query(
        "select id, file_name, checksum, size, format, rows_loaded, rows_rejected, status, refreshed_at "
        "from stage.loads"
    )
    checksum = hashlib.sha256(content).hexdigest()
    assert row[1:] == (file, checksum, len(content), form, 1, 1, "loaded", None)
    assert shop.query("select batch_id from stage.events") == [row[:1]]
    assert shop.query("select batch_id from stage.events_rejected") == [row[:1]]
    assert shop.query(
        "select now() - interval '1 minute' < started_at and started_at < finished_at and finished_at <= now() "
        "from stage.loads"
    ) == [(True,)]


@pytest.mark.parametrize("name", ["empty.jsonl", "empty.json", "empty.csv", "blank.jsonl", "array.json", "header.csv"])
def test_a_file_without_records_is_loaded_with_no_rows(shop: Shop, name: str) -> None:
    content = {"blank.jsonl": b"\n \r\n", "array.json": b" [ ]\n", "header.csv": b"event_id,os\n"}.get(name, b"")
    report = load_file(shop.connection, write(shop.folder, name, content), max_rejects=0)
    assert (report.status, report.rows_loaded, report.rows_rejected) == ("loaded", 0, 0)
    assert shop.query("select status, rows_loaded, size from stage.loads") == [("loaded", 0, len(content))]


def test_as_many_rejects_as_are_allowed_are_no_failure_and_one_more_is(shop: Shop) -> None:
    file = write(shop.folder, "a.jsonl", GOOD * 5 + BAD * 3)
    failed = load_file(shop.connection, file, max_rejects=2)
    batch_id = shop.query("select id from stage.loads")[0][0]
    assert (
        failed.problem == f"3 rejects, more than the 2 allowed; they are in stage.events_rejected, batch_id {batch_id}"
    )
    assert (failed.status, failed.rows_loaded, failed.rows_rejected) == ("failed", 0, 3)
    assert shop.query("select status, rows_loaded, rows_rejected from stage.loads") == [("failed", 0, 3)]
    assert counts(shop.dsn) == (0, 3, 1)

    assert load_file(shop.connection, file, max_rejects=3).status == "loaded"
    assert shop.query("select status, rows_loaded, rows_rejected from stage.loads order by id") == [
        ("failed", 0, 3),
        ("loaded", 5, 3),
    ]
    assert counts(shop.dsn) == (5, 6, 2)


def test_a_file_of_rejects_alone_is_failed_and_its_rejects_are_kept(shop: Shop) -> None:
    report = load_file(shop.connection, write(shop.folder, "a.jsonl", b"no JSON\n" + BAD))
    batch_id = shop.query("select id from stage.loads where status = 'failed'")[0][0]
    assert (report.status, report.rows_loaded, report.rows_rejected) == ("failed", 0, 2)
    assert report.problem == (
        f"none of its 2 records could be stored; they are in stage.events_rejected, batch_id {batch_id}; "
        "first: line 1: not JSON: Expecting value after 0 characters"
    )
    assert counts(shop.dsn) == (0, 2, 1)


def test_no_reject_allowed_fails_a_file_by_its_first(shop: Shop) -> None:
    assert load_file(shop.connection, write(shop.folder, "a.jsonl", GOOD), max_rejects=0).status == "loaded"
    assert load_file(shop.connection, write(shop.folder, "b.jsonl", GOOD + BAD), max_rejects=0).status == "failed"


def test_a_failed_file_is_tried_again_each_time(shop: Shop) -> None:
    file = write(shop.folder, "a.jsonl", GOOD + BAD)
    for _ in range(3):
        assert load_file(shop.connection, file, max_rejects=0).status == "failed"
    assert load_file(shop.connection, file).status == "loaded"
    assert load_file(shop.connection, file).status == "skipped"
    assert load_file(shop.connection, file, max_rejects=0).status == "skipped"
    assert counts(shop.dsn) == (1, 4, 4)


# Files that can't be read


def zip_of(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, GOOD)
    return file.getvalue()


UNREADABLE = {
    "cut.jsonl.gz": (gzip.compress(lines(100_000), 1)[:-1000], "the gzip data breaks off"),
    "late.jsonl.gz": (gzip.compress(lines(100_000), 1)[:-4] + b"\0\0\0\0", "incorrect length check"),
    "none.csv.gz": (b"event_id\n1\n", "not packed by gzip"),
    "two.jsonl.zip": (zip_of("a", "b"), "holds 2 files"),
    "broken.json.zip": (zip_of("a")[:-30], "damaged, cut short or none"),
    "none.parquet": (b"PAR1 and no more", "the Parquet data is damaged"),
    "other.csv": (b"a,b\n1,2\n", "names no column of stage.events"),
    "none.txt": (GOOD, "the extension is not known"),
    "absent.jsonl": (None, "No such file or directory"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_cannot_be_read_leaves_nothing_and_the_others_are_loaded(shop: Shop, name: str) -> None:
    content, reason = UNREADABLE[name]
    first, last = write(shop.folder, "1.jsonl", GOOD), write(shop.folder, "3.jsonl", GOOD * 2)
    file = str(shop.folder / name) if content is None else write(shop.folder, name, content)
    report = load(shop.dsn, first, file, last)
    assert [part.status for part in report.files] == ["loaded", "failed", "loaded"]
    assert reason in report.files[1].problem
    assert report.files[1].file == file
    assert file not in report.files[1].problem
    assert counts(shop.dsn) == (3, 0, 2)
    assert report.failed


def test_a_file_that_could_not_be_read_is_loaded_once_it_can(shop: Shop) -> None:
    whole = gzip.compress(lines(1000))
    file = write(shop.folder, "a.jsonl.gz", whole[:-9])
    assert load_file(shop.connection, file).status == "failed"
    write(shop.folder, "a.jsonl.gz", whole)
    assert load_file(shop.connection, file).rows_loaded == 1000


# Each content once


def test_a_content_that_is_loaded_is_skipped_under_any_name_and_the_load_is_named(shop: Shop) -> None:
    first = write(shop.folder, "first.jsonl", GOOD)
    load_file(shop.connection, first)
    batch_id = shop.query("select id from stage.loads")[0][0]
    for name in ["first.jsonl", "second.jsonl", "third.json"]:
        report = load_file(shop.connection, write(shop.folder, name, GOOD))
        assert report.status == "skipped"
        assert report.problem == f"its content is loaded already, load {batch_id}, {first}"
    assert counts(shop.dsn) == (1, 0, 1)


def test_a_content_of_the_same_length_is_another_one(shop: Shop) -> None:
    for name in "abc":
        load_file(shop.connection, write(shop.folder, f"{name}.jsonl", b'{"event_id": "%s"}' % name.encode()))
    assert counts(shop.dsn) == (3, 0, 3)


def test_what_is_packed_otherwise_is_another_content(shop: Shop) -> None:
    """The checksum is that of the file as it is."""
    load_file(shop.connection, write(shop.folder, "a.jsonl", GOOD))
    assert load_file(shop.connection, write(shop.folder, "a.jsonl.gz", gzip.compress(GOOD))).status == "loaded"


@pytest.mark.parametrize("content", [lines(3000), lines(300) + BAD * 300], ids=["plain", "with rejects"])
def test_of_eight_loads_of_one_file_at_once_one_counts(shop: Shop, content: bytes) -> None:
    file = write(shop.folder, "a.jsonl", content)
    together = threading.Barrier(8)

    def one(_: int) -> FileReport:
        with Warehouse(shop.dsn).connect() as connection:
            together.wait()
            return load_file(connection, file)

    with ThreadPoolExecutor(8) as threads:
        reports = list(threads.map(one, range(8)))
    assert sorted(report.status for report in reports) == ["loaded"] + ["skipped"] * 7
    assert all("its content is loaded already, load " in report.problem for report in reports if report.problem)
    rows = content.count(b"event_id")
    assert counts(shop.dsn) == (rows, content.count(BAD), 1)
    assert shop.query("select rows_loaded from stage.loads") == [(rows,)]


def test_of_eight_processes_that_load_one_file_at_once_one_counts(shop: Shop) -> None:
    file = write(shop.folder, "a.jsonl", lines(20_000))
    processes = [start("--dsn", shop.dsn, "load", file, "--json") for _ in range(8)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [(process.returncode, error) for process, (_, error) in zip(processes, outputs, strict=True)] == [
        (0, "")
    ] * 8
    statuses = [json.loads(output)["files"][0]["status"] for output, _ in outputs]
    assert sorted(statuses) == ["loaded"] + ["skipped"] * 7
    assert counts(shop.dsn) == (20_000, 0, 1)


def test_a_load_that_waits_for_one_that_fails_takes_its_place(dsn: str, tmp_path: Path) -> None:
    file = write(tmp_path, "a.jsonl", lines(500))
    checksum = hashlib.sha256(lines(500)).hexdigest()
    with psycopg.connect(dsn) as other, ThreadPoolExecutor(1) as thread:
        other.execute(
            "insert into stage.loads (file_name, checksum, size, format, rows_loaded, rows_rejected, started_at, "
            "status) values ('other', %s, 0, 'jsonl', 0, 0, now(), 'loaded')",
            (checksum,),
        )
        waiting = thread.submit(load, dsn, file)
        eventually(lambda: query(dsn, "select from pg_locks where not granted"))
        other.rollback()
        assert waiting.result().files[0].status == "loaded"
    assert counts(dsn) == (500, 0, 1)


# Loads that are killed


@pytest.fixture(params=["first rows", "more rows", "all rows"])
def moment(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def load_at(moment: str, dsn: str, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """The command `load` in a process, come to that moment."""
    with loads_held_up(dsn) as is_held_up:
        process = start("--dsn", dsn, "load", *arguments, **options)
        if moment == "all rows":
            eventually(is_held_up)
        else:
            rows = MANY // 2 if moment == "more rows" else 0
            eventually(lambda: copied(dsn) > rows or is_held_up())
        yield process


def assert_gone_and_loaded_whole_the_next_time(dsn: str, file: str) -> None:
    eventually(lambda: not backends(dsn))
    assert counts(dsn) == (0, 0, 0)
    assert load(dsn, file).rows_loaded == MANY
    assert counts(dsn) == (MANY, 0, 1)
    assert query(dsn, "select count(distinct event_id) from stage.events") == [(MANY,)]


def test_a_load_that_is_killed_leaves_no_row_and_loads_whole_the_next_time(shop: Shop, big: str, moment: str) -> None:
    with load_at(moment, shop.dsn, big) as process:
        process.kill()
        process.communicate()
    # The test's own connection is one of clickmart's too.
    shop.connection.close()
    assert_gone_and_loaded_whole_the_next_time(shop.dsn, big)


def test_a_load_whose_connection_is_ended_says_so_and_leaves_no_row(dsn: str, big: str, moment: str) -> None:
    with load_at(moment, dsn, big) as process:
        assert query(dsn, "select pg_terminate_backend(pid) from unnest(%s::int[]) as pid", backends(dsn)) == [(True,)]
        output, error = process.communicate(timeout=30)
    assert process.returncode == 1
    # The server's own reason may be lost on the way, as it comes amid what is sent to it.
    lost = "the connection to the warehouse was lost: [^\n]*(administrator command|server closed the connection[^\n]*)"
    assert re.fullmatch(f"clickmart: {big}: {lost}\n", error)
    assert re.fullmatch(f"{big}  failed: {lost}\n", output)
    assert_gone_and_loaded_whole_the_next_time(dsn, big)


def test_after_a_failure_to_send_the_other_files_are_loaded_over_the_same_connection(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [write(tmp_path, f"{number}.jsonl", lines(10, f"{number}.")) for number in range(3)]
    put = LibpqWriter._put

    def fail_once(writer: LibpqWriter, data: bytes) -> None:
        if b'"1.0"' in data:
            raise psycopg.OperationalError("sending copy data failed: a part of the way is broken")
        put(writer, data)

    monkeypatch.setattr(LibpqWriter, "_put", fail_once)
    report = load(dsn, *files)
    assert [file.status for file in report.files] == ["loaded", "failed", "loaded"]
    assert "a part of the way is broken" in report.files[1].problem
    assert counts(dsn) == (20, 0, 2)


def test_after_a_lost_connection_the_other_files_are_loaded_over_a_new_one(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [write(tmp_path, f"{number}.jsonl", lines(10, f"{number}.")) for number in range(3)]
    batches = Source.batches

    def ended_over_the_second(source: Source) -> Any:
        if source.name == files[1]:
            query(dsn, "select pg_terminate_backend(pid) from unnest(%s::int[]) as pid", backends(dsn))
        return batches(source)

    monkeypatch.setattr(Source, "batches", ended_over_the_second)
    report = load(dsn, *files)
    assert [file.status for file in report.files] == ["loaded", "failed", "loaded"]
    assert report.files[1].problem.startswith("the connection to the warehouse was lost: ")
    assert counts(dsn) == (20, 0, 2)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_server_that_is_gone_is_one_clear_message_a_file(tmp_path: Path, jobs: int) -> None:
    files = [write(tmp_path, f"{number}.jsonl", GOOD) for number in range(3)]
    report = load(make_conninfo(host=str(tmp_path), dbname="none", connect_timeout=2), *files, jobs=jobs)
    assert [file.status for file in report.files] == ["failed"] * 3
    assert all(file.problem.startswith("can't connect to the warehouse: ") for file in report.files)
    assert not any("\n" in file.problem for file in report.files)


def test_load_file_raises_where_the_connection_is_lost(dsn: str, tmp_path: Path) -> None:
    with Warehouse(dsn).connect() as connection:
        query(dsn, "select pg_terminate_backend(%s)", connection.info.backend_pid)
        with pytest.raises(WarehouseError, match="the connection to the warehouse was lost: "):
            load_file(connection, write(tmp_path, "a.jsonl", GOOD))


def test_a_statement_that_runs_too_long_is_one_clear_message_and_the_next_file_is_loaded(shop: Shop, big: str) -> None:
    shop.connection.execute("set statement_timeout = '50ms'")
    report = load_file(shop.connection, big)
    assert report.status == "failed"
    assert report.problem.startswith("canceling statement due to statement timeout (COPY events, line ")
    assert "\n" not in report.problem
    assert counts(shop.dsn) == (0, 0, 0)
    assert load_file(shop.connection, write(shop.folder, "small.jsonl", GOOD)).status == "loaded"


def test_what_the_table_refuses_is_one_clear_message(shop: Shop) -> None:
    """A table that someone has changed is none that the values were judged for."""
    shop.connection.execute("alter table stage.events add check (os <> 'wrong')")
    report = load_file(shop.connection, write(shop.folder, "a.jsonl", GOOD + b'{"os": "wrong"}\n'))
    assert report.status == "failed"
    assert report.problem.startswith(
        'new row for relation "events_1" violates check constraint "events_os_check"; detail'
    )
    assert counts(shop.dsn) == (0, 0, 0)


# Ctrl-C


def assert_interrupted(process: subprocess.Popen[str]) -> None:
    output, error = process.communicate(timeout=30)
    assert error == "clickmart: interrupted; what was not finished is undone\n"
    assert (output, process.returncode) == ("", 1)


def test_an_interrupt_ends_a_load_without_a_trace(dsn: str, big: str, moment: str) -> None:
    with load_at(moment, dsn, big) as process:
        process.send_signal(signal.SIGINT)
        assert_interrupted(process)
    assert_gone_and_loaded_whole_the_next_time(dsn, big)


@pytest.mark.parametrize("to", ["the command", "its process group"])
def test_an_interrupt_ends_parallel_loads_without_a_trace(dsn: str, big: str, moment: str, to: str) -> None:
    """A terminal sends it to all processes of the foreground, `kill` to one."""
    other = write(Path(big).parent, "other.jsonl", lines(MANY, "other"))
    with load_at(moment, dsn, big, other, "--jobs", "2", start_new_session=True) as process:
        if to == "the command":
            process.send_signal(signal.SIGINT)
        else:
            os.killpg(process.pid, signal.SIGINT)
        assert_interrupted(process)
    assert_gone_and_loaded_whole_the_next_time(dsn, big)


def test_an_interrupt_while_standard_input_is_silent_ends_the_load(dsn: str) -> None:
    process = start("--dsn", dsn, "load", "-", stdin=subprocess.PIPE)
    assert process.stdin
    process.stdin.write(lines(2000).decode())
    process.stdin.flush()
    eventually(lambda: backends(dsn))
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    process.stdin.close()
    process.stdin = None
    assert_interrupted(process)
    assert counts(dsn) == (0, 0, 0)


# Standard input, pipes, and files that change


def pipe_in(dsn: str, content: bytes, *arguments: str) -> dict[str, Any]:
    run = subprocess.run(
        [*COMMAND, "--dsn", dsn, "load", "-", "--json", *arguments], input=content, capture_output=True, check=False
    )
    assert run.stderr == b""
    report: dict[str, Any] = json.loads(run.stdout)
    return report


def test_standard_input_is_loaded_once_however_often_it_comes(dsn: str) -> None:
    content = lines(5000) + BAD
    first, second = pipe_in(dsn, content), pipe_in(dsn, content)
    assert first["files"][0] | {"seconds": 0} == {
        "file": "-",
        "status": "loaded",
        "rows_loaded": 5000,
        "rows_rejected": 1,
        "events_passed": 0,
        "unknown_columns": [],
        "seconds": 0,
        "problem": None,
        "first_rejects": [{"line": 5001, "reason": 'referer_url_port: invalid input syntax for type integer: "x"'}],
    }
    batch_id = query(dsn, "select id from stage.loads")[0][0]
    assert second["files"][0]["status"] == "skipped"
    assert second["files"][0]["problem"] == f"its content is loaded already, load {batch_id}, -"
    row = query(dsn, "select file_name, checksum, size, format from stage.loads")
    assert row == [("-", hashlib.sha256(content).hexdigest(), len(content), "jsonl")]
    assert counts(dsn) == (5000, 1, 1)


def test_a_file_that_came_by_standard_input_is_skipped(dsn: str, tmp_path: Path) -> None:
    pipe_in(dsn, GOOD)
    assert load(dsn, write(tmp_path, "a.jsonl", GOOD)).files[0].status == "skipped"


def test_standard_input_beside_parallel_files_is_loaded_too(dsn: str, tmp_path: Path) -> None:
    files = [write(tmp_path, f"{number}.jsonl", lines(10, f"{number}.")) for number in range(3)]
    report = pipe_in(dsn, GOOD, *files, "--jobs", "3")
    assert [(file["file"], file["rows_loaded"]) for file in report["files"]] == [
        ("-", 1),
        *((file, 10) for file in files),
    ]
    assert counts(dsn) == (31, 0, 4)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_named_pipe_is_loaded_once_however_often_it_comes(dsn: str, tmp_path: Path, jobs: int) -> None:
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    other = write(tmp_path, "other.jsonl", GOOD)
    for status in ("loaded", "skipped"):
        writer = threading.Thread(target=pipe.write_bytes, args=(lines(30_000),))
        writer.start()
        report = load(dsn, str(pipe), other, jobs=jobs)
        writer.join()
        assert [file.status for file in report.files] == [status] * 2
    assert counts(dsn) == (30_001, 0, 2)


def test_a_file_that_grows_while_it_is_read_is_loaded_as_it_was_and_then_anew(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, "a.jsonl", lines(1000))
    batches = Source.batches

    def growing(source: Source) -> Any:
        with Path(file).open("ab") as target:
            target.write(GOOD[:5])
        return batches(source)

    monkeypatch.setattr(Source, "batches", growing)
    assert load(dsn, file).files[0].rows_loaded == 1000
    monkeypatch.undo()
    size, checksum = len(lines(1000)), hashlib.sha256(lines(1000)).hexdigest()
    assert query(dsn, "select size, checksum from stage.loads") == [(size, checksum)]
    with Path(file).open("ab") as target:
        target.write(GOOD[5:])
    assert load(dsn, file).files[0].rows_loaded == 1001


# Columns


def test_unknown_columns_are_named_once_and_absent_ones_are_null(shop: Shop) -> None:
    records = [{"event_id": "1", "extra": 1}, {"os": "x", "extra": 2, "other\n": {"event_id": 3}}, {"extra": None}]
    content = "".join(json.dumps(record) + "\n" for record in records).encode()
    report = load_file(shop.connection, write(shop.folder, "a.jsonl", content))
    assert report.unknown_columns == ("extra", "other\n")
    assert str(report).endswith(r", ignored columns: extra, other\n")
    assert shop.query("select event_id, os, page_url, referer_url_port from stage.events order by id") == [
        ("1", None, None, None),
        (None, "x", None, None),
        (None, None, None, None),
    ]


def test_a_csv_may_have_its_columns_in_any_order(shop: Shop) -> None:
    names = list(reversed(NAMES))
    values = {"referer_url_port": "80", "geo_latitude": "1.5", "geo_longitude": "-2", "device_is_mobile": "t"}
    row = [values.get(name, f"the {name}") for name in names]
    content = f"{','.join([*names, 'extra'])}\n{','.join([*row, 'x'])}\n"
    report = load_file(shop.connection, write(shop.folder, "a.csv", content.encode()))
    assert report.unknown_columns == ("extra",)
    found = dict(zip(NAMES, shop.query(f"select {', '.join(NAMES)} from stage.events")[0], strict=True))
    typed = {"referer_url_port": 80, "geo_latitude": 1.5, "geo_longitude": -2.0, "device_is_mobile": True}
    assert found == {name: f"the {name}" for name in NAMES} | typed


def test_of_a_name_that_a_header_has_twice_the_last_counts(shop: Shop) -> None:
    load_file(shop.connection, write(shop.folder, "a.csv", b"os,event_id,os\nfirst,1,last\n"))
    assert shop.query("select event_id, os from stage.events") == [("1", "last")]


def test_a_summary_names_no_more_than_some_unknown_columns(shop: Shop) -> None:
    record = {f"column {number}": 1 for number in range(50)} | {"x" * 1_000_000: 1}
    report = load_file(shop.connection, write(shop.folder, "a.jsonl", json.dumps(record).encode()))
    assert len(report.unknown_columns) == 51
    assert str(report).endswith(", column 18, column 19 and 31 more")
    assert len(str(FileReport("x", "loaded", unknown_columns=report.unknown_columns[-1:]))) < 200


# A fresh warehouse, and roles


def test_a_load_before_any_apply_makes_the_tables(server: Server, tmp_path: Path) -> None:
    file = write(tmp_path, "a.jsonl", GOOD)
    with server.database(template=False) as dsn:
        assert clickmart.load(file, dsn=dsn).rows_loaded == 1
        assert counts(dsn) == (1, 0, 1)


def test_eight_loads_at_once_into_a_fresh_database_all_succeed(server: Server, tmp_path: Path) -> None:
    files = [write(tmp_path, f"{number}.jsonl", lines(100, f"{number}.")) for number in range(8)]
    with server.database(template=False) as dsn:
        together = threading.Barrier(8)

        def one(file: str) -> LoadReport:
            together.wait()
            return clickmart.load(file, dsn=dsn)

        with ThreadPoolExecutor(8) as threads:
            reports = list(threads.map(one, files))
        assert [report.rows_loaded for report in reports] == [100] * 8
        assert counts(dsn) == (800, 0, 8)


#: All that a role needs in order to load,
GRANTS = """
grant usage on schema stage to {role};
grant select, insert on stage.loads to {role};
grant execute on function stage.begin_load() to {role};
grant usage on sequence stage.events_id_seq to {role};
grant insert on stage.events, stage.events_rejected to {role};
"""
#: and to see first that there is nothing to apply.
LEDGER_GRANTS = """
grant usage on schema clickmart, cdm to {role};
grant select on clickmart.migrations, clickmart.files, clickmart.project, cdm.rebuild to {role};
"""


@contextmanager
def loader_role(dsn: str, grants: str) -> Iterator[str]:
    """The DSN of a role that may do nothing but what is granted."""
    role = f"loader_{os.getpid()}"
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute(sql.SQL("create role {} login").format(sql.Identifier(role)))
        try:
            owner.execute(grants.format(role=role).encode())
            yield make_conninfo(dsn, user=role)
        finally:
            owner.execute(sql.SQL("drop owned by {}").format(sql.Identifier(role)))
            owner.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


def test_a_role_that_may_only_insert_can_load(shop: Shop) -> None:
    file = write(shop.folder, "a.jsonl", GOOD + BAD)
    with loader_role(shop.dsn, GRANTS + LEDGER_GRANTS) as dsn:
        assert clickmart.load(file, dsn=dsn, max_rejects=0).files[0].status == "failed"
        report = clickmart.load(file, dsn=dsn)
        assert (report.rows_loaded, report.rows_rejected) == (1, 1)
        assert clickmart.load(file, dsn=dsn).files[0].status == "skipped"
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            query(dsn, "select from stage.events")


@pytest.mark.parametrize("grant", GRANTS.strip().splitlines())
def test_a_role_without_a_right_that_is_needed_is_told_so(dsn: str, tmp_path: Path, grant: str) -> None:
    file = write(tmp_path, "a.jsonl", GOOD + BAD)
    with loader_role(dsn, GRANTS.replace(grant, "")) as role_dsn:
        report = load(role_dsn, file)
        assert report.files[0].problem.startswith("permission denied for "), grant
    assert counts(dsn) == (0, 0, 0)


# Partitions


def partitions(dsn: str) -> list[tuple[object, ...]]:
    return query(
        dsn,
        "select table_name, first_load, end_load, pg_get_expr(relpartbound, oid) from stage.partitions "
        "join pg_class on oid = format('stage.%I', table_name)::regclass order by first_load",
    )


def test_partitions_are_opened_ahead_of_the_loads_for_some_twenty_million_rows_each(shop: Shop) -> None:
    for number in range(16):
        load_file(shop.connection, write(shop.folder, f"{number}.jsonl", lines(10, f"{number}.")))
        # As if each had been large, so that five of them are a partition's worth.
        shop.connection.execute("update stage.loads set rows_loaded = 4000000")
    assert partitions(shop.dsn) == [
        ("events_1", 0, 11, "FOR VALUES FROM (MINVALUE) TO ('11')"),
        ("events_11", 11, 16, "FOR VALUES FROM ('11') TO ('16')"),
        ("events_16", 16, 21, "FOR VALUES FROM ('16') TO ('21')"),
        ("events_21", 21, 26, "FOR VALUES FROM ('21') TO ('26')"),
        ("events_26", 26, 31, "FOR VALUES FROM ('26') TO ('31')"),
    ]
    assert query(shop.dsn, "select tableoid::regclass::text, count(*) from stage.events group by 1 order by 1") == [
        ("stage.events_1", 100),
        ("stage.events_11", 50),
        ("stage.events_16", 10),
    ]


def test_only_partitions_that_are_full_and_in_the_marts_are_detached(shop: Shop) -> None:
    def load_in_a_new_partition(name: str) -> None:
        shop.query("select setval(pg_get_serial_sequence('stage.loads', 'id'), max(end_load)) from stage.partitions")
        load_file(shop.connection, write(shop.folder, f"{name}.jsonl", lines(10, name)))

    def detached(before: str) -> list[tuple[object, ...]]:
        return shop.query("select stage.detach_events(%s::timestamptz)", before)

    load_file(shop.connection, write(shop.folder, "first.jsonl", lines(10)))
    load_in_a_new_partition("second")
    assert detached("infinity") == []  # not in the marts yet
    shop.refresh()
    assert detached("2020-01-01") == []
    assert detached("infinity") == [("events_1",)]  # the other is not full
    load_in_a_new_partition("third")
    shop.refresh()
    assert shop.query("select count(*) from stage.events") == [(20,)]
    assert shop.query("select count(*) from stage.events_1") == [(10,)]
    assert shop.query("select count(*) filter (where detached_at is not null), count(*) from stage.partitions") == [
        (1, 3)
    ]
    assert shop.failures() == []


def test_a_partition_is_opened_when_neither_readers_nor_loads_run(shop: Shop) -> None:
    """A session that looked at the partitions meanwhile might never see the new one."""

    def load_next() -> FileReport:
        name = str(next(numbers))
        return load_file(shop.connection, write(shop.folder, f"{name}.jsonl", lines(10, name)))

    numbers = itertools.count()
    shop.connection.execute("set statement_timeout = '10s'")
    shop.connection.execute("select setval(pg_get_serial_sequence('stage.loads', 'id'), 7)")
    for statement in ("select from stage.events", "insert into stage.events (batch_id) values (1)"):
        with psycopg.connect(shop.dsn) as other:
            other.execute(statement.encode())
            assert load_next().rows_loaded == 10
        assert [name for name, *_ in partitions(shop.dsn)] == ["events_1"]
    assert load_next().rows_loaded == 10
    assert [name for name, *_ in partitions(shop.dsn)] == ["events_1", "events_11"]


def test_a_load_that_no_partition_is_left_for_waits_until_one_can_be_opened(shop: Shop) -> None:
    shop.connection.execute("select setval(pg_get_serial_sequence('stage.loads', 'id'), 50)")
    with psycopg.connect(shop.dsn) as reader, ThreadPoolExecutor(1) as thread:
        reader.execute("select from stage.events")
        loading = thread.submit(load, shop.dsn, write(shop.folder, "a.jsonl", lines(10)))
        eventually(lambda: query(shop.dsn, "select from pg_locks where not granted"))
        assert not loading.done()
        reader.rollback()
        assert loading.result().rows_loaded == 10


def test_of_loads_at_once_that_outgrow_the_partitions_each_has_one(dsn: str, tmp_path: Path) -> None:
    query(dsn, "select setval(pg_get_serial_sequence('stage.loads', 'id'), 7)")
    files = [write(tmp_path, f"{number}.jsonl", lines(100, f"{number}.")) for number in range(12)]
    together = threading.Barrier(len(files))

    def one(file: str) -> FileReport:
        with Warehouse(dsn).connect() as connection:
            together.wait()
            return load_file(connection, file)

    with ThreadPoolExecutor(len(files)) as threads:
        reports = list(threads.map(one, files))
    assert [report.status for report in reports] == ["loaded"] * len(files)
    # Whether the next is open already depends on whether one of the last loads found a moment for it.
    assert [name for name, *_ in partitions(dsn)] in (["events_1", "events_11"], ["events_1", "events_11", "events_21"])
    assert counts(dsn) == (1200, 0, 12)


# Many files


def results(report: LoadReport) -> list[tuple[object, ...]]:
    return [(file.file, file.status, file.rows_loaded, file.rows_rejected, file.problem) for file in report.files]


def without_ids(found: Sequence[tuple[object, ...]]) -> list[tuple[object, ...]]:
    return [(*row[:-1], str(row[-1]).partition("batch_id")[0]) for row in found]


def test_parallel_processes_come_to_the_same_as_one(server: Server, tmp_path: Path) -> None:
    files = [write(tmp_path, f"{number}.jsonl", lines(500, f"{number}.") + BAD * number) for number in range(6)]
    files.insert(2, write(tmp_path, "broken.json.gz", b"no gzip"))
    files.append(str(tmp_path / "absent.csv"))
    files.append(write(tmp_path, "rejects.jsonl", BAD))
    found = []
    for jobs in (1, 3):
        with server.database() as dsn:
            report = load(dsn, *files, max_rejects=4, jobs=jobs)
            events = query(
                dsn,
                "select file_name, event_id from stage.events join stage.loads on loads.id = batch_id "
                "order by file_name, events.id",
            )
            rejects = query(
                dsn, "select source_file, line_number, reason, raw from stage.events_rejected order by 1, 2"
            )
            found.append((without_ids(results(report)), events, rejects, report.rows_loaded))
    assert found[0] == found[1]
    assert [file.status for file in report.files] == ["loaded"] * 2 + ["failed"] + ["loaded"] * 3 + ["failed"] * 3
    assert report.rows_loaded == 5 * 500


def test_a_process_that_is_killed_fails_its_file_alone(dsn: str, big: str) -> None:
    files = [write(Path(big).parent, f"{number}.jsonl", lines(10, f"{number}.")) for number in range(4)]
    with load_at("first rows", dsn, big, *files, "--jobs", "2", "--json") as process:
        first = min(psutil.Process(process.pid).children(), key=psutil.Process.create_time)
        first.kill()
    output, _ = process.communicate(timeout=30)
    report = json.loads(output)
    assert [file["status"] for file in report["files"]] == ["failed", *["loaded"] * 4]
    assert report["files"][0]["problem"] == "the process that loaded it was killed: load it again"


def test_the_same_content_in_parallel_is_loaded_once(dsn: str, tmp_path: Path) -> None:
    files = [write(tmp_path, f"{number}.jsonl", lines(1000)) for number in range(6)]
    report = load(dsn, *files, jobs=4)
    assert sorted(file.status for file in report.files) == ["loaded"] + ["skipped"] * 5
    assert counts(dsn) == (1000, 0, 1)


def test_folders_patterns_and_files_are_loaded_each_file_once(dsn: str, tmp_path: Path) -> None:
    for name in ("a.jsonl", "in/b.jsonl", "in/deep/c.csv", "in/notes.txt", "in/.hidden.jsonl"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"event_id\nx\n" if name.endswith("csv") else lines(1, name))
    file = str(tmp_path / "a.jsonl")
    report = clickmart.load(file, tmp_path / "in", f"{tmp_path}/*.jsonl", file, dsn=dsn)
    assert [part.file for part in report.files] == [
        file,
        str(tmp_path / "in/b.jsonl"),
        str(tmp_path / "in/deep/c.csv"),
    ]
    assert counts(dsn) == (3, 0, 3)
    with pytest.raises(LoadError, match="no such file or folder"):
        clickmart.load(tmp_path / "absent", file, dsn=dsn)


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(
    ("name", "stored", "shown"),
    [
        (b"caf\xe9.jsonl", r"caf\xe9.jsonl", r"caf\xe9.jsonl"),
        ("две\nстроки.jsonl".encode(), "две\nстроки.jsonl", r"две\nстроки.jsonl"),
        (b"tab\t\x1b[31m.jsonl", "tab\t\x1b[31m.jsonl", r"tab\t\x1b[31m.jsonl"),
    ],
    ids=["no UTF-8", "line end", "control"],
)
def test_every_file_name_is_stored_and_shown(
    dsn: str, tmp_path: Path, jobs: int, name: bytes, stored: str, shown: str
) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)  # noqa: PTH118
    files = [os.fsdecode(path), os.fsdecode(path) + ".gz"]
    Path(files[0]).write_bytes(GOOD + BAD)
    Path(files[1]).write_bytes(b"no gzip")
    report = load(dsn, *files, jobs=jobs)
    assert [file.file for file in report.files] == [f"{tmp_path}/{stored}", f"{tmp_path}/{stored}.gz"]
    assert [file.status for file in report.files] == ["loaded", "failed"]
    assert query(dsn, "select file_name from stage.loads") == [(f"{tmp_path}/{stored}",)]
    assert query(dsn, "select source_file from stage.events_rejected") == [(f"{tmp_path}/{stored}",)]
    assert [line.split("  ")[0] for line in str(report).splitlines()[:2]] == [
        f"{tmp_path}/{shown}",
        f"{tmp_path}/{shown}.gz",
    ]
    json.dumps(report.as_dict(), ensure_ascii=False).encode()


# Reports

LOADED = FileReport("a.jsonl", "loaded", 1234567, 0, (), 12.3456)
WITH_REJECTS = FileReport("bb.csv.gz", "loaded", 10, 2000, ("x", "y"), 0.04)
SKIPPED = FileReport("c.jsonl", "skipped", problem="its content is loaded already, load 7, a.jsonl")
FAILED = FileReport("d.jsonl", "failed", 0, 3, ("z",), 1.0, "3 rejects, more than the 2 allowed")


def test_the_report_is_a_line_a_file_and_their_sum() -> None:
    assert str(LoadReport((LOADED, WITH_REJECTS, SKIPPED, FAILED), 13.37)).splitlines() == [
        "a.jsonl    1,234,567 rows in 12.3 s",
        "bb.csv.gz  10 rows, 2,000 rejected in 0.0 s, ignored columns: x, y",
        "c.jsonl    skipped: its content is loaded already, load 7, a.jsonl",
        "d.jsonl    failed, 3 rejected: 3 rejects, more than the 2 allowed",
        "1,234,577 rows, 2,003 rejected from 4 files in 13.4 s",
    ]


def test_the_report_of_one_file_is_one_line() -> None:
    assert str(LoadReport((LOADED,), 13.37)) == "a.jsonl  1,234,567 rows in 12.3 s"


def test_the_report_of_no_file_says_so() -> None:
    assert str(LoadReport((), 0.0)) == "0 rows from 0 files in 0.0 s"


def test_the_report_for_programs_has_everything() -> None:
    with_rejects = replace(WITH_REJECTS, first_rejects=((3, "a"), (7, "b")))
    report = LoadReport((with_rejects, FAILED), 1.23456)
    assert report.as_dict() == {
        "files": [
            {
                "file": "bb.csv.gz",
                "status": "loaded",
                "rows_loaded": 10,
                "rows_rejected": 2000,
                "first_rejects": [{"line": 3, "reason": "a"}, {"line": 7, "reason": "b"}],
                "events_passed": 0,
                "unknown_columns": ["x", "y"],
                "seconds": 0.04,
                "problem": None,
            },
            {
                "file": "d.jsonl",
                "status": "failed",
                "rows_loaded": 0,
                "rows_rejected": 3,
                "first_rejects": [],
                "events_passed": 0,
                "unknown_columns": ["z"],
                "seconds": 1.0,
                "problem": "3 rejects, more than the 2 allowed",
            },
        ],
        "rows_loaded": 10,
        "rows_rejected": 2003,
        "events_passed": 0,
        "seconds": 1.235,
        "dry_run": False,
    }
    assert report.failed
    assert not LoadReport((LOADED, SKIPPED), 0.0).failed


# Dry runs


def read_only(dsn: str) -> str:
    """The DSN of a session in which the server lets nobody write."""
    return make_conninfo(dsn, options="-c default_transaction_read_only=on")


def trace(dsn: str) -> list[object]:
    """What any load would change: rows, numbers, partitions."""
    return [
        counts(dsn),
        query(dsn, "select last_value, is_called from stage.loads_id_seq"),
        query(dsn, "select last_value, is_called from stage.events_id_seq"),
        query(dsn, "select * from stage.partitions"),
    ]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_dry_run_says_what_a_load_comes_to_and_only_reads(dsn: str, tmp_path: Path, jobs: int) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    parts = [GOOD, BAD, b'{"stranger": 1, "geo_latitude": "0x1p3"}\n', b"\xff\n"]
    for number, order in enumerate(itertools.permutations(range(4), 3)):
        write(folder, f"{number:02}.jsonl", b"".join(parts[part] for part in order))
    write(folder, "30.csv", b"event_id,referer_url_port\n1,\n2,99999999999\n3,80.0\n4,x,y\n")
    write(folder, "31.csv.gz", gzip.compress(b"event_id,os\n1,a\n"))
    write(folder, "40.json", b"[{}, {}] {}")
    write(folder, "50.jsonl", b"x\n" * 7)
    write(folder, "51.jsonl", b"")
    write(folder, "60.parquet", b"none")
    write(folder, "61.json", b"[{}, {}] {}")
    table = pa.table({"event_id": ["a", "b\0"], "referer_url_port": [80.0, None]})
    pa.parquet.write_table(table, folder / "70.parquet")
    load(dsn, write(tmp_path, "known.jsonl", lines(3)))
    write(folder, "80.jsonl", lines(3))

    before = trace(dsn)
    dry = clickmart.load(folder, dsn=read_only(dsn), max_rejects=1, jobs=jobs, dry_run=True)
    assert trace(dsn) == before
    done = clickmart.load(folder, dsn=dsn, max_rejects=1)

    def told(report: LoadReport) -> list[tuple[object, ...]]:
        return [
            (file.file, file.status, file.rows_loaded, file.rows_rejected, file.first_rejects, file.unknown_columns)
            for file in report.files
        ]

    assert told(dry) == told(done)
    assert {file.status for file in dry.files} == {"loaded", "failed", "skipped"}
    assert (dry.rows_loaded, dry.rows_rejected, dry.failed) == (done.rows_loaded, done.rows_rejected, True)
    for tried, loaded in zip(dry.files, done.files, strict=True):
        assert tried.dry_run
        if tried.status == "failed":
            assert tried.problem == re.sub(r"; they are in stage.events_rejected, batch_id \d+", "", loaded.problem)


def test_a_dry_run_prints_what_would_be_and_the_first_rejects(dsn: str, tmp_path: Path) -> None:
    good = write(tmp_path, "a.jsonl", GOOD + BAD + b"[\n")
    worse = write(tmp_path, "b.jsonl", BAD * 7 + GOOD)
    command = [*COMMAND, "--dsn", dsn, "load", "--dry-run", "--max-rejects", "2", good, worse]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"clickmart: {worse}: 7 rejects, more than the 2 allowed\n"
    reason = 'referer_url_port: invalid input syntax for type integer: "x"'
    rejects = [f"  {good}:2  {reason}", f"  {good}:3  not JSON: Expecting value after 1 characters"]
    rejects += [f"  {worse}:{number}  {reason}" for number in range(1, 6)]
    assert re.sub(r" in \d+\.\d s", "", done.stdout).splitlines() == [
        f"{good}  would load 1 row, 2 rejected",
        f"{worse}  would fail, 7 rejected: 7 rejects, more than the 2 allowed",
        "would load 1 row, 9 rejected from 2 files",
        "first rejects:",
        *rejects,
    ]
    as_json = subprocess.run([*command[:-1], "--json"], capture_output=True, text=True)
    assert as_json.returncode == 0
    report = json.loads(as_json.stdout)
    assert report["dry_run"]
    assert report["files"][0]["first_rejects"][0] == {"line": 2, "reason": reason}


def test_a_dry_run_of_standard_input_is_skipped_once_its_content_is_loaded(dsn: str) -> None:
    command = [*COMMAND, "--dsn", dsn, "load", "-"]
    for arguments, expected in [
        (["--dry-run"], "-  would load 1 row, 1 rejected"),
        (["--dry-run"], "-  would load 1 row, 1 rejected"),
        ([], "-  1 row, 1 rejected"),
        (["--dry-run"], "-  would be skipped: its content is loaded already, load 1, -"),
    ]:
        done = subprocess.run([*command, *arguments], input=GOOD + BAD, capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.decode().startswith(expected)


def test_of_one_content_twice_in_a_dry_run_the_second_would_be_skipped(dsn: str, tmp_path: Path) -> None:
    files = [
        write(tmp_path, name, content)
        for name, content in [("a.jsonl", BAD), ("b.jsonl", GOOD), ("c.jsonl", GOOD), ("d.jsonl", BAD)]
    ]
    report = load_files(Warehouse(dsn), files, dry_run=True)
    assert [file.status for file in report.files] == ["failed", "loaded", "skipped", "failed"]
    assert str(report.files[2]) == f"would be skipped: its content is that of {files[1]}"


def test_a_dry_run_makes_no_warehouse(empty_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, "a.jsonl", GOOD)
    with pytest.raises(ProjectError, match="this warehouse has no tables yet; run `clickmart apply`"):
        clickmart.load(file, dsn=empty_dsn, dry_run=True)
    assert query(empty_dsn, "select from pg_namespace where nspname in ('stage', 'clickmart')") == []
    for name in ("CLICKMART_DSN", "PGHOST", "PGSERVICE", "PGDATABASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProjectError, match="nothing to try the files with: no warehouse in"):
        clickmart.load(file, dry_run=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


# Real input


def test_all_forms_of_the_real_input_give_equal_rows(shop: Shop, shared_data: Callable[[str], Path]) -> None:
    found = []
    for form in ("jsonl.gz", "csv", "json.zip", "parquet", "parquet.gz"):
        report = load_file(shop.connection, str(shared_data(f"events-2022-Sep-30-mini.{form}")))
        assert (report.status, report.rows_loaded, report.rows_rejected, report.unknown_columns) == (
            "loaded",
            7750,
            0,
            (),
        )
        last = "batch_id = (select max(id) from stage.loads)"
        found.append(shop.query(f"select {', '.join(NAMES)} from stage.events where {last} order by id"))
    assert all(rows == found[0] for rows in found)
