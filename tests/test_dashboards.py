"""dashboards/: what its files may say, how they are refused by their line, and what the built-in cards give."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import oracle
import pytest
from clickmart.card_rows import CardRows, read_card
from clickmart.dashboards import (
    Card,
    Column,
    Dashboard,
    Filter,
    Place,
    Text,
    file_sql,
    filter_values,
    metabase_sql,
    query_of,
    read_dashboards,
)
from clickmart.errors import ClickmartError, ProjectError, UsageError
from clickmart.loading import load_file
from clickmart.project import Project, read_project
from clickmart.settings import Settings
from conftest import Server, Shop, open_shop
from oracle import PageView
from projects import write_files
from test_laws import some_events

PLACE = "place = { column = 0, row = 0, width = 24, height = 8 }\n"
SMALLEST = {"dashboard.toml": f"[cards.a]\n{PLACE}", "a.sql": "select 1 as n\n"}
FILTERS = '[filters.from]\ntitle = "From"\ntype = "date"\n[filters.name]\ntitle = "Name"\ntype = "text"\n'


def read(folder: Path, files: dict[str, str | bytes]) -> tuple[Dashboard, ...]:
    return read_dashboards(project_of(folder, files))


def project_of(folder: Path, files: dict[str, str | bytes]) -> Project:
    write_files(folder, {f"dashboards/shop/{name}": content for name, content in files.items()})
    return Project(folder, Settings())


def refusal(folder: Path, files: dict[str, str | bytes]) -> str:
    with pytest.raises(ProjectError) as caught:
        read(folder, files)
    return str(caught.value)


def card_of(folder: Path, sql: str) -> Card:
    (dashboard,) = read(folder, {"dashboard.toml": f"{FILTERS}[cards.a]\n{PLACE}", "a.sql": sql})
    return dashboard.cards[0]


# What the files may say


def test_what_is_left_out_has_a_default(tmp_path: Path) -> None:
    (dashboard,) = read(tmp_path, SMALLEST)
    assert (dashboard.name, dashboard.title, dashboard.description, dashboard.tabs) == ("shop", "shop", "", ())
    (card,) = dashboard.cards
    assert (card.name, card.path, card.title, card.chart) == ("a", "dashboards/shop/a.sql", "a", "table")
    assert (card.x, card.y, card.series, card.stacked, card.columns) == (None, (), None, False, {})


def test_all_that_may_be_said_is_read(tmp_path: Path) -> None:
    (dashboard,) = read(
        tmp_path,
        {
            "dashboard.toml": """
title = "Магазин"
description = "Why"
tabs = ["One", "Two"]
[filters.name]
title = "Name"
type = "text"
values = "b.name"
[cards.b]
title = "B"
description = "What"
chart = "bar"
x = "name"
y = ["n", "m"]
series = "kind"
stacked = true
tab = "One"
place = { column = 12, row = 3, width = 12, height = 2 }
columns.n = { title = "Number", format = "percent" }
metabase = { "graph.show_values" = true }
[[texts]]
text = "**Hi**"
heading = true
tab = "Two"
place = { column = 0, row = 0, width = 24, height = 1 }
""",
            "b.sql": "select 1 -- [[ {{name}} ]]",
        },
    )
    assert (dashboard.title, dashboard.description, dashboard.tabs) == ("Магазин", "Why", ("One", "Two"))
    assert dashboard.filters == {"name": Filter("Name", "text", "b.name")}
    assert dashboard.texts == (Text("**Hi**", Place(0, 0, 24, 1), heading=True, tab="Two"),)
    (card,) = dashboard.cards
    assert (card.x, card.y, card.series, card.stacked, card.tab) == ("name", ("n", "m"), "kind", True, "One")
    assert card.columns == {"n": Column("Number", "percent")}
    assert (card.metabase, card.variables) == ({"graph.show_values": True}, ("name",))
    assert card.named_columns == ("name", "n", "m", "kind")


def test_cards_come_in_the_order_of_tabs_and_places(tmp_path: Path) -> None:
    def card(name: str, tab: str, column: int, row: int) -> str:
        return f'[cards.{name}]\ntab = "{tab}"\nplace = {{ column = {column}, row = {row}, width = 6, height = 1 }}\n'

    said = (
        'tabs = ["Z", "A"]\n'
        + card("a", "A", 0, 0)
        + card("b", "Z", 6, 1)
        + card("c", "Z", 0, 1)
        + card("d", "Z", 9, 0)
    )
    (dashboard,) = read(tmp_path, {"dashboard.toml": said, **{f"{name}.sql": "select 1" for name in "abcd"}})
    assert [found.name for found in dashboard.cards] == ["d", "c", "b", "a"]


def test_a_project_without_dashboards_has_none(tmp_path: Path) -> None:
    assert read_dashboards(Project(tmp_path, Settings())) == ()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"dashboard.toml": "title = 1"}, "dashboard.toml:1: title: expected `str | null`, got `int`"),
        (
            {"dashboard.toml": "\ntitel = 'x'"},
            "dashboard.toml:2: titel: unknown name; there are title, description, tabs, ",
        ),
        ({"dashboard.toml": "title ="}, "dashboard.toml:1: Invalid value"),
        ({"dashboard.toml": b"\xff"}, "dashboard.toml: not UTF-8 text (invalid start byte at byte 0)"),
        ({"dashboard.toml": "[cards.a]\n"}, "dashboard.toml:1: cards.a: object missing required field `place`"),
        (
            {"dashboard.toml": f"[cards.a]\n{PLACE}chart = 1"},
            "dashboard.toml:3: cards.a.chart: expected `str`, got `int`",
        ),
        (
            {"dashboard.toml": f"[cards.a]\n{PLACE}colour = 'x'"},
            "dashboard.toml:3: cards.a.colour: unknown name; there are ",
        ),
        (
            {"dashboard.toml": f"[cards.a]\n{PLACE}columns.n = {{ format = 'roman' }}"},
            "dashboard.toml:3: cards.a.columns.format: invalid enum value 'roman'",
        ),
        (
            {"dashboard.toml": f"[cards.A]\n{PLACE}", "A.sql": "select 1"},
            "dashboard.toml:1: 'A': names are of lower-case ",
        ),
        (
            {"dashboard.toml": f"[cards.a]\n{PLACE}"},
            "dashboard.toml:1: the card has no query; write dashboards/shop/a.sql",
        ),
        ({"dashboard.toml": "", "b.sql": "select 1"}, "b.sql: no card of dashboard.toml; write [cards.b] there"),
        ({"b.sql": "select 1"}, "b.sql: a card without a dashboard; put dashboard.toml beside it"),
        ({**SMALLEST, "a.sql": "-- nothing"}, "a.sql: a card is one query, and here are 0"),
        ({**SMALLEST, "a.sql": "select 1; select 2"}, "a.sql: a card is one query, and here are 2"),
        ({**SMALLEST, "a.sql": b"-- \xff"}, "a.sql: not UTF-8 text (invalid start byte at byte 3)"),
        ({**SMALLEST, "a.sql": "select 1,\n '\0'"}, "a.sql:2:3: a NUL character stands here"),
        (
            {**SMALLEST, "a.sql": "select 1\n-- [[ {{day}} ]]"},
            "a.sql:2:7: no filter 'day'; dashboards/shop/dashboard.toml has none",
        ),
        (
            {"dashboard.toml": f"{FILTERS}[cards.a]\n{PLACE}", "a.sql": "select 1\n-- [[ where x = '{{name}}' ]]"},
            "a.sql:2:18: {{name}} stands in quotes; it is put in with quotes of its own",
        ),
        (
            {**SMALLEST, "dashboard.toml": f"tabs = ['One']\n[cards.a]\n{PLACE}"},
            "dashboard.toml:2: 'a' stands in no tab; write tab = one of One",
        ),
        (
            {**SMALLEST, "dashboard.toml": f"[cards.a]\ntab = 'x'\n{PLACE}"},
            "dashboard.toml:1: no tab 'x'; tabs has none",
        ),
        (
            {**SMALLEST, "dashboard.toml": f"[cards.a]\n{PLACE}".replace("column = 0", "column = 1")},
            "dashboard.toml:1: column 1 and width 24 pass the 24 columns",
        ),
        (
            {**SMALLEST, "dashboard.toml": f"[cards.a]\n{PLACE}".replace("height = 8", "height = 0")},
            "dashboard.toml:1: a place begins at column and row 0, and is 1 wide and high or more",
        ),
        (
            {**SMALLEST, "dashboard.toml": f"{FILTERS}values = 'b.x'\n[cards.a]\n{PLACE}"},
            "dashboard.toml:7: values must be a card and a column of it, as card.column",
        ),
    ],
)
def test_what_a_file_may_not_say_is_refused_by_its_place(
    tmp_path: Path, files: dict[str, str | bytes], message: str
) -> None:
    assert refusal(tmp_path, files).startswith(f"dashboards/shop/{message}")


# Filters


def test_a_clause_counts_where_its_filters_have_values_and_is_a_comment_else(tmp_path: Path) -> None:
    sql = "select 1 as n\nwhere true\n    -- [[ and d >= {{from}}::date ]]\n    -- [[ and n = {{name}} ]]\n"
    card = card_of(tmp_path, sql)
    assert query_of(card, {}) == sql
    assert query_of(card, {"from": "2026-03-02"}) == (
        "select 1 as n\nwhere true\n    and d >= '2026-03-02'::date\n    -- [[ and n = {{name}} ]]\n"
    )


@pytest.mark.parametrize("value", ["it's", "\\", "a\nb", "-- x", "'; drop table x; --", "{{from}}", "]]", "$$", "%s"])
def test_a_value_of_a_filter_is_a_value_and_nothing_else(empty_shop: Shop, tmp_path: Path, value: str) -> None:
    """Also where a comment names the filter: there a value with a line end would be the end of the comment."""
    card = card_of(tmp_path, "-- {{name}}\nselect 1 as n /* {{name}} */\n-- [[ , {{name}}::text as t ]]\n")
    assert empty_shop.query(query_of(card, {"name": value})) == [(1, value)]


def test_a_variable_outside_of_a_clause_needs_a_value(tmp_path: Path) -> None:
    card = card_of(tmp_path, "select 1 as n\nwhere 'x' = {{name}}\n")
    assert query_of(card, {"name": "x"}) == "select 1 as n\nwhere 'x' = 'x'\n"
    with pytest.raises(ProjectError) as caught:
        query_of(card, {"from": "2026-03-02"})
    assert str(caught.value) == (
        "dashboards/shop/a.sql:2:13: {{name}} has no value; "
        "give it one, or make its line a clause, -- [[ ... {{name}} ]]"
    )


def test_a_clause_as_metabase_has_it_is_left_out_where_a_filter_has_no_value(tmp_path: Path) -> None:
    card = card_of(tmp_path, "select 1 as n where true [[and 'x' = {{name}}]] and array[[1], [2]] is not null")
    assert query_of(card, {}) == "select 1 as n where true  and array[[1], [2]] is not null"
    assert query_of(card, {"name": "x"}) == "select 1 as n where true and 'x' = 'x' and array[[1], [2]] is not null"


@pytest.mark.parametrize(
    ("in_file", "in_metabase"),
    [
        ("where true\n    -- [[ and a = {{a}} ]]\n", "where true\n    [[ and a = {{a}} ]]\n"),
        ("select 1 -- [[ , {{a}} ]]", "select 1 [[ , {{a}} ]]"),
        ("select array[[1, 2]]\n", "select array[[1, 2]]\n"),
        ("-- {{a}} is a filter\nselect 1", "-- {{a}} is a filter\nselect 1"),
        ("select [[ {{a}} + ]] 1", "select [[ {{a}} + ]] 1"),
    ],
)
def test_a_clause_loses_its_dashes_for_metabase_and_gets_them_back(in_file: str, in_metabase: str) -> None:
    assert metabase_sql(in_file) == in_metabase
    assert file_sql(in_metabase) == in_file


def test_values_of_filters_are_checked(tmp_path: Path) -> None:
    filters = f'{FILTERS}[filters.least]\ntitle = "Least"\ntype = "number"\n'
    dashboards = read(tmp_path, {**SMALLEST, "dashboard.toml": f"{filters}{SMALLEST['dashboard.toml']}"})
    given = {"from": "2026-03-02", "least": "1.5", "name": "x"}
    assert filter_values(dashboards, given) == given
    for name, value, message in [
        ("day", "x", "no dashboard has a filter 'day'; there are from, name, least"),
        ("from", "yesterday", "filter from must be a date such as 2026-03-02, found 'yesterday'"),
        ("least", "x", "filter least must be a number, found 'x'"),
        ("name", "\0", "filter name holds a NUL character"),
    ]:
        with pytest.raises(UsageError) as caught:
            filter_values(dashboards, {name: value})
        assert str(caught.value) == message


# The rows of cards


@pytest.mark.parametrize(
    ("said", "sql", "message"),
    [
        ("", "select 'é', stepp", 'a.sql:1:13: column "stepp" does not exist'),
        ("", "select 1 as n\nwhere 1 / 0 = 1", "a.sql:1:1: division by zero"),
        ("", "set local work_mem = '1MB'", "a.sql:1:1: the last operation didn't produce records"),
        ("y = 'm'", "select 1 as n", "a.sql: gives no column 'm', which dashboard.toml names; there are n"),
        (
            "columns.m = {}",
            "select 1 as n, 2 as k",
            "a.sql: gives no column 'm', which dashboard.toml names; there are n, k",
        ),
    ],
)
def test_a_card_that_fails_is_said_where_it_stands(
    empty_shop: Shop, tmp_path: Path, said: str, sql: str, message: str
) -> None:
    project = project_of(tmp_path, {"dashboard.toml": f"[cards.a]\n{PLACE}{said}\n", "a.sql": sql})
    (dashboard,) = read_dashboards(project)
    with pytest.raises(ClickmartError) as caught:
        read_card(empty_shop.connection, project, dashboard.cards[0], {}, limit=10)
    assert str(caught.value).startswith(f"dashboards/shop/{message}")


def test_of_many_rows_the_first_are_read(empty_shop: Shop, tmp_path: Path) -> None:
    project = project_of(tmp_path, {**SMALLEST, "a.sql": "select n from generate_series(1, 3) as n"})
    card = read_dashboards(project)[0].cards[0]
    assert read_card(empty_shop.connection, project, card, {}, limit=2) == CardRows(("n",), ((1,), (2,)), count_rows=3)
    assert read_card(empty_shop.connection, project, card, {}, limit=3) == CardRows(
        ("n",), ((1,), (2,), (3,)), count_rows=3
    )


# The built-in dashboards

BUILT_IN = {dashboard.name: dashboard for dashboard in read_dashboards(read_project())}
CARDS = [pytest.param(card, id=f"{name}-{card.name}") for name, found in BUILT_IN.items() for card in found.cards]
FIRST_DAY = date(2022, 9, 30)
#: Journeys that begin on three days; a fifth of the views without a referer.
EVENTS = [
    {
        **row,
        "event_timestamp": str(datetime.fromisoformat(row["event_timestamp"]) + timedelta(days=seed % 3)),
        "referer_url": None if number % 5 == 0 else row["referer_url"],
    }
    for seed in range(20)
    for number, row in enumerate(some_events(seed))
]
VIEWS = [view for view in oracle.page_views(EVENTS) if view.user is not None]
BOUGHT = oracle.purchases(VIEWS)
#: Values of filters, and the views that they leave.
NARROWED: list[tuple[dict[str, str], Callable[[PageView], bool]]] = [
    ({}, lambda view: True),
    ({"from": "2022-10-01"}, lambda view: view.at.date() >= date(2022, 10, 1)),
    ({"to": "2022-09-30"}, lambda view: view.at.date() <= date(2022, 9, 30)),
    ({"referer": "r1"}, lambda view: view.referer_url == "r1"),
    ({"referer": "(direct)"}, lambda view: view.referer_url is None),
    (
        {"from": "2022-09-30", "to": "2022-10-01", "referer": "r2", "campaign": "c1"},
        lambda view: (
            date(2022, 9, 30) <= view.at.date() <= date(2022, 10, 1)
            and (view.referer_url, view.utm_campaign) == ("r2", "c1")
        ),
    ),
    ({"from": "2030-01-01"}, lambda view: False),
]
narrowed = pytest.mark.parametrize(
    ("values", "kept"), NARROWED, ids=[" ".join(v.values()) or "all" for v, _ in NARROWED]
)


@pytest.fixture(scope="module")
def empty_shop(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A warehouse in which nothing is loaded, for tests that only read."""
    with open_shop(server, tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture(scope="module")
def sold(embedded_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Events of three days in the marts."""
    with open_shop(embedded_server, tmp_path_factory.mktemp("shop")) as shop:
        shop.load(*EVENTS)
        shop.apply()
        yield shop


def rows_of(shop: Shop, dashboard: str, card: str, values: Mapping[str, str] | None = None) -> list[tuple[object, ...]]:
    (found,) = [found for found in BUILT_IN[dashboard].cards if found.name == card]
    return list(read_card(shop.connection, read_project(), found, values or {}, limit=10_000).rows)


def share(part: int, whole: int) -> object:
    return pytest.approx(part / whole) if whole else None


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("values", [{}, NARROWED[-2][0]], ids=["all", "narrowed"])
def test_each_card_runs_in_psql_and_here_and_gives_the_columns_that_its_chart_names(
    empty_shop: Shop, card: Card, values: dict[str, str]
) -> None:
    """On an empty warehouse too; and every column that a chart shows has a title."""
    found = read_card(empty_shop.connection, read_project(), card, values, limit=10)
    assert set(card.columns) == set(found.columns)
    assert all(column.title for column in card.columns.values())
    assert empty_shop.query(card.sql) == list(
        read_card(empty_shop.connection, read_project(), card, {}, limit=10_000).rows
    )


def test_a_reader_of_the_marts_may_run_every_card(sold: Shop) -> None:
    """As Metabase does: nothing of stage is read but through views of cdm."""
    with sold.connection.transaction(force_rollback=True):
        sold.query("select set_config('role', 'clickmart_reader', true)")
        for param in CARDS:
            (card,) = param.values
            read_card(sold.connection, read_project(), card, {}, limit=10)
        assert sold.query("select current_user") == [("clickmart_reader",)]


@pytest.mark.parametrize("dashboard", BUILT_IN.values(), ids=BUILT_IN)
def test_each_filter_is_one_of_the_four_and_narrows_a_card(dashboard: Dashboard) -> None:
    assert list(dashboard.filters) == ["from", "to", "referer", "campaign"]
    assert {name for card in dashboard.cards for name in card.variables} == set(dashboard.filters)


@pytest.mark.parametrize("dashboard", BUILT_IN.values(), ids=BUILT_IN)
def test_no_two_cards_of_a_tab_overlap(dashboard: Dashboard) -> None:
    taken: dict[tuple[str | None, int, int], str] = {}
    for card in dashboard.cards:
        for column in range(card.place.column, card.place.column + card.place.width):
            for row in range(card.place.row, card.place.row + card.place.height):
                assert taken.setdefault((card.tab, column, row), card.name) == card.name


def test_the_first_dashboard_shows_the_marts(sold: Shop) -> None:
    marts = sold.marts()
    assert sorted(rows_of(sold, "de_student", "events_hours")) == marts.events_hours
    assert rows_of(sold, "de_student", "products_hours") == marts.products_hours
    assert rows_of(sold, "de_student", "top_pages") == marts.top_pages
    bought = sum(count for *_, count, _ in marts.sources)
    assert sorted(rows_of(sold, "de_student", "sources")) == [
        (*row, pytest.approx(row[3] / bought)) for row in marts.sources
    ]
    users: dict[str, int] = {}
    for referer, _, count, *_ in marts.sources:
        users[referer] = users.get(referer, 0) + count
    assert dict(rows_of(sold, "de_student", "users_by_referer")) == users


def test_the_first_dashboard_can_be_narrowed_by_hours_and_by_sources(sold: Shop) -> None:
    marts = sold.marts()
    days = {"from": "2022-10-01", "to": "2022-10-01"}
    hours = [row for row in marts.events_hours if row[0].date() == date(2022, 10, 1)]
    assert sorted(rows_of(sold, "de_student", "events_hours", days)) == hours
    assert len(hours) < len(marts.events_hours)
    hours_of_purchases = [row for row in marts.products_hours if row[0].date() == date(2022, 10, 1)]
    assert rows_of(sold, "de_student", "products_hours", days) == hours_of_purchases
    source = {"referer": "r1", "campaign": "c0"}
    (row,) = [row for row in marts.sources if row[:2] == ("r1", "c0")]
    assert rows_of(sold, "de_student", "users_by_referer", source) == [("r1", row[2])]
    # Its share of users is still that of all.
    assert [found[:5] for found in rows_of(sold, "de_student", "sources", source)] == [row]


@narrowed
def test_the_funnel_counts_users_with_a_step_and_every_one_before_it(
    sold: Shop, values: dict[str, str], kept: Callable[[PageView], bool]
) -> None:
    steps = ["product", "cart", "payment", "confirmation"]
    users = [{view.user for view in filter(kept, VIEWS) if view.step == step} for step in steps]
    counts = [len(set.intersection(*users[: number + 1])) for number in range(4)]
    assert rows_of(sold, "clickstream", "funnel", values) == [
        (
            step.title(),
            count,
            share(count, counts[0]),
            share(counts[number - 1] - count, counts[number - 1]) if number else None,
        )
        for number, (step, count) in enumerate(zip(steps, counts, strict=True))
    ]


@narrowed
def test_users_purchases_and_conversion_are_those_of_the_views_that_are_left(
    sold: Shop, values: dict[str, str], kept: Callable[[PageView], bool]
) -> None:
    views, bought = list(filter(kept, VIEWS)), [purchase for purchase in BOUGHT if kept(purchase.confirmation)]
    users, buyers = {view.user for view in views}, {purchase.user for purchase in bought}
    assert rows_of(sold, "clickstream", "users", values) == [(len(users),)]
    assert rows_of(sold, "clickstream", "purchases", values) == [(len(bought),)]
    assert rows_of(sold, "clickstream", "conversion", values) == [(share(len(buyers), len(users)),)]

    def parted(key: Callable[[PageView], tuple[object, ...]], *more: bool) -> list[tuple[object, ...]]:
        rows = []
        for part in sorted({key(view) for view in views}):
            users_of_part = {view.user for view in views if key(view) == part}
            purchases_of_part = [purchase for purchase in bought if key(purchase.confirmation) == part]
            buyers_of_part = {purchase.user for purchase in purchases_of_part}
            counts = [len(users_of_part), len(buyers_of_part), *(len(purchases_of_part) for _ in more)]
            rows.append((*part, *counts, share(len(buyers_of_part), len(users_of_part))))
        return rows

    by_day = parted(lambda view: (view.at.date(), oracle.source(view)[0]))
    assert rows_of(sold, "clickstream", "conversion_days", values) == by_day
    assert sorted(rows_of(sold, "clickstream", "sources", values)) == parted(oracle.source, True)


@narrowed
def test_sessions_are_those_that_began_in_the_time_by_the_source(
    sold: Shop, values: dict[str, str], kept: Callable[[PageView], bool]
) -> None:
    first, last = values.get("from", "0001-01-01"), values.get("to", "9999-12-31")
    sessions = [
        (started, ended, count, entry)
        for _, started, ended, count, entry, _, referer, campaign in sold.marts().sessions
        if first <= str(started.date()) <= last  # type: ignore[attr-defined]
        and values.get("referer", referer) == referer
        and values.get("campaign", campaign) == campaign
    ]
    depths = [count for _, _, count, _ in sessions]
    lengths = [(ended - started).total_seconds() for started, ended, *_ in sessions]  # type: ignore[operator]
    singles = depths.count(1)
    assert rows_of(sold, "clickstream", "sessions", values) == [(len(sessions),)]
    depth = pytest.approx(statistics.mean(depths), abs=0.051) if depths else None  # to one digit
    assert rows_of(sold, "clickstream", "session_depth", values) == [(depth,)]
    median = pytest.approx(statistics.median(lengths)) if lengths else None
    assert rows_of(sold, "clickstream", "session_time", values) == [(median,)]
    assert rows_of(sold, "clickstream", "session_single", values) == [(share(singles, len(depths)),)]
    days = rows_of(sold, "clickstream", "sessions_days", values)
    assert [(day, longer + single) for day, longer, single in days] == sorted(
        Counter(started.date() for started, *_ in sessions).items()
    )
    assert sum(single for *_, single in days) == singles
    pages = Counter(entry for *_, entry in sessions)
    assert (
        rows_of(sold, "clickstream", "entry_pages", values)
        == sorted(pages.items(), key=lambda page: (-page[1], str(page[0]).encode()))[:10]
    )


def test_what_came_of_sessions_is_the_mart_by_its_source(sold: Shop) -> None:
    rows = sold.query("select * from cdm.source_conversions order by count_sessions desc, 1, 2")
    assert rows_of(sold, "clickstream", "session_sources") == rows
    referer = {"referer": str(rows[0][0])}
    assert rows_of(sold, "clickstream", "session_sources", referer) == [row for row in rows if row[0] == rows[0][0]]


@narrowed
def test_the_time_to_purchase_is_that_from_the_first_product_view_of_the_path(
    sold: Shop, values: dict[str, str], kept: Callable[[PageView], bool]
) -> None:
    times = []
    for purchase in BOUGHT:
        if kept(purchase.confirmation):
            views = oracle.in_order([view for view in VIEWS if view.user == purchase.user])
            path = oracle.path_of(views.index(purchase.confirmation), views, oracle.DEFAULTS)
            first = min(view.at for view in path if view.step == "product")
            times.append((purchase.confirmation.at - first) / timedelta(minutes=1))
    bounds = [0, 1, 5, 15, 60, 240, 720, 1440, float("inf")]
    found = rows_of(sold, "clickstream", "time_to_purchase", values)
    assert [count for _, count in found] == [
        sum(least <= minutes < most for minutes in times) for least, most in itertools.pairwise(bounds)
    ]
    middle = pytest.approx(statistics.median(times) * 60) if times else None
    assert rows_of(sold, "clickstream", "median_time", values) == [(middle,)]


def test_the_warehouse_shows_its_loads_its_rejects_and_how_recent_it_is(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "broken.jsonl"
    file.write_text(
        '{"event_timestamp": "2026-03-02 10:00:00", "page_url_path": "/home"}\n'
        '{"referer_url_port": "abc"}\n{"referer_url_port": "ab\\"c"}\n{"referer_url_port": 99999999999}\n[1]\n'
    )
    load = load_file(shop.connection, str(file))
    assert (load.rows_loaded, load.rows_rejected) == (1, 4)
    assert rows_of(shop, "clickstream", "pending_loads") == [(1,)]
    assert rows_of(shop, "clickstream", "newest_hour") == [(None,)]
    shop.apply()
    assert rows_of(shop, "clickstream", "pending_loads") == [(0,)]
    assert rows_of(shop, "clickstream", "newest_hour") == [(datetime(2026, 3, 2, 10),)]
    assert rows_of(shop, "clickstream", "rejected_share") == [(0.8,)]
    assert rows_of(shop, "clickstream", "rejects") == [
        ('referer_url_port: invalid input syntax for type integer: "..."', 2, 1),
        ("an array, not a JSON object", 1, 1),
        ('referer_url_port: value "..." is out of range for type integer', 1, 1),
    ]
    ((_, name, kind, size, status, loaded, rejected, finished_at, refreshed_at),) = rows_of(
        shop, "clickstream", "loads"
    )
    assert (name, kind, size, status, loaded, rejected) == (file.name, "jsonl", file.stat().st_size, "loaded", 1, 4)
    assert finished_at < refreshed_at
    instants = shop.query("select loads.started_at, raw.started_at from cdm.loads join stage.loads as raw using (id)")
    ((started_at, instant),) = instants
    assert finished_at > started_at == instant.astimezone(UTC).replace(tzinfo=None)
    assert rows_of(shop, "clickstream", "loaded_at") == [(finished_at,)]
    assert rows_of(shop, "clickstream", "rows_days") == [(finished_at.date(), 1, 4)]


def test_what_the_warehouse_shows_holds_nothing_of_the_records(sold: Shop) -> None:
    """Those who may read cdm alone see why a record was rejected, not what stood in it."""
    assert "raw" not in str(sold.query("select pg_get_viewdef('cdm.rejects'::regclass)"))
