"""`clickmart test`: a project's own tests of its marts, as tables of events and of the rows that they make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import clickmart
import psycopg
import pytest
from clickmart.errors import ClickmartError, ProjectError, UsageError, WarehouseError
from clickmart.project import builtin_timelines, init_project, read_project
from clickmart.timeline_files import TimelineFile, read_timeline
from conftest import Server
from projects import outcome, query, run, run_json, write_files
from psycopg.conninfo import make_conninfo

PURCHASE = """\
u1 | 10:00 | /product_a
u1 | 10:01 | /cart
u1 | 10:02 | /payment
u1 | 10:03 | /confirmation
"""
BOUGHT = "cdm.products_hours\nhour_timestamp | count_products\n10:00 | 1\n"


@pytest.fixture
def tested(dsn: str, tmp_path: Path) -> Callable[..., Any]:
    """Tests a timeline; its result."""

    def test(text: str, project: Path | None = None) -> Any:
        path = write_files(tmp_path, {"own.timeline": text}) / "own.timeline"
        (result,) = clickmart.test(path, dsn=dsn, project=project).results
        return result

    return test


def read(folder: Path, text: str) -> TimelineFile:
    return read_timeline(write_files(folder, {"a.timeline": text}) / "a.timeline", "a.timeline")


def databases(dsn: str) -> list[str]:
    return [name for (name,) in query(dsn, "select datname from pg_database where datname like 'clickmart\\_test%%'")]


# The file


def test_events_have_the_names_of_the_columns_or_short_ones(tmp_path: Path) -> None:
    text = """
        # comments and blank lines say nothing
        id | user | at               | page   | referer | campaign | os

        1  | u1   | 10:00            | /a     | r       | c        | Linux
           | u2   | 10:00:05.5       |        | ''      |          |
        3  | u3   | 2022-10-01 11:00 | /b#c
        ----
        4  | u4   | never            | /d
        cdm.a
        x
    """
    timeline = read(tmp_path, text)
    assert timeline.loads == (
        (
            {
                "event_id": "1",
                "user_domain_id": "u1",
                "event_timestamp": "2022-09-30 10:00:00",
                "page_url_path": "/a",
                "page_url": "http://shop/a",
                "referer_url": "r",
                "utm_campaign": "c",
                "os": "Linux",
            },
            {"user_domain_id": "u2", "event_timestamp": "2022-09-30 10:00:05.5", "referer_url": ""},
            {
                "event_id": "3",
                "user_domain_id": "u3",
                "event_timestamp": "2022-10-01 11:00",
                "page_url_path": "/b#c",
                "page_url": "http://shop/b#c",
            },
        ),
        (
            {
                "event_id": "4",
                "user_domain_id": "u4",
                "event_timestamp": "never",
                "page_url_path": "/d",
                "page_url": "http://shop/d",
            },
        ),
    )


def test_what_is_expected_of_marts_is_read_with_its_lines(tmp_path: Path) -> None:
    timeline = read(tmp_path, f"{PURCHASE}\ncdm.a\nx | y\n\n1 | ''\n2 |\ncdm.b\nz\n")
    found = [(mart.mart, mart.line, mart.columns, mart.rows) for mart in timeline.expected]
    assert found == [("cdm.a", 6, ("x", "y"), ((9, ("1", "")), (10, ("2", None)))), ("cdm.b", 11, ("z",), ())]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.timeline: no event; a line of one is as `anna | 10:00 | /product_a`"),
        (PURCHASE, "a.timeline: no mart; below its name, as cdm.purchases, stand columns and rows"),
        (BOUGHT, "a.timeline: no event; a line of one is as `anna | 10:00 | /product_a`"),
        ("u | 10:00 | /a | x\ncdm.a\nb", "a.timeline:1: 4 cells, where there are 3 names: user | at | page"),
        ("user | user\nu\ncdm.a\nb", "a.timeline:1: a name stands here twice"),
        (f"{PURCHASE}cdm.a\n", "a.timeline:5: below cdm.a should stand the names of its columns, with | between them"),
        (f"{PURCHASE}cdm.a\ncdm.b\nx", "a.timeline:5: below cdm.a should stand the names of its columns"),
        (f"{PURCHASE}cdm.a\nx\n1 | 2", "a.timeline:7: 2 cells, where there are 1 columns"),
    ],
)
def test_what_is_amiss_in_a_timeline_is_said_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ProjectError) as error:
        read(tmp_path, text)
    assert str(error.value).startswith(message)


# The run


def test_the_timelines_that_come_along_pass_and_leave_nothing(dsn: str) -> None:
    report = clickmart.test(dsn=dsn)
    assert [result.name for result in report.results] == [
        f"tests/{path.name}" for path in sorted(builtin_timelines().iterdir())
    ]
    assert not report.failed
    assert {result.name: result.ways for result in report.results} == {
        "tests/late.timeline": 1, "tests/purchase.timeline": 3,
    }  # fmt: skip
    assert databases(dsn) == []
    assert query(dsn, "select from stage.loads") == []


def test_init_brings_them_and_one_adds_ones_own(dsn: str, tmp_path: Path) -> None:
    project = init_project(tmp_path / "shop")
    write_files(
        project, {"tests/deep/own.timeline": PURCHASE + BOUGHT, "tests/.hidden.timeline": "", "tests/a.txt": ""}
    )
    names = [result.name for result in clickmart.test(dsn=dsn, project=project).results]
    assert names == ["tests/deep/own.timeline", "tests/late.timeline", "tests/purchase.timeline"]


#: By what is expected after PURCHASE, the rows that are missing and those that should not be there.
EXPECTED: dict[str, tuple[list[Any], list[Any]]] = {
    BOUGHT: ([], []),
    BOUGHT.replace("| 1", "| 2"): ([("2022-09-30 10:00:00", "2")], [("2022-09-30 10:00:00", "1")]),
    f"{BOUGHT}10:00 | 1\n": ([("2022-09-30 10:00:00", "1")], []),
    "cdm.products_hours\nhour_timestamp | count_products\n": ([], [("2022-09-30 10:00:00", "1")]),
    "cdm.products_hours\ncount_products\n01\n": ([], []),
    "cdm.purchases\nuser_id | confirmed_at | page_urls\nu1 | 10:03 | {http://shop/product_a}\n": ([], []),
    "cdm.purchases\nuser_id\n\n": ([], [("u1",)]),
    "cdm.sources\nreferer_url | share_users\n(direct) | 1.0\n": ([], []),
    "cdm.sources\nreferer_url | share_users\n(direct) |\n": ([("(direct)", None)], [("(direct)", "1")]),
}


def test_a_mart_is_all_of_its_rows(dsn: str, tmp_path: Path) -> None:
    texts = {f"{number}.timeline": PURCHASE + text for number, text in enumerate(EXPECTED)}
    write_files(tmp_path, texts)
    results = clickmart.test(*(tmp_path / name for name in texts), dsn=dsn).results
    found = [[(list(one.missing), list(one.unexpected)) for one in result.differences] for result in results]
    assert found == [[rows] if any(rows) else [] for rows in EXPECTED.values()]


def test_events_that_come_late_and_in_loads_of_their_own(tested: Callable[..., Any]) -> None:
    late = PURCHASE.replace("u1 | 10:02", "---\nu1 | 10:02").splitlines()
    assert not tested("\n".join([*late, "---", "u1 | 09:59 | /cart", BOUGHT])).failed
    assert tested("\n".join(["---", *late, BOUGHT])).ways == 1


@pytest.mark.parametrize(
    ("broken", "way"),
    [
        # Counts what came last alone: wrong unless all comes at once, or is built anew.
        (
            "select coalesce(nullif(count(*), 0), (select count(*) from stage.page_views)) from pg_temp.changed_views",
            "loaded an event at a time",
        ),
        # Right however the events come, but for a rebuild, which has no changes to count.
        ("select (select count_views from cdm.mine) + sum(sign) from pg_temp.changed_views", "then built anew"),
    ],
)
def test_a_mart_that_is_not_exact_is_found_by_the_way_in_which_it_is_not(
    dsn: str, tmp_path: Path, broken: str, way: str
) -> None:
    project = init_project(tmp_path / "shop")
    refresh = (project / "sql/cdm/30_refresh.sql").read_text()
    call = "perform cdm.refresh_purchases("
    assert refresh.count(call) == 1
    mine = f"update cdm.mine set count_views = coalesce(({broken}), 0);\n    {call}"
    write_files(project, {
        "migrations/0100_mine.sql": "create table cdm.mine as select 0::bigint as count_views;",
        "sql/cdm/30_refresh.sql": refresh.replace(call, mine),
        "own.timeline": f"{PURCHASE}cdm.mine\ncount_views\n4\n",
    })  # fmt: skip
    (result,) = clickmart.test(project / "own.timeline", dsn=dsn, project=project).results
    (difference,) = result.differences
    assert difference.way.endswith(way)


IMPOSSIBLE = {
    "cdm.nothing\nx\n": "5: the project makes no cdm.nothing",
    "cdm.purchases\nuser_id | colour\n": "5: cdm.purchases has no column 'colour'; it has id, user_id, first_product",
    "cdm.purchases\nconfirmed_at\nlate\n": '7: invalid input syntax for type timestamp: "late"',
    "cdm.products_hours\ncount_products\n\nx\n": '8: invalid input syntax for type bigint: "x"',
}


def test_an_expectation_that_cannot_be_is_said_with_its_line(dsn: str, tmp_path: Path) -> None:
    texts = {f"{number}.timeline": PURCHASE + text for number, text in enumerate(IMPOSSIBLE)}
    write_files(tmp_path, texts)
    results = clickmart.test(*(tmp_path / name for name in texts), dsn=dsn).results
    for result, message in zip(results, IMPOSSIBLE.values(), strict=True):
        assert result.problem.startswith(f"{result.name}:{message}")


def test_an_event_that_cannot_be_loaded_is_a_problem_of_its_timeline_alone(dsn: str, tmp_path: Path) -> None:
    broken = f"user | referer_url_port\nu | abc\n{BOUGHT}"
    files = write_files(tmp_path, {"a.timeline": broken, "b.timeline": PURCHASE + BOUGHT})
    first, second = clickmart.test(files / "a.timeline", files / "b.timeline", dsn=dsn).results
    assert first.problem == (
        'the events can\'t be loaded: referer_url_port: invalid input syntax for type integer: "abc"'
    )
    assert (first.failed, second.failed) == (True, False)


def test_a_projects_settings_and_sources_hold_in_its_tests(dsn: str, tmp_path: Path) -> None:
    project = init_project(tmp_path / "shop")
    settings = (project / "clickmart.toml").read_text().replace("'^product_'", "'^p/'")
    write_files(project, {
        "clickmart.toml": settings,
        "tests/purchase.timeline": PURCHASE + "cdm.products_hours\nhour_timestamp | count_products\n",
        "tests/own.timeline": PURCHASE.replace("product_a", "p/1") + BOUGHT,
        "tests/late.timeline": PURCHASE.replace("product_a", "p/1") + BOUGHT,
    })  # fmt: skip
    assert not clickmart.test(dsn=dsn, project=project).failed


def test_a_project_that_does_not_apply_is_the_error_that_apply_says(dsn: str, tmp_path: Path) -> None:
    project = init_project(tmp_path / "shop")
    write_files(project, {"sql/cdm/95_mine.sql": "selec 1;"})
    with pytest.raises(ClickmartError, match=r"sql/cdm/95_mine.sql:1:1: syntax error"):
        clickmart.test(dsn=dsn, project=project)
    assert databases(dsn) == []


def test_nothing_to_test_is_said(dsn: str, tmp_path: Path) -> None:
    project = init_project(tmp_path / "shop")
    for path in (project / "tests").iterdir():
        path.unlink()
    with pytest.raises(UsageError, match=r"nothing to test: no \*.timeline in "):
        clickmart.test(dsn=dsn, project=project)
    with pytest.raises(ProjectError, match=r"none.timeline: no such file"):
        clickmart.test("none.timeline", dsn=dsn)
    assert read_project(project).timelines == ()


def test_who_may_make_no_database_is_told(embedded_server: Server, dsn: str) -> None:
    query(dsn, "create role no_databases login")
    try:
        with pytest.raises(
            WarehouseError, match="no database can be made on this server to test in: permission denied"
        ):
            clickmart.test(dsn=make_conninfo(dsn, user="no_databases"))
    finally:
        query(dsn, "drop role no_databases")


def test_what_a_killed_run_has_left_is_dropped_by_a_later_one(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("create database clickmart_test_1_dead")
        connection.execute("create database clickmart_test_99999999999_alive")
    try:
        clickmart.test(builtin_timelines() / "late.timeline", dsn=dsn)
        assert databases(dsn) == ["clickmart_test_99999999999_alive"]
    finally:
        query(dsn, "drop database clickmart_test_99999999999_alive")


# The command


def test_the_command_shows_the_rows_and_ends_with_1(dsn: str, tmp_path: Path) -> None:
    path = write_files(tmp_path, {"own.timeline": PURCHASE + BOUGHT.replace("| 1", "| 2")}) / "own.timeline"
    code, stdout, stderr = outcome(run("test", str(path), dsn=dsn))
    assert (code, stderr) == (1, "clickmart: a timeline failed\n")
    assert stdout.splitlines()[:4] == [
        f"{path}  failed",
        f"{path}:5: cdm.products_hours is not as expected, loaded as it stands:",
        "              hour_timestamp       count_products",
        "  missing     2022-09-30 10:00:00  2",
    ]
    assert stdout.splitlines()[4] == "  unexpected  2022-09-30 10:00:00  1"
    assert stdout.splitlines()[5].startswith("1 of 1 timeline failed in ")


def test_the_report_for_programs(dsn: str) -> None:
    report = run_json("test", str(builtin_timelines() / "late.timeline"), dsn=dsn)
    assert report.pop("seconds") > 0
    assert report == {
        "timelines": [
            {
                "file": str(builtin_timelines() / "late.timeline"),
                "failed": False,
                "ways": 1,
                "differences": [],
                "problem": None,
            }
        ],
        "failed": False,
    }
