"""`clickmart history`, and cdm.history behind it: each change of a mart's rows, and what caused it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import clickmart
import pytest
from clickmart.errors import ProjectError, UsageError
from conftest import Server, Shop, open_shop
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import events_of
from projects import outcome, run, run_json
from strategies import cuts, events
from test_laws import load_and_refresh, open_loaders

PURCHASE = """
    user | at    | page          | referer
    u1   | 10:00 | /product_a    | r1
    u1   | 10:01 | /cart         | r1
    u1   | 10:02 | /payment      | r1
    u1   | 10:03 | /confirmation | r1"""
LATER = """
    user | at    | page          | referer
    u2   | 10:00 | /cart         | r2
    u1   | 11:30 | /cart         | r1"""
#: mart -> the table that it is counted in, in the words of its history
TABLES = {
    "events_hours": "cdm.events_hours",
    "products_hours": "cdm.products_hours",
    "top_pages": "cdm.page_totals",
    "sources": "cdm.source_totals",
}


@pytest.fixture(scope="module")
def one_shop(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(server, tmp_path_factory.mktemp("shop")) as shop:
        yield shop


def changes(shop: Shop, mart: str, **options: object) -> list[tuple[object, ...]]:
    """Of each change the counts before and after, and the loads."""

    def counts(row: dict[str, object] | None) -> object:
        found = [value for name, value in sorted((row or {}).items()) if name.startswith("count_")]
        return tuple(found) if len(found) > 1 else found[0] if found else None

    report = clickmart.history(mart, dsn=shop.dsn, **options)  # type: ignore[arg-type]
    return [(counts(change.before), counts(change.after), change.loads) for change in report.changes]


@pytest.fixture
def history(shop: Shop) -> Shop:
    """Two loads and an apply after each."""
    shop.reset()  # of the first apply, which took in nothing
    for timeline in (PURCHASE, LATER):
        shop.load(*events_of(timeline))
        shop.refresh()
    return shop


def test_each_change_is_told_with_what_caused_it(history: Shop) -> None:
    ten = {"hour": "2022-09-30 10:59:59", "where": {"event_type": "cart"}}
    assert changes(history, "events_hours", **ten) == [(None, 1, [1]), (1, 2, [2])]
    assert changes(history, "products_hours") == [(None, 1, [1])]
    assert changes(history, "top_pages", where={"page_url": "http://shop/product_a"}) == [(None, 1, [1])]
    assert changes(history, "sources") == [(None, (1, 1), [1]), (None, (0, 1), [2])]


def test_of_an_hours_loads_those_with_its_views_are_the_cause(shop: Shop) -> None:
    for timeline in (PURCHASE, LATER):
        shop.load(*events_of(timeline))
    shop.refresh()
    assert changes(shop, "events_hours", where={"event_type": "cart"}, hour="2022-09-30 10:00") == [(None, 2, [1, 2])]
    assert changes(shop, "events_hours", where={"event_type": "cart"}, hour="2022-09-30 11:00") == [(None, 1, [2])]
    assert changes(shop, "products_hours") == [(None, 1, [1, 2])]


def test_of_views_that_went_all_loads_of_the_refresh_are_the_cause(shop: Shop) -> None:
    """A load that began first and ended last brings another delivery of the view, on another page."""
    shop.reset()
    view = {"user_domain_id": "u1", "event_timestamp": "2022-09-30 10:00:00", "event_id": "e1"}
    with open_loaders(shop) as loaders:
        shop.refresh()  # of the loads that make room for others
        with loaders.load(0, {**view, "page_url_path": "/home"}):
            shop.load({**view, "page_url_path": "/cart"})
            shop.refresh()
        shop.refresh()
    ((late, first),) = shop.query("select min(id), max(id) from stage.loads where rows_loaded > 0 and id > 10")
    found = changes(shop, "events_hours", where={"event_type": "cart"})
    assert found == [(None, 1, [first]), (1, None, [late])]
    assert clickmart.history("events_hours", dsn=shop.dsn).changes[-1].cause != "built anew"


@settings(max_examples=max(25, settings.default.max_examples // 3))
@given(data=st.data())
def test_the_history_of_a_row_ends_with_the_row_and_none_begins_in_the_middle(
    one_shop: Shop, data: st.DataObject
) -> None:
    """Done again, the changes make the marts: so no change is missing, and none is told twice."""
    one_shop.reset()
    load_and_refresh(one_shop, data.draw(cuts(data.draw(events(equal_deliveries=False)), shuffled=False)))
    told = one_shop.query("select count(*) from cdm.history")
    one_shop.refresh(full=True)
    assert one_shop.query("select count(*) from cdm.history") == told
    for mart, table in TABLES.items():
        rows: list[dict[str, object]] = []
        for before, after in one_shop.query(
            "select before_row, after_row from cdm.history where mart = %s order by id", mart
        ):
            if before is not None:
                rows.remove(before)
            if after is not None:
                rows.append(after)
        stands = [row for (row,) in one_shop.query(f"select to_jsonb(mart) - 'id' from {table} as mart")]
        assert sorted(map(json.dumps, rows)) == sorted(map(json.dumps, stands))


def test_what_somebody_changes_by_hand_is_told_too_and_so_is_what_a_rebuild_sets_right(history: Shop) -> None:
    for statement in (
        "update cdm.products_hours set count_products = 7",
        "select cdm.refresh(true)",
        "delete from cdm.products_hours",
    ):
        history.connection.execute(statement.encode())
    found = clickmart.history("products_hours", dsn=history.dsn)
    assert [change.numbers("count_products") for change in found.changes] == ["-> 1", "1 -> 7", "7 -> 1", "1 ->"]
    assert [change.cause for change in found.changes][1:] == ["changed by hand", "built anew", "changed by hand"]


def test_of_a_refresh_the_first_thousand_changes_are_told_and_the_others_counted(shop: Shop) -> None:
    shop.reset()
    shop.load(
        *(
            {"user_domain_id": "u1", "event_timestamp": "2022-09-30 10:00:00", "page_url_path": f"/{n}"}
            for n in range(1_003)
        )
    )
    shop.refresh()
    assert clickmart.history("events_hours", dsn=shop.dsn).count_changes == 1_000
    assert shop.query("select changes_left_out from cdm.refreshes") == [(3,)]


def test_a_refresh_of_nothing_leaves_nothing(history: Shop) -> None:
    before = history.query("select count(*) from cdm.refreshes")
    history.refresh()
    assert history.query("select count(*) from cdm.refreshes") == before == [(2,)]


def test_what_is_old_can_be_forgotten(history: Shop) -> None:
    count = clickmart.history("events_hours", dsn=history.dsn).count_changes
    history.connection.execute(
        "update cdm.changes set changed_at = '2022-01-01' where refresh_id = (select min(id) from cdm.refreshes)"
    )
    history.connection.execute(
        "update cdm.refreshes set refreshed_at = '2022-01-01' where id = (select min(id) from cdm.refreshes)"
    )
    assert history.query("select cdm.prune_history('2022-01-01')") == [(0,)]
    assert history.query("select cdm.prune_history('2022-01-02')") == [(7,)]
    assert history.query("select count(*) from cdm.refreshes") == [(1,)]
    assert clickmart.history("events_hours", dsn=history.dsn).count_changes == count - 4


def test_the_command_tells_it_as_a_table_and_as_json(history: Shop) -> None:
    cart = ("history", "events_hours", "--hour", "2022-09-30 10:00", "--where", "event_type=cart")
    code, text, _ = outcome(run(*cart, dsn=history.dsn))
    first, second = (name for (name,) in history.query("select file_name from cdm.loads order by id"))
    assert code == 0
    assert text.splitlines()[0].split() == ["changed_at", "hour_timestamp", "event_type", "count_events", "cause"]
    assert [(line.split()[2:5], line.split()[-1]) for line in text.splitlines()[2:]] == [
        (["2022-09-30", "10:00:00", "cart"], first),
        (["2022-09-30", "10:00:00", "cart"], second),
    ]
    assert "1 -> 2" in text
    found = run_json(*cart, dsn=history.dsn)
    assert (found["mart"], found["count_changes"]) == ("events_hours", 2)
    ten = {"event_type": "cart", "hour_timestamp": "2022-09-30T10:00:00"}
    assert {**found["changes"][1], "changed_at": None} == {
        "changed_at": None,
        "before": {**ten, "count_events": 1},
        "after": {**ten, "count_events": 2},
        "loads": [2],
        "files": [second],
        "is_rebuilt": False,
        "is_by_hand": False,
    }
    assert str(clickmart.history("events_hours", last=1, dsn=history.dsn)).startswith("... 5 changes before these\n")
    assert outcome(run("history", "sources", "--where", "referer_url=r9", dsn=history.dsn))[:2] == (
        0,
        "no change is recorded\n",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["purchases"], "'purchases' is not one of 'events_hours', 'products_hours', 'top_pages', 'sources'"),
        (
            ["sources", "--hour", "2022-09-30 10:00"],
            "sources has no hours; its rows are told apart by referer_url and utm_campaign",
        ),
        (["events_hours", "--hour", "ten"], "the hour must be an instant, as '2022-09-30 21:00', found 'ten'"),
        (["top_pages", "--where", "url=x"], "top_pages has no 'url' to tell its rows by; there is page_url"),
        (["top_pages", "--where", "x"], "--where is NAME=VALUE, as --where event_type=cart"),
    ],
)
def test_what_a_mart_does_not_have_is_said(dsn: str, arguments: list[str], message: str) -> None:
    code, text, error = outcome(run("history", *arguments, dsn=dsn))
    assert (code, text) == (2, "")
    assert message in error


def test_there_must_be_a_history(empty_dsn: str) -> None:
    with pytest.raises(ProjectError, match="no history is kept yet: run `clickmart apply`"):
        clickmart.history("sources", dsn=empty_dsn)
    with pytest.raises(UsageError, match="no history of a mart 'purchases': there are events_hours, "):
        clickmart.history("purchases", dsn=empty_dsn)
