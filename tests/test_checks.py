"""The data checks: each can fail, and shows the rows that do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from clickmart.checks import run_checks
from clickmart.loading import load_file
from clickmart.project import init_project, read_project
from conftest import Server, Shop, open_shop
from projects import apply, outcome, query, run, smallest_project, write_files

SOURCES = "select id, referer_url, utm_campaign, count_users, count_purchases"
PAGES = "select id, page_url, count_purchases from cdm.page_totals"
VIEWS = "select batch_id, row_id + 1000, user_hash, user_id, viewed_at, step, page_type"
VALUES = "event_id, page_url, referer_url, utm_campaign from stage.page_views where event_id = 'e1'"
#: check -> statements, each of which must make it fail, with the other checks that then fail too
TAMPERING: dict[str, list[str | tuple[str, set[str]]]] = {
    "deliveries": [
        (
            "insert into stage.page_views select * from stage.page_views where event_id = 'e1'",
            {"duplicates", "events_hours", "sessions", "user_days"},
        ),
        (f"insert into stage.page_views {VIEWS}, {VALUES}", {"events_hours", "page_views", "sessions", "user_days"}),
    ],
    "duplicates": [
        "insert into cdm.events_hours (hour_timestamp, count_events, event_type) "
        "select hour_timestamp, count_events, event_type from cdm.events_hours where event_type = 'cart'",
        "alter table cdm.products_hours drop constraint products_hours_hour_timestamp_key; "
        "insert into cdm.products_hours (hour_timestamp, count_products) "
        "select hour_timestamp, count_products from cdm.products_hours",
        (
            "insert into cdm.purchases overriding user value select * from cdm.purchases",
            {"page_totals", "products_hours", "sources", "top_pages"},
        ),
        ("insert into cdm.user_days select * from cdm.user_days limit 1", {"user_days"}),
        (
            "insert into cdm.page_totals (page_url, count_purchases) "
            "select page_url, count_purchases from cdm.page_totals",
            {"top_pages"},
        ),
        (
            "insert into cdm.source_totals (referer_url, utm_campaign, count_users, count_purchases) "
            "select referer_url, utm_campaign, count_users, count_purchases from cdm.source_totals",
            set(),
        ),
        (
            "insert into stage.page_views select * from stage.page_views where event_id = 'e3'",
            {"deliveries", "events_hours", "sessions", "user_days"},
        ),
    ],
    "events_hours": [
        "update cdm.events_hours set count_events = count_events + 1 where event_type = 'cart'",
        "delete from cdm.events_hours where event_type = 'cart'",
        "insert into cdm.events_hours (hour_timestamp, count_events, event_type) values ('2026-03-02', 1, 'cart')",
    ],
    "impossible_values": [
        (
            "update cdm.purchases set count_products = 0, page_urls = '{}'",
            {"page_totals", "products_hours", "purchases", "top_pages"},
        ),
        ("update cdm.purchases set count_products = 2", {"products_hours", "purchases"}),
        ("update cdm.purchases set first_product_at = first_cart_at + interval '1 s'", {"purchases"}),
        ("update cdm.purchases set first_cart_at = paid_at + interval '1 s'", {"purchases"}),
        ("update cdm.purchases set paid_at = confirmed_at + interval '1 s'", {"purchases"}),
        ("update cdm.purchases set first_product_at = first_product_at - interval '1 day'", {"purchases"}),
        ("update cdm.purchases set utm_campaign = ''", {"purchases", "sources"}),
        (
            "insert into cdm.events_hours (hour_timestamp, count_events, event_type) values ('2026-03-02', 0, 'x')",
            {"events_hours"},
        ),
        ("update cdm.events_hours set hour_timestamp = hour_timestamp + interval '1 s'", {"events_hours"}),
        ("update cdm.events_hours set event_type = '' where event_type = 'cart'", {"events_hours"}),
        (
            "insert into cdm.products_hours (hour_timestamp, count_products) values ('2026-03-02', 0)",
            {"products_hours"},
        ),
        ("update cdm.products_hours set hour_timestamp = hour_timestamp + interval '1 s'", {"products_hours"}),
        ("insert into cdm.page_totals (page_url, count_purchases) values ('x', 0)", {"page_totals", "top_pages"}),
        ("update cdm.page_totals set page_url = ''", {"page_totals", "top_pages"}),
        ("update cdm.source_totals set count_purchases = -1 where utm_campaign = '(none)'", {"sources"}),
        ("update cdm.source_totals set count_users = 0 where utm_campaign = 'spring'", {"sources"}),
        (
            f"create or replace view cdm.sources as {SOURCES}, 1.5::float8 as share_users from cdm.source_totals",
            {"shares"},
        ),
        ("update cdm.source_totals set utm_campaign = '' where utm_campaign = 'spring'", {"sources"}),
        ("update cdm.user_days set count_views = 0", {"user_days"}),
        ("update cdm.user_days set count_cart_views = -1", {"user_days"}),
        ("update cdm.user_days set count_cart_views = 9", {"user_days"}),
        ("update cdm.user_days set user_id = ''", {"user_days"}),
        ("update cdm.sessions set count_views = 0", {"sessions"}),
        ("update cdm.sessions set ended_at = started_at - interval '1 second'", {"sessions"}),
        ("update cdm.sessions set exit_page_url = ''", {"sessions"}),
        ("update stage.loads set rows_loaded = -1", {"loads"}),
        ("update stage.loads set rows_rejected = -1", {"loads"}),
        ("update stage.loads set status = 'failed'", set()),
    ],
    "loads": [
        "update stage.loads set rows_loaded = rows_loaded + 1",
        "update stage.loads set rows_rejected = rows_rejected + 1",
        ("delete from stage.events where event_id = 'e1'", {"page_views"}),
        "insert into stage.events (batch_id, event_id) values (9, 'x')",
        "insert into stage.events_rejected (batch_id, source_file, line_number, reason, raw) "
        "values (99, '', 1, '', '')",
    ],
    "page_totals": [
        ("update cdm.page_totals set count_purchases = count_purchases + 1", {"top_pages"}),
        ("delete from cdm.page_totals", {"top_pages"}),
        ("insert into cdm.page_totals (page_url, count_purchases) values ('http://x', 1)", {"top_pages"}),
    ],
    "page_views": [
        ("delete from stage.page_views where event_id = 'e1'", {"events_hours", "purchases", "sessions", "user_days"}),
        "update stage.page_views set row_id = row_id + 1000 where event_id = 'e1'",
        "update stage.loads set refreshed_at = null",
        (
            "update stage.events set event_id = 'e1', event_timestamp = '2026-03-02 10:01:00' where event_id = 'e3'; "
            "delete from stage.page_views where event_id = 'e1'",
            {"events_hours", "purchases", "sessions", "user_days"},
        ),
    ],
    "products_hours": [
        "update cdm.products_hours set count_products = count_products + 1",
        "delete from cdm.products_hours",
        "insert into cdm.products_hours (hour_timestamp, count_products) values ('2026-03-01', 1)",
    ],
    "purchases": [
        "update cdm.purchases set first_cart_at = first_cart_at - interval '1 second'",
        ("delete from cdm.purchases", {"page_totals", "products_hours", "sources", "top_pages"}),
        "update cdm.purchases set user_id = 'another'",
    ],
    "replays": [
        "update stage.loads set format = 'rejects'",
        (
            "insert into stage.events_rejected (batch_id, source_file, line_number, reason, raw, replayed_by) "
            "values (1, '', 1, '', '', 99)",
            {"loads"},
        ),
        (
            "with failed as (insert into stage.loads (file_name, checksum, size, format, rows_loaded, rows_rejected, "
            "started_at, status) values ('', '', 0, '', 0, 0, now(), 'failed') returning id) "
            "insert into stage.events_rejected (batch_id, source_file, line_number, reason, raw, replayed_by) "
            "select 1, '', 1, '', '', id from failed",
            {"loads"},
        ),
    ],
    "shares": [f"create or replace view cdm.sources as {SOURCES}, 0.4::float8 as share_users from cdm.source_totals"],
    "sources": [
        "update cdm.source_totals set count_users = count_users + 1",
        "update cdm.source_totals set count_purchases = count_purchases + 1",
        "delete from cdm.source_totals where utm_campaign = 'spring'",
        "insert into cdm.source_totals (referer_url, utm_campaign, count_users, count_purchases) "
        "values ('x', 'y', 1, 0)",
    ],
    "top_pages": [
        f"create or replace view cdm.top_pages as {PAGES} where false",
        "create or replace view cdm.top_pages as "
        "select id + 1 as id, page_url, count_purchases from cdm.page_totals",
        "create or replace view cdm.top_pages as "
        "select id, page_url, count_purchases + 1 as count_purchases from cdm.page_totals",
        "update cdm.settings set top_pages = 0; "
        f"create or replace view cdm.top_pages as {PAGES}",
    ],
    "sessions": [
        "update cdm.sessions set ended_at = ended_at + interval '1 second'",
        "update cdm.sessions set entry_page_url = 'x'",
        "delete from cdm.sessions where user_id = (select min(user_id) from cdm.sessions)",
        (
            "insert into cdm.sessions overriding user value select * from cdm.sessions limit 1",
            {"duplicates"},
        ),
    ],
    "user_days": [
        "update cdm.user_days set count_product_views = 0",
        ("delete from cdm.user_days where utm_campaign = 'spring'", {"sources"}),
        ("insert into cdm.user_days select * from cdm.user_days limit 1", {"duplicates"}),
    ],
}  # fmt: skip


#: The keys of what is in the shop of the tests.
START = "2026-03-02T10:00:00"
BOUGHT = ["u", "2026-03-02T10:03:00"]


@pytest.fixture
def shop(embedded_server: Server, tmp_path: Path) -> Iterator[Shop]:
    """A warehouse with one purchase, in which every check holds."""
    with shop_of_one_purchase(embedded_server, tmp_path) as opened:
        yield opened


@pytest.fixture(scope="module")
def one_shop(embedded_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The same, for tests that undo what they do."""
    with shop_of_one_purchase(embedded_server, tmp_path_factory.mktemp("shop")) as opened:
        yield opened


@contextmanager
def shop_of_one_purchase(server: Server, folder: Path) -> Iterator[Shop]:
    with open_shop(server, folder) as opened:
        pages = ["product_a", "cart", "payment", "confirmation"]
        at = "2026-03-02 10:0{}:00".format
        opened.load(
            *(
                {
                    "event_id": f"e{number}",
                    "event_timestamp": at(number),
                    "user_domain_id": "u",
                    "page_url": f"http://shop/{page}",
                    "page_url_path": f"/{page}",
                    "utm_campaign": "spring" if page == "confirmation" else None,
                }
                for number, page in enumerate(pages)
            )
        )
        opened.apply()
        yield opened


def names(shop: Shop) -> list[str]:
    return [
        name
        for (name,) in shop.query("select relname from pg_class where relnamespace = 'checks'::regnamespace order by 1")
    ]


def test_every_check_that_holds_is_one_line_with_its_claim(shop: Shop) -> None:
    result = run("check", dsn=shop.dsn)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == [f"ok      {name}" for name in names(shop)]
    assert all(line.partition(": ")[2].endswith(".") for line in lines)
    assert "ok      shares: The shares of all sources are 1 together.\n" in result.stdout


def test_there_is_a_tampering_for_each_built_in_check(shop: Shop) -> None:
    assert sorted(TAMPERING) == names(shop)


def tampering() -> Iterator[tuple[str, str, set[str]]]:
    for check, statements in TAMPERING.items():
        for statement in statements:
            text, others = (statement, set()) if isinstance(statement, str) else statement
            yield check, text, others


@pytest.mark.parametrize(("check", "statement", "others"), list(tampering()))
def test_a_check_fails_when_what_it_claims_is_not_so_and_no_other_does(
    one_shop: Shop, check: str, statement: str, others: set[str]
) -> None:
    connection = one_shop.connection
    with connection.transaction(force_rollback=True):
        connection.execute(statement.encode())
        results = {result.name: result for result in run_checks(connection, read_project()).results}
    assert {name for name, result in results.items() if result.count_failures} == {check, *others}
    assert results[check].count_failures == len(results[check].failures)


#: By a statement, the rows of checks.impossible_values that it makes: the table, its key, and what can't be.
IMPOSSIBLE: dict[str, list[tuple[str, list[Any], str]]] = {
    "update cdm.purchases set count_products = 0, page_urls = '{}'": [("cdm.purchases", BOUGHT, "no products")],
    "update cdm.purchases set count_products = 2": [("cdm.purchases", BOUGHT, "not as many pages as products")],
    "update cdm.purchases set first_product_at = first_cart_at + interval '1 s'": [
        ("cdm.purchases", BOUGHT, "a cart before any product"),
    ],
    "update cdm.purchases set first_cart_at = paid_at + interval '1 s'": [
        ("cdm.purchases", BOUGHT, "paid before there was a cart"),
    ],
    "update cdm.purchases set paid_at = confirmed_at + interval '1 s'": [
        ("cdm.purchases", BOUGHT, "confirmed before it was paid"),
    ],
    "update cdm.purchases set first_product_at = first_product_at - interval '1 day'": [
        ("cdm.purchases", BOUGHT, "longer than the purchase window"),
    ],
    "update cdm.purchases set referer_url = ''": [("cdm.purchases", BOUGHT, "an empty text")],
    "update cdm.purchases set page_urls = '{\"\"}'": [("cdm.purchases", BOUGHT, "an empty text")],
    "update cdm.events_hours set count_events = 0 where event_type = 'cart'": [
        ("cdm.events_hours", [START, "cart"], "no events"),
    ],
    "update cdm.events_hours set hour_timestamp = hour_timestamp + interval '1 s' where event_type = 'cart'": [
        ("cdm.events_hours", ["2026-03-02T10:00:01", "cart"], "not the start of an hour"),
    ],
    "update cdm.events_hours set event_type = '' where event_type = 'cart'": [
        ("cdm.events_hours", [START, ""], "an empty text"),
    ],
    "update cdm.products_hours set count_products = 0": [("cdm.products_hours", [START], "no products")],
    "update cdm.products_hours set hour_timestamp = hour_timestamp + interval '1 s'": [
        ("cdm.products_hours", ["2026-03-02T10:00:01"], "not the start of an hour"),
    ],
    "update cdm.page_totals set count_purchases = 0": [("cdm.page_totals", ["http://shop/product_a"], "no purchases")],
    "update cdm.page_totals set page_url = ''": [("cdm.page_totals", [""], "an empty text")],
    "update cdm.source_totals set count_purchases = -1 where utm_campaign = 'spring'": [
        ("cdm.sources", ["(direct)", "spring"], "less than no purchases"),
    ],
    "update cdm.source_totals set referer_url = '' where utm_campaign = 'spring'": [
        ("cdm.sources", ["", "spring"], "an empty text"),
    ],
    "update cdm.user_days set count_views = 0, count_confirmation_views = 0 where utm_campaign = 'spring'": [
        ("cdm.user_days", ["u", "2026-03-02", "(direct)", "spring"], "no views"),
    ],
    "update cdm.user_days set count_cart_views = -1 where utm_campaign = 'spring'": [
        ("cdm.user_days", ["u", "2026-03-02", "(direct)", "spring"], "less than no views of a step"),
    ],
    "update cdm.user_days set count_cart_views = 9 where utm_campaign = 'spring'": [
        ("cdm.user_days", ["u", "2026-03-02", "(direct)", "spring"], "more views of steps than views"),
    ],
    "update cdm.user_days set referer_url = '' where utm_campaign = 'spring'": [
        ("cdm.user_days", ["u", "2026-03-02", "", "spring"], "an empty text"),
    ],
    "update cdm.sessions set count_views = 0": [("cdm.sessions", ["u", START], "no views")],
    "update cdm.sessions set ended_at = started_at - interval '1 s'": [
        ("cdm.sessions", ["u", START], "an end before its start"),
    ],
    "update cdm.sessions set entry_page_url = ''": [("cdm.sessions", ["u", START], "an empty text")],
    "update stage.loads set rows_loaded = -1": [("stage.loads", [1], "less than no rows or rejects")],
    "update stage.loads set events_passed = -1": [("stage.loads", [1], "less than no rows or rejects")],
    "update stage.loads set status = 'failed', rows_loaded = 0": [
        ("stage.loads", [1], "a failed load with rows, or taken in"),
    ],
    "update stage.loads set status = 'failed', refreshed_at = null": [
        ("stage.loads", [1], "a failed load with rows, or taken in"),
    ],
}


@pytest.mark.parametrize("statement", IMPOSSIBLE)
def test_of_an_impossible_value_the_row_and_the_reason_are_told(one_shop: Shop, statement: str) -> None:
    with one_shop.connection.transaction(force_rollback=True):
        one_shop.connection.execute(statement.encode())
        found = one_shop.query("select relation, row_key, problem from checks.impossible_values order by problem")
    assert found == IMPOSSIBLE[statement]


#: By a statement, the rows of checks.page_views that it makes: the event, and what is wrong.
WRONG_VIEWS = {
    "delete from stage.page_views where event_id = 'e1'": [("e1", "missing")],
    "update stage.page_views set row_id = row_id + 1000 where event_id = 'e1'": [
        ("e1", "missing"),
        ("e1", "of no row of the raw layer"),
    ],
    "update stage.page_views set batch_id = 2 where event_id = 'e1'": [
        ("e1", "missing"),
        ("e1", "of a load that is not taken in"),
        ("e1", "of no row of the raw layer"),
    ],
}


@pytest.mark.parametrize("statement", WRONG_VIEWS)
def test_of_a_wrong_page_view_the_event_and_the_reason_are_told(one_shop: Shop, statement: str) -> None:
    with one_shop.connection.transaction(force_rollback=True):
        one_shop.connection.execute(statement.encode())
        found = one_shop.query("select event_id, problem from checks.page_views order by problem")
        missing = one_shop.query(
            "select batch_id, row_id, user_id, viewed_at from checks.page_views where problem = 'missing'"
        )
        raw = one_shop.query(
            "select batch_id, id, user_domain_id, event_timestamp::timestamp from stage.events where event_id = 'e1'"
        )
    assert found == WRONG_VIEWS[statement]
    assert missing == (raw if ("e1", "missing") in found else [])


@pytest.mark.parametrize(
    ("relation", "where", "key"),
    [
        ("cdm.purchases", "true", BOUGHT),
        ("cdm.events_hours", "event_type = 'cart'", [START, "cart"]),
        ("cdm.user_days", "utm_campaign = 'spring'", ["u", "2026-03-02", "(direct)", "spring"]),
        ("cdm.sessions", "true", ["u", START]),
        ("cdm.page_totals", "true", ["http://shop/product_a"]),
        ("cdm.source_totals", "utm_campaign = 'spring'", ["(direct)", "spring"]),
    ],
)
def test_of_a_row_that_stands_oftener_the_key_is_told(
    one_shop: Shop, relation: str, where: str, key: list[Any]
) -> None:
    columns = (
        "select string_agg(attname, ', ' order by attnum) from pg_attribute "
        "where attrelid = %s::regclass and attnum > 0 and attname != 'id'"
    )
    ((names,),) = one_shop.query(columns, relation)
    with one_shop.connection.transaction(force_rollback=True):
        for _ in range(2):
            copy = f"insert into {relation} ({names}) select {names} from {relation} where {where}"
            one_shop.connection.execute(copy.encode())
        found = one_shop.query("select relation, row_key, count_rows from checks.duplicates")
    assert found == [(relation, key, 4)]


def test_what_may_well_be_fails_no_check(shop: Shop) -> None:
    """All steps at one instant, a purchase of exactly the window, deliveries, views of nobody, rows that are no views,
    loads that failed or wait, and raw rows that were detached."""
    pages = ("product_a", "cart", "payment", "confirmation")
    day = "2026-03-0{} 10:00:00".format
    rows = [
        {"user_domain_id": user, "event_timestamp": day(3 + (slow and page == "confirmation")), "page_url_path": page}
        for user, slow in (("v", False), ("w", True))
        for page in pages
    ]
    again = {"event_id": "e1", "event_timestamp": "2026-03-02 10:01:00", "user_domain_id": "u", "page_url": "other"}
    shop.load(*rows, again, {"event_timestamp": day(3)}, {"event_timestamp": "never"})
    shop.load(again)
    shop.refresh()
    broken = shop.folder / "broken.jsonl"
    broken.write_text("{")
    assert load_file(shop.connection, str(broken)).status == "failed"
    assert shop.failures() == []
    assert shop.query("select count(*) from cdm.purchases") == [(3,)]
    shop.query("select setval(pg_get_serial_sequence('stage.loads', 'id'), max(end_load)) from stage.partitions")
    shop.load(again)
    shop.refresh()
    assert shop.query("select stage.detach_events(clock_timestamp())") != []
    # Another partition is detached after that, and the next load is the first of the one behind it.
    last = "setval(pg_get_serial_sequence('stage.loads', 'id'), max(end_load){}) from stage.partitions{}"
    shop.query(f"select {last.format('', '')}")
    shop.load({**again, "event_id": "e8"})
    shop.refresh()
    shop.query(f"select {last.format('', '')}")
    shop.load({**again, "event_id": "e7"})
    shop.refresh()
    assert shop.query("select stage.detach_events(clock_timestamp())") != []
    assert shop.failures() == []
    shop.load({**again, "event_id": "e9"})
    assert shop.failures() == []
    shop.refresh()
    assert shop.failures() == []


def test_a_check_that_fails_fails_the_command(shop: Shop) -> None:
    shop.connection.execute("delete from cdm.events_hours where event_type = 'cart'")
    result = run("check", "--json", dsn=shop.dsn)
    assert (result.exit_code, result.stderr) == (1, "clickmart: a check failed\n")
    report = json.loads(result.stdout)
    assert report["failed"]
    failed = [(check["name"], check["failures"]) for check in report["checks"] if check["count_failures"]]
    row = {"hour_timestamp": "2026-03-02 10:00:00", "event_type": "cart", "count_events": None, "expected_events": 1}
    assert failed == [("events_hours", [row])]


def test_the_rows_that_fail_are_shown(shop: Shop) -> None:
    shop.connection.execute("update cdm.products_hours set count_products = 5")
    result = run("check", dsn=shop.dsn)
    assert (result.exit_code, result.stderr) == (1, "clickmart: a check failed\n")
    assert (
        "FAILED  products_hours: Every hour's products are those of the purchases confirmed in it.\n"
        "hour_timestamp       count_products  expected_products\n"
        "-------------------  --------------  -----------------\n"
        "2026-03-02 10:00:00               5                  1\n"
    ) in result.stdout
    assert result.stdout.count("FAILED") == 1


def test_of_many_failing_rows_the_first_are_shown_and_all_counted(empty_dsn: str, tmp_path: Path) -> None:
    files = {
        "sql/mine/10.sql": "create schema checks;"
        "create view checks.many as select n from generate_series(1, 1234) as n;"
    }
    apply(empty_dsn, smallest_project(tmp_path, files))
    lines = run("check", dsn=empty_dsn).stdout.splitlines()
    assert lines[0] == "FAILED  many"
    assert lines[1:4] == [" n", "--", " 1"]
    assert (len(lines), lines[-1]) == (24, "... and 1,214 more rows")
    report = run("check", "--json", dsn=empty_dsn).stdout
    assert '"count_failures": 1234' in report


def test_a_project_may_add_checks_of_its_own(shop: Shop, tmp_path: Path) -> None:
    project = init_project(tmp_path / "mine")
    view = (
        'create or replace view checks."one user" as\nselect user_id, count(*) as count_views\n'
        "from stage.page_views group by user_id having count(*) > {};\n"
        "comment on view checks.\"one user\" is 'No user has more than {} views.';\n"
    )
    for limit, code in ((9, 0), (3, 1)):
        write_files(project, {"sql/shop/10_checks.sql": view.format(limit, limit)})
        assert run("apply", "--project", str(project), dsn=shop.dsn).exit_code == 0
        result = run("check", "--project", str(project), dsn=shop.dsn)
        assert result.exit_code == code
    assert (
        "FAILED  one user: No user has more than 3 views.\n"
        "user_id  count_views\n-------  -----------\nu                  4\n"
    ) in result.stdout


def test_what_a_terminal_would_obey_is_not_shown_to_it(empty_dsn: str, tmp_path: Path) -> None:
    files = {
        "sql/mine/10.sql": "create schema checks;"
        "create view checks.odd as select E'a\\x1b[31m\\n\\u009b\\u202eb|é' as text, null as x;"
    }
    apply(empty_dsn, smallest_project(tmp_path, files))
    assert run("check", dsn=empty_dsn).stdout.splitlines()[3] == r"a\x1b[31m\n\x9b\u202eb|é"


def test_a_check_that_can_not_run_is_named(empty_dsn: str, tmp_path: Path) -> None:
    files = {"sql/mine/10.sql": "create schema checks; create view checks.odd as select 1 / (random() * 0)::int as x;"}
    apply(empty_dsn, smallest_project(tmp_path, files))
    assert outcome(run("check", dsn=empty_dsn)) == (1, "", "clickmart: checks.odd: division by zero\n")


def test_a_check_can_not_change_what_it_checks(empty_dsn: str, tmp_path: Path) -> None:
    files = {
        "sql/mine/10.sql": "create schema checks; create table cdm.t (a int);"
        "create function cdm.f() returns int language sql as 'insert into cdm.t values (1) returning a';"
        "create view checks.odd as select cdm.f() as x;"
    }
    apply(empty_dsn, smallest_project(tmp_path, files))
    assert outcome(run("check", dsn=empty_dsn)) == (
        1, "", "clickmart: checks.odd: cannot execute INSERT in a read-only transaction\n",
    )  # fmt: skip


def test_where_nothing_was_applied_there_is_nothing_to_check(empty_dsn: str) -> None:
    message = "clickmart: nothing to check: this warehouse has no checks yet; run `clickmart apply`\n"
    assert outcome(run("check", dsn=empty_dsn)) == (1, "", message)
    assert query(empty_dsn, "select to_regnamespace('clickmart')") == [(None,)]
