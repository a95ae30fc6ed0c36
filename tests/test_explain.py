"""`clickmart explain`, and cdm.explain_user and cdm.explain_purchase behind it: the verdicts of docs/explain.md."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import clickmart
import pytest
from clickmart.errors import ClickmartError, ProjectError, UsageError
from conftest import Server, Shop, open_shop
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import events_of, in_order, marts, page_views, verdicts
from projects import clean_environment, outcome, run, run_json
from strategies import cuts, events
from test_laws import load_and_refresh, own_blocks


@pytest.fixture(scope="module")
def one_shop(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(server, tmp_path_factory.mktemp("shop")) as shop:
        yield shop


def told(shop: Shop, timeline: str, user: str = "u1") -> list[str]:
    """The verdicts on a user's views of this table, given in their order; the oracle's are the same."""
    rows = events_of(timeline)
    shop.load(*rows)
    shop.refresh()
    found = [str(verdict) for (verdict,) in shop.query("select verdict from cdm.explain_user(%s)", user)]
    assert found == verdicts(in_order([view for view in page_views(rows) if view.user == user]))
    return found


def test_a_purchase_and_what_became_of_each_view_on_the_way(shop: Shop) -> None:
    timeline = """
        user | at    | page
        u1   | 09:58 | /cart
        u1   | 09:59 | /product_b
        u1   | 10:00 | /product_a
        u1   | 10:01 | /home
        u1   | 10:02 | /cart
        u1   | 10:03 | /cart
        u1   | 10:04 | /payment
        u1   | 10:05 | /product_c
        u1   | 10:06 | /cart
        u1   | 10:07 | /payment
        u1   | 10:08 | /product_d
        u1   | 10:09 | /cart
        u1   | 10:10 | /product_e
        u1   | 10:11 | /confirmation
        u1   | 10:12 | /payment"""
    assert told(shop, timeline) == [
        "cart ignored: no product before it",
        "product ignored: another one before the next cart",
        "product bought",
        "no step",
        "cart add, bought",
        "cart ignored: no product since the last cart",
        "payment ignored: another one after it",
        "product bought",
        "cart add, bought",
        "last payment, of a purchase",
        "product not bought: no payment after its cart",
        "cart add, not bought: no payment after it",
        "product ignored: no cart after it",
        "purchase",
        "payment ignored: no confirmation after it",
    ]


def test_why_a_confirmation_is_no_purchase(shop: Shop) -> None:
    timeline = """
        user | at                  | page
        u1   | 2022-10-01 10:00:00 | /product_a
        u1   | 2022-10-01 10:01:00 | /cart
        u1   | 2022-10-01 10:02:00 | /confirmation
        u1   | 2022-10-01 10:03:00 | /payment
        u1   | 2022-10-01 10:04:00 | /confirmation
        u1   | 2022-10-01 10:05:00 | /product_a
        u1   | 2022-10-01 10:06:00 | /cart
        u1   | 2022-10-02 10:06:00 | /payment
        u1   | 2022-10-02 10:07:00 | /confirmation"""
    assert told(shop, timeline) == [
        "product not bought: no payment after its cart",
        "cart add, not bought: no payment after it",
        "no purchase: no payment in its path",
        "payment ignored: no cart add before it",
        "no purchase: no cart add before the last payment",
        "product ignored: before the purchase window",
        "cart ignored: before the purchase window",
        "payment ignored: no cart add before it",
        "no purchase: no cart add before the last payment",
    ]


@settings(max_examples=max(25, settings.default.max_examples // 2))
@given(data=st.data())
def test_every_verdict_is_that_of_the_oracle_and_what_was_bought_is_the_purchases(
    one_shop: Shop, data: st.DataObject
) -> None:
    rows = data.draw(events())
    one_shop.reset()
    load_and_refresh(one_shop, data.draw(cuts(rows)))
    views = page_views(rows)
    for user in {view.user for view in views if view.user}:
        of_user = in_order([view for view in views if view.user == user])
        found = one_shop.query("select viewed_at, coalesce(step, 'none'), verdict from cdm.explain_user(%s)", user)
        assert found == [(v.at, v.step, verdict) for v, verdict in zip(of_user, verdicts(of_user), strict=True)]
        steps = one_shop.query("select viewed_at, step, verdict from cdm.explain_user(%s, true)", user)
        assert steps == [row for row in found if row[1] != "none"]
    bought = marts(rows).purchases
    told = one_shop.query(
        """
        select user_id, purchases.confirmed_at, count(*) filter (where verdict = 'product bought'), count(*) filter (
            where verdict = 'purchase'
        ), array_agg(coalesce(page_url, '(none)')) filter (where verdict = 'product bought') = page_urls
        from cdm.purchases cross join cdm.explain_purchase(purchases.id) as views
        where views.purchase_id = purchases.id
        group by purchases.id order by user_id, purchases.confirmed_at"""
    )
    assert told == [(*purchase[:3], 1, True) for purchase in bought]


# The command

PURCHASE = """
    user | at    | page         | referer
    u1   | 10:00 | /product_a   | r1
    u1   | 10:01 | /cart        |
    u1   | 10:02 | /payment     |
    u1   | 10:03 | /home        |
    u1   | 10:04 | /confirmation |"""


@pytest.fixture
def bought(shop: Shop) -> Shop:
    shop.load(*events_of(PURCHASE))
    shop.refresh()
    return shop


def test_the_command_tells_the_timeline_as_a_table_and_as_json(bought: Shop) -> None:
    ((purchase, load),) = bought.query("select purchases.id, loads.id from cdm.purchases, stage.loads")
    for subject in (["u1"], ["purchase", str(purchase)]):
        code, text, _ = outcome(run("explain", *subject, dsn=bought.dsn))
        assert (code, text.splitlines()[0].split()) == (0, ["viewed_at", "page_url", "verdict", "purchase", "load"])
        row = ["2022-09-30", "10:00:00", "http://shop/product_a", "product", "bought"]
        assert text.splitlines()[2].split() == [*row, str(purchase), str(load)]
        found = run_json("explain", *subject, dsn=bought.dsn)
        assert (found["count_views"], found["count_pending_loads"]) == (5, 0)
        assert found["views"][0] == {
            "viewed_at": "2022-09-30 10:00:00",
            "step": "product",
            "page_type": "product_a",
            "page_url": "http://shop/product_a",
            "referer_url": "r1",
            "utm_campaign": None,
            "event_id": None,
            "verdict": "product bought",
            "confirmed_at": "2022-09-30 10:04:00",
            "purchase_id": purchase,
            "load_id": load,
            "row_id": 1,
            "file_name": bought.query("select file_name from stage.loads")[0][0],
        }


def test_steps_alone_and_the_last_of_them(bought: Shop) -> None:
    found = clickmart.explain("u1", only_steps=True, last=2, dsn=bought.dsn)
    assert [view.verdict for view in found.views] == ["last payment, of a purchase", "purchase"]
    assert found.count_views == 4
    assert str(found).startswith("... 2 page views before these\n")
    assert str(clickmart.explain("u1", last=4, dsn=bought.dsn)).startswith("... 1 page view before these\n")
    assert len(run_json("explain", "--last", "0", "u1", dsn=bought.dsn)["views"]) == 5


def test_loads_that_are_not_in_the_marts_yet_are_said(bought: Shop) -> None:
    bought.load(*events_of("user | at | page\nu2 | 10:00 | /cart"))
    pending = "1 load not in the marts yet: run `clickmart apply`"
    assert str(clickmart.explain("u1", dsn=bought.dsn)).splitlines()[-1] == pending
    assert outcome(run("explain", "u2", dsn=bought.dsn)) == (
        1,
        "",
        f"clickmart: the marts know no page view of a user 'u2'; {pending}\n",
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["u3"], 1, "the marts know no page view of a user 'u3'"),
        (["--steps", "'; drop table cdm.purchases; --"], 1, 'no step of a user "\'; drop table cdm.purchases; --"'),
        (["purchase", "0"], 1, "there is no purchase 0 in cdm.purchases"),
        (["purchase", str(2**70)], 1, f"there is no purchase {2**70} in cdm.purchases"),
        (["purchase", "x"], 2, "a purchase is named by its id in cdm.purchases, found 'x'"),
        (["u1", "u2"], 2, "one user, or purchase and its id, found 'u1 u2'"),
        ([], 2, "Missing argument"),
    ],
)
def test_what_is_not_there_is_said_in_one_message(bought: Shop, arguments: list[str], code: int, message: str) -> None:
    found, text, error = outcome(run("explain", *arguments, dsn=bought.dsn))
    assert (found, text) == (code, "")
    assert message in error


def test_there_must_be_a_warehouse_that_can_explain(
    empty_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ProjectError, match=r"no cdm\.explain_user yet; run `clickmart apply`"):
        clickmart.explain("u1", dsn=empty_dsn)
    clean_environment(monkeypatch)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProjectError, match="nothing to explain: no warehouse in"):
        clickmart.explain_purchase(1)
    assert list(tmp_path.iterdir()) == []


def test_last_is_one_or_more(dsn: str) -> None:
    with pytest.raises(UsageError, match="last must be 1 or more, found 0"):
        clickmart.explain("u1", last=0, dsn=dsn)
    with pytest.raises(ClickmartError, match="there is no purchase -1"):
        clickmart.explain_purchase(-1, dsn=dsn)


def test_the_views_of_a_user_are_found_by_index(shop: Shop) -> None:
    """Behind so many others that to read all of them would take longer."""
    shop.load(*events_of("user | at | page\nu1 | 10:00 | /cart"))
    shop.load(*({"user_domain_id": f"x{n}", "event_timestamp": "2022-09-30 10:00:00"} for n in range(20_000)))
    shop.refresh()
    shop.connection.execute(
        "alter table stage.page_views set (autovacuum_enabled = false)"
    )  # its reads would count, too
    read = []
    for only_steps in (True, False):
        before = own_blocks(shop.connection)
        assert len(shop.query("select from cdm.explain_user('u1', %s)", only_steps)) == 1
        read.append(own_blocks(shop.connection) - before)
    assert max(read) < 20 < 100 < len(shop.query("select distinct (ctid::text::point)[0] from stage.page_views"))
