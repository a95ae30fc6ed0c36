"""What --plan and status say: the same as an apply then does, and nothing changes by asking."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from clickmart import applying
from clickmart.project import init_project, read_project
from clickmart.warehouse import Warehouse
from conftest import Server, Shop, open_shop
from projects import apply, clean_environment, outcome, query, run, run_json, smallest_project, write_files

VIEW = {"event_timestamp": "2026-03-02 10:00:00", "user_domain_id": "u", "page_url_path": "/product_a"}
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


def everything(dsn: str) -> list[list[tuple[object, ...]]]:
    """All relations and functions, and every row of the ledger and the loads."""
    return [
        # An autovacuum may count the rows of the catalogs at any time.
        query(
            dsn,
            "select oid, xmin::text, relname, relfilenode, "
            "case when relnamespace <> 'pg_catalog'::regnamespace then reltuples end from pg_class order by oid",
        ),
        query(dsn, "select oid, xmin::text, proname from pg_proc order by oid"),
        *(
            query(dsn, f"select xmin::text, * from {table} order by 2")
            for table in ("clickmart.migrations", "clickmart.files", "stage.loads", "cdm.rebuild")
            if query(dsn, "select to_regclass(%s) is not null", table) == [(True,)]
        ),
    ]


@pytest.fixture
def shop(embedded_server: Server, tmp_path: Path) -> Iterator[Shop]:
    with open_shop(embedded_server, tmp_path) as opened:
        yield opened


# --plan


def test_the_plan_says_what_would_run_and_why(shop: Shop, tmp_path: Path) -> None:
    project = init_project(tmp_path / "shop")
    shop.load(VIEW, VIEW)
    shop.load(VIEW)
    write_files(
        project,
        {
            "migrations/0003_mine.sql": "select 1;",
            "sql/mine/10.sql": "select 1;",
            "sql/cdm/40_checks.sql": "select 1;",
            "sql/macros.jinja": (project / "sql/macros.jinja").read_text().replace("collate", "COLLATE"),
            "clickmart.toml": "[settings]\ntop_pages = 3",
        },
    )
    before = everything(shop.dsn)
    assert outcome(run("apply", "--plan", "--project", str(project), dsn=shop.dsn)) == (
        0,
        "would apply:\n"
        "  migrations/0003_mine.sql  new\n"
        "  sql/cdm/10_purchases.sql  a template or source that it uses changed\n"
        "  sql/cdm/10_settings.sql   setting changed: top_pages 10 -> 3\n"
        "  sql/cdm/20_explain.sql    a template or source that it uses changed\n"
        "  sql/cdm/20_sessions.sql   a template or source that it uses changed\n"
        "  sql/cdm/40_checks.sql     changed\n"
        "  sql/cdm/40_proof.sql      a template or source that it uses changed\n"
        "  sql/mine/10.sql           new\n"
        "  refresh: 2 new loads, 3 rows, marts built anew\n",
        "",
    )
    assert everything(shop.dsn) == before


def test_an_apply_says_the_same_as_its_plan(shop: Shop, tmp_path: Path) -> None:
    project = init_project(tmp_path / "shop")
    shop.load(VIEW)
    files = {"sql/mine/10.sql": "select 1;", "clickmart.toml": "[settings]\npurchase_window = '1 hour'"}
    write_files(project, files)
    arguments = ["apply", "--project", str(project)]
    planned = run(*arguments, "--plan", dsn=shop.dsn).stdout.splitlines()
    applied = run(*arguments, dsn=shop.dsn).stdout.splitlines()
    assert planned == ["would apply:", *(f"  {line}" for line in applied[:-1])]
    assert re.fullmatch(r"applied in \d+\.\d s", applied[-1])
    for again in ([], ["--plan"]):
        assert outcome(run(*arguments, *again, dsn=shop.dsn)) == (0, "nothing to do\n", "")


def test_new_loads_alone_are_no_rebuild(shop: Shop) -> None:
    shop.load(VIEW)
    assert run("apply", "--plan", dsn=shop.dsn).stdout == "would apply:\n  refresh: 1 new load, 1 row\n"
    assert run("apply", dsn=shop.dsn).stdout.startswith("refresh: 1 new load, 1 row\napplied in ")


def test_the_plan_of_a_full_apply_says_that_it_builds_anew(dsn: str) -> None:
    plan = run("apply", "--plan", "--full", dsn=dsn).stdout
    assert plan == "would apply:\n  refresh: 0 new loads, 0 rows, marts built anew\n"


def test_the_plan_for_an_empty_database_is_the_whole_project_and_leaves_it_empty(empty_dsn: str) -> None:
    before = everything(empty_dsn)
    result = run("apply", "--plan", dsn=empty_dsn)
    project = read_project()
    files = (*project.migrations, *project.files)
    width = max(len(file.path) for file in files)
    lines = [f"  {file.path:<{width}}  new\n" for file in files]
    expected = "".join(["would apply:\n", *lines, "  refresh: 0 new loads, 0 rows, marts built anew\n"])
    assert outcome(result) == (0, expected, "")
    assert everything(empty_dsn) == before


def test_the_plan_of_a_drifted_project_is_refused_by_name(empty_dsn: str, tmp_path: Path) -> None:
    apply(empty_dsn, smallest_project(tmp_path))
    write_files(tmp_path, {"migrations/0001_cdm.sql": "create schema cdm; -- mine"})
    result = run("apply", "--plan", "--project", str(tmp_path), dsn=empty_dsn)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("clickmart: migrations/0001_cdm.sql: changed since it was applied; ")


def test_the_plan_for_programs_has_the_same(shop: Shop, tmp_path: Path) -> None:
    project = init_project(tmp_path / "shop")
    shop.load(VIEW)
    write_files(project, {"sql/mine/10.sql": "select 1;"})
    planned = run_json("apply", "--plan", "--project", str(project), dsn=shop.dsn)
    assert planned == {
        "planned": True,
        "migrations": [],
        "files": [{"path": "sql/mine/10.sql", "reason": "new"}],
        "new_loads": 1,
        "new_rows": 1,
        "rebuilt": False,
        "seconds": 0.0,
    }
    applied = run_json("apply", "--project", str(project), dsn=shop.dsn)
    assert {**applied, "seconds": 0.0} == {**planned, "planned": False}


# status


def test_status_shows_what_is_applied_and_that_nothing_is_pending(empty_dsn: str, tmp_path: Path) -> None:
    apply(empty_dsn, smallest_project(tmp_path, {"sql/stage/10.sql": ""}))
    before = everything(empty_dsn)
    result = run("status", "--exit-code", "--project", str(tmp_path), dsn=empty_dsn)
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.sub(TIME, "TIME", result.stdout) == (
        "applied: 1 migration, 2 SQL files; times are UTC\n"
        "  migrations/0001_cdm.sql  TIME\n"
        "  sql/stage/10.sql         TIME\n"
        "  sql/cdm/90_refresh.sql   TIME\n"
        "pending: nothing\n"
    )
    assert everything(empty_dsn) == before


def test_status_shows_what_is_pending_drifted_unknown_and_gone(empty_dsn: str, tmp_path: Path) -> None:
    apply(empty_dsn, smallest_project(tmp_path, {"migrations/0002.sql": "", "sql/cdm/10.sql": "", "sql/a/1.sql": ""}))
    for gone in ("migrations/0002.sql", "sql/a/1.sql"):
        (tmp_path / gone).unlink()
    write_files(tmp_path, {"migrations/0001_cdm.sql": "", "migrations/0000.sql": "", "sql/cdm/10.sql": "select 2;"})
    result = run("status", "--project", str(tmp_path), dsn=empty_dsn)
    assert result.stdout.splitlines()[6:] == [
        "not in this project: sql/a/1.sql, was applied and is left alone",
        "unknown: migrations/0002.sql, applied by clickmart 0.1.0 and not in this project",
        "drifted: migrations/0001_cdm.sql, changed since it was applied",
        "pending: migrations/0000.sql  new",
        "pending: sql/cdm/10.sql  changed",
    ]


def test_status_says_the_same_as_the_plan(shop: Shop, tmp_path: Path) -> None:
    project = init_project(tmp_path / "shop")
    settings = "[settings]\npurchase_window = '1 hour'"
    write_files(project, {"migrations/0003.sql": "", "sql/mine/10.sql": "", "clickmart.toml": settings})
    shop.load(VIEW)
    plan = run_json("apply", "--plan", "--project", str(project), dsn=shop.dsn)
    status = run_json("status", "--project", str(project), dsn=shop.dsn)
    new = [{"name": name, "reason": "new"} for name in plan["migrations"]]
    assert status["pending"] == new + [{"name": file["path"], "reason": file["reason"]} for file in plan["files"]]
    names = ("new_loads", "new_rows")
    assert [status[name] for name in names] == [plan[name] for name in names] == [1, 1]
    assert status["rebuild"] == plan["rebuilt"] is True


def test_status_shows_the_last_loads_the_newest_first(shop: Shop, tmp_path: Path) -> None:
    for number in range(11):
        (tmp_path / f"{number}.jsonl").write_text(
            json.dumps({**VIEW, "event_id": str(number)}) + "\n{\n" * (number > 9)
        )
        assert run("load", str(tmp_path / f"{number}.jsonl"), dsn=shop.dsn).exit_code == 0
        if number == 9:
            run("apply", dsn=shop.dsn)
    before = everything(shop.dsn)
    lines = run("status", dsn=shop.dsn).stdout.splitlines()
    assert everything(shop.dsn) == before
    assert lines[-14] == "pending: 1 load, 1 row not yet in the marts"
    assert lines[-12].split("  ")[0] == "load"
    assert re.fullmatch(rf"  11  {tmp_path}/10.jsonl  loaded     1         1  {TIME}", lines[-10])
    assert re.fullmatch(rf"  10  {tmp_path}/9.jsonl   loaded     1         0  {TIME}  yes", lines[-9])
    assert [int(line.split()[0]) for line in lines[-10:]] == list(range(11, 1, -1))
    loads = run_json("status", dsn=shop.dsn)["loads"]
    assert [(load["id"], load["refreshed_at"] is None) for load in loads[:2]] == [(11, True), (10, False)]


@pytest.mark.parametrize(
    "change",
    [
        {"migrations/0002.sql": ""},
        {"sql/cdm/10.sql": ""},
        {"migrations/0001_cdm.sql": "-- drifted"},
    ],
    ids=["migration", "file", "drift"],
)
def test_status_ends_with_3_when_asked_and_the_warehouse_is_not_what_the_project_says(
    empty_dsn: str, tmp_path: Path, change: dict[str, str | bytes]
) -> None:
    apply(empty_dsn, smallest_project(tmp_path))
    arguments = ["status", "--project", str(tmp_path)]
    assert run(*arguments, "--exit-code", dsn=empty_dsn).exit_code == 0
    write_files(tmp_path, change)
    assert run(*arguments, "--exit-code", dsn=empty_dsn).exit_code == 3
    assert run(*arguments, dsn=empty_dsn).exit_code == 0


def test_new_loads_and_marts_to_be_built_anew_are_pending_too(shop: Shop) -> None:
    shop.load(VIEW)
    assert run("status", "--exit-code", dsn=shop.dsn).exit_code == 3
    shop.apply()
    assert run("status", "--exit-code", dsn=shop.dsn).exit_code == 0
    shop.query("select cdm.request_rebuild('purchases')")
    result = run("status", "--exit-code", dsn=shop.dsn)
    assert (result.exit_code, "\npending: marts to be built anew\n" in result.stdout) == (3, True)
    assert shop.apply().rebuilt
    assert run("status", "--exit-code", dsn=shop.dsn).exit_code == 0


# A warehouse that was never made


def test_of_an_embedded_warehouse_that_was_never_made_all_is_pending_and_it_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean_environment(monkeypatch)
    monkeypatch.chdir(tmp_path)
    status = run("status", "--exit-code")
    assert (status.exit_code, status.stdout.partition("\n")[0]) == (3, "applied: 0 migrations, 0 SQL files")
    plan = run("apply", "--plan")
    assert (plan.exit_code, plan.stdout.partition("\n")[0]) == (0, "would apply:")
    assert outcome(run("check")) == (
        1, "", f"clickmart: nothing to check: no warehouse in {tmp_path}/.clickmart; run `clickmart apply`\n",
    )  # fmt: skip
    assert outcome(run("stop")) == (0, "no embedded server runs here\n", "")
    assert list(tmp_path.iterdir()) == []


def test_reading_needs_no_right_to_write(dsn: str) -> None:
    read_only = f"{dsn} options='-c default_transaction_read_only=on'"
    assert str(applying.plan(Warehouse(read_only), read_project())) == "nothing to do"
    assert run("status", dsn=read_only).exit_code == 0
    assert run("check", dsn=read_only).exit_code == 0
