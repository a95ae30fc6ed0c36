"""`apply --plan --data`: what an apply would do, tried on a copy. It must be what the apply then does, and leave
nothing behind."""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import clickmart
import oracle
import psycopg
import pytest
from clickmart import rehearsal
from clickmart.applying import ApplyReport
from clickmart.dashboards import read_dashboards
from clickmart.errors import ProjectError, SqlError, UsageError, WarehouseError
from clickmart.mart_differences import MartDifference
from clickmart.project import Project, init_project, read_project
from clickmart.rehearsal_report import Rehearsal
from clickmart.warehouse import Warehouse
from conftest import Server, Shop, open_shop, project_with
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import events_of
from projects import clean_environment, outcome, query, run, run_json, smallest_project, value, write_files
from strategies import cuts, events

PURCHASES = """
    user | at    | page          | referer
    u1   | 10:00 | /product_a    | r1
    u1   | 10:01 | /cart         | r1
    u1   | 10:02 | /payment      | r1
    u1   | 10:03 | /confirmation | r1
    u2   | 10:00 | /product_a    | r2
    u2   | 10:50 | /cart         | r2
    u2   | 10:51 | /payment      | r2
    u2   | 10:52 | /confirmation | r2"""
LATER = """
    user | at    | page
    u3   | 12:00 | /cart"""
MARTS = (
    *("attributions", "events_hours", "page_totals", "products_hours", "purchases", "sessions", "settings"),
    *("source_conversions", "sources", "top_pages", "user_days"),
)
#: Their numbers, which a row has from a sequence, have no meaning.
NUMBERS = {"id", "purchase_id"}
EVERYTHING = """
    select 'namespace', nspname, '' from pg_namespace where nspname !~ '^pg_(temp|toast_temp)'
    union all
    select 'relation', oid::regclass::text, relfilenode::text || ' ' || coalesce(array_to_string(reloptions, ','), '')
    from pg_class where relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
    union all
    select 'routine', oid::regprocedure::text, prosrc from pg_proc
    where pronamespace::regnamespace::text !~ '^(pg_|information_schema)'
    union all
    select 'type', oid::regtype::text, typnamespace::regnamespace::text from pg_type
    where typnamespace::regnamespace::text !~ '^(pg_|information_schema)'
    union all
    select 'role', rolname, '' from pg_roles
    union all
    select 'file', path, checksum from clickmart.files
    union all
    select 'migration', name, checksum from clickmart.migrations
    union all
    select 'load', id::text, refreshed_at::text from stage.loads
    union all
    select 'rebuild', page_views::text, purchases::text from cdm.rebuild
    order by 1, 2, 3"""


BOTH = pytest.mark.parametrize("server", ["embedded_server", "machine_server"], indirect=True)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Server:
    """The embedded one, and the other too for the tests that say so."""
    found: Server = request.getfixturevalue(getattr(request, "param", "embedded_server"))
    return found


@pytest.fixture(scope="module")
def one_shop(embedded_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(embedded_server, tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return init_project(tmp_path / "project")


@pytest.fixture
def sold(shop: Shop) -> Shop:
    """A shop whose marts have taken in two purchases."""
    shop.load(*events_of(PURCHASES))
    shop.apply()
    return shop


def rehearse(
    shop: Shop, project: Project | Path, *, full: bool = False, rows: int | None = None
) -> tuple[ApplyReport, Rehearsal]:
    """What is found, and that nothing has changed by it."""
    found = read_project(project) if isinstance(project, Path) else project
    before = shop.query(EVERYTHING), shop.marts()
    report = rehearsal.rehearse(Warehouse(shop.dsn), found, full=full, rows=rows)
    assert (shop.query(EVERYTHING), shop.marts()) == before
    assert report.planned
    assert report.rehearsal is not None
    return report, report.rehearsal


def said(found: Rehearsal, mart: str, by: str = "by the change") -> MartDifference | None:
    """What is said of a mart."""
    return next((one for one in found.differences if (one.mart, one.by) == (f"cdm.{mart}", by)), None)


def rows_of(shop: Shop, mart: str) -> Counter[tuple[object, ...]]:
    cursor = shop.connection.execute(f"select * from cdm.{mart}".encode())
    names = [column.name for column in cursor.description or () if column.name not in NUMBERS]
    texts = ", ".join(f"{name}::text" for name in names)
    return Counter(shop.query(f"select {texts} from cdm.{mart}"))


def counted(difference: MartDifference) -> Counter[tuple[object, ...]]:
    """How many times oftener each row is there."""
    counts: Counter[tuple[object, ...]] = Counter()
    kept = [number for number, name in enumerate(difference.columns) if name not in NUMBERS]
    for comes, values in difference.rows:
        counts[tuple(values[number] for number in kept)] += 1 if comes else -1
    return counts


# What it says is what the apply does


SETTINGS = st.sampled_from(
    [
        oracle.DEFAULTS,
        replace(oracle.DEFAULTS, top_pages=1),
        replace(oracle.DEFAULTS, purchase_window=timedelta(minutes=30)),
        replace(oracle.DEFAULTS, session_gap=timedelta(hours=1)),
        replace(oracle.DEFAULTS, product="^cart(/|$)", cart="^product_"),
    ]
)


@settings(max_examples=8)
@given(data=st.data())
def test_an_apply_changes_the_rows_that_were_shown_and_no_others(one_shop: Shop, data: st.DataObject) -> None:
    one_shop.reset()
    one_shop.apply()
    cut = data.draw(events().flatmap(cuts))
    for index, file in enumerate(cut.files):
        one_shop.load(*file)
        if index in cut.applies:
            one_shop.refresh()
    project, full = project_with(data.draw(SETTINGS)), data.draw(st.booleans())
    report = rehearsal.rehearse(Warehouse(one_shop.dsn), project, full=full, rows=None)
    before = {mart: rows_of(one_shop, mart) for mart in MARTS}
    applied = one_shop.apply(project, full=full)
    assert (applied.files, applied.migrations) == (report.files, report.migrations)
    found = report.rehearsal
    for mart in MARTS:
        expected = Counter(before[mart])
        for difference in found.differences if found else ():
            if difference.mart == f"cdm.{mart}":
                assert difference.count_come + difference.count_go == len(difference.rows) > 0
                expected.update(counted(difference))
        assert {row: count for row, count in expected.items() if count} == rows_of(one_shop, mart)


@BOTH
def test_what_the_new_loads_bring_is_told_from_what_the_change_does(sold: Shop, folder: Path) -> None:
    sold.load(*events_of(LATER))
    write_files(folder, {"clickmart.toml": '[settings]\npurchase_window = "30 minutes"\n'})
    report, found = rehearse(sold, folder)
    assert (report.new_loads, report.rebuilt) == (1, True)
    loads, change = said(found, "events_hours", "by the new loads"), said(found, "purchases")
    assert loads is not None
    assert loads.rows == ((True, ("2022-09-30 12:00:00", "1", "cart")),)
    assert said(found, "events_hours") is None
    assert said(found, "purchases", "by the new loads") is None
    assert change is not None
    assert (change.count_go, change.count_come) == (1, 0)
    assert "u2" in change.rows[0][1]


def test_new_loads_alone_can_be_tried_too(sold: Shop) -> None:
    sold.load(*events_of(LATER))
    report, found = rehearse(sold, read_project())
    assert report.files == ()
    assert [step.name for step in found.steps] == ["refresh"]
    assert {one.by for one in found.differences} == {"by the new loads"}
    assert {one.mart for one in found.differences} == {
        *("cdm.events_hours", "cdm.sessions", "cdm.source_conversions", "cdm.sources", "cdm.user_days")
    }


def test_building_anew_differs_in_nothing_where_the_marts_are_right(sold: Shop) -> None:
    report, found = rehearse(sold, read_project(), full=True)
    assert (report.rebuilt, found.differences) == (True, ())


def test_a_row_that_was_changed_by_hand_is_shown_where_it_would_be_mended(sold: Shop) -> None:
    sold.query("update cdm.events_hours set count_events = 7 where event_type = 'cart' returning 1")
    _, found = rehearse(sold, read_project(), full=True)
    difference = said(found, "events_hours")
    assert difference is not None
    assert difference.rows == (
        (False, ("2022-09-30 10:00:00", "7", "cart")),
        (True, ("2022-09-30 10:00:00", "2", "cart")),
    )


def test_nothing_to_do_is_not_tried(sold: Shop) -> None:
    report = clickmart.apply(dsn=sold.dsn, plan=True, data=True)
    assert (report.rehearsal, str(report)) == (None, "nothing to do")
    assert "data" not in report.as_dict()


def test_a_refresh_that_fails_as_it_stands_does_not_keep_its_mending_from_being_tried(sold: Shop, folder: Path) -> None:
    broken = "create or replace function cdm.refresh_sessions(rebuild boolean) returns void language plpgsql as "
    sold.connection.execute(f"{broken} 'begin raise ''broken''; end'")
    sold.load(*events_of(LATER))
    file = folder / "sql/cdm/20_sessions.sql"
    file.write_text(file.read_text() + "-- mended\n")
    _, found = rehearse(sold, folder)
    assert {one.by for one in found.differences} == {"by the change and the new loads"}
    sessions = said(found, "sessions", "by the change and the new loads")
    assert sessions is not None
    assert [comes for comes, _ in sessions.rows] == [True]


def test_numbers_that_rows_have_from_a_sequence_are_no_difference(sold: Shop) -> None:
    """Neither where they stand nor where a view shows them; a rank is none of them."""
    sold.connection.execute("update cdm.purchases set count_products = 5 where user_id = 'u1'")
    numbers = "select purchase_id from cdm.attributions order by user_id"
    before = sold.query(numbers)
    _, found = rehearse(sold, read_project(), full=True)
    attributions = said(found, "attributions")
    assert attributions is not None
    assert [(comes, values[2]) for comes, values in attributions.rows] == [(False, "5"), (True, "1")]
    assert "purchase_id" not in attributions.columns
    assert said(found, "page_totals") is None
    sold.apply(full=True)
    assert sold.query(numbers) != before
    sold.connection.execute("update cdm.settings set top_pages = 0")
    assert said(rehearse(sold, read_project(), full=True)[1], "top_pages") is None


def test_of_many_rows_that_differ_the_first_are_kept_and_all_are_counted(sold: Shop, folder: Path) -> None:
    write_files(folder, {"clickmart.toml": '[settings]\npurchase_window = "0"\n'})
    _, found = rehearse(sold, folder, rows=1)
    difference = said(found, "purchases")
    assert difference is not None
    assert (len(difference.rows), difference.count_go) == (1, 2)
    assert "... 1 more row" in [str(block) for block in difference.blocks()]


# Changes of all kinds


MIGRATION = "migrations/0100_shop.sql"


def test_columns_and_marts_may_come_and_go(sold: Shop, folder: Path) -> None:
    files = {
        MIGRATION: "alter table cdm.products_hours add column is_late boolean;\n"
        "drop view cdm.source_conversions;\nalter table cdm.sessions drop column exit_page_url;\n",
        "sql/cdm/60_pages.sql": "create or replace view cdm.pages as select page_url from cdm.page_totals;\n",
    }
    # What needs the column is in the way of dropping it, in the copy as it is in the warehouse.
    with pytest.raises(SqlError, match=r"cannot drop column exit_page_url of table cdm.sessions because") as caught:
        rehearse(sold, write_files(folder, files))
    assert str(caught.value).startswith(f"{MIGRATION}:3:1: ")
    assert str(caught.value).endswith("\nit was tried on a copy: nothing was changed")
    files[MIGRATION] = files[MIGRATION].partition("alter table cdm.sessions")[0]
    _, found = rehearse(sold, write_files(folder, files))
    hours, pages, gone = (said(found, mart) for mart in ("products_hours", "pages", "source_conversions"))
    assert hours is not None
    assert (hours.columns_new, hours.count_come, hours.count_go) == (("is_late",), 0, 0)
    assert pages == MartDifference(
        "cdm.pages",
        "by the change",
        is_new=True,
        columns=("page_url",),
        count_come=1,
        rows=((True, ("http://shop/product_a",)),),
    )
    assert gone == MartDifference("cdm.source_conversions", "by the change", is_gone=True)


KINDS = """
create type cdm.size as enum ('small', 'large');
create domain cdm.amount as numeric(10, 2) default 1 not null check (value > 0);
create type cdm.pair as (a int, b cdm.size);
create sequence cdm.odd_numbers increment 2 start 7;
create function cdm.twice(n int) returns int language sql immutable as 'select 2 * n';
create function cdm.first_of(rows cdm.events_hours) returns text language sql as 'select rows.event_type';
create table cdm.shops (
    id int generated always as identity (start 5) primary key,
    name text collate "C" not null unique,
    of_size cdm.size default 'small',
    all_sizes cdm.size [] default '{small,large}',
    price cdm.amount,
    pair cdm.pair,
    twice int generated always as (cdm.twice(3)) stored,
    number bigint default nextval('cdm.odd_numbers'),
    check (length(name) < 100)
) with (fillfactor = 70);
create table cdm.visits (shop_id int references cdm.shops, day date not null, data json) partition by range (day);
create table cdm.visits_2022 partition of cdm.visits for values from ('2022-01-01') to ('2023-01-01');
create table cdm.visits_rest partition of cdm.visits default;
create index visits_day on cdm.visits (day);
create statistics cdm.visits_both on shop_id, day from cdm.visits;
create materialized view cdm.counts as select of_size, count(*) as n from cdm.shops group by of_size;
create unique index counts_size on cdm.counts (of_size);
create view cdm.big_shops with (security_barrier = true) as select * from cdm.shops where of_size = 'large';
create function cdm.note() returns trigger language plpgsql as $$ begin new.name := upper(new.name); return new; end $$;
create trigger note before insert on cdm.shops for each row execute function cdm.note();
create procedure cdm.grow() language sql as $$ update cdm.shops set of_size = 'large' $$;
create schema "Shop's own";
create table "Shop's own"."Tab%le {x}" ("Col""umn" text, "%s" int);
insert into "Shop's own"."Tab%le {x}" values ('a', 1), (null, 2);
insert into cdm.shops (name, pair) values ('x', row(1, 'large')), ('y', null);
insert into cdm.visits values (5, '2022-05-05', '{"a": 1}'), (6, '2023-05-05', null);
refresh materialized view cdm.counts;
"""
OF_KINDS = """
insert into cdm.shops (name, of_size) values ('z', 'large');
insert into cdm.visits values (7, '2022-06-06', '{"a": 2}');
call cdm.grow();
refresh materialized view cdm.counts;
insert into "Shop's own"."Tab%le {x}" values ('a', 1);
do $$ begin insert into cdm.shops (name) values ('x'); exception when unique_violation then null; end $$;
do $$ begin insert into cdm.shops (name, price) values ('w', -1); exception when check_violation then null; end $$;
do $$ begin
    insert into cdm.visits values (99, '2022-06-06'); exception when foreign_key_violation then null;
end $$;
do $$ begin
    if (select 'fillfactor=70' <> all (reloptions) from pg_class where oid = 'cdm.shops'::regclass) then
        raise 'no fillfactor';
    end if;
    if (select count(*) from pg_indexes where schemaname = 'cdm' and indexname = 'visits_day') <> 1 then
        raise 'no index';
    end if;
    if (select count(*) from pg_statistic_ext where stxnamespace = 'cdm'::regnamespace) <> 1 then
        raise 'no statistics';
    end if;
    if cdm.first_of((select h from cdm.events_hours as h where event_type = 'cart')) <> 'cart' then
        raise 'no function';
    end if;
end $$;
"""


@BOTH
def test_objects_of_every_kind_are_copied_with_their_rows_and_numbers(sold: Shop, folder: Path) -> None:
    write_files(folder, {MIGRATION: KINDS})
    sold.apply(read_project(folder))
    write_files(folder, {"migrations/0101_shop.sql": OF_KINDS})
    _, found = rehearse(sold, folder)
    rows = {mart: said(found, mart) for mart in ("shops", "visits", "counts", "big_shops")}
    assert {mart: (one.count_go, one.count_come) for mart, one in rows.items() if one} == {
        "shops": (2, 3),
        "visits": (0, 1),
        "counts": (1, 1),
        "big_shops": (0, 3),
    }
    assert rows["shops"] is not None
    came = [values for comes, values in rows["shops"].rows if comes]
    names = rows["shops"].columns
    assert [dict(zip(names, values, strict=True)) for values in came if "Z" in values] == [
        {
            "name": "Z",
            "of_size": "large",
            "all_sizes": "{small,large}",
            "price": "1.00",
            "pair": None,
            "twice": "6",
            "number": "11",
        }
    ]
    own = next(one for one in found.differences if one.mart.startswith("Shop's own"))
    assert (own.mart, own.columns, own.rows) == ("Shop's own.Tab%le {x}", ('Col"umn', "%s"), ((True, ("a", "1")),))
    sold.apply(read_project(folder))
    assert sold.query("select number from cdm.shops where name = 'Z'") == [(11,)]


def test_what_runs_without_a_transaction_is_tried_in_one(sold: Shop, folder: Path) -> None:
    text = (
        "-- clickmart: no transaction\nbegin;\ncreate index CONCURRENTLY on cdm.sessions (ended_at);\ncommit;\n"
        "vacuum cdm.sessions;\nupdate cdm.sessions set count_views = 0; -- concurrently\n"
    )
    _, found = rehearse(sold, write_files(folder, {MIGRATION: text}))
    sessions = said(found, "sessions")
    assert sessions is not None
    assert (sessions.count_go, sessions.count_come) == (3, 3)
    with pytest.raises(ProjectError, match=f"^{MIGRATION}: rollback can't be tried, since all is tried in one"):
        rehearse(sold, write_files(folder, {MIGRATION: f"{text}rollback;"}))


def test_a_role_a_schema_or_a_setting_that_a_migration_makes_is_gone_at_the_end(sold: Shop, folder: Path) -> None:
    text = (
        "create role of_no_use;\ncreate schema extra;\ncreate table extra.t as select 1 as a;\n"
        "create table public.t as select 1 as a;\ngrant select on cdm.sources to of_no_use;\n"
        "set search_path = cdm;\ncreate view found as select * from sources;\n"
    )
    _, found = rehearse(sold, write_files(folder, {MIGRATION: text}))
    assert {one.mart for one in found.differences if one.is_new} == {"extra.t", "cdm.found"}


# The raw layer


def test_the_raw_layer_is_read_where_it_is(sold: Shop, folder: Path) -> None:
    """Its size is not among what was copied; a comment on it is no reason to copy it."""
    comment = "comment on table stage.events is 'Others''s.';\n"
    change = {"clickmart.toml": "[settings]\nproduct = '^cart(/|$)'\n", "sql/stage/15_shop.sql": comment}
    sold.load(*({"event_id": secrets.token_hex(1000), "user_domain_id": f"u{n}"} for n in range(2000)))
    sold.apply()
    _, found = rehearse(sold, write_files(folder, change))
    events_size = sum(int(str(size)) for (size,) in sold.query("select pg_table_size(inhrelid) from pg_inherits"))
    assert 0 < found.bytes_copied < 2_000_000 < events_size
    assert said(found, "purchases") is not None


@pytest.mark.parametrize(
    "statement",
    [
        "alter table stage.events add column shop text",
        "update stage.events set page_url_path = '/cart' where page_url_path = '/payment'",
        "create index on stage.events (user_domain_id)",
        "delete from stage.events where user_domain_id = 'u1'",
        "lock table stage.events in share mode",
    ],
)
def test_what_a_migration_does_to_the_raw_layer_is_done_to_a_copy_of_it(
    sold: Shop, folder: Path, statement: str
) -> None:
    write_files(folder, {MIGRATION: f"{statement};\nselect cdm.request_rebuild('page_views');\n"})
    raw = sold.query("select * from stage.events order by id")
    _, found = rehearse(sold, folder)
    assert sold.query("select * from stage.events order by id") == raw
    locked = any(word in statement for word in ("alter", "index", "lock"))
    assert ("stage.events" in {lock.relation for lock in found.locks}) == locked
    assert (said(found, "purchases") is not None) == ("update" in statement or "delete" in statement)


# Cards


def test_a_card_that_would_break_is_named_with_its_line(sold: Shop, folder: Path) -> None:
    """One that is broken as it stands is told apart. A filter's clause is prepared too."""
    place = "place = { column = 0, row = 0, width = 6, height = 4 }\n"
    cards = {
        "fine": "select count(*) from cdm.depots",
        "broken": "select nothing from cdm.depots",
        "lost": "select\n    name, opened_on\nfrom cdm.depots -- with a semicolon;",
        "narrowed": "select 1 as a from cdm.depots\nwhere true\n-- [[ and opened_on > {{day}} ]]\n;",
        "required": "select 1 as a from cdm.depots where size > {{least}}",
        "drawn": "select * from cdm.depots",
    }
    toml = '[filters.day]\ntitle = "Day"\ntype = "date"\n[filters.least]\ntitle = "Least"\ntype = "number"\n'
    toml += "".join(f"[cards.{name}]\n{place}" for name in cards) + 'y = "size"\n'
    depots = "create table cdm.depots (name text, opened_on date, size int);"
    write_files(folder, {MIGRATION: depots, "dashboards/shop/dashboard.toml": toml})
    write_files(folder, {f"dashboards/shop/{name}.sql": text for name, text in cards.items()})
    sold.apply(read_project(folder))
    change = "alter table cdm.depots drop column opened_on; alter table cdm.depots rename size to area;"
    write_files(folder, {"migrations/0101_shop.sql": change})
    _, found = rehearse(sold, folder)
    built_in = sum(len(dashboard.cards) for dashboard in read_dashboards(read_project()))
    assert found.cards == len(cards) + built_in
    said = {card.path: (card.message.partition("\n")[0], card.is_by_change) for card in found.broken_cards}
    path = "dashboards/shop/"
    assert said == {
        f"{path}broken.sql": (f'{path}broken.sql:1:8: column "nothing" does not exist', False),
        f"{path}lost.sql": (f'{path}lost.sql:2:11: column "opened_on" does not exist', True),
        f"{path}narrowed.sql": (f'{path}narrowed.sql:3:5: column "opened_on" does not exist', True),
        f"{path}required.sql": (f'{path}required.sql:1:37: column "size" does not exist', True),
        f"{path}drawn.sql": (
            f"{path}drawn.sql: gives no column 'size', which dashboard.toml names; there are name, area",
            True,
        ),
    }
    result = run("apply", "--plan", "--data", "--project", str(folder), dsn=sold.dsn)
    assert (result.exit_code, result.stderr) == (1, "clickmart: a card would break\n")
    lines = result.stdout.splitlines()
    assert lines[lines.index(f"4 of {found.cards} cards would break:") + 1 :][:3] == [
        "  dashboards/shop/drawn.sql: gives no column 'size', which dashboard.toml names; there are name, area",
        '  dashboards/shop/lost.sql:2:11: column "opened_on" does not exist',
        "    2 |     name, opened_on",
    ]
    assert lines[-4].strip() == "broken already, before the change:"


def test_a_card_that_is_broken_already_is_no_reason_to_fail(sold: Shop, folder: Path) -> None:
    toml = "[cards.broken]\nplace = { column = 0, row = 0, width = 6, height = 4 }\n"
    write_files(folder, {"dashboards/shop/dashboard.toml": toml, "dashboards/shop/broken.sql": "select nothing"})
    sold.load(*events_of(LATER))
    result = run("apply", "--plan", "--data", "--project", str(folder), dsn=sold.dsn)
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.search("no card of [0-9]+ would break\nbroken already, before the change:\n", result.stdout)


# Locks, and whom they keep waiting


def test_a_lock_that_keeps_others_waiting_is_named_with_the_step_that_takes_it(sold: Shop, folder: Path) -> None:
    """Held until the transaction ends that took it: each migration's own, or that of the files and the refresh."""
    files = {
        MIGRATION: "alter table cdm.sessions add column a int; select pg_sleep(0.2);",
        "migrations/0101_shop.sql": "create index on cdm.sessions (ended_at); lock table cdm.user_days in share mode;",
        "sql/cdm/60_shop.sql": "create or replace view cdm.sources as select id, referer_url, utm_campaign, "
        "count_users, count_purchases, 0::float8 as share_users from cdm.source_totals; select pg_sleep(0.2);",
        "clickmart.toml": "[settings]\nproduct = '^product_b'\n",
    }
    _, found = rehearse(sold, write_files(folder, files))
    locks = {lock.relation: lock for lock in found.locks if lock.step != MIGRATION}
    first = next(lock for lock in found.locks if lock.step == MIGRATION)
    assert (first.relation, first.mode, first.waiting) == ("cdm.sessions", "AccessExclusiveLock", "readers and writers")
    assert 0.2 <= first.seconds < 5
    days, sources, views = locks["cdm.user_days"], locks["cdm.sources"], locks["stage.page_views"]
    assert (days.waiting, days.step) == ("writers", "migrations/0101_shop.sql")
    assert (sources.waiting, sources.step) == ("readers and writers", "sql/cdm/60_shop.sql")
    assert sources.seconds >= 0.2
    assert (views.waiting, views.step) == ("readers and writers", "refresh")
    assert "cdm.purchases" not in locks


def test_what_the_new_loads_lock_is_locked_by_the_refresh(sold: Shop, folder: Path) -> None:
    """Also where so much is new that they alone have the marts built anew, and a migration comes before."""
    sold.connection.execute(
        "with load as (insert into stage.loads (file_name, checksum, size, format, rows_loaded, rows_rejected, "
        "started_at, status) values ('f', 'c', 1, 'csv', 100001, 0, now(), 'loaded') returning id) "
        "insert into stage.events (event_timestamp, batch_id) select '2022-09-30 10:00:00', id from load"
    )
    write_files(folder, {MIGRATION: "alter table cdm.sessions add column a int;"})
    _, found = rehearse(sold, folder)
    assert said(found, "events_hours", "by the new loads") is not None
    views = next(lock for lock in found.locks if lock.relation == "stage.page_views")
    refresh = next(step for step in found.steps if step.name == "refresh")
    assert (views.step, views.seconds) == ("refresh", pytest.approx(refresh.seconds, rel=0.5, abs=0.1))


def test_who_subscribes_to_all_tables_gets_none_of_the_copy(sold: Shop, folder: Path) -> None:
    """Neither does anybody else need to: what is not logged is not published."""
    text = "do $$ begin if (select relpersistence from pg_class where oid = 'cdm.purchases'::regclass) <> '{}' then "
    text += "raise 'otherwise logged'; end if; end $$;"
    rehearse(sold, write_files(folder, {MIGRATION: text.format("p")}))
    sold.connection.execute("create publication everything for all tables")
    rehearse(sold, write_files(folder, {MIGRATION: text.format("u")}))


def test_an_apply_that_keeps_nobody_waiting_says_so(sold: Shop) -> None:
    sold.load(*events_of(LATER))
    report, found = rehearse(sold, read_project())
    assert found.locks == ()
    assert "no lock keeps others waiting" in str(report)


def test_a_lock_elsewhere_is_refused_and_let_go(sold: Shop, folder: Path) -> None:
    sold.connection.execute("create schema crm; create table crm.customers (id int)")
    write_files(folder, {MIGRATION: "alter table crm.customers add column a int;"})
    with pytest.raises(ProjectError, match=f"^{MIGRATION}: locks crm.customers, which stands in no schema of the pro"):
        rehearse(sold, folder)
    assert sold.query("select count(*) from pg_locks where relation = 'crm.customers'::regclass") == [(0,)]


def test_a_view_elsewhere_keeps_what_it_needs_from_being_dropped(sold: Shop, folder: Path) -> None:
    sold.connection.execute("create schema crm; create view crm.late as select ended_at from cdm.sessions")
    write_files(folder, {MIGRATION: "alter table cdm.sessions drop column ended_at;"})
    with pytest.raises(SqlError, match=r"view clickmart_plan_crm.late depends on column ended_at"):
        rehearse(sold, folder)


@BOTH
def test_readers_and_loads_go_on_meanwhile_and_an_apply_waits(server: Server, folder: Path, tmp_path: Path) -> None:
    """While the change holds the copy's locks, which in the end the apply will hold."""
    text = "alter table cdm.sessions add column a int; truncate cdm.events_hours; select pg_sleep(3);"
    write_files(folder, {MIGRATION: text})
    with open_shop(server, tmp_path) as shop, psycopg.connect(shop.dsn, autocommit=True) as watcher:
        shop.load(*events_of(PURCHASES))
        shop.apply()
        found: list[ApplyReport] = []
        trying = threading.Thread(
            target=lambda: found.append(clickmart.apply(dsn=shop.dsn, project=folder, plan=True, data=True))
        )
        trying.start()
        sleeps = "select count(*) from pg_stat_activity where query like '%pg_sleep%' and wait_event = 'PgSleep'"
        while watcher.execute(sleeps).fetchone() != (1,):
            assert trying.is_alive()
            time.sleep(0.02)
        watcher.execute("set lock_timeout = '1s'")
        assert watcher.execute("select count(*) from cdm.sessions").fetchone() == (3,)
        assert watcher.execute("select count(*) from cdm.events_hours").fetchone() == (4,)
        shop.load(*events_of(LATER))
        for _ in range(12):  # a new partition is attached meanwhile
            shop.load(*events_of(LATER))
        watcher.execute("create view cdm.made_meanwhile as select 1 as a")
        watcher.execute("select cdm.explain_user('u1')")
        assert watcher.execute(sleeps).fetchone() == (1,)
        applied = shop.apply()
        trying.join()
        assert not shop.query("select from pg_namespace where nspname like 'clickmart\\_%'")
        assert (applied.new_loads, shop.query("select a from cdm.made_meanwhile")) == (13, [(1,)])
        assert found[0].rehearsal
        hours = said(found[0].rehearsal, "events_hours")
        assert hours is not None
        assert (hours.count_come, hours.count_go) == (0, 4)


# What goes wrong


def test_a_change_that_fails_says_where_and_leaves_nothing(sold: Shop, folder: Path) -> None:
    file = folder / "sql/cdm/20_events_hours.sql"
    file.write_text(file.read_text().replace("count(*)", "count(signs)"))
    sold.load(*events_of(LATER))
    before = sold.query(EVERYTHING)
    result = run("apply", "--plan", "--data", "--project", str(folder), dsn=sold.dsn)
    assert (result.exit_code, result.stdout) == (1, "")
    first, *_, last = result.stderr.splitlines()
    # Where the macro was called, as an apply says it.
    assert first.startswith("clickmart: sql/cdm/20_events_hours.sql:")
    assert 'column "signs" does not exist' in first
    assert last == "it was tried on a copy: nothing was changed"
    assert sold.query(EVERYTHING) == before


def test_what_a_killed_run_has_left_is_gone_after_the_next(sold: Shop, folder: Path) -> None:
    sold.connection.execute("create schema clickmart_plan_cdm; create table clickmart_plan_cdm.t (a int)")
    sold.load(*events_of(LATER))
    clickmart.apply(dsn=sold.dsn, plan=True, data=True)
    assert sold.query("select nspname from pg_namespace where nspname like 'clickmart\\_%'") == []


def test_who_does_not_own_the_schemas_is_told(sold: Shop) -> None:
    sold.load(*events_of(LATER))
    sold.connection.execute(
        "drop role if exists applier; create role applier login; grant all on schema stage, cdm, checks, clickmart to "
        "applier; grant all on all tables in schema stage, cdm, checks, clickmart to applier"
    )
    with pytest.raises(WarehouseError) as caught:
        clickmart.apply(dsn=psycopg.conninfo.make_conninfo(sold.dsn, user="applier"), plan=True, data=True)
    sold.connection.execute("drop owned by applier; drop role applier")
    assert str(caught.value).startswith("no copy of cdm and checks and stage can be made to try the change in: ")
    assert str(caught.value).endswith("; it takes the schemas' owner, who may create schemas in the database")


def test_an_owner_without_other_rights_can_try_a_change(server: Server, tmp_path: Path) -> None:
    with server.database(template=False) as dsn:
        query(dsn, "drop role if exists owner_only")
        query(dsn, "create role owner_only login")
        try:
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute(f'grant create on database "{connection.info.dbname}" to owner_only')
            own = psycopg.conninfo.make_conninfo(dsn, user="owner_only")
            clickmart.apply(dsn=own)
            report = clickmart.apply(dsn=own, plan=True, data=True, full=True)
            assert report.rehearsal
            assert report.rehearsal.differences == ()
        finally:
            query(dsn, "drop owned by owner_only")
            query(dsn, "drop role owner_only")


def test_a_drifted_migration_is_refused_before_anything_is_copied(sold: Shop, folder: Path) -> None:
    (folder / "migrations/0002_cdm.sql").write_text("select 1;")
    with pytest.raises(ProjectError, match=r"^migrations/0002_cdm.sql: changed since it was applied"):
        rehearse(sold, folder)


def test_an_error_in_a_dashboard_is_found_before_anything_is_copied(sold: Shop, folder: Path) -> None:
    write_files(folder, {"dashboards/shop/dashboard.toml": "titel = 'x'\n"})
    sold.load(*events_of(LATER))
    with pytest.raises(ProjectError, match=r"^dashboards/shop/dashboard.toml:1"):
        rehearse(sold, folder)


@pytest.mark.parametrize(("options", "problem"), [({"data": True}, "goes with plan"), ({"rows": 0}, "1 or more")])
def test_options_that_make_no_sense_are_wrong_usage(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        clickmart.apply(**options)


def test_data_without_plan_is_wrong_usage_of_the_command() -> None:
    result = run("apply", "--data")
    assert result.exit_code == 2
    assert result.stderr.endswith("Error: --data goes with --plan: it shows what the plan would change\n")


# From nothing, and what is printed


def test_the_first_apply_can_be_tried_on_an_empty_database(empty_dsn: str) -> None:
    report = clickmart.apply(dsn=empty_dsn, plan=True, data=True)
    found = report.rehearsal
    assert found
    assert (found.bytes_copied, found.locks, found.broken_cards) == (0, (), ())
    assert {one.is_new for one in found.differences} == {True}
    assert {"cdm.events_hours", "cdm.purchases", "cdm.sources"} < {one.mart for one in found.differences}
    assert query(empty_dsn, "select nspname from pg_namespace where nspname !~ '^pg_|information_schema'") == [
        ("public",)
    ]


def test_no_embedded_server_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)
    monkeypatch.chdir(tmp_path)
    report = clickmart.apply(plan=True, data=True)
    assert (report.rehearsal, len(report.migrations) > 0, list(tmp_path.iterdir())) == (None, True, [])


def test_a_project_of_other_schemas_is_tried_as_well(empty_dsn: str, tmp_path: Path) -> None:
    files = {
        MIGRATION: 'create schema "Sales"; create table "Sales".t as select 1 as a;',
        "sql/Sales/10.sql": 'create or replace view "Sales".v as select a from "Sales".t;',
    }
    project = smallest_project(tmp_path, files)
    clickmart.apply(dsn=empty_dsn, project=tmp_path)
    write_files(tmp_path, {"sql/Sales/10.sql": 'create or replace view "Sales".v as select a + 1 as a from "Sales".t;'})
    found = clickmart.apply(dsn=empty_dsn, project=project.folder, plan=True, data=True).rehearsal
    assert found
    assert [(one.mart, one.rows) for one in found.differences] == [("Sales.v", ((False, ("1",)), (True, ("2",))))]
    assert value(empty_dsn, 'select a from "Sales".v') == 1


def test_what_is_printed(sold: Shop, folder: Path) -> None:
    write_files(folder, {"clickmart.toml": '[settings]\ntop_pages = 1\npurchase_window = "30 minutes"\n'})
    arguments = ("apply", "--plan", "--data", "--project", str(folder))
    code, text, errors = outcome(run(*arguments, "--rows", "1", dsn=sold.dsn))
    assert (code, errors) == (0, "")
    lines = text.splitlines()
    assert lines[0] == "would apply:"
    assert any(line.startswith("tried on a copy of 0.") and line.endswith(" s:") for line in lines)
    assert lines[lines.index("cdm.settings, by the change: 1 row goes, 1 row comes") :][:5] == [
        "cdm.settings, by the change: 1 row goes, 1 row comes",
        "   only_row  top_pages",
        "-  --------  ---------",
        "-  true      10",
        "... 1 more row",
    ]
    assert re.fullmatch("no card of [0-9]+ would break", lines[-1])
    said = run_json(*arguments, dsn=sold.dsn)
    assert list(said) == [*json.loads(json.dumps(said))]
    assert list(said["data"]) == [
        *("bytes_copied", "seconds_copying", "steps", "locks", "marts", "cards", "broken_cards")
    ]
    assert {tuple(mart) for mart in said["data"]["marts"]} == {
        ("mart", "by", "is_new", "is_gone", "columns_new", "columns_gone", "count_come", "count_go", "rows")
    }
    purchases = next(mart for mart in said["data"]["marts"] if mart["mart"] == "cdm.purchases")
    assert [(row["comes"], row["user_id"]) for row in purchases["rows"]] == [(False, "u2")]
