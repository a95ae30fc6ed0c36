"""What must always hold (docs/meaning.md 5), on real servers and against the oracle."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import clickmart
import psycopg
import pytest
from clickmart.errors import ClickmartError
from clickmart.loading import load_file
from clickmart.project import init_project, read_project
from clickmart.warehouse import Connection, Warehouse
from conftest import Server, Shop, open_shop, project_with
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import DEFAULTS, Settings, marts
from projects import query
from psycopg.conninfo import make_conninfo
from strategies import JOURNEYS, PAGES, START, Cut, Event, cuts, events

MARTS = ("purchases", "sessions", "events_hours", "products_hours", "top_pages", "sources")

# 5.1 and 5.3: the marts depend on the set of files alone, and --full changes nothing


@pytest.fixture(scope="module")
def one_shop(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A warehouse that the examples of a property share, each emptying it first."""
    with open_shop(server, tmp_path_factory.mktemp("shop")) as shop:
        yield shop


def load_and_refresh(shop: Shop, cut: Cut) -> None:
    """Loads the files one after the other, with a refresh where the cut says so and one at the end."""
    for index, file in enumerate(cut.files):
        shop.load(*file)
        if index in cut.applies:
            shop.refresh()
    shop.refresh()


def loaded(files: Sequence[Sequence[Event]]) -> list[Event]:
    return [event for file in files for event in file]


def whole(shop: Shop) -> list[list[tuple[object, ...]]]:
    """Every column of every mart, in order."""
    days = shop.query("select * from cdm.user_days order by day, user_id, referer_url, utm_campaign")
    return [*(shop.query(f"select * from cdm.{name} order by id") for name in MARTS), days]


@given(data=st.data())
def test_the_marts_are_those_of_the_oracle_however_files_are_cut_and_ordered(
    one_shop: Shop, data: st.DataObject
) -> None:
    """Neither cut, nor order, nor the number of applies shows in the marts."""
    rows = data.draw(events())
    cut = data.draw(cuts(rows))
    one_shop.reset()
    load_and_refresh(one_shop, cut)
    assert one_shop.marts() == marts(rows)
    assert one_shop.failures() == []


@given(data=st.data())
def test_of_two_deliveries_that_differ_the_one_loaded_first_stands(one_shop: Shop, data: st.DataObject) -> None:
    rows = data.draw(events(equal_deliveries=False))
    cut = data.draw(cuts(rows, shuffled=False))
    one_shop.reset()
    load_and_refresh(one_shop, cut)
    assert one_shop.marts() == marts(loaded(cut.files))


@given(data=st.data())
def test_full_gives_the_same_as_all_the_incremental_applies_before_it(one_shop: Shop, data: st.DataObject) -> None:
    """To the row: the ids stay, too."""
    cut = data.draw(cuts(data.draw(events(equal_deliveries=False)), shuffled=False))
    one_shop.reset()
    load_and_refresh(one_shop, cut)
    before = whole(one_shop)
    one_shop.refresh(full=True)
    assert whole(one_shop) == before
    one_shop.refresh()
    assert whole(one_shop) == before
    one_shop.reset()
    for file in cut.files:
        one_shop.load(*file)
    one_shop.refresh(full=True)
    assert one_shop.marts() == marts(loaded(cut.files))


@contextmanager
def several_processes(shop: Shop, count: int = 2) -> Iterator[None]:
    """A rebuild is left to so many processes of the server, however little there is."""
    options = {"min_parallel_table_scan_size": "0", "max_parallel_workers_per_gather": str(count)}
    for name, value in options.items():
        shop.connection.execute("select set_config(%s, %s, false)", (name, value))
    try:
        yield
    finally:
        for name in options:
            shop.connection.execute(f"reset {name}".encode())


@given(data=st.data())
@settings(max_examples=settings.default.max_examples // 4)  # each starts two dozen processes
def test_several_processes_build_the_marts_that_one_builds(one_shop: Shop, data: st.DataObject) -> None:
    files = data.draw(cuts(data.draw(events(equal_deliveries=False)), shuffled=False)).files
    one_shop.reset()
    with several_processes(one_shop):
        for number, file in enumerate(files):
            one_shop.load(*file)
            one_shop.refresh(full=True)
            before = whole(one_shop)
            one_shop.refresh(full=True)
            assert whole(one_shop) == before
            assert one_shop.marts() == marts(loaded(files[: number + 1]))
    assert one_shop.failures() == []


@pytest.mark.parametrize(("count", "shares"), [(0, 1), (1, 1), (2, 8), (3, 16), (9, 128)])
def test_all_users_are_shared_out_by_their_hash(shop: Shop, count: int, shares: int) -> None:
    """Each hash is in one share, the least and the largest too, and the shares are left to the processes."""
    with several_processes(shop, count):
        ((query,),) = shop.query("select stage.over_all_users('cdm.counted_hours')")
        plan = [line for (line,) in shop.query(f"explain {query}")]
    bounds = [tuple(map(int, pair)) for pair in re.findall(r"counted_hours\('(-?\d+)', '(-?\d+)'\)", str(query))]
    assert len(bounds) == shares
    assert (bounds[0][0], bounds[-1][1]) == (-(2**63), 2**63 - 1)
    assert all(last + 1 == first for (_, last), (first, _) in pairwise(bounds))
    assert any("Parallel Append" in str(line) for line in plan) == (count > 1)


def test_equal_counts_of_several_shares_all_count(shop: Shop) -> None:
    shop.load(*({"event_timestamp": str(START), "user_domain_id": f"u{n}", "page_url_path": "/a"} for n in range(16)))
    with several_processes(shop):
        for _ in range(2):
            shop.refresh(full=True)
            assert shop.query("select count_events, event_type from cdm.events_hours") == [(16, "a")]


def test_little_is_left_to_one_process(shop: Shop) -> None:
    shop.load(*some_events(seed=3))
    shop.refresh()
    ((query,),) = shop.query("select stage.over_all_users('cdm.counted_hours')")
    assert "union all" not in str(query)


def hash_all_to(connection: Connection, number: int) -> None:
    """Any two texts have this hash from now on."""
    connection.execute(
        "create or replace function weak.hashtextextended(text, bigint) returns bigint "
        f"language sql immutable as 'select case when $1 is not null then ({number})::bigint end'".encode()
    )


@contextmanager
def open_shop_of_equal_hashes(server: Server, folder: Path) -> Iterator[Shop]:
    """A warehouse in which any two texts have the same hash."""
    with server.database() as conninfo:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute("create schema weak")
            hash_all_to(connection, 0)
        found_first = make_conninfo(conninfo, options="-c search_path=weak,pg_catalog,public")
        project = read_project()
        with Warehouse(found_first).connect() as connection:
            # A view keeps the function that it was made with.
            connection.execute(project.templates.render("cdm/40_row_checks.sql").encode())
            yield Shop(found_first, connection, folder)


@pytest.fixture(scope="module")
def shop_of_equal_hashes(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop_of_equal_hashes(server, tmp_path_factory.mktemp("shop")) as opened:
        yield opened


def test_users_whose_hash_is_the_first_or_the_last_of_a_share_are_in_it(shop_of_equal_hashes: Shop) -> None:
    shop, rows = shop_of_equal_hashes, some_events(seed=5)
    rows += [{"event_timestamp": str(START), "page_url_path": "/home"}]  # of no user
    try:
        for number in (-(2**63), -1, 0, 2**63 - 1):
            shop.reset()
            hash_all_to(shop.connection, number)
            shop.load(*rows)
            with several_processes(shop):
                shop.refresh(full=True)
                before = whole(shop)
                assert shop.marts() == marts(rows)
                shop.refresh(full=True)
                assert whole(shop) == before
    finally:
        hash_all_to(shop.connection, 0)


@dataclass
class Loaders:
    """A warehouse, and sessions that load into it, each in a transaction that it holds open."""

    shop: Shop
    sessions: list[Connection]

    @contextmanager
    def load(self, number: int, *rows: Event) -> Iterator[None]:
        """The session's load has begun within, and has its number; it commits at the end."""
        session = self.sessions[number]
        with session.transaction():
            Shop(self.shop.dsn, session, self.shop.folder).load(*rows)
            yield


@contextmanager
def open_loaders(shop: Shop) -> Iterator[Loaders]:
    for _ in range(10):  # then a partition is there that is wide enough: to make one waits for all other loads
        shop.load({})
    with ExitStack() as stack:
        yield Loaders(shop, [stack.enter_context(Warehouse(shop.dsn).connect()) for _ in range(6)])


@pytest.fixture(scope="module", params=["hashes", "equal hashes"])
def loaders(request: pytest.FixtureRequest, one_shop: Shop, shop_of_equal_hashes: Shop) -> Iterator[Loaders]:
    with open_loaders(one_shop if request.param == "hashes" else shop_of_equal_hashes) as opened:
        yield opened


#: Loads of a user's pages, `minute page`, with an apply after each.
LATER_LOADS = {
    "a confirmation before a purchase takes its path": [
        "0 product_a, 1 cart, 2 payment, 9 confirmation",
        "5 confirmation",
    ],
    "a confirmation in the middle takes the purchase away": [
        "0 product_a, 1 cart, 3 payment, 9 confirmation",
        "2 confirmation",
    ],
    "a purchase behind two others": [
        "0 product_a, 1 cart, 2 payment, 3 confirmation",
        "4 product_a, 5 cart, 6 payment, 7 confirmation",
        "8 product_a, 9 cart, 10 payment, 11 confirmation",
    ],
    "a confirmation behind a purchase at once": ["0 product_a, 0 cart, 0 payment, 0 confirmation", "9 confirmation"],
    "a product before a cart that is there": ["1 cart, 2 payment, 3 confirmation", "0 product_a"],
    "a payment in the middle": ["0 product_a, 1 cart, 3 product_b, 4 cart, 9 confirmation", "2 payment", "5 payment"],
}


@pytest.mark.parametrize("loads", LATER_LOADS.values(), ids=LATER_LOADS)
def test_what_comes_later_bears_on_the_purchases_around_it(loaders: Loaders, loads: list[str]) -> None:
    """On those of the user alone: another one does the same a minute later, and a third all of it at once before."""
    shop = loaders.shop
    shop.reset()

    def pages(load: str, user: str, minutes: int) -> list[Event]:
        parts = [part.split() for part in load.split(", ")]
        at = [START + timedelta(minutes=int(minute) + minutes) for minute, _ in parts]
        return [
            {"user_domain_id": user, "event_timestamp": str(instant), "page_url_path": f"/{page}"}
            for instant, (_, page) in zip(at, parts, strict=True)
        ]

    files = [pages(", ".join(loads), "u3", 0)]
    files += [pages(load, user, minutes) for load in loads for user, minutes in (("u1", 0), ("u2", 1))]
    for number, file in enumerate(files, 1):
        shop.load(*file)
        shop.refresh()
        assert shop.marts() == marts(loaded(files[:number]))


def test_a_source_goes_where_an_earlier_delivery_turns_out_to_carry_another(loaders: Loaders) -> None:
    """And only the user's own: another one carries it still, and the user carries others."""
    shop = loaders.shop
    shop.reset()
    at = {"event_timestamp": str(START), "page_url_path": "/home"}
    mine = {**at, "user_domain_id": "u1", "event_id": "e1", "referer_url": "r1", "utm_campaign": "c1"}
    others = [
        {**at, "user_domain_id": "u2", "referer_url": "r1", "utm_campaign": "c1"},
        {**at, "user_domain_id": "u1", "referer_url": "r1", "utm_campaign": "c2"},
        {**at, "user_domain_id": "u1", "referer_url": "r2", "utm_campaign": "c1"},
    ]
    earlier = {**mine, "referer_url": "r9", "utm_campaign": "c9"}
    with loaders.load(0, earlier):
        shop.load(mine, *others)
        shop.refresh()
        assert shop.marts() == marts([mine, *others])
    shop.refresh()
    assert shop.marts() == marts([earlier, mine, *others])
    assert shop.failures() == []


@given(data=st.data())
def test_a_load_that_ends_late_is_taken_in_as_if_it_had_been_there(loaders: Loaders, data: st.DataObject) -> None:
    """Loads run side by side: one may begin first and end last, and of two deliveries its own stands then.

    Each refresh between has the marts of the loads that have ended.
    """
    cut = data.draw(cuts(data.draw(events(equal_deliveries=False)), shuffled=False))
    steps = range(len(cut.files))
    ends = [data.draw(st.integers(begin, len(cut.files))) for begin in steps]
    shop, ended = loaders.shop, set()
    shop.reset()
    with ExitStack() as rest:
        running: dict[int, ExitStack] = {}
        for step in [*steps, len(cut.files)]:
            if step in steps:
                running[step] = rest.enter_context(ExitStack())
                running[step].enter_context(loaders.load(step, *cut.files[step]))
            for number in [number for number in running if ends[number] <= step]:
                running.pop(number).close()
                ended.add(number)
            if step in cut.applies or step not in steps:
                shop.refresh()
                assert shop.marts() == marts(loaded([cut.files[number] for number in sorted(ended)]))
    assert not running
    assert shop.failures() == []


def test_the_load_that_began_first_stands_however_the_rows_of_two_were_numbered(shop: Shop) -> None:
    """Loads run side by side, and the rows of both get their numbers as they come."""
    event = {"event_timestamp": str(START), "user_domain_id": "u1", "event_id": "e1"}
    first, second = {**event, "referer_url": "first"}, {**event, "referer_url": "second"}
    shop.load(first)
    shop.load(second)
    shop.connection.execute("update stage.events set id = id + 100 where referer_url = 'first'")
    for full in (False, True):
        shop.refresh(full=full)
        assert shop.query("select referer_url from stage.page_views") == [("first",)]


def test_full_leaves_the_indexes_as_they_were(shop: Shop) -> None:
    indexes = "select indexdef from pg_indexes where schemaname in ('stage', 'cdm') order by 1"
    before = shop.query(indexes)
    assert sum("page_views" in index for (index,) in before) == 2
    shop.load(*some_events(seed=3))
    shop.refresh(full=True)
    assert shop.query(indexes) == before


def test_a_refresh_of_itself_builds_nothing_anew_and_waits_for_another(shop: Shop) -> None:
    shop.refresh()
    assert shop.query("select is_rebuilt from cdm.refresh()") == [(False,)]
    with Warehouse(shop.dsn).connect() as other, other.transaction():
        other.execute("select cdm.refresh()")
        shop.connection.execute("set lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            shop.refresh()


def test_a_changed_setting_counts_from_the_first_load_on_that_is_not_detached(shop: Shop) -> None:
    page = {"event_timestamp": str(START), "page_url_path": "/x"}
    shop.load({**page, "user_domain_id": "detached"})
    ((end,),) = shop.query("select max(end_load) from stage.partitions")
    shop.query("select setval(pg_get_serial_sequence('stage.loads', 'id'), %s)", end - 1)
    shop.load({**page, "user_domain_id": "first"})
    assert shop.query("select max(id) from stage.loads") == [(end,)]
    shop.refresh()
    assert len(shop.query("select stage.detach_events('infinity')")) == 1
    shop.apply(project_with(Settings(product="^x$")))
    views = "select user_id, step::text from stage.page_views order by 1"
    assert shop.query(views) == [("detached", None), ("first", "product")]


def test_a_delivery_after_its_view_was_detached_is_no_view_of_its_own_when_built_anew(shop: Shop) -> None:
    event = {"event_timestamp": str(START), "user_domain_id": "u1", "event_id": "e1"}
    shop.load({**event, "referer_url": "detached"})
    shop.query(NEW_PARTITION)
    shop.load({**event, "referer_url": "again"})
    shop.refresh()
    assert len(shop.query("select stage.detach_events('infinity')")) == 1
    shop.refresh(full=True)
    assert shop.query("select referer_url from stage.page_views") == [("detached",)]


def test_a_file_counts_once_however_often_and_under_whatever_name_it_is_loaded(shop: Shop, tmp_path: Path) -> None:
    rows = some_events(seed=1)
    for name in ("one.jsonl", "two.jsonl"):
        write(tmp_path / name, rows)
        for _ in range(2):
            load_file(shop.connection, str(tmp_path / name))
            shop.refresh()
    assert shop.query("select count(*) from stage.events") == [(len(rows),)]
    assert shop.marts() == marts(rows)


MANY_SETTINGS = [
    DEFAULTS,
    Settings(purchase_window=timedelta(minutes=30)),
    Settings(purchase_window=timedelta(days=2)),
    Settings(top_pages=1),
    Settings(session_gap=timedelta(hours=5)),
    Settings(session_gap=timedelta(0)),
    Settings(product="^(product_|home)", cart="^/?cart"),
    Settings(payment="^cart", confirmation="^(confirmation|payment)", top_pages=2),
]


NEW_PARTITION = "select setval(pg_get_serial_sequence('stage.loads', 'id'), max(end_load)) from stage.partitions"


@given(data=st.data())
def test_raw_events_that_are_detached_leave_the_marts_as_if_they_were_there(
    one_shop: Shop, data: st.DataObject
) -> None:
    """Also for deliveries of their views that come later, and for purchases that they began; built anew or not."""
    rows = data.draw(events())
    cut = data.draw(cuts(rows))
    one_shop.reset()
    detached: list[str] = []
    for file in cut.files:
        if data.draw(st.booleans(), label="a new partition"):
            one_shop.query(NEW_PARTITION)
        one_shop.load(*file)
        if data.draw(st.booleans(), label="refreshed and detached"):
            one_shop.refresh(full=data.draw(st.booleans(), label="built anew"))
            detached += [str(name) for (name,) in one_shop.query("select stage.detach_events('infinity')")]
    for name in detached:
        one_shop.connection.execute(f'drop table stage."{name}"'.encode())
    one_shop.refresh(full=data.draw(st.booleans(), label="built anew"))
    assert one_shop.marts() == marts(rows)
    assert one_shop.failures() == []


@settings(max_examples=settings.default.max_examples // 4)  # each applies the project anew several times
@given(data=st.data())
def test_settings_may_change_between_any_two_loads(one_shop: Shop, data: st.DataObject) -> None:
    """The marts are those of the last settings, of old and new events alike."""
    cut = data.draw(cuts(data.draw(events(equal_deliveries=False, max_parts=4)), shuffled=False))
    one_shop.reset()
    try:
        for index, file in enumerate(cut.files):
            one_shop.load(*file)
            if index in cut.applies or index == len(cut.files) - 1:
                chosen = data.draw(st.sampled_from(MANY_SETTINGS))
                one_shop.apply(project_with(chosen))
                assert one_shop.marts() == marts(loaded(cut.files[: index + 1]), chosen)
        assert one_shop.failures() == []
    finally:
        one_shop.apply()


@given(data=st.data())
def test_texts_of_equal_hashes_are_texts_of_their_own(shop_of_equal_hashes: Shop, data: st.DataObject) -> None:
    shop, rows = shop_of_equal_hashes, data.draw(events())
    shop.reset()
    load_and_refresh(shop, data.draw(cuts(rows)))
    assert shop.marts() == marts(rows)
    assert shop.query("select from stage.page_views where user_hash != 0") == []


# 5.2: a refresh costs by the new events and the views around them in time


FIRST_DAY = datetime(2022, 1, 1)
EVENTS_A_DAY = 1000
DAYS_A_LOAD = 4
FEW_DAYS, MANY_DAYS = 12, 120
STATES = ("as refreshes leave it", "vacuumed and analyzed")


@pytest.fixture(scope="module")
def histories(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Shop]]:
    """Warehouses of few and of ten times as many days of a thousand events, refreshed load by load, by their days."""
    with ExitStack() as stack:
        shops = {}
        for days in (FEW_DAYS, MANY_DAYS):
            shop = shops[days] = stack.enter_context(open_shop(server, tmp_path_factory.mktemp("shop")))
            tables = shop.query(
                "select oid::regclass::text from pg_class "
                "where relkind = 'r' and relnamespace in ('stage'::regnamespace, 'cdm'::regnamespace)"
            )
            for (table,) in tables:
                # Else it would depend on the moment what the planner knows.
                shop.connection.execute(f"alter table {table} set (autovacuum_enabled = off)".encode())
            for day in range(0, days, DAYS_A_LOAD):
                load_days(shop, day, DAYS_A_LOAD)
                shop.refresh()
        yield shops


@pytest.fixture(scope="module")
def blocks(histories: dict[int, Shop]) -> dict[tuple[str, str, int], Blocks]:
    """What a refresh after one event touches: by state of the warehouse, kind of event, days of the history."""
    found = {}
    for state in STATES:
        for days, shop in histories.items():
            if state == "vacuumed and analyzed":
                shop.connection.execute("vacuum analyze")
            for kind, event in ONE_EVENT.items():
                found[state, kind, days] = blocks_of_a_refresh(shop, days, **event(days))
    return found


# Every other event is of the user busy, who so has half of all; the others are of users with ten events each. Pages,
# page types by hour, sources and users grow with the history, as they do. A user buys once in ten events.
LOAD_DAYS = """
with load as (
    insert into stage.loads (id, file_name, checksum, size, format, rows_loaded, rows_rejected, started_at, status)
    values (%(load)s, 'history', %(day)s, 1, 'jsonl', %(count)s, 0, now(), 'loaded')
    returning id
)
insert into stage.events (
    event_id, event_timestamp, page_url, page_url_path, referer_url, utm_campaign, user_domain_id, batch_id
)
select
    'e' || number,
    (timestamp '2022-01-01' + number * interval '86 s')::text,
    'http://shop/' || number,
    '/' || coalesce((array['home', 'product_a', 'cart', 'payment', 'confirmation'])[number / 2 %% 10 + 1],
        'page_' || number %% 20),
    'r' || number / 1000,
    'c' || number %% 5,
    case when number %% 2 = 1 then 'busy' else 'u' || number / 20 end,
    load.id
from load, generate_series(%(day)s * 1000, %(day)s * 1000 + %(count)s - 1) as number"""

LOAD_ONE = """
with load as (
    insert into stage.loads (id, file_name, checksum, size, format, rows_loaded, rows_rejected, started_at, status)
    values (%(load)s, 'one', 'one', 1, 'jsonl', 1, 0, now(), 'loaded')
    returning id
)
insert into stage.events (event_id, event_timestamp, page_url_path, referer_url, utm_campaign, user_domain_id, batch_id)
select %(event_id)s, %(at)s, %(page)s, 'r1', 'c1', %(user)s, id from load"""

# The arguments of blocks_of_a_refresh, by the days of the history.
ONE_EVENT = {
    "the newest": lambda days: {"day": days, "number": 0, "user": "busy", "page": "/home"},
    "the newest confirmation": lambda days: {"day": days, "number": 0, "user": "busy", "page": "/confirmation"},
    "a late product of a busy user": lambda days: {"number": 411, "user": "busy", "page": "/product_b"},
    "a late confirmation of a busy user": lambda days: {"number": 411, "user": "busy", "page": "/confirmation"},
    "a late product of another": lambda days: {"number": 404, "user": f"u{days * 25 + 20}", "page": "/product_b"},
    "a late confirmation of another": lambda days: {
        "number": 408, "user": f"u{days * 25 + 20}", "page": "/confirmation",
    },
    "a confirmation of a new user": lambda days: {"number": 404, "user": "new", "page": "/confirmation"},
    "one without a user": lambda days: {"number": 404, "user": None, "page": "/confirmation"},
    "a delivery of a known one": lambda days: {"number": 401, "user": "busy", "again": True, "page": "/home"},
    "no page view": lambda days: {"at": "yesterday", "number": 0, "user": "busy", "page": "/home"},
}  # fmt: skip


@dataclass(frozen=True)
class Blocks:
    """Blocks that a refresh touched: of all tables, and of our own alone. Most are of the server's catalogs."""

    all: int
    own: int


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kind", ONE_EVENT)
def test_a_refresh_reads_by_what_is_new_and_not_by_the_history(
    blocks: dict[tuple[str, str, int], Blocks], state: str, kind: str
) -> None:
    """Counted in blocks, so that no clock decides: a history ten times as long is no ten times as dear."""
    short, long = blocks[state, kind, FEW_DAYS], blocks[state, kind, MANY_DAYS]
    assert long.all <= 1.5 * short.all, (short, long)
    assert long.own <= 1.5 * short.own, (short, long)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("page", ["product", "confirmation"])
def test_an_event_of_a_user_with_60_000_views_costs_no_more_than_one_of_a_user_with_ten(
    blocks: dict[tuple[str, str, int], Blocks], state: str, page: str
) -> None:
    busy, other = (blocks[state, f"a late {page} of {user}", MANY_DAYS] for user in ("a busy user", "another"))
    assert busy.all <= 1.5 * other.all, (busy, other)
    assert busy.own <= 1.5 * other.own, (busy, other)


def test_full_and_a_bulk_load_give_the_marts_of_many_small_refreshes(
    server: Server, tmp_path: Path, histories: dict[int, Shop]
) -> None:
    """Also where so much is new that the marts are built anew: here 116,000 events after 4,000."""
    shop = histories[MANY_DAYS]
    before, expected = whole(shop), shop.marts()
    assert shop.failures() == []
    shop.refresh(full=True)
    assert whole(shop) == before
    with open_shop(server, tmp_path) as bulk:
        load_days(bulk, 0, DAYS_A_LOAD)
        assert not bulk.apply().rebuilt
        load_days(bulk, DAYS_A_LOAD, MANY_DAYS - DAYS_A_LOAD)
        assert bulk.apply().rebuilt
        assert bulk.marts() == expected


def load_days(shop: Shop, first: int, days: int) -> None:
    ((load,),) = shop.query("select stage.begin_load()")
    shop.connection.execute(LOAD_DAYS, {"load": load, "day": first, "count": days * EVENTS_A_DAY})


def blocks_of_a_refresh(
    shop: Shop, days: int, *, number: int, user: str | None, page: str, day: int = -1, at: str = "", again: bool = False
) -> Blocks:
    """What a refresh after this one event touches; the event is at its number of that day, else of the middle day."""
    number += EVENTS_A_DAY * (day if day >= 0 else days // 2)
    at = at or str(FIRST_DAY + number * timedelta(seconds=86))
    ((load,),) = shop.query("select stage.begin_load()")
    event = {"load": load, "at": at, "user": user, "page": page, "event_id": f"e{number}" if again else "new"}
    with Warehouse(shop.dsn).connect() as connection:
        for _ in range(2):  # the second time the session knows of the catalogs what it needs
            before = own_blocks(connection)
            with connection.transaction(force_rollback=True):
                connection.execute(LOAD_ONE, event)
                query = "explain (analyze, buffers, format json) select cdm.refresh()"
                ((explained,),) = connection.execute(query).fetchall()
            plan = explained[0]["Plan"]
            found = Blocks(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"], own_blocks(connection) - before)
    return found


def own_blocks(connection: Connection) -> int:
    """Blocks touched so far of the tables of stage and cdm with their indexes."""
    connection.execute("select pg_stat_force_next_flush()")
    connection.execute("select 1")
    query = (
        "select sum(heap_blks_read + heap_blks_hit + coalesce(idx_blks_hit + idx_blks_read, 0) "
        "+ coalesce(toast_blks_read + toast_blks_hit, 0) + coalesce(tidx_blks_read + tidx_blks_hit, 0))::int "
        "from pg_statio_user_tables where schemaname in ('stage', 'cdm')"
    )
    ((found,),) = connection.execute(query).fetchall()
    return int(found)


# 5.4: whole refreshes or nothing, and nobody waits


def write(path: Path, rows: Sequence[Event]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def some_events(seed: int, users: int = 10) -> list[Event]:
    """A journey of each user; the users, instants and sources of two seeds overlap, their event_ids don't."""
    draw = random.Random(seed)
    rows = []
    for user in range(users):
        at = START + draw.randrange(48) * timedelta(minutes=30)
        for step in draw.choice(JOURNEYS):
            at += timedelta(minutes=draw.randrange(20))
            page = draw.choice(PAGES[step])
            rows.append(
                {
                    "event_id": f"{seed}-{len(rows)}",
                    "event_timestamp": str(at),
                    "user_domain_id": f"u{user}",
                    "page_url_path": page,
                    "page_url": f"http://shop{page}",
                    "referer_url": f"r{draw.randrange(3)}",
                    "utm_campaign": f"c{draw.randrange(2)}",
                }
            )
    return rows


# All rows of all marts, by one statement.
STATE = "select md5(concat_ws('|', {}))".format(
    ", ".join(f"(select json_agg(mart order by id) from cdm.{name} as mart)" for name in MARTS)
)


@contextmanager
def reader_of(shop: Shop) -> Iterator[Callable[[], str]]:
    """Asks for the state of the marts, and fails where it would wait for a lock for half a second."""
    with Warehouse(shop.dsn).connect() as connection:
        connection.execute("set lock_timeout = '500ms'")

        def read() -> str:
            ((state,),) = connection.execute(STATE).fetchall()
            return str(state)

        yield read


def test_a_reader_sees_whole_refreshes_only(server: Server, tmp_path: Path) -> None:
    """In one statement, the marts of one refresh, and never those of an earlier one again."""
    with open_shop(server, tmp_path) as shop, reader_of(shop) as read, ThreadPoolExecutor() as executor:
        ended = threading.Event()

        def read_on() -> list[str]:
            seen = [read()]
            while not ended.is_set():
                seen.append(read())
            return [*seen, read()]

        settings, rows = DEFAULTS, []
        written = [read()]
        seen = executor.submit(read_on)
        try:
            for number in range(40):
                if number % 4 != 3:
                    rows += some_events(number)
                    shop.load(*some_events(number))
                if number % 4 == 2:
                    settings = MANY_SETTINGS[number // 4 % len(MANY_SETTINGS)]
                    shop.apply(project_with(settings))
                else:
                    shop.refresh(full=number % 8 == 3)
                written.append(read_state(shop))
        finally:
            ended.set()
        assert shop.marts() == marts(rows, settings)
        seen = without_repeats(seen.result())
        # What was seen is what was written, in order, though not every state has been seen.
        states = iter(without_repeats(written))
        assert all(state in states for state in seen)
        assert len(seen) > 10


def read_state(shop: Shop) -> str:
    ((state,),) = shop.query(STATE)
    return str(state)


def without_repeats(states: Sequence[str]) -> list[str]:
    return [state for index, state in enumerate(states) if index == 0 or states[index - 1] != state]


@contextmanager
def locked(shop: Shop, table: str) -> Iterator[int]:
    """Whoever writes to a row that the table has now waits until the end, for this server process."""
    with Warehouse(shop.dsn).connect() as other, other.transaction():
        other.execute(f"select from {table} for update".encode())
        yield other.info.backend_pid


@contextmanager
def apply_held(shop: Shop, table: str, apply: Callable[[], object] | None = None) -> Iterator[tuple[Future, int]]:
    """An apply that waits to write to the table, all that comes before it done, and goes on at the end.

    With it comes its server process.
    """
    with ThreadPoolExecutor() as executor, locked(shop, table) as holder:
        running = executor.submit(apply or shop.apply)
        yield running, waiting_for(shop, holder, running)


def waiting_for(shop: Shop, process: int, running: Future) -> int:
    """The server process that waits for that one; fails where what is running ends before it has to."""
    for _ in range(3000):
        if running.done():
            pytest.fail(f"it did not wait: {running.exception() or running.result()}")
        query = "select pid from pg_stat_activity where %s = any (pg_blocking_pids(pid))"
        if found := shop.query(query, process):
            return int(str(found[0][0]))
        time.sleep(0.01)
    pytest.fail("nothing waits")


# The events of one apply touch rows of every mart that those of the one before made.
FIRST = some_events(1)
SECOND = [
    {**row, "event_id": f"second {row['event_id']}", "event_timestamp": str(at), "user_domain_id": user}
    for row in FIRST
    for at in [datetime.fromisoformat(row["event_timestamp"]) + timedelta(seconds=1)]
    for user in (row["user_domain_id"], f"{row['user_domain_id']} again")
]
WRITTEN = [
    "cdm.user_days",
    "cdm.purchases",
    "cdm.events_hours",
    "cdm.products_hours",
    "cdm.source_totals",
    "cdm.page_totals",
    "stage.loads",
]


@pytest.fixture
def refreshed_shop(shop: Shop) -> Shop:
    """The first events are in the marts, the second are loaded."""
    shop.load(*FIRST)
    shop.apply()
    assert shop.marts() == marts(FIRST)
    shop.load(*SECOND)
    return shop


@pytest.mark.parametrize(
    ("full", "settings"),
    [
        pytest.param(False, DEFAULTS, id="new events"),
        pytest.param(True, DEFAULTS, id="full"),
        pytest.param(False, Settings(purchase_window=timedelta(hours=1)), id="another window"),
        pytest.param(False, Settings(product="^(product_|home)"), id="another step"),
        pytest.param(False, Settings(top_pages=1), id="fewer top pages"),
        pytest.param(True, MANY_SETTINGS[-1], id="other settings and full"),
    ],
)
def test_readers_go_on_with_the_old_marts_until_an_apply_commits(
    refreshed_shop: Shop, full: bool, settings: Settings
) -> None:
    """However long it takes: here it is held when all but its last word is written."""
    shop = refreshed_shop
    with reader_of(shop) as read:
        before = read()
        with apply_held(shop, "stage.loads", lambda: shop.apply(project_with(settings), full=full)) as (applying, _):
            assert read() == before
            assert not applying.done()
        applying.result()
        assert read() != before
    assert shop.marts() == marts(FIRST + SECOND, settings)


@pytest.mark.parametrize("table", WRITTEN)
def test_an_apply_that_is_killed_leaves_the_marts_as_they_were(refreshed_shop: Shop, table: str) -> None:
    """Wherever it was; the next one takes in what it left."""
    shop = refreshed_shop
    before = whole(shop)
    with apply_held(shop, table) as (applying, process):
        assert shop.query("select pg_terminate_backend(%s, 10000)", process) == [(True,)]
        with pytest.raises(ClickmartError):
            applying.result()
    assert whole(shop) == before
    assert shop.apply().new_rows == len(SECOND)
    assert shop.marts() == marts(FIRST + SECOND)
    assert shop.failures() == []


@pytest.mark.parametrize("table", WRITTEN)
def test_an_apply_that_runs_out_of_time_leaves_the_marts_as_they_were(refreshed_shop: Shop, table: str) -> None:
    shop = refreshed_shop
    before = whole(shop)
    hasty = make_conninfo(shop.dsn, options="-c lock_timeout=100ms")
    with locked(shop, table), pytest.raises(ClickmartError, match="timeout"):
        clickmart.apply(dsn=hasty)
    assert whole(shop) == before
    assert shop.apply().new_rows == len(SECOND)
    assert shop.marts() == marts(FIRST + SECOND)


@pytest.mark.parametrize(
    "function",
    ["cdm.refresh_user_days", "cdm.refresh_purchases", "cdm.refresh_events_hours", "cdm.refresh_page_totals"],
)
@pytest.mark.parametrize("full", [False, True], ids=["new events", "full"])
def test_an_apply_that_fails_leaves_the_marts_and_the_project_as_they_were(
    refreshed_shop: Shop, tmp_path: Path, function: str, full: bool
) -> None:
    shop = refreshed_shop
    before = whole(shop)
    folder = init_project(tmp_path / "project")
    (folder / "sql" / "zones").mkdir()
    (folder / "sql" / "zones" / "10_fails.sql").write_text(
        f"create or replace function {function}(rebuild boolean) returns void language plpgsql as $$\n"
        "begin\n    raise exception 'no more space';\nend\n$$;\n"
    )
    with pytest.raises(ClickmartError, match="no more space"):
        shop.apply(read_project(folder), full=full)
    assert whole(shop) == before
    report = shop.apply()
    assert (report.files, report.new_rows) == ((), len(SECOND))
    assert shop.marts() == marts(FIRST + SECOND)


# Two at once


def at_once(*calls: Callable[[], object]) -> list[object]:
    """What the calls return, begun at the same moment."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> object:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as executor:
        return [running.result() for running in [executor.submit(run, call) for call in calls]]


def test_of_two_applies_at_once_the_second_waits_and_takes_nothing_in_again(shop: Shop) -> None:
    rows = []
    for number in range(10):
        rows += some_events(number)
        shop.load(*some_events(number))
        project = project_with(MANY_SETTINGS[number // 3])
        reports = at_once(lambda project=project: shop.apply(project), lambda project=project: shop.apply(project))
        assert sorted(report.new_loads for report in reports) == [0, 1]
        assert shop.marts() == marts(rows, MANY_SETTINGS[number // 3])


def test_an_apply_waits_for_the_one_before_it_and_does_what_that_one_could_not(
    refreshed_shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    shop = refreshed_shop
    caplog.set_level("INFO", "clickmart")
    with ThreadPoolExecutor() as executor, apply_held(shop, "stage.loads") as (first, process):
        second = executor.submit(shop.apply)
        while "waiting for another apply" not in caplog.text:
            assert not second.done()
            time.sleep(0.01)
        assert shop.query("select pg_cancel_backend(%s)", process) == [(True,)]
        with pytest.raises(ClickmartError, match="cancel"):
            first.result()
    assert second.result().new_rows == len(SECOND)
    assert shop.marts() == marts(FIRST + SECOND)


def test_ten_applies_and_ten_loads_at_once_on_an_empty_database(server: Server, tmp_path: Path) -> None:
    """None fails and none doubles anything, and each file counts once, though each is loaded twice."""
    parts = [some_events(number) for number in range(5)]
    files = [write(tmp_path / f"{number}.jsonl", part) for number, part in enumerate(parts)]
    with server.database(template=False) as dsn:
        reports = at_once(
            *[lambda: clickmart.apply(dsn=dsn) for _ in range(10)],
            *[lambda file=file: clickmart.load(file, dsn=dsn) for file in files * 2],
        )
        applies, loads = reports[:10], reports[10:]
        applies.append(clickmart.apply(dsn=dsn))
        assert sorted(file.status for load in loads for file in load.files) == ["loaded"] * 5 + ["skipped"] * 5
        assert sum(report.new_rows for report in applies) == len(loaded(parts))
        names = [name for report in applies for name in report.migrations]
        # A load may have applied them first.
        assert len(names) == len(set(names))
        with Warehouse(dsn).connect() as connection:
            shop = Shop(dsn, connection, tmp_path)
            assert shop.query("select count(*) from stage.events") == [(len(loaded(parts)),)]
            assert shop.query("select name from clickmart.migrations order by name") == [
                (migration.name,) for migration in read_project().migrations
            ]
            assert shop.marts() == marts(loaded(parts))
            assert shop.failures() == []


def test_loads_and_applies_may_run_side_by_side(shop: Shop, tmp_path: Path) -> None:
    """Also while partitions are opened, here one for each two loads."""
    parts = [some_events(number) for number in range(60)]
    files = [write(tmp_path / f"{number}.jsonl", part) for number, part in enumerate(parts)]
    shop.query("select setval(pg_get_serial_sequence('stage.loads', 'id'), 5)")
    ((begin_load,),) = shop.query("select pg_get_functiondef('stage.begin_load()'::regprocedure)")
    assert "least(10000, " in str(begin_load)
    shop.connection.execute(str(begin_load).replace("least(10000, ", "least(2, ").encode())

    def load(number: int) -> None:
        with Warehouse(shop.dsn).connect() as connection:
            for file in files[number::3]:
                assert (report := load_file(connection, str(file))).status == "loaded", report.problem

    def apply() -> tuple[int, int]:
        reports = [shop.apply(full=number == 5) for number in range(10)]
        return sum(report.new_loads for report in reports), sum(report.new_rows for report in reports)

    *_, first, second = at_once(*[lambda n=n: load(n) for n in range(3)], apply, apply)
    report = shop.apply()
    assert first[0] + second[0] + report.new_loads == len(files)
    assert first[1] + second[1] + report.new_rows == len(loaded(parts))
    assert shop.marts() == marts(loaded(parts))
    assert shop.failures() == []


def test_a_detachment_waits_for_an_apply(refreshed_shop: Shop) -> None:
    """Which else might find raw events neither among the detached nor among the others."""
    shop = refreshed_shop
    with (
        ThreadPoolExecutor() as threads,
        apply_held(shop, "stage.loads", lambda: shop.apply(full=True)) as (_, process),
    ):
        detaching = threads.submit(query, shop.dsn, "select stage.detach_events('infinity')")
        waiting_for(shop, process, detaching)


@pytest.mark.parametrize("full", [False, True], ids=["new events", "full"])
def test_a_load_during_an_apply_does_not_wait_and_is_taken_in_by_the_next(refreshed_shop: Shop, full: bool) -> None:
    shop, third = refreshed_shop, some_events(3)
    with apply_held(shop, "stage.loads", lambda: shop.apply(full=full)) as (applying, _):
        shop.query("select set_config('lock_timeout', '500ms', false)")
        shop.load(*third)
        assert not applying.done()
    assert applying.result().new_rows == len(SECOND)
    assert shop.marts() == marts(FIRST + SECOND)
    assert shop.apply().new_rows == len(third)
    assert shop.marts() == marts(FIRST + SECOND + third)
