"""The demo and the embedded server, from nothing, as a person runs them: in a folder with blanks in its name."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from clickmart.embedded import EmbeddedServer
from clickmart.tables import text_of
from pages import PageText


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("demo") / "my  shop ü"
    folder.mkdir()
    yield folder
    clickmart(folder, "stop")


@pytest.fixture(scope="module")
def first_run(folder: Path) -> subprocess.CompletedProcess[str]:
    return clickmart(folder, "demo")


def clickmart(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "CLICKMART"))}
    command = [sys.executable, "-m", "clickmart", *arguments]
    return subprocess.run(command, cwd=folder, env=kept, capture_output=True, encoding="utf-8", timeout=120)


def rows(folder: Path, query: str) -> list[list[str]]:
    """As the report writes them."""
    with psycopg.connect(EmbeddedServer(home=folder / ".clickmart").start()) as connection:
        return [[text_of(value) for value in row] for row in connection.execute(query.encode())]


def count(folder: Path, mart: str) -> int:
    return int(rows(folder, f"select count(*)::text from {mart}")[0][0])


def test_the_demo_goes_from_nothing_to_marts_and_a_report(
    folder: Path, first_run: subprocess.CompletedProcess[str]
) -> None:
    assert (first_run.returncode, first_run.stderr) == (0, "")
    read = sum(1 for _ in rows(folder, "select 1 from stage.events"))
    rejected = count(folder, "stage.events_rejected")
    assert first_run.stdout.startswith(f"sample: {read:,} events, {rejected} broken records set aside\n\ncdm.")
    assert sorted(path.name for path in folder.iterdir()) == [".clickmart", "report.html"]


def test_the_demo_prints_the_first_rows_of_each_mart_and_how_many_more_there_are(
    folder: Path, first_run: subprocess.CompletedProcess[str]
) -> None:
    tables = first_run.stdout.split("\n\n")[1:-1]
    assert [table.partition("\n")[0] for table in tables] == [
        "cdm.events_hours", "cdm.products_hours", "cdm.top_pages", "cdm.sources", "cdm.purchases",
    ]  # fmt: skip
    for table in tables:
        name, _heads, _rule, *lines = table.splitlines()
        more = re.fullmatch(r"\.\.\. ([\d,]+) more rows", lines[-1])
        shown = len(lines) - 1 if more else len(lines)
        assert shown + (int(more[1].replace(",", "")) if more else 0) == count(folder, name) > 0


def test_the_numbers_of_the_report_are_those_of_the_marts(
    folder: Path, first_run: subprocess.CompletedProcess[str]
) -> None:
    tables = PageText((folder / "report.html").read_text(encoding="utf-8")).tables
    assert tables["Распределение событий по часам"][1:] == rows(
        folder,
        "select to_char(hour_timestamp, 'YYYY-MM-DD HH24:MI'), event_type, count_events from (select * "
        "from cdm.events_hours order by hour_timestamp desc, event_type desc limit 500) as newest "
        "order by hour_timestamp, event_type",
    )
    assert tables["Products bought per hour"][1:] == rows(
        folder,
        "select to_char(hour_timestamp, 'YYYY-MM-DD HH24:MI'), count_products from cdm.products_hours "
        "order by hour_timestamp",
    )
    assert tables["Top 10 pages that lead to purchase"][1:] == rows(
        folder, "select id, page_url, count_purchases from cdm.top_pages order by id"
    )
    sources = tables["Purchases and users by source"]
    assert sources[0][:5] == ["Referer", "Campaign", "Users", "Purchases", "Share of users"]
    assert [row[:5] for row in sources[1:]] == rows(
        folder,
        "select referer_url, utm_campaign, count_users, count_purchases, to_char(share_users * 100, 'FM990.0%') "
        "from cdm.sources order by count_users desc, referer_url, utm_campaign",
    )


def page_without_its_time(folder: Path) -> str:
    page = (folder / "report.html").read_text(encoding="utf-8")
    without, count = re.subn(r"<dt>Made</dt><dd>.*?</dd>", "", page)
    assert count == 1
    return without


def test_a_second_demo_is_fine_and_changes_nothing(folder: Path, first_run: subprocess.CompletedProcess[str]) -> None:
    report = page_without_its_time(folder)
    again = clickmart(folder, "demo")
    assert (again.returncode, again.stderr) == (0, "")
    tables = first_run.stdout.partition("\n\n")[2]
    assert again.stdout == f"sample: loaded already\n\n{tables}"
    assert page_without_its_time(folder) == report
    assert clickmart(folder, "apply").stdout == "nothing to do\n"
    assert clickmart(folder, "check").returncode == 0


def test_the_demo_for_programs_is_json(folder: Path, first_run: subprocess.CompletedProcess[str]) -> None:
    report = json.loads(clickmart(folder, "demo", "--json").stdout)
    assert report["report"] == str(folder / "report.html")
    assert {name: count(folder, f"cdm.{name}") for name in report["marts"]} == report["marts"]
    assert report["load"]["rows_loaded"] == 0


def test_the_server_stops_and_starts_again_when_it_is_needed(
    folder: Path, first_run: subprocess.CompletedProcess[str]
) -> None:
    answers = [clickmart(folder, *arguments) for arguments in (["stop"], ["stop"], ["psql", "-XAtc", "select 1"])]
    assert [(answer.returncode, answer.stdout, answer.stderr) for answer in answers] == [
        (0, "stopped\n", ""), (0, "no embedded server runs here\n", ""), (0, "1\n", ""),
    ]  # fmt: skip


def test_the_demo_refuses_a_warehouse_with_other_data_and_leaves_it_alone(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"event_id": "1"}\n')
    assert clickmart(tmp_path, "--dsn", dsn, "load", "mine.jsonl").returncode == 0
    result = clickmart(tmp_path, "--dsn", dsn, "demo")
    message = "this warehouse holds other data (mine.jsonl); run the demo in an empty folder or database"
    assert (result.returncode, result.stdout, result.stderr) == (1, "", f"clickmart: {message}\n")
    with psycopg.connect(dsn) as connection:
        assert connection.execute("select count(*) from stage.loads").fetchone() == (1,)
    assert not (tmp_path / "report.html").exists()


def test_the_demo_runs_on_a_server_of_ones_own_and_writes_where_one_stands(empty_dsn: str, tmp_path: Path) -> None:
    result = clickmart(tmp_path, "--dsn", empty_dsn, "demo")
    assert (result.returncode, result.stderr) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
