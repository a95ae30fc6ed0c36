"""report.html: one page that shows what the marts hold, and nothing of it as markup."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from clickmart.errors import ClickmartError, ProjectError
from clickmart.html_report import SHOWN_ROWS, write_report
from clickmart.project import Project, builtin_folder
from clickmart.settings import Settings
from clickmart.warehouse import Connection, Warehouse
from conftest import Server
from projects import write_files


class Page(HTMLParser):
    """The tables of a page, as texts, under their titles; and every tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.tags: list[str] = []
        self.links: list[str] = []
        self._title = ""
        self._in: str = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action")]
        self._in = tag
        if tag == "h2":
            self._title = ""
        if tag == "tr":
            self.tables.setdefault(self._title, []).append([])
        if tag in ("td", "th"):
            self.tables[self._title][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "h2":
            self._title += data
        if self._in in ("td", "th"):
            self.tables[self._title][-1][-1] += data


@pytest.fixture(scope="module")
def connection(embedded_server: Server) -> Iterator[Connection]:
    with embedded_server.database() as dsn, Warehouse(dsn).connect() as connection:
        yield connection


def page_of(connection: Connection, folder: Path, cards: dict[str, str | bytes]) -> Page:
    project = Project(write_files(folder, {f"dashboards/one/{name}": text for name, text in cards.items()}), Settings())
    return Page(write_report(connection, project, folder / "report.html").read_text(encoding="utf-8"))


def test_data_and_titles_are_text_and_never_markup(connection: Connection, tmp_path: Path) -> None:
    hostile = "<script>alert('&amp;')</script><b>\"'"
    query = f'-- {hostile}\n-- <i>why</i>\nselect $x${hostile}$x$ as "<u>"'
    page = page_of(connection, tmp_path, {"1.sql": query})
    assert page.tables == {hostile: [["<u>"], [hostile]]}
    assert not {"script", "b", "i", "u"} & set(page.tags)


def test_the_page_needs_nothing_else(connection: Connection, tmp_path: Path) -> None:
    page = page_of(connection, tmp_path, {"1.sql": "select 1", "2.sql": "select 2"})
    assert page.links == ["#card1", "#card2"]
    assert not {"script", "link", "img", "iframe"} & set(page.tags)


def test_values_read_as_in_the_marts(connection: Connection, tmp_path: Path) -> None:
    query = "select 1234567 as n, 0.5::float8 as f, 12.5 as d, true as b, null as x, timestamp '2026-03-02 10:00' as t"
    page = page_of(connection, tmp_path, {"a_card.sql": f"{query} union all select null, null, null, null, null, null"})
    assert page.tables == {
        "a_card": [
            ["n", "f", "d", "b", "x", "t"],
            ["1,234,567", "0.5000", "12.5", "true", "", "2026-03-02 10:00:00"],
            [""] * 6,
        ]
    }


def test_a_card_without_rows_says_so(connection: Connection, tmp_path: Path) -> None:
    assert page_of(connection, tmp_path, {"1.sql": "select 1 as a where false"}).tables == {"1": [["a"], ["No rows."]]}


def test_of_many_rows_the_first_are_shown(connection: Connection, tmp_path: Path) -> None:
    page = page_of(connection, tmp_path, {"1.sql": f"select n from generate_series(1, {SHOWN_ROWS + 1}) as n"})
    assert (len(page.tables["1"]), page.tables["1"][-1]) == (SHOWN_ROWS + 1, [str(SHOWN_ROWS)])
    assert f"The first {SHOWN_ROWS} rows." in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (
            "-- Title\nselect 'é', stepp",
            "dashboards/one/1.sql:2:13: column \"stepp\" does not exist\n  2 | select 'é', stepp\n    |             ^",
        ),
        (b"-- \xff", "dashboards/one/1.sql: not UTF-8 text (invalid start byte at byte 3)"),
        ("delete from cdm.purchases", "cannot execute DELETE in a read-only transaction"),
        ("-- Title\nselect 1 / 0", "dashboards/one/1.sql:2:1: division by zero\n"),
        ("-- nothing", "dashboards/one/1.sql: a card is one query, and here are 0"),
        ("select 1; select 2", "dashboards/one/1.sql: a card is one query, and here are 2"),
        ("set local work_mem = '1MB'", "dashboards/one/1.sql:1:1: the last operation didn't produce records"),
    ],
)
def test_a_card_that_fails_is_shown_where_it_stands_and_writes_no_page(
    connection: Connection, tmp_path: Path, card: str | bytes, message: str
) -> None:
    with pytest.raises(ClickmartError) as caught:
        page_of(connection, tmp_path, {"1.sql": card})
    assert message in str(caught.value)
    assert not (tmp_path / "report.html").exists()


def test_where_no_page_can_be_written_the_path_is_named(connection: Connection, tmp_path: Path) -> None:
    with pytest.raises(ProjectError) as caught:
        write_report(connection, Project(tmp_path, Settings()), tmp_path / "none" / "report.html")
    assert str(caught.value) == f"{tmp_path}/none/report.html: can't be written: No such file or directory"


def test_the_built_in_dashboards_run_on_an_empty_warehouse(connection: Connection, tmp_path: Path) -> None:
    write_report(connection, Project(builtin_folder(), Settings()), tmp_path / "report.html")
    tables = Page((tmp_path / "report.html").read_text(encoding="utf-8")).tables
    assert len(tables) >= 4
    assert all(rows[1:] == [["No rows."]] for rows in tables.values())
