"""What an apply leaves behind, when it succeeds and when it doesn't."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import clickmart
import psycopg
import pytest
from clickmart import applying
from clickmart.errors import ClickmartError, ProjectError, SqlError, UsageError, WarehouseError
from clickmart.project import init_project, read_project
from clickmart.warehouse import Warehouse
from conftest import Shop
from projects import REFRESH, apply, ledger, query, relations, smallest_project, value, write_files

Files = dict[str, str | bytes]


def refusal(dsn: str, folder: Path, files: Files) -> str:
    write_files(folder, files)
    with pytest.raises(ClickmartError) as caught:
        apply(dsn, read_project(folder))
    return str(caught.value)


# Migrations


def test_migrations_apply_once_each_in_the_order_of_their_names(empty_dsn: str, tmp_path: Path) -> None:
    log = "insert into cdm.log (name) values ('{}');"
    files: Files = {f"migrations/{name}.sql": log.format(name) for name in ("0003", "0010", "0002b")}
    files["migrations/0002.sql"] = "create table cdm.log (id int generated always as identity, name text);"
    project = smallest_project(tmp_path, files)
    for _ in range(2):
        apply(empty_dsn, project)
        assert query(empty_dsn, "select name from cdm.log order by id") == [("0002b",), ("0003",), ("0010",)]
    assert ledger(empty_dsn)[0] == ["0001_cdm.sql", "0002.sql", "0002b.sql", "0003.sql", "0010.sql"]


def test_a_migration_that_fails_leaves_nothing_of_it_and_those_before_it_stand(empty_dsn: str, tmp_path: Path) -> None:
    files: Files = {
        "migrations/0002.sql": "create table cdm.kept (a int);",
        "migrations/0003.sql": "create table cdm.lost (a int); select 1 / 0; create table cdm.never (a int);",
        "migrations/0004.sql": "create table cdm.later (a int);",
    }
    smallest_project(tmp_path)
    message = refusal(empty_dsn, tmp_path, files)
    assert message.startswith("migrations/0003.sql:1:32: division by zero")
    assert {name for name in relations(empty_dsn) if name.startswith("cdm.")} == {"cdm.kept"}
    assert ledger(empty_dsn) == (["0001_cdm.sql", "0002.sql"], [])
    write_files(tmp_path, {"migrations/0003.sql": "create table cdm.lost (a int);"})
    report = apply(empty_dsn, read_project(tmp_path))
    assert report.migrations == ("migrations/0003.sql", "migrations/0004.sql")


def test_a_migration_and_its_ledger_row_are_one_transaction(empty_dsn: str, tmp_path: Path) -> None:
    """Each in one of its own: the row has the number of the transaction that made the table."""
    files: Files = {f"migrations/000{n}.sql": f"create table cdm.t{n} (a int);" for n in (2, 3)}
    apply(empty_dsn, smallest_project(tmp_path, files))
    rows = query(
        empty_dsn,
        "select migrations.xmin::text, pg_class.xmin::text from clickmart.migrations join pg_class "
        "on relname = 't' || substr(name, 4, 1) where relname ~ '^t[23]$' order by name",
    )
    assert [row == (row[0], row[0]) for row in rows] == [True, True]
    assert rows[0] != rows[1]


def test_a_migration_is_never_templated(empty_dsn: str, tmp_path: Path) -> None:
    text = "create table cdm.t (a text);\ninsert into cdm.t values ('{{ settings.cart }}{% raw %}{# x #}%s %%');"
    apply(empty_dsn, smallest_project(tmp_path, {"migrations/0002.sql": text}))
    assert value(empty_dsn, "select a from cdm.t") == "{{ settings.cart }}{% raw %}{# x #}%s %%"


def test_a_migration_keeps_its_bytes_line_ends_too(empty_dsn: str, tmp_path: Path) -> None:
    body = "\r\nbegin\r\n\tperform 'é𝄞\\';  -- note\r\nend "
    text = f"create function cdm.f() returns void language plpgsql as $${body}$$;\r\n"
    apply(empty_dsn, smallest_project(tmp_path, {"migrations/0002.sql": text}))
    assert value(empty_dsn, "select prosrc from pg_proc where oid = 'cdm.f'::regproc") == body


def test_a_migration_may_begin_with_a_byte_order_mark(empty_dsn: str, tmp_path: Path) -> None:
    apply(empty_dsn, smallest_project(tmp_path, {"migrations/0002.sql": b"\xef\xbb\xbfcreate table cdm.t (a int);"}))
    assert "cdm.t" in relations(empty_dsn)


def test_a_migration_of_comments_alone_is_applied_too(empty_dsn: str, tmp_path: Path) -> None:
    apply(empty_dsn, smallest_project(tmp_path, {"migrations/0002.sql": "-- later\n", "migrations/0003.sql": ""}))
    assert ledger(empty_dsn)[0] == ["0001_cdm.sql", "0002.sql", "0003.sql"]


def test_a_new_migration_whose_name_sorts_before_applied_ones_still_applies(empty_dsn: str, tmp_path: Path) -> None:
    apply(empty_dsn, smallest_project(tmp_path))
    project = smallest_project(tmp_path, {"migrations/0000.sql": "create table cdm.t (a int);"})
    assert apply(empty_dsn, project).migrations == ("migrations/0000.sql",)


def test_what_a_migration_or_a_file_sets_ends_with_it(empty_dsn: str, tmp_path: Path) -> None:
    role = f"reader_{empty_dsn.partition('test_')[2].split()[0]}"
    seen = "current_setting('search_path'), current_setting('timezone'), current_setting('datestyle'), current_user"
    before = f"select pg_catalog.set_config('search_path', '', false); set timezone to 'Asia/Tokyo'; set role {role};"
    files: Files = {
        "migrations/0002.sql": "create table cdm.seen (path text, zone text, style text, by text);"
        f"create role {role}; {before}",
        "migrations/0003.sql": f"insert into cdm.seen select {seen};",
        "sql/cdm/10.sql": "set search_path to cdm; set datestyle to german;",
        "sql/cdm/20.sql": f"insert into cdm.seen select {seen};",
    }
    try:
        apply(empty_dsn, smallest_project(tmp_path, files))
        path, user = query(empty_dsn, "select current_setting('search_path'), current_user")[0]
        assert path not in {"", "cdm"}  # a new session's own, so that the files' would show
        assert query(empty_dsn, "select * from cdm.seen") == [(path, "UTC", "ISO, MDY", user)] * 2
    finally:
        query(empty_dsn, f"drop role {role}")


# Migrations without a transaction

OPT_OUT = "-- clickmart: no transaction\n"


def test_a_migration_may_opt_out_of_its_transaction(empty_dsn: str, tmp_path: Path) -> None:
    text = (
        "create table cdm.t (a text); -- a; comment\n"
        "create function cdm.f() returns text language plpgsql as $$ begin return ';'; end $$;\n"
        "create function cdm.g() returns text begin atomic select 'a;'; select case when true then ';;' end; end;\n"
        "insert into cdm.t values ('it''s; {{ x }}'), (E'\\';'); /* ; */\n"
        "create index concurrently t_a on cdm.t (a);\n"
        "vacuum cdm.t"
    )
    apply(empty_dsn, smallest_project(tmp_path, {"migrations/0002.sql": OPT_OUT + text}))
    assert query(empty_dsn, "select a from cdm.t order by a desc") == [("it's; {{ x }}",), ("';",)]
    assert query(empty_dsn, "select cdm.f(), cdm.g()") == [(";", ";;")]
    assert {"cdm.t", "cdm.t_a"} <= relations(empty_dsn)
    assert ledger(empty_dsn)[0] == ["0001_cdm.sql", "0002.sql"]


def test_without_a_transaction_what_stands_before_an_error_is_done_and_said_so(empty_dsn: str, tmp_path: Path) -> None:
    smallest_project(tmp_path)
    text = "create table cdm.t (a int);\nselect 1 / 0;\ncreate table cdm.u (a int);"
    message = refusal(empty_dsn, tmp_path, {"migrations/0002.sql": OPT_OUT + text})
    assert message == (
        "migrations/0002.sql:3:1: division by zero\n  3 | select 1 / 0;\n    | ^\n"
        "what stands before it in migrations/0002.sql is done, since that runs without a transaction"
    )
    assert {name for name in relations(empty_dsn) if name.startswith("cdm.")} == {"cdm.t"}
    assert ledger(empty_dsn)[0] == ["0001_cdm.sql"]


def test_without_a_transaction_a_migration_may_have_its_own(empty_dsn: str, tmp_path: Path) -> None:
    smallest_project(tmp_path)
    files: Files = {
        "migrations/0002.sql": OPT_OUT + "begin; create table cdm.t (a int); commit; create table cdm.u (a int);"
    }
    apply(empty_dsn, smallest_project(tmp_path, files))
    assert {"cdm.t", "cdm.u"} <= relations(empty_dsn)
    message = refusal(
        empty_dsn, tmp_path, {"migrations/0003.sql": OPT_OUT + "begin; create table cdm.v (a int); select 1 / 0;"}
    )
    assert message.startswith("migrations/0003.sql:2:36: division by zero\n")
    message = refusal(empty_dsn, tmp_path, {"migrations/0003.sql": OPT_OUT + "begin; create table cdm.v (a int);"})
    assert message.startswith("migrations/0003.sql: begins a transaction that it doesn't end")
    assert "cdm.v" not in relations(empty_dsn)
    assert ledger(empty_dsn)[0] == ["0001_cdm.sql", "0002.sql"]


# Drift


def test_a_migration_that_has_changed_is_refused_by_name_before_anything_runs(empty_dsn: str, tmp_path: Path) -> None:
    files: Files = {"migrations/0002.sql": "create table cdm.t (a int);", "migrations/0003.sql": "select 1;"}
    apply(empty_dsn, smallest_project(tmp_path, files))
    changed: Files = {
        "migrations/0002.sql": "create table cdm.t (a int);\r\n",
        "migrations/0003.sql": "select 2;",
        "migrations/0004.sql": "create table cdm.later (a int);",
        "sql/cdm/10.sql": "create table cdm.file (a int);",
    }
    message = refusal(empty_dsn, tmp_path, changed)
    assert message == (
        "migrations/0002.sql, migrations/0003.sql: changed since it was applied; "
        "bring back what was applied, and put the change in a new migration"
    )
    assert not {"cdm.later", "cdm.file"} & relations(empty_dsn)
    write_files(tmp_path, {name: files[name] for name in ("migrations/0002.sql", "migrations/0003.sql")})
    assert apply(empty_dsn, read_project(tmp_path)).migrations == ("migrations/0004.sql",)


# SQL files


def test_files_and_refresh_are_one_transaction_if_the_last_fails_nothing_stands(empty_dsn: str, tmp_path: Path) -> None:
    apply(empty_dsn, smallest_project(tmp_path, {"sql/cdm/10.sql": "create or replace view cdm.v as select 1 as a;"}))
    before = (ledger(empty_dsn), relations(empty_dsn), query(empty_dsn, "select path, checksum from clickmart.files"))
    broken: Files = {
        "sql/cdm/10.sql": "create or replace view cdm.v as select 2 as a;",
        "sql/cdm/20.sql": "create table cdm.t (a int);",
        "sql/zoo/10.sql": "select stepp;",
    }
    assert refusal(empty_dsn, tmp_path, broken).startswith('sql/zoo/10.sql:1:8: column "stepp" does not exist')
    assert (
        ledger(empty_dsn),
        relations(empty_dsn),
        query(empty_dsn, "select path, checksum from clickmart.files"),
    ) == before
    assert value(empty_dsn, "select a from cdm.v") == 1
    failing_refresh = REFRESH.replace("select 0::bigint", "select (1 / 0)::bigint")
    assert "division by zero" in refusal(
        empty_dsn, tmp_path, {"sql/zoo/10.sql": "", "sql/cdm/90_refresh.sql": failing_refresh}
    )
    assert (ledger(empty_dsn), relations(empty_dsn)) == before[:2]
    assert value(empty_dsn, "select a from cdm.v") == 1


def test_a_file_applies_again_when_and_only_when_its_rendered_text_changes(empty_dsn: str, tmp_path: Path) -> None:
    files: Files = {
        "migrations/0002.sql": "create table cdm.log (name text);",
        "sql/cdm/10.sql": "insert into cdm.log values ('10');",
        "sql/cdm/20.sql": "insert into cdm.log values ('20 {{ settings.top_pages }}');",
        "sql/cdm/30.sql": "{% from 'm.jinja' import m %}insert into cdm.log values ('30' || {{ m() }});",
        "sql/m.jinja": "{% macro m() %}'x'{% endmacro %}",
    }

    def applied(changed: Files) -> list[tuple[str, str]]:
        write_files(tmp_path, changed)
        query(empty_dsn, "truncate cdm.log")
        reasons = dict(apply(empty_dsn, read_project(tmp_path)).files)
        return [(name, reasons[f"sql/cdm/{name[:2]}.sql"]) for (name,) in query(empty_dsn, "select * from cdm.log")]

    apply(empty_dsn, smallest_project(tmp_path, files))
    assert applied({}) == []
    assert applied({"sql/cdm/10.sql": "{# why #}insert into cdm.log values ('10');"}) == []
    assert applied({"sql/cdm/10.sql": "insert into cdm.log values ('10 b');"}) == [("10 b", "changed")]
    assert applied({"clickmart.toml": "[settings]\ntop_pages = 3\ncart = 'x'"}) == [
        ("20 3", "setting changed: top_pages 10 -> 3")
    ]
    assert applied({"clickmart.toml": ""}) == [("20 10", "setting changed: top_pages 3 -> 10")]
    assert applied({"sql/m.jinja": "{% macro m() %}'y'{% endmacro %}"}) == [
        ("30y", "a template or source that it uses changed")
    ]
    assert applied({"sql/m.jinja": "\n{% macro m() %}'y'{% endmacro %}\n"}) == []


def test_only_the_settings_that_show_in_a_file_are_a_reason(empty_dsn: str, tmp_path: Path) -> None:
    init_project(tmp_path / "shop")
    applying.apply(Warehouse(empty_dsn), read_project(tmp_path / "shop"))
    settings = "[settings]\ntop_pages = 3\ncart = 'basket'\npayment = 'paid'\npurchase_window='2 days'"
    write_files(tmp_path / "shop", {"clickmart.toml": settings})
    report = applying.plan(Warehouse(empty_dsn), read_project(tmp_path / "shop"))
    assert dict(report.files) == {
        "sql/stage/20_parsed_events.sql": (
            "setting changed: cart '^cart(/|$)' -> 'basket', payment '^payment(/|$)' -> 'paid'"
        ),
        "sql/cdm/10_purchases.sql": "setting changed: purchase_window '1 day' -> '2 days'",
        "sql/cdm/10_settings.sql": "setting changed: top_pages 10 -> 3",
        "sql/cdm/20_explain.sql": "setting changed: purchase_window '1 day' -> '2 days'",
        "sql/cdm/40_proof.sql": "setting changed: purchase_window '1 day' -> '2 days'",
        "sql/cdm/40_row_checks.sql": "setting changed: purchase_window '1 day' -> '2 days'",
    }


def test_a_changed_setting_rebuilds_what_it_touches(shop: Shop, tmp_path: Path) -> None:
    at = "2026-03-02 10:0{}:00".format
    pages = ["product_a", "basket", "payment", "confirmation"]
    shop.load(
        *({"event_timestamp": at(i), "user_domain_id": "u", "page_url_path": f"/{p}"} for i, p in enumerate(pages))
    )
    shop.apply()
    assert shop.query("select count(*) from cdm.purchases") == [(0,)]
    init_project(tmp_path / "shop")
    write_files(tmp_path / "shop", {"clickmart.toml": "[settings]\ncart = '^basket$'"})
    assert shop.apply(read_project(tmp_path / "shop")).rebuilt
    assert shop.query("select count(*) from cdm.purchases") == [(1,)]
    shop.apply()
    assert shop.query("select count(*) from cdm.purchases") == [(0,)]


@pytest.mark.parametrize("step", ["product", "cart", "payment", "confirmation"])
def test_a_view_that_a_changed_setting_makes_a_step_counts_as_one(shop: Shop, tmp_path: Path, step: str) -> None:
    shop.load({"event_timestamp": "2026-03-02 10:00:00", "user_domain_id": "u", "page_url_path": "/x"})
    shop.apply()
    project = init_project(tmp_path / "shop")
    write_files(project, {"clickmart.toml": f"[settings]\n{step} = '^x$'"})
    shop.apply(read_project(project))
    assert shop.query(f"select count_views, count_{step}_views from cdm.user_days") == [(1, 1)]
    assert shop.failures() == []


@pytest.mark.parametrize(
    ("path", "harm"),
    [
        ("sql/stage/20_parsed_events.sql", "update stage.page_views set page_type = 'x'"),
        ("sql/stage/30_page_views.sql", "update stage.page_views set page_type = 'x'"),
        ("sql/cdm/10_purchases.sql", "update cdm.purchases set count_products = 9"),
        ("sql/cdm/20_events_hours.sql", "update cdm.events_hours set count_events = 9"),
        ("sql/cdm/20_page_totals.sql", "update cdm.page_totals set count_purchases = 9"),
        ("sql/cdm/20_products_hours.sql", "update cdm.products_hours set count_products = 9"),
        ("sql/cdm/20_source_totals.sql", "update cdm.source_totals set count_users = 9"),
        ("sql/cdm/20_user_days.sql", "update cdm.user_days set count_views = 9"),
    ],
)
def test_a_changed_file_has_built_anew_what_it_makes(shop: Shop, tmp_path: Path, path: str, harm: str) -> None:
    pages = enumerate(["product_a", "cart", "payment", "confirmation"])
    at = "2026-03-02 10:0{}:00".format
    shop.load(*({"event_timestamp": at(i), "user_domain_id": "u", "page_url_path": f"/{page}"} for i, page in pages))
    shop.apply()
    marts = shop.marts()
    shop.connection.execute(harm.encode())
    assert shop.failures() != []
    project = init_project(tmp_path / "shop")
    with (project / path).open("a") as file:
        file.write("-- changed\n")
    assert shop.apply(read_project(project)).rebuilt
    assert (shop.marts(), shop.failures()) == (marts, [])


# Reports


def test_a_copy_of_the_built_in_project_has_nothing_to_do_over_the_built_in_one(dsn: str, tmp_path: Path) -> None:
    init_project(tmp_path / "shop")
    assert str(applying.apply(Warehouse(dsn), read_project(tmp_path / "shop"))) == "nothing to do"


def test_full_builds_anew_and_says_so(dsn: str) -> None:
    report = applying.apply(Warehouse(dsn), read_project(), full=True)
    assert (report.rebuilt, report.files, report.migrations, report.new_loads) == (True, (), (), 0)
    assert str(report).startswith("refresh: 0 new loads, 0 rows, marts built anew\napplied in ")


@pytest.mark.parametrize(("jobs", "workers"), [(1, 0), (2, 2), (3, 3)])
def test_jobs_is_how_many_processes_work_on_the_refresh_beside_the_one_that_collects(
    empty_dsn: str, tmp_path: Path, jobs: int, workers: int
) -> None:
    seen = (
        'create or replace function cdm.refresh("full" boolean default false) '
        "returns table (count_loads bigint, count_rows bigint, is_rebuilt boolean) language sql as $$ "
        "select current_setting('max_parallel_workers_per_gather')::bigint, 0::bigint, "
        "current_setting('parallel_leader_participation')::boolean $$;"
    )
    project = smallest_project(tmp_path, {"sql/cdm/90_refresh.sql": seen})
    report = applying.apply(Warehouse(empty_dsn), project, jobs=jobs)
    assert (report.new_loads, report.rebuilt) == (workers, False)
    with pytest.raises(UsageError, match=r"^jobs must be 1 or more, found 0$"):
        clickmart.apply(dsn=empty_dsn, jobs=0)


# Two at once, killed, and without rights


def test_of_two_applies_at_once_the_second_waits_and_has_nothing_to_do(empty_dsn: str, tmp_path: Path) -> None:
    """Also where the first makes an index concurrently, for which it waits for every statement that runs."""
    text = OPT_OUT + "create table cdm.t (a int); select pg_sleep(0.5); create index concurrently t_a on cdm.t (a);"
    smallest_project(tmp_path, {"migrations/0002.sql": text})
    reports: list[str] = []

    def work() -> None:
        reports.append(str(apply(empty_dsn, read_project(tmp_path))))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(report.partition("\n")[0] for report in reports) == [
        "migrations/0001_cdm.sql  new", "nothing to do", "nothing to do",
    ]  # fmt: skip


def test_an_apply_that_is_killed_leaves_the_warehouse_as_it_was(empty_dsn: str, tmp_path: Path) -> None:
    apply(empty_dsn, smallest_project(tmp_path))
    write_files(tmp_path, {"sql/cdm/10.sql": "create table cdm.t (a int); select pg_sleep(60);"})
    command = [sys.executable, "-m", "clickmart", "--dsn", empty_dsn, "apply", "--project", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    sleeping = "select pid from pg_stat_activity where query ~ '^select pg_sleep' and datname = current_database()"
    while not query(empty_dsn, sleeping):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.communicate()
    query(empty_dsn, f"select pg_terminate_backend(pid) from ({sleeping}) as s")
    assert ledger(empty_dsn) == (["0001_cdm.sql"], ["sql/cdm/90_refresh.sql"])
    write_files(tmp_path, {"sql/cdm/10.sql": ""})
    assert apply(empty_dsn, read_project(tmp_path)).files == (("sql/cdm/10.sql", "new"),)
    assert "cdm.t" not in relations(empty_dsn)


@pytest.mark.parametrize("path", ["migrations/0002.sql", "sql/cdm/10.sql"])
def test_a_connection_that_is_lost_is_said_to_be(empty_dsn: str, tmp_path: Path, path: str) -> None:
    smallest_project(tmp_path, {path: "select pg_terminate_backend(pg_backend_pid());"})
    with pytest.raises(WarehouseError) as caught:
        apply(empty_dsn, read_project(tmp_path))
    assert str(caught.value) == (
        "the connection to the warehouse was lost: terminating connection due to administrator command"
    )


def test_a_user_who_may_not_make_schemas_is_told_so(empty_dsn: str) -> None:
    role = f"lowly_{empty_dsn.partition('test_')[2].split()[0]}"
    query(empty_dsn, f"create role {role} login")
    try:
        with pytest.raises(SqlError) as caught:
            clickmart.apply(dsn=f"{empty_dsn} user={role}")
        assert str(caught.value).startswith("permission denied for database test_")
        assert str(clickmart.status(dsn=f"{empty_dsn} user={role}")).startswith("applied: 0 migrations, 0 SQL files\n")
    finally:
        query(empty_dsn, f"drop role {role}")


def test_a_project_that_can_not_be_read_needs_no_server_to_be_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = smallest_project(tmp_path, {"sql/cdm/10.sql": "{{ nobody }}"})
    with pytest.raises(ProjectError, match=r"^sql/cdm/10.sql:1: 'nobody' is undefined$"):
        applying.apply(Warehouse("host=nowhere.invalid"), project)


def test_loading_makes_the_tables_of_a_new_warehouse_and_nothing_else(empty_dsn: str) -> None:
    applying.apply_migrations(Warehouse(empty_dsn), read_project())
    names = [migration.name for migration in read_project().migrations]
    assert ledger(empty_dsn) == (names, [])
    applying.apply_migrations(Warehouse(empty_dsn), read_project())
    with psycopg.connect(empty_dsn) as connection:
        assert connection.execute("select count(*) from clickmart.migrations").fetchone() == (len(names),)
