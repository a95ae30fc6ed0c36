"""`clickmart report`: which rows it takes, what its page says without a browser, and where it writes."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import clickmart
import pytest
import vl_convert
from clickmart.dashboards import read_dashboards
from clickmart.errors import ClickmartError, ProjectError, UsageError
from clickmart.project import Project, builtin_folder, read_project
from clickmart.reporting.files import CHART_ROWS, write_report
from clickmart.reporting.page_cards import SHOWN_ROWS
from clickmart.reporting.vega_bundle import vega_bundle
from clickmart.settings import Settings
from clickmart.warehouse import Connection, Warehouse
from conftest import Server
from pages import HOSTILE, PageText, dashboards
from projects import outcome, run, run_json, write_files

ROOT = Path(__file__).parents[1]

HOURS = "select timestamp '2026-01-01' + n * interval '1 hour' as hour, n from generate_series(1, {}) as n order by 1"
LINE: dict[str, object] = {"chart": "line", "x": "hour", "y": "n"}
FILTERS = '[filters.day]\ntitle = "Day"\ntype = "date"\n[filters.least]\ntitle = "Least"\ntype = "number"\n'


@pytest.fixture(scope="module")
def dsn(embedded_server: Server) -> Iterator[str]:
    """One for all tests here, which only read it."""
    with embedded_server.database() as conninfo:
        yield conninfo


@pytest.fixture(scope="module")
def connection(dsn: str) -> Iterator[Connection]:
    with Warehouse(dsn).connect() as connection:
        yield connection


def page_of(connection: Connection, project: Project, **options: object) -> str:
    page = write_report(connection, project, None, **options).page  # type: ignore[arg-type]
    assert page is not None
    return page


def tables_of(connection: Connection, folder: Path, query: str, **said: object) -> dict[str, list[list[str]]]:
    return PageText(page_of(connection, dashboards(folder, {"a": (query, said)}))).tables


# What the page says


def test_data_and_titles_are_text_and_never_markup(connection: Connection, tmp_path: Path) -> None:
    query = f'select $x${HOSTILE}$x$ as "<u>", 1 as n'
    said = {
        "title": HOSTILE,
        "description": HOSTILE,
        "chart": "row",
        "x": "<u>",
        "y": "n",
        "columns": {"n": {"title": HOSTILE}},
    }
    head = f"title = {json.dumps(HOSTILE)}\ndescription = {json.dumps(HOSTILE)}\n"
    text = page_of(connection, dashboards(tmp_path, {"a": (query, said)}, head))
    page = PageText(text)
    shown = HOSTILE.replace("\u2028", "\\u2028")  # it would end a line
    assert page.tables == {HOSTILE: [["<u>", HOSTILE], [shown, "1"]]}
    assert page.tags.count("script") == 3  # the bundle, our own, and the card's data
    assert not {"img", "b", "i", "u"} & set(page.tags)
    assert "window.ran" not in re.sub(
        r"&lt;script&gt;window.ran|onerror=window.ran|\\u003cscript\\u003ewindow.ran", "", text
    )


def test_the_page_needs_nothing_else(connection: Connection, tmp_path: Path) -> None:
    text = page_of(connection, dashboards(tmp_path, {"a": ("select 1 as n", {}), "b": ("select 2 as n", {})}))
    assert PageText(text).links == ["data:,", "#main", "#one", "#one.a", "#one.b"]
    assert not {"img", "iframe", "object", "embed", "base", "form"} & set(PageText(text).tags)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; script-src &#39;sha256-".replace("'", "&#39;"))
    assert "unsafe" not in policy[1]
    assert "http" not in policy[1]


def test_values_read_as_in_the_marts(connection: Connection, tmp_path: Path) -> None:
    values = "1234567 as n, 0.5::float8 as f, 12.25 as d, true as b, null as x, timestamp '2026-03-02 10:00' as t"
    rows = tables_of(connection, tmp_path, f"select {values} union all select 2, 3, null, null, null, null")["a"]
    assert rows == [
        ["n", "f", "d", "b", "x", "t"],
        ["1,234,567", "0.5", "12.25", "true", "", "2026-03-02 10:00:00"],
        ["2", "3.0", "", "", "", ""],
    ]


def test_columns_are_shown_by_their_formats(connection: Connection, tmp_path: Path) -> None:
    query = """select 0.1501 as p, 3725 as s, 1234567 as b, timestamptz '2026-03-02 10:00:59+03' as h,
        timestamp '2026-03-02 10:00' as d, interval '90 seconds' as i"""
    formats = {"p": "percent", "s": "duration", "b": "bytes", "h": "hour", "d": "date", "i": "duration"}
    columns = {name: {"title": f"Колонка {name}", "format": said} for name, said in formats.items()}
    assert tables_of(connection, tmp_path, query, columns=columns)["a"] == [
        [f"Колонка {name}" for name in formats],
        ["15.0%", "1 h 2 min", "1.2 MB", "2026-03-02 07:00", "2026-03-02", "1 min 30 s"],
    ]


@pytest.mark.parametrize(
    ("value", "leads"),
    [
        ("https://shop.example.com/a?b=1&c=2", True),
        ("HTTP://shop.example.com", True),
        ("javascript:alert(1)", False),
        ("data:text/html,x", False),
        ("https://a b", False),
        ("x https://a", False),
        ("https://a\nb", False),
        ("https://" + "a" * 2000, False),
    ],
)
def test_only_web_addresses_are_links(connection: Connection, tmp_path: Path, value: str, leads: bool) -> None:
    project = dashboards(tmp_path, {"a": (f"select $x${value}$x$ as u", {"columns": {"u": {"format": "link"}}})})
    links = PageText(page_of(connection, project)).links
    assert (value in links, len(links)) == (leads, 4 + leads)


def test_a_card_without_rows_says_so(connection: Connection, tmp_path: Path) -> None:
    assert tables_of(connection, tmp_path, "select 1 as a where false") == {"a": [["a"], ["No rows."]]}


def test_a_long_text_is_cut_and_says_how_long_it_is(connection: Connection, tmp_path: Path) -> None:
    said: dict[str, object] = {"chart": "row", "x": "t", "y": "n"}
    project = dashboards(tmp_path, {"a": ("select repeat('x', 100000) as t, 1 as n", said)})
    page = page_of(connection, project)
    assert PageText(page).tables["a"][1][0] == "x" * 1000 + "… (100,000 characters)"
    assert "x" * 1001 not in page


def test_of_many_rows_the_first_are_shown(connection: Connection, tmp_path: Path) -> None:
    project = dashboards(tmp_path, {"a": (f"select n from generate_series(1, {SHOWN_ROWS + 1}) as n", {})})
    page = PageText(page_of(connection, project))
    assert (len(page.tables["a"]), page.tables["a"][-1]) == (SHOWN_ROWS + 1, [str(SHOWN_ROWS)])
    assert f"The first {SHOWN_ROWS} of {SHOWN_ROWS + 1} rows." in "".join(page.texts)


def test_of_a_long_course_of_time_the_newest_are_shown(connection: Connection, tmp_path: Path) -> None:
    count = CHART_ROWS + 10
    text = page_of(connection, dashboards(tmp_path, {"a": (HOURS.format(count), LINE)}))
    page = PageText(text)
    assert [row[1] for row in page.tables["a"][1:]] == [f"{n:,}" for n in range(count - SHOWN_ROWS + 1, count + 1)]
    assert "The newest 500 of 5,010 rows." in "".join(page.texts)
    assert "The chart is of the newest 5,000 of 5,010 rows." in "".join(page.texts)
    assert points_in(text)["y"] == list(range(11, count + 1))


def test_of_a_course_that_the_query_turns_round_the_newest_are_the_first(
    connection: Connection, tmp_path: Path
) -> None:
    query = HOURS.format(CHART_ROWS + 10).replace("order by 1", "order by 1 desc")
    text = page_of(connection, dashboards(tmp_path, {"a": (query, LINE)}))
    assert sorted(points_in(text)["y"]) == list(range(11, CHART_ROWS + 11))
    assert "of 5,010 rows" in "".join(PageText(text).texts)


def test_a_page_over_many_rows_stays_small(connection: Connection, tmp_path: Path) -> None:
    small = len(page_of(connection, dashboards(tmp_path / "s", {"a": (HOURS.format(1), LINE)})))
    large = len(page_of(connection, dashboards(tmp_path / "l", {"a": (HOURS.format(300_000), LINE)})))
    assert large - small < 300_000


def points_in(page: str) -> dict[str, list[float]]:
    """The data of the page's only chart."""
    found = re.findall(r'<script type="application/json">(.*?)</script>', page)
    assert len(found) == 1
    points: dict[str, list[float]] = json.loads(found[0])["points"]
    return points


def test_the_page_has_titles_in_their_languages(connection: Connection, tmp_path: Path) -> None:
    cards = {
        "a": ("select 1 as n", {"title": "Распределение событий по часам"}),
        "b": ("select 1 as n", {"title": "Top"}),
    }
    text = page_of(connection, dashboards(tmp_path, cards))
    assert '<html lang="en">' in text
    assert re.search(r'<h3 [^>]*lang="ru">Распределение событий по часам</h3>', text)
    assert re.search(r'<h3 [^>]*dir="auto">Top</h3>', text)


def test_texts_and_tabs_stand_where_the_dashboard_has_them(connection: Connection, tmp_path: Path) -> None:
    place = "place = { column = 0, row = 20, width = 24, height = 1 }"
    head = 'tabs = ["A", "B"]\n'
    texts = f'[[texts]]\ntext = "Why **so**: <b>"\ntab = "B"\n{place}\n'
    texts += f'[[texts]]\ntext = "Head"\nheading = true\ntab = "A"\n{place}\n'
    project = dashboards(tmp_path, {"a": ("select 1 as n", {"tab": "B"})}, head)
    file = tmp_path / "dashboards/one/dashboard.toml"
    file.write_text(file.read_text() + texts)
    text = page_of(connection, project).partition('<script type="module">')[0]
    headings = re.findall(r"<h([1-6])[^>]*>([^<]*)</h", text)
    assert headings == [("1", tmp_path.name), ("2", "one"), ("3", "A"), ("4", "Head"), ("3", "B"), ("4", "a")]
    assert "<p>Why <strong>so</strong>: &lt;b&gt;</p>" in text


# One moment


def test_all_cards_are_of_one_snapshot(connection: Connection, tmp_path: Path) -> None:
    query = """select pg_current_snapshot()::text as s, now()::text as t,
        current_setting('transaction_isolation') as i, current_setting('transaction_read_only') as r"""
    tables = PageText(page_of(connection, dashboards(tmp_path, {"a": (query, {}), "b": (query, {})}))).tables
    assert tables["a"] == tables["b"]
    assert tables["a"][1][2:] == ["repeatable read", "on"]


def test_the_page_says_how_new_it_is(embedded_server: Server, tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_text('{"event_id": "1"}\n')
    project = dashboards(tmp_path, {"a": ("select 1 as n", {})})
    with embedded_server.database() as dsn, Warehouse(dsn).connect() as connection:
        assert "Last load" not in page_of(connection, project)
        clickmart.load(tmp_path / "f.jsonl", dsn=dsn)
        assert re.search(r"<dt>Last load</dt><dd>.* UTC, not yet in the marts</dd>", page_of(connection, project))
        clickmart.apply(dsn=dsn)
        assert re.search(
            r'<dt>Last load</dt><dd><time datetime="[^"]+Z?"[^>]*>[\d: -]+</time> UTC</dd>',
            page_of(connection, project),
        )


def test_a_reader_of_the_marts_may_make_the_page(embedded_server: Server, tmp_path: Path) -> None:
    """Without a right to anything of the raw layer."""
    (tmp_path / "f.jsonl").write_text('{"event_id": "1"}\n')
    with embedded_server.database() as dsn:
        clickmart.load(tmp_path / "f.jsonl", dsn=dsn)
        clickmart.apply(dsn=dsn)
        with Warehouse(dsn).connect() as connection:
            connection.execute("set role clickmart_reader")
            page = write_report(connection, read_project(), None).page
    assert page is not None
    assert "<dt>Last load</dt>" in page


# Filters and dashboards


def test_filters_narrow_the_cards_that_have_them_and_stand_in_the_header(dsn: str, tmp_path: Path) -> None:
    query = HOURS.format(100).replace("order by 1", "where true\n-- [[ and n >= {{least}} ]]\norder by 1")
    project = dashboards(tmp_path, {"a": (query, {}), "b": ("select 1 as n", {})}, FILTERS)
    with Warehouse(dsn).connect() as connection:
        page = PageText(page_of(connection, project, filters={"least": "99"}))
    assert [row[1] for row in page.tables["a"]] == ["n", "99", "100"]
    assert "Least 99" in " ".join("".join(page.texts).split("\n"))[:400].replace("Least99", "Least 99")
    assert "".join(page.texts).count("Not narrowed by Least.") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--filter", "least"], "--filter takes NAME=VALUE, found 'least'"),
        (["--filter", "most=1"], "no dashboard has a filter 'most'; there are day, least"),
        (["--filter", "day=yesterday"], "filter day must be a date such as 2026-03-02, found 'yesterday'"),
        (["--dashboard", "two"], "no dashboard 'two'; there are one"),
        (["--json", "-o", "-"], "--json describes a file; -o - writes none"),
        (["--format", "png", "-o", "-"], "images go to a folder; name one by -o"),
    ],
)
def test_wrong_usage_is_one_message_and_exit_code_2(dsn: str, tmp_path: Path, options: list[str], message: str) -> None:
    folder = project_folder(tmp_path, {"a": ("select 1 as n", {})}, FILTERS)
    result = run("report", "--project", str(folder), *options, dsn=dsn)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["dashboards", "migrations", "sql"]


def project_folder(folder: Path, cards: dict[str, tuple[str | bytes, dict[str, object]]], head: str = "") -> Path:
    dashboards(folder, cards, head)
    (folder / "sql").mkdir()
    (folder / "migrations").mkdir()
    return folder


# Files


def test_the_command_writes_a_file_and_says_so(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = project_folder(tmp_path / "shop", {"a": ("select 1 as n", {})})
    written = run_json("report", "--project", str(folder), dsn=dsn)
    size = Path("report.html").stat().st_size
    assert written == {"files": [{"file": "report.html", "size": size}], "dashboards": 1, "cards": 1, "filters": {}}
    said = outcome(run("report", "--project", str(folder), "-o", "x.html", "--dashboard", "one", dsn=dsn))
    assert said == (0, f"x.html\n1 dashboard, 1 card, {size / 1e3:.1f} kB\n", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "shop", "x.html"]
    assert '<h1 dir="auto">shop</h1>' in Path("x.html").read_text(encoding="utf-8")


def test_a_dash_writes_the_page_itself(dsn: str, tmp_path: Path) -> None:
    folder = project_folder(tmp_path, {"a": ("select 'Ж' as n", {})})
    result = run("report", "--project", str(folder), "-o", "-", dsn=dsn)
    assert (result.exit_code, result.stderr) == (0, "")
    assert PageText(result.stdout_bytes.decode()).tables == {"a": [["n"], ["Ж"]]}
    assert result.stdout_bytes.endswith(b"</html>")
    page = clickmart.report("-", dsn=dsn, project=folder)
    assert str(page).startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (
            "-- Title\nselect 'é', stepp",
            "dashboards/one/a.sql:2:13: column \"stepp\" does not exist\n  2 | select 'é', stepp\n    |             ^",
        ),
        (b"-- \xff", "dashboards/one/a.sql: not UTF-8 text (invalid start byte at byte 3)"),
        ("delete from cdm.purchases", "cannot execute DELETE in a read-only transaction"),
        ("-- Title\nselect 1 / 0", "dashboards/one/a.sql:2:1: division by zero\n"),
        ("-- nothing", "dashboards/one/a.sql: a card is one query, and here are 0"),
        ("select 1; select 2", "dashboards/one/a.sql: a card is one query, and here are 2"),
        ("set local work_mem = '1MB'", "dashboards/one/a.sql:1:1: the last operation didn't produce records"),
    ],
)
def test_a_card_that_fails_is_shown_where_it_stands_and_leaves_the_former_page(
    connection: Connection, tmp_path: Path, card: str | bytes, message: str
) -> None:
    file = tmp_path / "report.html"
    file.write_text("former")
    with pytest.raises(ClickmartError) as caught:
        write_report(connection, dashboards(tmp_path, {"a": (card, {})}), file)
    assert message in str(caught.value)
    assert file.read_text() == "former"


def test_where_no_page_can_be_written_the_path_is_named(connection: Connection, tmp_path: Path) -> None:
    with pytest.raises(ProjectError) as caught:
        write_report(connection, Project(tmp_path, Settings()), tmp_path / "none" / "report.html")
    assert str(caught.value) == f"{tmp_path}/none/report.html: can't be written: No such file or directory"


def test_a_page_takes_the_place_of_the_former_one_at_once(connection: Connection, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text("former")
    link = tmp_path / "link.html"
    link.symlink_to(file)
    with file.open() as reader:
        write_report(connection, Project(tmp_path, Settings()), link)
        assert reader.read() == "former"
    assert link.is_symlink()
    assert file.read_text(encoding="utf-8").endswith("</html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.html", "report.html"]


def test_images_have_the_names_of_their_cards(dsn: str, tmp_path: Path) -> None:
    cards: dict[str, tuple[str | bytes, dict[str, object]]] = {
        "line": (HOURS.format(9), LINE),
        "t": ("select 1 as n", {}),
    }
    folder = project_folder(tmp_path / "shop", cards)
    written = run_json("report", "--project", str(folder), "--format", "png", "-o", str(tmp_path / "to/here"), dsn=dsn)
    assert [Path(file["file"]).name for file in written["files"]] == ["one.line.png", "one.t.png"]
    for file in written["files"]:
        content = Path(file["file"]).read_bytes()
        assert (content[:8], len(content)) == (b"\x89PNG\r\n\x1a\n", file["size"])
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ProjectError, match=r"file: can't be made: File exists; -o names a folder for images"):
        clickmart.report(blocked, dsn=dsn, project=folder, format="png")


# The built-in project


def test_the_built_in_dashboards_run_on_an_empty_warehouse(connection: Connection, tmp_path: Path) -> None:
    project = Project(builtin_folder(), Settings())
    tables = PageText(page_of(connection, project, dashboards=("de_student",))).tables
    assert len(tables) >= 4
    assert all(rows[1:] == [["No rows."]] for rows in tables.values())
    texts = "".join(PageText(page_of(connection, project)).texts)
    assert all(dashboard.title in texts for dashboard in read_dashboards(project))


def test_the_example_of_the_documents_is_a_dashboard(connection: Connection, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "dashboards.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"```(toml|sql)\n(.*?)```", text, re.DOTALL))
    files = {"dashboards/shop/dashboard.toml": blocks["toml"], "dashboards/shop/sales.sql": blocks["sql"]}
    project = Project(write_files(tmp_path, files), Settings())
    page = page_of(connection, project, filters={"from": "2026-03-02"})
    assert PageText(page).tables == {"Sales per hour": [["Hour", "Sales"], ["No rows."]]}


def test_every_file_that_the_package_needs_is_packed() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    patterns = setup["options.package_data"]["*"].split(", ")
    packages = setup["options"]["packages"].split()
    files = [path for path in (ROOT / "runner").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    assert {path.suffix for path in files} >= {".css", ".js", ".jinja", ".gz"}
    for path in [*files, *(ROOT / "dashboards").rglob("*.*")]:
        assert any(fnmatch(path.name, pattern) for pattern in patterns), path
        folder = ".".join(path.parent.relative_to(ROOT).parts).replace("runner", "clickmart", 1)
        assert folder.removeprefix("clickmart.") in [name.removeprefix("clickmart.") for name in packages], path


def test_without_a_warehouse_there_is_nothing_to_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLICKMART_DSN", "PGHOST", "PGSERVICE", "PGDATABASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProjectError, match=r"nothing to report: no warehouse in .*; run `clickmart apply`"):
        clickmart.report()
    assert list(tmp_path.iterdir()) == []


def test_a_format_that_there_is_not_is_refused(dsn: str) -> None:
    with pytest.raises(UsageError, match="format must be html or png, found 'pdf'"):
        clickmart.report(dsn=dsn, format="pdf")  # type: ignore[arg-type]


def test_only_a_report_waits_for_the_import_of_its_libraries(dsn: str) -> None:
    code = (
        "import sys, clickmart; from clickmart import cli, api\n"
        f"api.status(dsn={dsn!r}); api.apply(dsn={dsn!r})\n"
        "print([name for name in ('vl_convert', 'clickmart.reporting') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")


# The bundle


def test_the_bundle_is_put_together_once_and_anew_where_it_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def javascript_bundle(export: str) -> str:
        made.append(export)
        return "first line\nЖ\n"

    monkeypatch.setattr(vl_convert, "javascript_bundle", javascript_bundle)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert [vega_bundle(), vega_bundle(), len(made)] == ["first line\nЖ\n"] * 2 + [1]
    (kept,) = (tmp_path / "cache/clickmart").iterdir()
    for damaged in (kept.read_bytes()[:-1], b"\xff", b"alert(1)"):
        kept.write_bytes(damaged)
        assert vega_bundle() == "first line\nЖ\n"
    assert len(made) == 4
    assert vega_bundle() == "first line\nЖ\n"
    assert len(made) == 4
    # Where nothing can be kept it is made each time.
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert [vega_bundle(), vega_bundle(), len(made)] == ["first line\nЖ\n"] * 2 + [6]
