"""A large file by several processes: it leaves what one process leaves."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest
from clickmart import block_loading
from clickmart.load_report import LoadReport
from clickmart.loading import load_file, load_files
from clickmart.warehouse import Warehouse
from comparing import GATE, broken_lines, stored, told
from conftest import Server, Shop
from psycopg.conninfo import make_conninfo
from test_bulk_loads import tables
from test_loading import BAD, GOOD, lines, query, write


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_loading, "LARGE_BYTES", 1000)
    monkeypatch.setattr(block_loading, "_BLOCK_BYTES", 3000)


def load(dsn: str, *files: str, max_rejects: int | None = None, jobs: int = 3) -> LoadReport:
    return load_files(Warehouse(dsn), files, max_rejects=max_rejects, jobs=jobs)


def pieces(dsn: str) -> int:
    """By how many transactions the rows were written."""
    ((count,),) = query(dsn, "select count(distinct xmin::text) from stage.events")
    return int(count)


@pytest.mark.parametrize(
    "content",
    [
        broken_lines(3),
        b"\xef\xbb\xbf" + broken_lines(1).replace(b"\n", b"\r\n") + b"\n",
        b'{"os": "' + b"x" * 20_000 + b'"}\n' + GOOD * 100,
        GOOD * 1000,
    ],
    ids=["broken lines", "a mark and other line ends", "a line over many blocks", "whole blocks"],
)
def test_blocks_leave_and_say_what_one_process_does(server: Server, shop: Shop, tmp_path: Path, content: bytes) -> None:
    file = write(tmp_path, "a.jsonl", content)
    report = load(shop.dsn, file)
    assert pieces(shop.dsn) > 1
    with server.database() as other:
        expected = load(other, file, jobs=1)
        assert pieces(other) == 1
        assert (told(report), stored(shop.dsn)) == (told(expected), stored(other))
        assert report.files[0].first_rejects == expected.files[0].first_rejects
    assert tables(shop.dsn) == []


def test_of_unequal_deliveries_in_a_file_the_first_stands_whichever_block_is_written_first(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are numbered in the order of the file. The first block waits a while before it commits."""
    monkeypatch.setattr(block_loading, "_BLOCK_BYTES", 2**20)
    event = {"event_timestamp": "2022-09-30 10:00:00", "user_domain_id": "u1", "event_id": "e1"}
    records = [{**event, "page_url": str(number), "os": "x" * 100_000} for number in range(50)]
    file = write(tmp_path, "a.jsonl", b"".join(json.dumps(record).encode() + b"\n" for record in records))
    shop.connection.execute(
        GATE.format(
            action="perform pg_sleep(case when current_setting('clickmart.piece') = '0' then 1 else 0 end)"
        ).encode()
    )
    assert load(shop.dsn, file).files[0].rows_loaded == 50
    assert shop.query("select page_url from stage.events order by id") == [(str(number),) for number in range(50)]
    ((first, last),) = shop.query("select min(xmin::text::bigint), max(xmin::text::bigint) from stage.events")
    assert first != last
    shop.refresh()
    assert shop.query("select page_url from stage.page_views") == [("0",)]
    # What comes next is numbered as ever.
    shop.load(event)
    ((number,),) = shop.query("select id from stage.events where os is null")
    assert isinstance(number, int)
    assert number < 2**40


def test_only_what_is_worth_it_is_cut(shop: Shop, tmp_path: Path) -> None:
    """A file that is large, of lines, and not one of as many as there are processes."""
    large, small = write(tmp_path, "large.jsonl", lines(500)), write(tmp_path, "small.jsonl", GOOD)
    csv = write(tmp_path, "large.csv", b"event_id\n" + b"1\n" * 1000)
    for files, jobs, count in (((large,), 1, 0), ((large, small), 2, 0), ((csv,), 3, 0), ((large, small, csv), 4, 1)):
        shop.reset()
        report = load(shop.dsn, *files, jobs=jobs)
        assert [file.status for file in report.files] == ["loaded"] * len(files)
        assert shop.query("select count(*) from stage.bulk_loads") == [(count,)]


def test_a_content_that_is_there_is_not_read_again(shop: Shop, tmp_path: Path) -> None:
    file, other = write(tmp_path, "a.jsonl", lines(500)), write(tmp_path, "b.jsonl", lines(500))
    with Warehouse(shop.dsn).connect() as connection:
        assert load_file(connection, file).status == "loaded"
    (report,) = load(shop.dsn, other).files
    assert (report.status, report.problem[:33]) == ("skipped", "its content is loaded already, lo")
    assert shop.query("select count(*) from stage.bulk_loads") == [(0,)]


def test_a_file_over_its_rejects_is_failed_by_its_first(shop: Shop, tmp_path: Path) -> None:
    file = write(tmp_path, "a.jsonl", GOOD * 500 + BAD + GOOD * 500 + BAD)
    (report,) = load(shop.dsn, file, max_rejects=1).files
    assert report.status == "failed"
    assert [line for line, _ in report.first_rejects] == [501, 1002]
    assert shop.query("select count(*) from stage.events") == [(0,)]
    assert shop.query("select line_number from stage.events_rejected order by 1") == [(501,), (1002,)]
    (report,) = load(shop.dsn, file, max_rejects=2).files
    assert (report.status, report.rows_loaded, report.rows_rejected) == ("loaded", 1000, 2)


def test_a_file_that_changes_meanwhile_is_failed_and_leaves_nothing(shop: Shop, tmp_path: Path) -> None:
    file = write(tmp_path, "a.jsonl", lines(2000))
    shop.connection.execute(GATE.format(action="perform pg_sleep(0.2)").encode())

    def append() -> None:
        time.sleep(0.8)
        with Path(file).open("ab") as opened:
            opened.write(GOOD)

    changing = threading.Thread(target=append)
    changing.start()
    (report,) = load(shop.dsn, file).files
    changing.join()
    assert report.problem == "the file changed while it was read: load it once nothing writes to it"
    assert shop.query("select count(*) from stage.events") == [(0,)]
    assert tables(shop.dsn) == []


def test_a_process_that_is_killed_fails_the_file_and_it_loads_whole_the_next_time(shop: Shop, tmp_path: Path) -> None:
    file = write(tmp_path, "a.jsonl", lines(2000))
    shop.connection.execute(GATE.format(action="perform pg_sleep(0.5)").encode())

    def kill() -> None:
        children: list[psutil.Process] = []
        while len(children) < 3:
            children = psutil.Process().children()
            time.sleep(0.05)
        os.kill(children[-1].pid, signal.SIGKILL)

    killing = threading.Thread(target=kill)
    killing.start()
    (report,) = load(shop.dsn, file).files
    killing.join()
    assert (report.status, report.problem) == ("failed", "the process that loaded it was killed: load it again")
    assert shop.query("select count(*) from stage.events") == [(0,)]
    shop.connection.execute("drop trigger gate on stage.bulk_pieces")
    assert load(shop.dsn, file).files[0].rows_loaded == 2000
    assert tables(shop.dsn) == []


def test_what_keeps_it_from_the_server_is_one_message(shop: Shop, tmp_path: Path) -> None:
    file = write(tmp_path, "a.jsonl", lines(500))
    (report,) = load(make_conninfo(host=str(tmp_path), dbname="none", connect_timeout=2), file).files
    assert report.status == "failed"
    assert "Traceback" not in report.problem
    shop.connection.execute(GATE.format(action="perform pg_terminate_backend(pg_backend_pid())").encode())
    (report,) = load(shop.dsn, file).files
    assert report.problem.startswith("the connection to the warehouse was lost: ")
    assert shop.query("select count(*) from stage.events") == [(0,)]
    assert tables(shop.dsn) == []
