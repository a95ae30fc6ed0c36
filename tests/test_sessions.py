"""cdm.sessions, cdm.attributions and cdm.source_conversions: one test a rule. The laws hold them to the oracle."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import oracle
import pytest
from clickmart.errors import ProjectError
from clickmart.project import init_project, read_project
from conftest import Shop, project_with
from oracle import events_of

SESSIONS = (
    "select user_id, to_char(started_at, 'DD HH24:MI'), to_char(ended_at, 'DD HH24:MI'), count_views, "
    "entry_page_url, exit_page_url from cdm.sessions order by user_id, started_at"
)


def sessions(shop: Shop, *timelines: str) -> list[tuple[object, ...]]:
    """The sessions after these events, each table a load with a refresh; the oracle's are the same."""
    for timeline in timelines:
        shop.load(*events_of(timeline))
        shop.refresh()
    rows = [row for timeline in timelines for row in events_of(timeline)]
    assert shop.marts().sessions == oracle.marts(rows).sessions
    assert shop.failures() == []
    return shop.query(SESSIONS)


def test_a_silence_longer_than_the_gap_ends_a_session_and_one_as_long_does_not(shop: Shop) -> None:
    timeline = """
        user | at              | page
        u1   | 10:00           | /a
        u1   | 10:30           | /b
        u1   | 11:00:00.000001 | /c
        u2   | 10:15           | /d"""
    assert sessions(shop, timeline) == [
        ("u1", "30 10:00", "30 10:30", 2, "http://shop/a", "http://shop/b"),
        ("u1", "30 11:00", "30 11:00", 1, "http://shop/c", "http://shop/c"),
        ("u2", "30 10:15", "30 10:15", 1, "http://shop/d", "http://shop/d"),
    ]


def test_a_session_may_pass_midnight_and_last_for_days(shop: Shop) -> None:
    rows = [
        {"user_domain_id": "u1", "event_timestamp": str(datetime(2022, 9, 30) + n * timedelta(minutes=25))}
        for n in range(300)
    ]
    shop.load(*rows)
    shop.refresh()
    assert shop.query("select count_views, ended_at - started_at from cdm.sessions") == [
        (300, 299 * timedelta(minutes=25))
    ]


def test_views_without_a_user_are_of_no_session(shop: Shop) -> None:
    assert sessions(shop, "at | page\n10:00 | /a") == []


def test_of_views_at_one_instant_the_first_in_order_is_the_entry_and_the_last_the_exit(shop: Shop) -> None:
    timeline = """
        user | at    | page          | id
        u1   | 10:00 | /payment      | 1
        u1   | 10:00 | /x            | 9
        u1   | 10:00 | /confirmation | 2"""
    whole = [("u1", "30 10:00", "30 10:00", 3, "http://shop/x", "http://shop/confirmation")]
    assert sessions(shop, timeline) == whole


def test_a_view_that_comes_late_joins_what_it_lies_between(shop: Shop) -> None:
    first = "user | at | page\nu1 | 10:00 | /a\nu1 | 10:40 | /b\nu1 | 11:30 | /z"
    assert [row[3] for row in sessions(shop, first)] == [1, 1, 1]
    numbers = shop.query("select id from cdm.sessions order by started_at")
    shop.load(*events_of("user | at | page\nu1 | 10:20 | /c"))
    shop.refresh()
    assert shop.query(SESSIONS) == [
        ("u1", "30 10:00", "30 10:40", 3, "http://shop/a", "http://shop/b"),
        ("u1", "30 11:30", "30 11:30", 1, "http://shop/z", "http://shop/z"),
    ]
    assert shop.query("select id from cdm.sessions order by started_at") == [numbers[0], numbers[2]]
    assert shop.failures() == []


@pytest.mark.parametrize("at", ["09:30", "10:00", "10:10", "10:20", "10:50", "10:51", "09:29"])
def test_a_view_anywhere_about_a_session_makes_what_all_at_once_would(shop: Shop, at: str) -> None:
    first = "user | at | page\nu1 | 10:00 | /b\nu1 | 10:20 | /b"
    for page in ("/a", "/product_c"):
        sessions_of_both = sessions(shop, first, f"user | at | page\nu1 | {at} | {page}")
        assert sum(int(str(row[3])) for row in sessions_of_both) == 3
        shop.reset()


def test_a_delivery_that_stands_after_all_may_be_another_entry(shop: Shop) -> None:
    """The deliveries that were loaded first stand, though their load ended last; two at one instant count as two."""
    names = "user_domain_id, event_timestamp, event_id, page_url, batch_id"
    for number in ("1", "2"):
        shop.load({"event_id": number})
    shop.refresh()
    shop.connection.execute(
        f"insert into stage.events ({names}) values ('u1', '2022-09-30 10:00:00', 'e1', 'later', 2)"
        f", ('u1', '2022-09-30 10:00:00', 'e3', 'later too', 2), ('u1', '2022-09-30 10:05:00', 'e2', 'x', 2)".encode()
    )
    shop.connection.execute("update stage.loads set refreshed_at = null, rows_loaded = 4 where id = 2")
    shop.refresh()
    assert shop.query(SESSIONS) == [("u1", "30 10:00", "30 10:05", 3, "later", "x")]
    shop.connection.execute(
        f"insert into stage.events ({names}) values ('u1', '2022-09-30 10:00:00', 'e1', 'first', 1)"
        f", ('u1', '2022-09-30 10:00:00', 'e3', 'first too', 1)".encode()
    )
    shop.connection.execute("update stage.loads set refreshed_at = null, rows_loaded = 3 where id = 1")
    shop.refresh()
    assert shop.query(SESSIONS) == [("u1", "30 10:00", "30 10:05", 3, "first", "x")]
    assert shop.failures() == []


def test_another_gap_builds_the_sessions_anew(shop: Shop) -> None:
    timeline = "user | at | page\nu1 | 10:00 | /a\nu1 | 10:40 | /b"
    assert len(sessions(shop, timeline)) == 2
    settings = replace(oracle.DEFAULTS, session_gap=timedelta(minutes=40))
    report = shop.apply(project_with(settings))
    assert report.rebuilt
    assert (
        "sql/cdm/20_sessions.sql",
        "setting changed: session_gap '30 minutes' -> '2400000000 microseconds'",
    ) in report.files
    assert len(shop.query(SESSIONS)) == 1
    assert shop.marts().sessions == oracle.marts(events_of(timeline), settings).sessions
    assert shop.apply(read_project()).rebuilt
    assert len(shop.query(SESSIONS)) == 2


JOURNEY = """
    user | at                  | page          | referer | campaign
    u1   | 2022-09-01 10:00:00 | /home         | r1      | c1
    u1   | 2022-09-02 10:00:00 | /home         | r2      |
    u1   | 2022-09-03 10:00:00 | /product_a    |         |
    u1   | 2022-09-03 10:01:00 | /cart         |         |
    u1   | 2022-09-03 10:02:00 | /payment      |         |
    u1   | 2022-09-03 10:03:00 | /confirmation |         |
    u1   | 2022-09-04 10:00:00 | /home         | r3      | c3
    u2   | 2022-09-03 10:00:00 | /product_a    |         |
    u2   | 2022-09-03 10:01:00 | /cart         | r9      |
    u2   | 2022-09-03 10:02:00 | /payment      |         |
    u2   | 2022-09-03 10:03:00 | /confirmation |         |
    u3   | 2022-09-03 10:00:00 | /home         | r2      | """


def test_a_purchase_has_the_source_of_the_first_session_and_of_the_last_that_has_one(shop: Shop) -> None:
    shop.load(*events_of(JOURNEY))
    shop.refresh()
    attributions = shop.query(
        "select user_id, count_products, first_touch_at, first_referer_url, first_utm_campaign, last_touch_at, "
        "last_referer_url, last_utm_campaign from cdm.attributions order by user_id"
    )
    first, last, at = datetime(2022, 9, 1, 10), datetime(2022, 9, 2, 10), datetime(2022, 9, 3, 10)
    assert attributions == [
        ("u1", 1, first, "r1", "c1", last, "r2", "(none)"),
        ("u2", 1, at, "(direct)", "(none)", at, "(direct)", "(none)"),
    ]
    purchases = shop.query("select id, user_id, confirmed_at from cdm.purchases order by user_id")
    assert shop.query("select purchase_id, user_id, confirmed_at from cdm.attributions order by user_id") == purchases


def test_what_came_of_the_sessions_of_a_source(shop: Shop) -> None:
    shop.load(*events_of(JOURNEY))
    shop.refresh()
    conversions = shop.query("select * from cdm.source_conversions order by referer_url, utm_campaign")
    assert conversions == [
        # referer, campaign, sessions, converting ones, their share, purchases in them, by first and by last touch
        ("(direct)", "(none)", 2, 2, 1.0, 2, 1, 1),
        ("r1", "c1", 1, 0, 0.0, 0, 1, 0),
        ("r2", "(none)", 2, 0, 0.0, 0, 0, 1),
        ("r3", "c3", 1, 0, 0.0, 0, 0, 0),
    ]
    assert shop.query(
        "select sum(count_first_touch), sum(count_last_touch), sum(count_purchases) from cdm.source_conversions"
    ) == [(2, 2, 2)]


def test_two_purchases_of_one_session_are_one_conversion(shop: Shop) -> None:
    buy = "u1 | 10:{} | /{} | r1\n"
    pages = ("product_a", "cart", "payment", "confirmation") * 2
    shop.load(
        *events_of("user | at | page | referer\n" + "".join(buy.format(10 + n, page) for n, page in enumerate(pages)))
    )
    shop.refresh()
    assert shop.query(
        "select count_sessions, count_converting_sessions, count_purchases from cdm.source_conversions"
    ) == [(1, 1, 2)]


def test_a_purchase_at_the_instant_at_which_its_session_begins_is_of_it(shop: Shop) -> None:
    pages = ("product_a", "cart", "payment", "confirmation")
    rows = "".join(f"u1 | 10:00 | /{page} | r1\n" for page in pages)
    shop.load(*events_of(f"user | at | page | referer\n{rows}"))
    shop.refresh()
    assert shop.query("select last_referer_url, last_touch_at = confirmed_at from cdm.attributions") == [("r1", True)]
    counts = "count_sessions, count_converting_sessions, count_purchases, count_first_touch, count_last_touch"
    assert shop.query(f"select {counts} from cdm.source_conversions") == [(1, 1, 1, 1, 1)]


def test_the_first_session_is_the_earliest_wherever_its_row_is(shop: Shop) -> None:
    """Also where no index gives the sessions in their order."""
    pages = ("product_a", "cart", "payment", "confirmation")
    rows = "".join(f"u1 | 12:0{n} | /{page} | r2\n" for n, page in enumerate(pages))
    for timeline in (rows, "u1 | 10:00 | /home | r1\n"):
        shop.load(*events_of(f"user | at | page | referer\n{timeline}"))
        shop.refresh()
    shop.connection.execute("set enable_indexscan = off; set enable_bitmapscan = off; set enable_indexonlyscan = off")
    assert shop.query("select first_referer_url, last_referer_url from cdm.attributions") == [("r1", "r2")]
    assert shop.query("select referer_url, count_purchases from cdm.source_conversions order by 1") == [
        ("r1", 0),
        ("r2", 1),
    ]


@pytest.mark.parametrize(
    ("gap", "problem"),
    [("a while", "is no interval"), ("-1 minute", "is below zero"), ("300000 years", "is no interval")],
)
def test_a_gap_that_is_none_is_said_with_its_line(shop: Shop, tmp_path: Path, gap: str, problem: str) -> None:
    project = init_project(tmp_path / "shop")
    toml = (project / "clickmart.toml").read_text().replace('session_gap = "30 minutes"', f'session_gap = "{gap}"')
    (project / "clickmart.toml").write_text(toml)
    with pytest.raises(ProjectError, match=rf"clickmart.toml:\d+: session_gap = '{gap}' {problem}"):
        shop.apply(read_project(project))
