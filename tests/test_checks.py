"""The data checks: each can fail, and shows the rows that do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from clickmart.project import init_project
from conftest import Server, Shop, open_shop
from projects import apply, outcome, query, run, smallest_project, write_files

SOURCES = "select id, referer_url, utm_campaign, count_users, count_purchases"
#: check -> statements, each of which must make it fail
TAMPERING = {
    "deliveries": ["insert into stage.page_views select * from stage.page_views where event_id = 'e1'"],
    "events_hours": [
        "update cdm.events_hours set count_events = count_events + 1 where event_type = 'cart'",
        "delete from cdm.events_hours where event_type = 'cart'",
        "insert into cdm.events_hours (hour_timestamp, count_events, event_type) values ('2026-03-02', 1, 'cart')",
    ],
    "loads": [
        "update stage.loads set rows_loaded = rows_loaded + 1",
        "update stage.loads set rows_rejected = rows_rejected + 1",
        "delete from stage.events where event_id = 'e1'",
        "insert into stage.events (batch_id, event_id) values (9, 'x')",
        "insert into stage.events_rejected (batch_id, source_file, line_number, reason, raw) "
        "values (99, '', 1, '', '')",
    ],
    "page_totals": [
        "update cdm.page_totals set count_purchases = count_purchases + 1",
        "delete from cdm.page_totals",
        "insert into cdm.page_totals (page_url, count_purchases) values ('http://x', 1)",
    ],
    "products_hours": [
        "update cdm.products_hours set count_products = count_products + 1",
        "delete from cdm.products_hours",
        "insert into cdm.products_hours (hour_timestamp, count_products) values ('2026-03-01', 1)",
    ],
    "purchases": [
        "update cdm.purchases set first_cart_at = first_cart_at - interval '1 second'",
        "delete from cdm.purchases",
        "update cdm.purchases set user_id = 'another'",
    ],
    "replays": [
        "update stage.loads set format = 'rejects'",
        "insert into stage.events_rejected (batch_id, source_file, line_number, reason, raw, replayed_by) "
        "values (1, '', 1, '', '', 99)",
        "with failed as (insert into stage.loads (file_name, checksum, size, format, rows_loaded, rows_rejected, "
        "started_at, status) values ('', '', 0, '', 0, 0, now(), 'failed') returning id) "
        "insert into stage.events_rejected (batch_id, source_file, line_number, reason, raw, replayed_by) "
        "select 1, '', 1, '', '', id from failed",
    ],
    "shares": [f"create or replace view cdm.sources as {SOURCES}, 0.4::float8 as share_users from cdm.source_totals"],
    "sources": [
        "update cdm.source_totals set count_users = count_users + 1",
        "update cdm.source_totals set count_purchases = count_purchases + 1",
        "delete from cdm.source_totals where utm_campaign = 'spring'",
        "insert into cdm.source_totals (referer_url, utm_campaign, count_users, count_purchases) "
        "values ('x', 'y', 1, 0)",
    ],
    "user_days": [
        "update cdm.user_days set count_cart_views = count_cart_views + 1",
        "delete from cdm.user_days where utm_campaign = 'spring'",
        "insert into cdm.user_days select * from cdm.user_days limit 1",
    ],
}


@pytest.fixture
def shop(embedded_server: Server, tmp_path: Path) -> Iterator[Shop]:
    """A warehouse with one purchase, in which every check holds."""
    with open_shop(embedded_server, tmp_path) as opened:
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


@pytest.mark.parametrize(("check", "statement"), [(name, text) for name, texts in TAMPERING.items() for text in texts])
def test_a_check_fails_when_what_it_claims_is_not_so(shop: Shop, check: str, statement: str) -> None:
    assert shop.connection.execute(statement.encode()).rowcount
    result = run("check", "--json", dsn=shop.dsn)
    assert (result.exit_code, result.stderr) == (1, "clickmart: a check failed\n")
    report = json.loads(result.stdout)
    found = {each["name"]: each for each in report["checks"]}
    assert report["failed"]
    assert found[check]["count_failures"] == len(found[check]["failures"]) > 0


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
