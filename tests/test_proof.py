"""The proof that the marts are what a full build makes: it holds where they are, and shows the rows that are not."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import clickmart
import psycopg
import pytest
from clickmart.errors import SqlError, UsageError
from clickmart.project import init_project, read_project
from clickmart.proof import ProofReport, prove_marts
from clickmart.warehouse import Warehouse
from conftest import Server, Shop, open_shop
from hypothesis import given, settings
from hypothesis import strategies as st
from projects import apply as apply_project
from projects import clean_environment, outcome, query, run, run_json, smallest_project, value
from strategies import START, Event, cuts, events

MARTS = [
    "page_views",
    "purchases",
    "user_days",
    "sessions",
    "events_hours",
    "products_hours",
    "page_totals",
    "top_pages",
    "sources",
]
#: What may be said of a user.
MARTS_OF_USERS = MARTS[:4]
NEW_PARTITION = "select setval(pg_get_serial_sequence('stage.loads', 'id'), max(end_load)) from stage.partitions"


def prove(shop: Shop, **options: Any) -> ProofReport:
    """The proof, by a session of its own."""
    with Warehouse(shop.dsn).connect() as connection:
        return prove_marts(connection, read_project(), **options)


def differing(report: ProofReport) -> dict[str, list[tuple[object, ...]]]:
    """The rows that differ, by mart; that are all, as there are few in these tests."""
    found = {mart.name: [tuple(row) for row in mart.differing] for mart in report.marts if mart.rows_differing}
    assert {name: len(rows) for name, rows in found.items()} == {
        mart.name: mart.rows_differing for mart in report.marts if mart.rows_differing
    }
    return found


def journey(user: str | None, pages: str, *, at: datetime = START, campaign: str | None = None) -> list[Event]:
    """The user's views of these pages, a minute after one another."""
    return [
        {
            "event_id": f"{user}-{number}",
            "event_timestamp": str(at + timedelta(minutes=number)),
            "user_domain_id": user,
            "page_url": f"http://shop/{page}",
            "page_url_path": f"/{page}",
            "utm_campaign": campaign,
        }
        for number, page in enumerate(pages.split())
    ]


PURCHASE = "product_a cart payment confirmation"
FIRST = [*journey("u1", PURCHASE, campaign="spring"), *journey("u2", "home product_b"), *journey(None, "home")]
#: The rest of u2's purchase, a late view of u1, and what was delivered before.
SECOND = [
    *journey("u2", "home product_b cart payment confirmation")[1:],
    *journey("u1", "blog", at=START - timedelta(hours=2)),
    *FIRST[:2],
]


def load_by_and_by(shop: Shop) -> None:
    for rows in (FIRST, SECOND):
        shop.load(*rows)
        shop.apply()


@pytest.fixture(scope="module")
def one_shop(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Two purchases and more, taken in by two applies, the second with late and doubled events; on both servers."""
    with open_shop(server, tmp_path_factory.mktemp("shop")) as shop:
        load_by_and_by(shop)
        yield shop


@pytest.fixture
def shop(embedded_server: Server, tmp_path: Path) -> Iterator[Shop]:
    """The same, to be changed for good."""
    with open_shop(embedded_server, tmp_path) as opened:
        load_by_and_by(opened)
        yield opened


# Where the marts are right


@pytest.fixture(scope="module")
def empty_shop(embedded_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(embedded_server, tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@settings(max_examples=settings.default.max_examples // 5)
@given(data=st.data())
def test_what_applies_have_made_by_and_by_is_proven(empty_shop: Shop, data: st.DataObject) -> None:
    """Of late, doubled and contradicting events, of detached ones, and with loads that no apply has taken in yet."""
    shop = empty_shop
    cut = data.draw(cuts(data.draw(events(equal_deliveries=False)), shuffled=False))
    shop.reset()
    for index, file in enumerate(cut.files):
        if data.draw(st.booleans(), label="a new partition"):
            shop.query(NEW_PARTITION)
        shop.load(*file)
        if index in cut.applies:
            shop.refresh()
            if data.draw(st.booleans(), label="detached"):
                shop.query("select stage.detach_events('infinity')")
    report = prove(shop)
    assert differing(report) == {}
    counts = {
        mart: shop.query(f"select count(*) from {'stage' if mart == 'page_views' else 'cdm'}.{mart}")[0][0]
        for mart in MARTS
    }
    assert {mart.name: mart.rows_compared for mart in report.marts} == counts
    users = int(str(shop.query("select count(distinct user_id) from stage.page_views")[0][0]))
    assert report.users == users
    size = data.draw(st.integers(1, 4), label="sample")
    sample = prove(shop, sample=size, seed=data.draw(st.integers(-5, 5), label="seed"))
    assert differing(sample) == {}
    assert [mart.name for mart in sample.marts] == MARTS_OF_USERS
    assert sample.users == min(size, users)


def test_what_was_compared_is_said(one_shop: Shop) -> None:
    result = run("check", "--prove", dsn=one_shop.dsn)
    assert (result.exit_code, result.stderr) == (0, "")
    *lines, last = result.stdout.splitlines()
    assert lines == [
        "ok      page_views: 11 rows, as a full build makes them",
        "ok      purchases: 2 rows, as a full build makes them",
        "ok      user_days: 3 rows, as a full build makes them",
        "ok      sessions: 3 rows, as a full build makes them",
        "ok      events_hours: 7 rows, as a full build makes them",
        "ok      products_hours: 1 row, as a full build makes them",
        "ok      page_totals: 2 rows, as a full build makes them",
        "ok      top_pages: 2 rows, as a full build makes them",
        "ok      sources: 2 rows, as a full build makes them",
    ]
    assert re.fullmatch(r"proven: 2 users, 11 page views, 2 purchases in \d+\.\d s", last)


def test_the_json_of_a_proof_has_the_same(one_shop: Shop) -> None:
    report = run_json("check", "--prove", "--sample", "1", "--seed", "7", dsn=one_shop.dsn)
    assert isinstance(report.pop("seconds"), float)
    marts = report.pop("marts")
    assert report == {"failed": False, "sample": 1, "seed": 7, "users": 1, "views_detached": 0}
    assert [mart["name"] for mart in marts] == MARTS_OF_USERS
    assert all(mart["rows_compared"] and not mart["rows_differing"] and mart["differing"] == [] for mart in marts)


def test_a_load_that_no_apply_has_taken_in_counts_for_nothing(shop: Shop) -> None:
    before = prove(shop)
    shop.load(*journey("u3", PURCHASE))
    after = prove(shop)
    assert differing(after) == {}
    assert [mart.rows_compared for mart in after.marts] == [mart.rows_compared for mart in before.marts]


def test_a_warehouse_without_a_load_is_proven(dsn: str) -> None:
    lines = run("check", "--prove", dsn=dsn).stdout.splitlines()
    assert lines[0] == "ok      page_views: 0 rows, as a full build makes them"
    assert lines[-1].startswith("proven: 0 users, 0 page views, 0 purchases")
    assert run("check", "--prove", "--sample", "5", dsn=dsn).exit_code == 0


# Where they are wrong

HOUR = datetime(2022, 9, 30, 10)
#: statements -> the rows that differ then, by mart: side, and of each row the first columns
BROKEN: dict[str, dict[str, list[tuple[object, ...]]]] = {
    "delete from stage.page_views where event_id = 'u1-1'": {"page_views": [("should stand", 1, 2)]},
    "update stage.page_views set step = 'product' where event_id = 'u1-1'": {
        "page_views": [("stands", 1, 2), ("should stand", 1, 2)],
    },
    "insert into stage.page_views select * from stage.page_views where event_id = 'u1-1'": {
        "page_views": [("stands", 1, 2)],
    },
    "update stage.page_views set user_hash = 5 where event_id = 'u1-1'": {
        "page_views": [("stands", 1, 2), ("should stand", 1, 2)],
    },
    "update cdm.purchases set count_products = 3 where user_id = 'u1'": {
        "purchases": [("stands", "u1"), ("should stand", "u1")],
    },
    "update cdm.purchases set page_urls = '{x}' where user_id = 'u1'": {
        "purchases": [("stands", "u1"), ("should stand", "u1")],
    },
    "delete from cdm.purchases where user_id = 'u2'": {"purchases": [("should stand", "u2")]},
    "insert into cdm.purchases overriding user value select * from cdm.purchases where user_id = 'u2'": {
        "purchases": [("stands", "u2")],
    },
    "update cdm.user_days set count_cart_views = 2 where user_id = 'u2'": {
        "user_days": [("stands", HOUR.date(), "u2"), ("should stand", HOUR.date(), "u2")],
    },
    "update cdm.sessions set count_views = 9 where user_id = 'u2'": {
        "sessions": [("stands", "u2"), ("should stand", "u2")],
    },
    "delete from cdm.sessions where user_id = 'u2'": {"sessions": [("should stand", "u2")]},
    "delete from cdm.user_days where user_id = 'u2'": {"user_days": [("should stand", HOUR.date(), "u2")]},
    "update cdm.events_hours set count_events = 9 where event_type = 'cart'": {
        "events_hours": [("stands", HOUR, 9, "cart"), ("should stand", HOUR, 2, "cart")],
    },
    "insert into cdm.events_hours (hour_timestamp, count_events, event_type) values ('2022-09-30', 1, 'x')": {
        "events_hours": [("stands", datetime(2022, 9, 30), 1, "x")],
    },
    "delete from cdm.products_hours": {"products_hours": [("should stand", HOUR, 2)]},
    "update cdm.page_totals set count_purchases = 5 where page_url = 'http://shop/product_b'": {
        "page_totals": [("stands", "http://shop/product_b", 5), ("should stand", "http://shop/product_b", 1)],
        "top_pages": [
            ("stands", 1, "http://shop/product_b", 5),
            ("should stand", 1, "http://shop/product_a", 1),
            ("stands", 2, "http://shop/product_a", 1),
            ("should stand", 2, "http://shop/product_b", 1),
        ],
    },
    "update cdm.source_totals set count_purchases = 0 where utm_campaign = 'spring'": {
        "sources": [("stands", "(direct)", "spring", 1, 0), ("should stand", "(direct)", "spring", 1, 1)],
    },
    "update cdm.source_totals set count_users = 2 where utm_campaign = 'spring'": {
        "sources": [
            ("stands", "(direct)", "(none)", 2, 1, 0.5),
            ("should stand", "(direct)", "(none)", 2, 1, 2 / 3),
            ("stands", "(direct)", "spring", 2, 1, 0.5),
            ("should stand", "(direct)", "spring", 1, 1, 1 / 3),
        ],
    },
}


@pytest.mark.parametrize(("statement", "rows"), BROKEN.items())
def test_a_row_that_is_not_as_a_full_build_makes_it_is_shown(
    one_shop: Shop, statement: str, rows: dict[str, list[tuple[object, ...]]]
) -> None:
    """As it stands and as it should stand, and no other."""
    try:
        assert one_shop.connection.execute(statement.encode()).rowcount == 1
        found = differing(prove(one_shop))
        assert list(found) == list(rows)
        for mart, expected in rows.items():
            shown = [row[: len(like)] for row, like in zip(found[mart], expected, strict=True)]
            if mart == "page_views":
                # The numbers of raw rows, as a session takes them.
                shown = [(row[0], row[1], 2) for row in shown]
            assert shown == expected
    finally:
        one_shop.connection.execute(
            "truncate cdm.purchases, cdm.user_days, cdm.sessions, cdm.events_hours, cdm.products_hours, "
            "cdm.page_totals, cdm.source_totals"
        )
        one_shop.apply(full=True)
    assert differing(prove(one_shop)) == {}


def test_what_stands_and_what_should_stand_come_under_one_another(shop: Shop) -> None:
    shop.connection.execute("update cdm.events_hours set count_events = 9 where event_type = 'cart'")
    shop.connection.execute("delete from cdm.products_hours")
    result = run("check", "--prove", dsn=shop.dsn)
    assert (result.exit_code, result.stderr) == (1, "clickmart: what stands is not what a full build makes\n")
    assert (
        "ok      sessions: 3 rows, as a full build makes them\n"
        "FAILED  events_hours: 2 rows differ from a full build\n"
        "side          hour_timestamp       count_events  event_type\n"
        "------------  -------------------  ------------  ----------\n"
        "stands        2022-09-30 10:00:00             9  cart\n"
        "should stand  2022-09-30 10:00:00             2  cart\n"
        "FAILED  products_hours: 1 row differs from a full build\n"
        "side          hour_timestamp       count_products\n"
        "------------  -------------------  --------------\n"
        "should stand  2022-09-30 10:00:00               2\n"
        "ok      page_totals: 2 rows, as a full build makes them\n"
    ) in result.stdout
    assert re.search(r"\ncompared: 2 users, 11 page views, 2 purchases in \d+\.\d s\n$", result.stdout)
    report = run("check", "--prove", "--json", dsn=shop.dsn).stdout
    assert '"side": "should stand",\n          "hour_timestamp": "2022-09-30 10:00:00",\n' in report


def test_of_many_rows_that_differ_the_first_are_shown_and_all_counted(shop: Shop) -> None:
    shop.connection.execute(
        "insert into cdm.events_hours (hour_timestamp, count_events, event_type) "
        "select timestamp '2022-01-01' + n * interval '1 hour', 1, 'x' from generate_series(1, 1234) as n"
    )
    lines = run("check", "--prove", dsn=shop.dsn).stdout.splitlines()
    start = lines.index("FAILED  events_hours: 1,234 rows differ from a full build")
    assert lines[start + 3] == "stands  2022-01-01 01:00:00             1  x"
    assert lines[start + 23 : start + 25] == [
        "... and 1,214 more rows",
        "ok      products_hours: 1 row, as a full build makes them",
    ]


@pytest.mark.parametrize(
    ("statement", "marts"),
    [
        ("update stage.loads set refreshed_at = null where id = 2", MARTS),
        ("delete from stage.events where user_domain_id is null", ["page_views", "events_hours"]),
        (
            "update stage.events set utm_campaign = 'x' where event_id = 'u2-4'",
            ["page_views", "purchases", "user_days", "sources"],
        ),
    ],
    ids=["a load", "raw rows", "a raw value"],
)
def test_the_marts_are_held_to_the_raw_events_and_their_loads(shop: Shop, statement: str, marts: list[str]) -> None:
    """And to nothing in between: each mart differs from what these make it, however well it goes with the others."""
    shop.connection.execute(statement.encode())
    assert list(differing(prove(shop))) == marts


def test_a_refresh_that_adds_up_wrongly_is_found_out(shop: Shop, tmp_path: Path) -> None:
    """With a project of one's own, in which an incremental refresh counts each new event twice."""
    project = init_project(tmp_path / "mine")
    file = project / "sql" / "cdm" / "20_events_hours.sql"
    right = '"pg_temp.changed_views", "sum(sign)"'
    assert file.read_text().count(right) == 1
    file.write_text(file.read_text().replace(right, '"pg_temp.changed_views", "2 * sum(sign)"'))
    shop.apply(read_project(project))
    assert run("check", "--prove", "--project", str(project), dsn=shop.dsn).exit_code == 0
    shop.load(*journey("u3", "faq", at=HOUR + timedelta(hours=5)))
    shop.apply(read_project(project))
    hour = HOUR + timedelta(hours=5)
    assert differing(prove(shop)) == {"events_hours": [("stands", hour, 2, "faq"), ("should stand", hour, 1, "faq")]}
    shop.apply(read_project(project), full=True)
    assert differing(prove(shop)) == {}


def test_the_proof_goes_by_the_settings_that_were_applied(shop: Shop, tmp_path: Path) -> None:
    project = init_project(tmp_path / "mine")
    settings_file = project / "clickmart.toml"
    settings_file.write_text('[settings]\nproduct = "^home"\ntop_pages = 1\n')
    assert differing(prove(shop)) == {}
    shop.apply(read_project(project))
    report = prove(shop)
    assert differing(report) == {}
    assert {mart.name: mart.rows_compared for mart in report.marts}["purchases"] == 1
    shop.connection.execute("update cdm.settings set top_pages = 2")
    assert differing(prove(shop)) == {}


# A sample of users


MANY = [f"u{number}" for number in range(20)]


@pytest.fixture(scope="module")
def many_users(embedded_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A warehouse of 20 users, in which no user's day is right: so what differs tells who was looked at."""
    with open_shop(embedded_server, tmp_path_factory.mktemp("shop")) as shop:
        shop.load(*(event for user in MANY for event in journey(user, PURCHASE)), *journey(None, "home"))
        shop.apply()
        shop.connection.execute("update cdm.user_days set count_views = count_views + 1")
        yield shop


def drawn(shop: Shop, size: int, seed: int) -> set[object]:
    rows = differing(prove(shop, sample=size, seed=seed))
    assert list(rows) == ["user_days"]
    return {user for _, _, user, *_ in rows["user_days"]}


def test_a_seed_draws_so_many_users_and_the_same_ones_again(many_users: Shop) -> None:
    samples = [drawn(many_users, 5, seed) for seed in range(6)]
    assert [len(users) for users in samples] == [5] * 6
    assert [drawn(many_users, 5, seed) for seed in range(6)] == samples
    assert len({frozenset(users) for users in samples}) > 1
    assert len(set().union(*samples)) > 10


def test_a_sample_larger_than_all_is_all_users(many_users: Shop) -> None:
    rows = [mart.rows_differing for mart in prove(many_users, sample=21).marts if mart.name == "user_days"]
    assert rows == [40]


def test_a_drawn_seed_is_said_and_repeats_the_sample(many_users: Shop) -> None:
    first = run("check", "--prove", "--sample", "3", dsn=many_users.dsn).stdout
    *_, compared, again = first.splitlines()
    assert compared.startswith("compared: 3 users, 12 page views, 3 purchases")
    found = re.fullmatch(r"the same users again: (--sample 3 --seed \d+)", again)
    assert found
    second = run("check", "--prove", *found[1].split(), dsn=many_users.dsn).stdout

    def without_time(said: str) -> str:
        return re.sub(r"in \S+ s$", "", said, flags=re.MULTILINE)

    assert without_time(second) == without_time(first)


def test_a_user_whom_no_mart_knows_may_be_drawn(shop: Shop) -> None:
    """Since users are drawn by their own hash and not by their place among those that stand."""
    for table in ("stage.page_views", "cdm.purchases", "cdm.user_days", "cdm.sessions"):
        shop.connection.execute(f"delete from {table} where user_id = 'u2'".encode())
    found = [differing(prove(shop, sample=1, seed=seed)) for seed in range(20)]
    assert {} in found
    lacking = next(rows for rows in found if rows)
    assert list(lacking) == MARTS_OF_USERS
    assert {row[0] for rows in lacking.values() for row in rows} == {"should stand"}


# Detached events


def test_what_detached_loads_brought_is_taken_as_it_stands(shop: Shop) -> None:
    """A later delivery of it counts for nothing, as in the marts; what stands in them is proven from it."""
    shop.query(NEW_PARTITION)
    shop.load(*FIRST[:3], *journey("u3", PURCHASE))
    shop.apply()
    detached = shop.query("select stage.detach_events('infinity')")
    assert detached
    for (name,) in detached:
        shop.connection.execute(f'drop table stage."{name}"'.encode())
    shop.load(*FIRST[3:5], *journey("u3", "blog", at=START - timedelta(hours=2)))
    shop.apply()
    report = prove(shop)
    assert differing(report) == {}
    assert (report.users, report.views_detached) == (3, 11)
    assert str(report).splitlines()[-1] == "taken as they stand: 11 page views whose raw events are detached"

    shop.connection.execute("update cdm.purchases set count_products = 3 where user_id = 'u1'")
    assert list(differing(prove(shop))) == ["purchases"]
    shop.connection.execute("delete from stage.page_views where event_id = 'u2-2'")
    assert list(differing(prove(shop)))[:4] == ["purchases", "user_days", "sessions", "events_hours"]


# While others work


def waits_for(shop: Shop, running: Future[Any], process: int) -> None:
    """Returns when somebody waits for that server process; fails where what is running ends before."""
    for _ in range(3000):
        if running.done():
            pytest.fail(f"it did not wait: {running.exception() or running.result()}")
        if shop.query("select from pg_stat_activity where %s = any (pg_blocking_pids(pid))", process):
            return
        time.sleep(0.01)
    pytest.fail("nothing waits")


PROVE = "select mart, rows_compared, rows_differing from checks.prove()"


def no_apply_runs(shop: Shop) -> bool:
    return query(shop.dsn, "select pg_try_advisory_lock(hashtextextended('clickmart.apply', 0))") == [(True,)]


@contextmanager
def proof_held(shop: Shop) -> Iterator[tuple[Future[ProofReport], int]]:
    """A proof that has but two marts to compare and goes on at the end, with its server process."""
    with ThreadPoolExecutor() as threads, psycopg.connect(shop.dsn) as holding:
        holding.execute("alter view cdm.top_pages set (security_barrier = false)")  # readers of the view alone wait
        proving = threads.submit(prove, shop)
        waits_for(shop, proving, holding.info.backend_pid)
        ((process,),) = shop.query(
            "select pid from pg_stat_activity where %s = any (pg_blocking_pids(pid))", holding.info.backend_pid
        )
        yield proving, int(str(process))


def test_applies_go_on_while_the_marts_are_proven_as_they_were(shop: Shop) -> None:
    shop.load(*journey("u3", PURCHASE))
    with proof_held(shop) as (proving, _):
        assert no_apply_runs(shop)
        assert shop.apply().new_loads == 1
        assert not proving.done()
    report = proving.result()
    assert differing(report) == {}
    assert (report.users, report.marts[0].rows_compared) == (2, 11)
    after = prove(shop)
    assert differing(after) == {}
    assert (after.users, after.marts[0].rows_compared) == (3, 15)


def test_a_load_goes_on_while_the_marts_are_proven(shop: Shop) -> None:
    with Warehouse(shop.dsn).connect() as proving, proving.transaction():
        proving.execute("set transaction isolation level repeatable read")
        proving.execute(PROVE)
        shop.query("select set_config('lock_timeout', '500ms', false)")
        shop.load(*journey("u3", PURCHASE))
        assert proving.execute(PROVE).fetchone() == ("page_views", 11, 0)


def test_an_apply_that_builds_anew_waits_for_the_proof(shop: Shop) -> None:
    with ThreadPoolExecutor() as threads:
        with Warehouse(shop.dsn).connect() as proving, proving.transaction():
            proving.execute("set transaction isolation level repeatable read")
            proving.execute("select checks.hold_page_views()")
            applying = threads.submit(shop.apply, full=True)
            with Warehouse(shop.dsn).connect() as watching:
                waits_for(Shop(shop.dsn, watching, shop.folder), applying, proving.info.backend_pid)
            assert [differing for *_, differing in proving.execute(PROVE).fetchall()] == [0] * len(MARTS)
        assert applying.result().rebuilt


def test_the_proof_lets_an_apply_end_first(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "clickmart")
    lock = "select pg_advisory_lock(hashtextextended('clickmart.apply', 0))"
    with ThreadPoolExecutor() as threads:
        with psycopg.connect(shop.dsn, autocommit=True) as applying:
            applying.execute(lock.encode())
            proving = threads.submit(prove, shop)
            while "waiting for another apply" not in caplog.text:
                assert not proving.done()
                time.sleep(0.01)
        assert differing(proving.result()) == {}
    assert "proving purchases" in caplog.text
    assert no_apply_runs(shop)


def test_page_views_built_anew_after_the_transaction_had_begun_are_not_taken_for_none(shop: Shop) -> None:
    with psycopg.connect(shop.dsn) as proving:
        proving.execute("set transaction isolation level repeatable read")
        proving.execute("select")
        shop.apply(full=True)
        with pytest.raises(psycopg.errors.RaiseException, match="was built anew after this transaction had begun"):
            proving.execute(PROVE)


def test_a_transaction_whose_statements_see_different_states_can_not_prove(shop: Shop) -> None:
    with psycopg.connect(shop.dsn) as proving, pytest.raises(psycopg.errors.RaiseException) as error:
        proving.execute(PROVE)
    assert error.value.diag.message_hint == "Begin the transaction with: begin isolation level repeatable read"


def test_a_transaction_may_prove_more_than_once(shop: Shop) -> None:
    with psycopg.connect(shop.dsn) as proving:
        proving.execute("set transaction isolation level repeatable read")
        assert proving.execute(PROVE).fetchall() == proving.execute(PROVE).fetchall()
        assert len(proving.execute("select * from checks.prove(1, 2)").fetchall()) == len(MARTS_OF_USERS)


def test_a_proof_that_an_apply_and_it_would_wait_for_each_other_gives_way(shop: Shop) -> None:
    """Here an apply that changes the view cdm.sources and builds anew while the proof is under way."""
    with ThreadPoolExecutor() as threads, psycopg.connect(shop.dsn) as applying:
        with proof_held(shop) as (proving, process):
            applying.execute("lock table cdm.sources in access exclusive mode")
            emptied = threads.submit(applying.execute, "truncate stage.page_views")
            waits_for(shop, emptied, process)
            time.sleep(1.2)  # who has waited longer than deadlock_timeout is not the one that finds the deadlock
        with pytest.raises(SqlError, match="an apply changes just now what is to be proven; prove again"):
            proving.result()
        emptied.result()


# Where there is nothing to prove, and wrong calls


def test_where_nothing_was_applied_there_is_nothing_to_prove(empty_dsn: str, tmp_path: Path) -> None:
    message = (
        "clickmart: nothing to prove: this warehouse has no function checks.prove(bigint, bigint); run "
        "`clickmart apply` with a project that makes it, as the built-in sql/cdm/40_proof.sql does\n"
    )
    assert outcome(run("check", "--prove", dsn=empty_dsn)) == (1, "", message)
    assert query(empty_dsn, "select to_regnamespace('clickmart')") == [(None,)]
    apply_project(empty_dsn, smallest_project(tmp_path))
    assert outcome(run("check", "--prove", dsn=empty_dsn)) == (1, "", message)
    assert value(empty_dsn, "select count(*) from pg_locks where locktype = 'advisory'") == 0


def test_where_there_is_no_warehouse_none_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)
    monkeypatch.chdir(tmp_path)
    result = run("check", "--prove")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("clickmart: nothing to prove: no warehouse in ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sample", "5"], "--sample N goes with --prove"),
        (["--prove", "--seed", "5"], "--seed S goes with --sample N"),
        (["--prove", "--sample", "0"], "'--sample'"),
        (["--prove", "--sample", "x"], "'--sample'"),
        (["--prove", "--sample", str(2**63)], "'--sample'"),
        (["--prove", "--sample", "1", "--seed", str(2**63)], "'--seed'"),
    ],
)
def test_a_wrong_call_is_refused_before_anything_is_asked(arguments: list[str], said: str) -> None:
    result = run("check", *arguments, dsn="host=nowhere.invalid")
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


@pytest.mark.parametrize(
    "options", [{"sample": 0}, {"sample": 2**63}, {"seed": 1}, {"sample": 1, "seed": 2**63}, {"sample": -1, "seed": 1}]
)
def test_a_wrong_call_of_the_function_is_refused_too(options: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        clickmart.prove(dsn="host=nowhere.invalid", **options)


def test_the_largest_numbers_are_taken(shop: Shop) -> None:
    for seed in (-(2**63), 2**63 - 1):
        report = clickmart.prove(dsn=shop.dsn, sample=2**63 - 1, seed=seed)
        assert (report.failed, report.users, report.seed) == (False, 2, seed)
