"""Bulk loads (stage.begin_bulk_load and what follows): pieces written by many sessions, visible all at once or not at
all, and beside ordinary loads. No Spark here: the pieces are the tests' own."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from clickmart.bulk_loads import BulkLoad, BulkResult
from clickmart.bulk_pieces import BulkFile, Piece, cut, lines_of, write_pieces
from clickmart.loading import FileReport, load_file
from clickmart.paths import Format
from clickmart.warehouse import Warehouse
from conftest import Shop
from hypothesis import given
from hypothesis import strategies as st
from test_loading import GRANTS, LEDGER_GRANTS, counts, eventually, lines, loader_role, partitions, query, write

CHECKSUMS = "select checksum from stage.loads where status = 'loaded' order by 1"


def batch(text: bytes, uri: str = "file:/a.jsonl", start: int = 0) -> Any:
    """Lines as Spark hands them on."""
    texts = [line + b"\n" for line in text.removesuffix(b"\n").split(b"\n")]
    return pa.RecordBatch.from_arrays(
        [pa.array(texts, pa.binary()), pa.array([uri] * len(texts)), pa.array([start] * len(texts), pa.int64())],
        ["text", "uri", "start"],
    )


def attempt(dsn: str, load: BulkLoad, number: int, text: bytes, start: int = 0) -> Piece:
    """One attempt at a piece, come to its end."""
    file = BulkFile(number, "a.jsonl", Format("jsonl", ""), len(text), b"\n", False)
    uri = "file:/a.jsonl"
    (piece,) = write_pieces([batch(text, uri, start)], {uri: file}, load.first_load, Warehouse(dsn).connect)
    return piece


def result(number: int, pieces: Sequence[Piece], name: str = "a.jsonl", checksum: str = "") -> BulkResult:
    return BulkResult(number, name, checksum or f"of {name}", sum(p.size for p in pieces), "jsonl", tuple(pieces))


@contextmanager
def bulk_load(dsn: str, count: int = 1) -> Iterator[BulkLoad]:
    with Warehouse(dsn).connect() as connection, BulkLoad.begin(connection, count) as load:
        yield load


def tables(dsn: str) -> list[str]:
    """Those of bulk loads that are no partitions."""
    found = query(
        dsn,
        "select relname from pg_class where relnamespace = 'stage'::regnamespace and relkind = 'r' "
        "and not relispartition and relname ~ '^(events|rejects)_[0-9]+$' order by 1",
    )
    return [name for (name,) in found]


def event_ids(dsn: str) -> list[str]:
    return [value for (value,) in query(dsn, "select event_id from stage.events order by 1")]


# What counts


def test_the_pieces_of_a_file_come_together_in_one_load(shop: Shop) -> None:
    bad = b'{"referer_url_port": "x"}\n'
    with bulk_load(shop.dsn) as load:
        pieces = [
            attempt(shop.dsn, load, load.first_load, lines(3, "a") + bad + b"\n"),
            attempt(shop.dsn, load, load.first_load, bad + lines(2, "b"), start=1000),
        ]
        assert counts(shop.dsn) == (0, 0, 0)
        (report,) = load.publish([result(load.first_load, pieces)], None)
    assert (report.status, report.rows_loaded, report.rows_rejected) == ("loaded", 5, 2)
    assert event_ids(shop.dsn) == ["a0", "a1", "a2", "b0", "b1"]
    assert shop.query("select source_file, line_number from stage.events_rejected order by 2") == [
        ("a.jsonl", 4),
        ("a.jsonl", 6),
    ]
    assert shop.query("select id, rows_loaded, rows_rejected, status from stage.loads") == [
        (load.first_load, 5, 2, "loaded")
    ]
    assert tables(shop.dsn) == []
    assert shop.apply().new_rows == 5
    assert shop.failures() == []


@given(
    lines=st.lists(st.binary(max_size=9).map(lambda line: line.replace(b"\n", b"")), max_size=12),
    largest=st.integers(1, 40),
    block=st.integers(1, 20),
)
def test_spans_have_each_line_where_it_begins(
    lines: list[bytes], largest: int, block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """However a file is cut, and however many bytes are read at a time."""
    content = b"\n".join(lines)
    path = tmp_path_factory.getbasetemp() / "spans"
    path.write_bytes(content)
    file = BulkFile(1, "a.jsonl", Format("jsonl", ""), len(content), b"\n", False)
    with path.open("rb", buffering=0) as opened:
        for span in cut([(file, str(path))], largest):
            blocks = list(lines_of(span, opened, block))
            begun = [
                line[0] for line in re.finditer(rb"[^\n]*\n|[^\n]+", content) if span.start <= line.start() < span.end
            ]
            assert b"".join(blocks) == b"".join(begun)
            assert all(0 < len(found) <= block for found in blocks)


def test_of_attempts_at_one_piece_only_the_one_that_is_named_counts(shop: Shop) -> None:
    bad = b"no JSON\n"
    with bulk_load(shop.dsn) as load:
        attempts = [attempt(shop.dsn, load, load.first_load, lines(50) + bad) for _ in range(3)]
        (report,) = load.publish([result(load.first_load, attempts[1:2])], None)
    assert (report.rows_loaded, report.rows_rejected) == (50, 1)
    assert counts(shop.dsn) == (50, 1, 1)
    assert shop.query("select distinct xmin::text from stage.events") == [(str(attempts[1].written_by % 2**32),)]
    assert shop.query("select count(*) from stage.bulk_pieces") == [(0,)]


def test_an_attempt_that_would_commit_after_the_publication_adds_nothing(shop: Shop) -> None:
    """A zombie: its rows are copied before, its transaction is to end after."""
    text = lines(50)
    with bulk_load(shop.dsn) as load, psycopg.connect(shop.dsn) as zombie:
        zombie.execute(
            f"insert into stage.events_{load.first_load} (event_id, batch_id) values ('z', %s)".encode(),
            (load.first_load,),
        )
        piece = attempt(shop.dsn, load, load.first_load, text)
        load.publish([result(load.first_load, [piece])], None)
        with pytest.raises(psycopg.OperationalError):
            zombie.execute("select stage.end_bulk_piece(%s)", (load.first_load,))
        late = attempt(shop.dsn, load, load.first_load, text)
    assert late.problem.startswith(f"the bulk load {load.first_load} has ended without this session (")
    assert late.written_by == 0
    assert event_ids(shop.dsn) == sorted(f"{number}" for number in range(50))


def test_the_closing_waits_for_an_attempt_that_is_about_to_commit(shop: Shop) -> None:
    with bulk_load(shop.dsn) as load, ThreadPoolExecutor(1) as thread, psycopg.connect(shop.dsn) as slow:
        slow.execute("select stage.end_bulk_piece(%s)", (load.first_load,))
        closing = thread.submit(load.publish, [result(load.first_load, [])], None)
        eventually(lambda: query(shop.dsn, "select from pg_locks where not granted"))
        assert not closing.done()
        slow.commit()
        closing.result()
        with pytest.raises(psycopg.errors.RaiseException, match="has ended without this session"):
            slow.execute("select stage.end_bulk_piece(%s)", (load.first_load,))


def test_a_file_over_its_rejects_is_failed_and_the_others_are_loaded(shop: Shop) -> None:
    with bulk_load(shop.dsn, 3) as load:
        first = load.first_load
        texts = {first: lines(3) + b"x\n" * 2, first + 1: b"x\n" * 3, first + 2: lines(4) + b"x\n"}
        results = [result(n, [attempt(shop.dsn, load, n, text)], f"{n}.jsonl") for n, text in texts.items()]
        reports = load.publish(results, 1)
    assert [(report.status, report.rows_loaded, report.rows_rejected) for report in reports] == [
        ("failed", 0, 2),
        ("failed", 0, 3),
        ("loaded", 4, 1),
    ]
    assert (
        reports[0].problem == f"2 rejects, more than the 1 allowed; they are in stage.events_rejected, batch_id {first}"
    )
    assert counts(shop.dsn) == (4, 6, 3)
    assert shop.failures() == []


def test_a_file_that_could_not_be_read_leaves_nothing_of_its_other_pieces(shop: Shop) -> None:
    with bulk_load(shop.dsn, 2) as load:
        pieces = [attempt(shop.dsn, load, load.first_load + n, lines(10, str(n)) + b"x\n") for n in range(2)]
        broken = BulkResult(load.first_load, "broken", "", 1, "jsonl", (), "it is broken")
        reports = load.publish([broken, result(load.first_load + 1, pieces[1:])], None)
    assert [(report.status, report.problem) for report in reports] == [("failed", "it is broken"), ("loaded", "")]
    assert counts(shop.dsn) == (10, 1, 1)


def test_of_one_content_twice_in_a_load_the_second_is_skipped(shop: Shop) -> None:
    with bulk_load(shop.dsn, 2) as load:
        first = load.first_load
        results = [
            result(n, [attempt(shop.dsn, load, n, lines(10) + b"x\n")], f"{n}.jsonl", "the same")
            for n in (first, first + 1)
        ]
        reports = load.publish(results, None)
    assert [report.status for report in reports] == ["loaded", "skipped"]
    assert reports[1].problem == f"its content is loaded already, load {first}, {first}.jsonl"
    assert counts(shop.dsn) == (10, 1, 1)


@pytest.mark.parametrize("moment", ["before", "at the last moment"])
def test_a_content_that_another_load_brings_meanwhile_is_skipped(shop: Shop, moment: str) -> None:
    """At the last moment: its row of stage.loads is there, and not yet committed."""
    insert = (
        b"insert into stage.loads (file_name, checksum, size, format, rows_loaded, rows_rejected, started_at, status) "
        b"values ('other', 'of a.jsonl', 0, 'jsonl', 0, 0, now(), 'loaded')"
    )
    with bulk_load(shop.dsn) as load, psycopg.connect(shop.dsn) as other, ThreadPoolExecutor(1) as thread:
        piece = attempt(shop.dsn, load, load.first_load, lines(10) + b"x\n")
        other.execute(insert)
        if moment == "before":
            other.commit()
        publishing = thread.submit(load.publish, [result(load.first_load, [piece])], None)
        if moment != "before":
            eventually(lambda: query(shop.dsn, "select from pg_locks where not granted"))
        other.commit()
        (report,) = publishing.result()
    assert report.status == "skipped"
    assert counts(shop.dsn) == (0, 0, 1)


def test_readers_see_all_of_a_bulk_load_or_nothing(shop: Shop) -> None:
    seen: set[int] = set()
    done = threading.Event()

    def read() -> None:
        with psycopg.connect(shop.dsn, autocommit=True) as reader:
            while not done.is_set():
                ((rows, loads),) = reader.execute(
                    "select (select count(*) from stage.events), (select count(*) from stage.loads)"
                ).fetchall()
                assert (rows > 0) == (loads > 0)
                seen.add(rows)

    with ThreadPoolExecutor(1) as thread, bulk_load(shop.dsn, 5) as load:
        reading = thread.submit(read)
        try:
            results = [
                result(n, [attempt(shop.dsn, load, n, lines(100, f"{n}."))], f"{n}.jsonl")
                for n in range(load.first_load, load.first_load + 5)
            ]
            load.publish(results, None)
            eventually(lambda: 500 in seen or reading.done())
        finally:
            done.set()
        reading.result()
    assert seen == {0, 500}


# Loads that die


def test_a_load_that_raises_leaves_nothing(shop: Shop) -> None:
    def failing() -> None:
        with bulk_load(shop.dsn) as load:
            attempt(shop.dsn, load, load.first_load, lines(10) + b"x\n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    assert (counts(shop.dsn), tables(shop.dsn)) == ((0, 0, 0), [])
    assert shop.query("select status from stage.bulk_loads") == [("dropped",)]


@pytest.mark.parametrize("status", ["open", "closed"])
def test_what_a_dead_load_left_is_dropped_by_the_next_which_has_other_numbers(shop: Shop, status: str) -> None:
    zombie = psycopg.connect(shop.dsn)
    with ExitStack() as dead:
        load = dead.enter_context(bulk_load(shop.dsn, 3))
        attempt(shop.dsn, load, load.first_load, lines(10))
        zombie.execute(f"insert into stage.events_{load.first_load} (batch_id) values ({load.first_load})".encode())
        query(shop.dsn, "update stage.bulk_loads set status = %s returning status", status)
        # The session ends as with its process; what the `with` would still do then fails.
        query(shop.dsn, "select pg_terminate_backend(%s)", load.connection.info.backend_pid)
        eventually(lambda: not query(shop.dsn, "select from pg_locks where locktype = 'advisory'"))
        assert tables(shop.dsn) == [f"events_{load.first_load}", f"rejects_{load.first_load}"]
        with bulk_load(shop.dsn) as second:
            assert second.first_load == load.first_load + 3
            assert tables(shop.dsn) == [f"events_{second.first_load}", f"rejects_{second.first_load}"]
            piece = attempt(shop.dsn, second, second.first_load, lines(10))
            second.publish([result(second.first_load, [piece])], None)
    with pytest.raises(psycopg.OperationalError):
        zombie.commit()
    assert counts(shop.dsn) == (10, 0, 1)
    assert shop.query("select first_load, status from stage.bulk_loads order by 1") == [
        (load.first_load, "dropped"),
        (second.first_load, "published"),
    ]


def test_a_load_that_runs_is_let_alone_by_others(shop: Shop) -> None:
    with bulk_load(shop.dsn) as one, bulk_load(shop.dsn) as other:
        for load in (one, other):
            piece = attempt(shop.dsn, load, load.first_load, lines(10, f"{load.first_load}."))
            load.publish([result(load.first_load, [piece], f"{load.first_load}")], None)
    assert counts(shop.dsn) == (20, 0, 2)
    assert shop.apply().new_rows == 20


# Beside ordinary loads


def test_ordinary_loads_go_on_below_a_bulk_load_and_then_pass_over_its_numbers(shop: Shop) -> None:
    def load_some(count: int) -> list[int]:
        for _ in range(count):
            name = str(len(shop.query("select from stage.loads")))
            file = write(shop.folder, f"{name}.jsonl", lines(2, f"{name}."))
            assert load_file(shop.connection, file).status == "loaded"
        return [number for (number,) in shop.query("select id from stage.loads order by finished_at")][-count:]

    assert load_some(2) == [1, 2]
    with bulk_load(shop.dsn, 4) as load:
        assert load.first_load == 11
        assert load_some(9) == [3, 4, 5, 6, 7, 8, 9, 10, 15]
        pieces = [attempt(shop.dsn, load, 11 + n, lines(3, f"bulk {n}.")) for n in range(3)]
        results = [result(11 + n, [piece], f"bulk {n}") for n, piece in enumerate(pieces)]
        load.publish([*results, BulkResult(14, "broken", "", 1, "jsonl", (), "broken")], None)
    assert load_some(1) == [16]
    assert [(name, first, end) for name, first, end, _ in partitions(shop.dsn)][:3] == [
        ("events_1", 0, 11),
        ("events_11", 11, 15),
        ("events_15", 15, partitions(shop.dsn)[2][2]),
    ]
    assert counts(shop.dsn) == (24 + 9, 0, 15)
    shop.apply()
    assert shop.failures() == []


def test_bulk_loads_and_loads_at_once_have_a_number_each(dsn: str, tmp_path: Path) -> None:
    query(dsn, "select setval(pg_get_serial_sequence('stage.loads', 'id'), 7)")
    together = threading.Barrier(10)

    def one(number: int) -> FileReport:
        together.wait()
        with Warehouse(dsn).connect() as connection:
            return load_file(connection, write(tmp_path, f"{number}.jsonl", lines(10, f"{number}.")))

    def bulk(number: int) -> FileReport:
        together.wait()
        with bulk_load(dsn, 2) as load:
            piece = attempt(dsn, load, load.first_load, lines(10, f"bulk {number}."))
            return load.publish([result(load.first_load, [piece], f"bulk {number}")], None)[0]

    with ThreadPoolExecutor(10) as threads:
        reports = [*threads.map(lambda n: one(n) if n % 2 else bulk(n), range(10))]
    assert [(report.status, report.problem) for report in reports] == [("loaded", "")] * 10
    assert counts(dsn) == (100, 0, 10)
    assert query(dsn, "select count(distinct batch_id), count(distinct event_id) from stage.events") == [(10, 100)]


def test_partitions_are_detached_up_to_a_bulk_load_that_runs(shop: Shop) -> None:
    def detach() -> list[tuple[object, ...]]:
        return shop.query("select stage.detach_events('infinity')")

    with bulk_load(shop.dsn) as running, bulk_load(shop.dsn) as load:
        piece = attempt(shop.dsn, load, load.first_load, lines(10))
        load.publish([result(load.first_load, [piece])], None)
        with bulk_load(shop.dsn) as last:
            piece = attempt(shop.dsn, last, last.first_load, lines(10, "last"))
            last.publish([result(last.first_load, [piece], "last")], None)
        shop.refresh()
        assert running.first_load < load.first_load < last.first_load
        assert detach() == [("events_1",)]
    assert detach() == [(f"events_{load.first_load}",)]
    # No load may get a number whose partition is gone.
    assert load_file(shop.connection, write(shop.folder, "new.jsonl", lines(5))).status == "loaded"
    assert shop.query("select max(id) from stage.loads") == [(last.first_load + 1,)]
    assert shop.failures() == []


# Rights


#: What a role needs beside what every load does.
BULK_GRANTS = """
grant execute on function stage.begin_bulk_load(bigint), stage.end_bulk_piece(bigint), stage.close_bulk_load(bigint),
    stage.end_bulk_writers(bigint), stage.finish_bulk_load(bigint, xid8[], bigint[]), stage.attach_bulk_load(bigint),
    stage.keep_bulk_rejects(bigint, bigint[], text[], bigint[], bigint[], bigint[]), stage.dead_bulk_loads(),
    stage.drop_bulk_rows(bigint, bigint[]), stage.drop_bulk_load(bigint) to {role};
"""


def test_a_role_that_may_only_insert_can_run_a_bulk_load(shop: Shop) -> None:
    with loader_role(shop.dsn, GRANTS + LEDGER_GRANTS + BULK_GRANTS) as dsn:
        with bulk_load(dsn, 2) as load:
            pieces = [attempt(dsn, load, load.first_load, lines(10) + b"x\n") for _ in range(2)]
            (report,) = load.publish([result(load.first_load, pieces[:1])], None)
        assert (report.status, report.rows_loaded, report.rows_rejected) == ("loaded", 10, 1)
        for statement in ("select from stage.events", f"insert into stage.events_{load.first_load} values (1)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                query(dsn, statement)
    assert counts(shop.dsn) == (10, 1, 1)
