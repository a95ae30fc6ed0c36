"""Hostile texts through every door: fields, names of files, settings, SQL files, dashboards, filters, DSNs. A value is
never code, nothing printed moves a terminal, no password is shown, and no file is opened or written but those meant."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import clickmart
import psycopg
import pytest
from clickmart.errors import LoadError, ProjectError
from clickmart.paths import find_files
from clickmart.project import read_project
from clickmart.tables import json_text, text_of, without_control
from clickmart.whole_files import write_whole
from conftest import Server
from pages import PageText, dashboards
from projects import query, run, run_json, smallest_project, write_files
from psycopg.conninfo import make_conninfo

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

SQL = "'; drop schema stage cascade; --"
PAYLOADS = {
    "sql": SQL,
    "dollars": "$$; drop schema cdm cascade; $body$",
    "backslashes": "\\'; drop table stage.loads; --\\",
    "format": "%s %(name)s {0} {name} :name :'name'",
    "jinja": "{{ settings.cart }}{% include '/etc/passwd' %}{# x #}",
    "undefined": "{{ nobody }}",
    "html": "<script>window.ran=1</script><img src=x onerror=window.ran=1>\"'&amp;",
    "csv": '=cmd|"/c calc"!A1,"\n',
    "ansi": "\x1b[31m\x1b]0;title\x07\r\x9b2J",
    "bidi": "\u202egnp.exe\u2066\u200f\u061c",
    "markup": "[red]x[/red] :smile: `code` **b** [a](javascript:alert(1))",
    "shell": "$(touch owned) `touch owned` ; touch owned | &",
    "path": "../../../etc/passwd",
}
hostile = pytest.mark.parametrize("text", PAYLOADS.values(), ids=PAYLOADS)
#: What a terminal obeys, or what turns the direction of writing; the ends of our own lines are none.
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
#: No name of a file can have these.
NO_NAME = str.maketrans({"/": "_", "\0": "_"})
SECRET = "s3cr3t"
#: A query whose text is in no quotes, where a card's own `{{x}}` would be a filter.
NAMED = "select convert_from('\\x{}', 'UTF8') as said"


@pytest.fixture(scope="module")
def shop_dsn(embedded_server: Server) -> Iterator[str]:
    """A warehouse that all payloads go into, and that must be whole in the end."""
    with embedded_server.database() as dsn:
        yield dsn
        tables = "select count(*) from stage.events, stage.loads, cdm.purchases"
        assert query(dsn, tables) is not None
        assert not Path("owned").exists()


# Every door


@hostile
def test_a_field_a_reject_and_a_file_name_are_stored_as_they_are_and_shown_harmlessly(
    shop_dsn: str, tmp_path: Path, text: str
) -> None:
    folder = tmp_path / f"data {text}".translate(NO_NAME)
    folder.mkdir()
    file = folder / f"a {text.translate(NO_NAME)}.jsonl"
    event = {"event_id": text, "event_timestamp": "2026-03-02 10:00:00", "referer_url": text, "user_domain_id": text}
    lines = [json.dumps(event | {"page_url_path": f"/{text}", f"other {text}": 1}), f"{{ {text}".replace("\n", " ")]
    file.write_bytes("".join(f"{line}\n" for line in lines).encode())
    loaded = run("load", str(folder), dsn=shop_dsn)
    assert (loaded.exit_code, loaded.stderr) == (0, "")
    (row,) = query(shop_dsn, "select event_id, user_domain_id, file_name from stage.events "
                   "join stage.loads on loads.id = batch_id where file_name = %s", str(file))  # fmt: skip
    assert row == (text, text, str(file))
    reject = "select raw from stage.events_rejected where source_file = %s"
    assert query(shop_dsn, reject, str(file)) == [(lines[1],)]
    outputs = [loaded.stdout]
    for command in (["apply"], ["status"], ["check"]):
        for options in ([], ["--json"]):
            result = run(*command, *options, dsn=shop_dsn)
            assert (result.exit_code, result.stderr) == (0, "")
            outputs.append(result.stdout)
    for output in outputs:
        assert not OBEYED.search(output)
    assert run_json("status", dsn=shop_dsn)["loads"][0]["file_name"] == str(file)
    sources = query(shop_dsn, "select count(*) from cdm.sources where referer_url = %s", text)
    assert sources == [(1,)]


@hostile
def test_a_setting_is_a_value_all_the_way_into_the_warehouse(empty_dsn: str, tmp_path: Path, text: str) -> None:
    def as_toml(value: str) -> str:
        return json.dumps(value).replace("\x7f", "\\u007f")

    project = smallest_project(tmp_path / f"shop {text}".translate(NO_NAME), {
        "clickmart.toml": f"[settings]\ncart = {as_toml(re.escape(text))}\n",
        "sql/cdm/10.sql": "create or replace view cdm.said as select {{ settings.cart | literal }} as cart;\n",
    })  # fmt: skip
    result = run("apply", "--project", str(project.folder), dsn=empty_dsn)
    assert (result.exit_code, result.stderr) == (0, "")
    assert query(empty_dsn, "select cart from cdm.said") == [(re.escape(text),)]
    for setting in ("purchase_window", "product"):
        wrong = f"({text}"  # neither an interval nor an expression
        (project.folder / "clickmart.toml").write_text(f"[settings]\n{setting} = {as_toml(wrong)}\n")
        refused = run("apply", "--project", str(project.folder), dsn=empty_dsn)
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert refused.stderr.startswith(f"clickmart: clickmart.toml:2: {setting} = ")
        assert not OBEYED.search(refused.stderr)


@hostile
def test_a_name_in_a_project_is_kept_or_refused_and_never_run(empty_dsn: str, tmp_path: Path, text: str) -> None:
    name = text.translate(NO_NAME)
    files = {f"sql/cdm/10 {name}.sql": "create view cdm.made as select 1 as n;\n"}
    folder = write_files(tmp_path / "shop", files)
    smallest_project(folder)
    result = run("apply", "--project", str(folder), dsn=empty_dsn)
    assert not OBEYED.search(result.stdout + result.stderr)
    if name.isprintable():
        assert result.exit_code == 0
        assert query(empty_dsn, "select path from clickmart.files order by 1")[0] == (f"sql/cdm/10 {name}.sql",)
    else:
        assert (result.exit_code, result.stdout) == (1, "")
        assert "a name that can't be shown; rename the file" in result.stderr


@hostile
def test_a_dashboard_says_texts_and_runs_none_of_them(dsn: str, tmp_path: Path, text: str) -> None:
    head = f"title = {json.dumps(text)}\ndescription = {json.dumps(text)}\n".replace("\x7f", "\\u007f")
    head += f'[filters.who]\ntitle = {json.dumps(text)}\ntype = "text"\n'
    said = {"title": text, "description": text, "columns": {"said": {"title": text}}}
    cards = {
        "a": (NAMED.format(text.encode().hex()), said),
        "b": ("select {{who}} as said", {}),
    }
    project = smallest_project(dashboards(tmp_path / "shop", cards, head).folder)
    result = run("report", "-o", "-", "--filter", f"who={text}", "--project", str(project.folder), dsn=dsn)
    assert (result.exit_code, result.stderr) == (0, "")
    page = PageText(result.stdout)
    # Written as codes are the characters that would do something to the line.
    assert [row[0] for rows in page.tables.values() for row in rows[1:]] == [text_of(text)] * 2
    assert page.tags.count("script") == 2  # the bundle and our own
    assert not {"img", "iframe", "object", "b"} & set(page.tags)
    assert not any(link.startswith("javascript:") for link in page.links)


# Terminals


@hostile
def test_nothing_that_is_printed_moves_a_terminal_and_json_stays_what_it_was(text: str) -> None:
    assert not OBEYED.search(without_control(text))
    assert not OBEYED.search(json_text({text: [text]}))
    assert json.loads(json_text({text: [text]})) == {text: [text]}


def test_what_a_log_says_of_a_file_moves_nothing(dsn: str, tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"{number}\x1b[31m\x9b2J.jsonl").write_text(f'{{"event_id": "{number}"}}\n')
    terminal, end = os.openpty()
    command = [sys.executable, "-m", "clickmart", "--dsn", dsn, "load", str(tmp_path)]
    environment = os.environ | {"TERM": "dumb"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=end, env=environment, timeout=60, check=True)
    os.close(end)
    shown = os.read(terminal, 10_000).decode()
    os.close(terminal)
    assert r"0\x1b[31m\x9b2J.jsonl: 1 row" in shown
    assert not OBEYED.search(shown.replace("\r\n", "\n"))
    assert not OBEYED.search(done.stdout.decode())


# Passwords


MISPLACED = [
    "host=127.0.0.1;port=1;user=me;password={}",
    "host=nowhere.invalid,user=me,password={}",
    "host=127.0.0.1 port=1 user='me password={}'",
    "host=127.0.0.1 port=1 dbname='x;Pwd={}'",
    "postgresql://me:{}/shop",
    "postgresql://127.0.0.1:1/shop?user=me;password={}",
    "postgresql://me:{}:x@127.0.0.1:1:y/shop",
    "postgresql://me:%zz{}@127.0.0.1:1/shop",
    "postgresql+psycopg://me:{}@127.0.0.1:1/shop?sslmode=prefer",
    "jdbc:postgresql://127.0.0.1:1/shop?user=me&password={}",
    "host=127.0.0.1 port=1 password={} sslmode=nonsense",
    "host=127.0.0.1 port=1 password={} connect_timeout=x",
    "host=127.0.0.1 port=1 password={}",
    "postgresql://me:{}@nowhere.invalid:1/shop",
    "postgresql://me:%73{}@[::1]:1/shop",
]


@pytest.mark.parametrize("dsn", MISPLACED)
def test_no_error_shows_a_password_wherever_it_stands(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n")
    monkeypatch.chdir(tmp_path)
    for arguments in (["status", "--json"], ["load", "a.jsonl", "--jobs", "2"], ["report"], ["check"], ["demo"]):
        result = run(*arguments, dsn=dsn.format(SECRET))
        assert (result.exit_code, result.stdout) == (1, "")
        assert SECRET not in result.stderr
        assert result.stderr.startswith("clickmart: ")
    with pytest.raises(clickmart.ClickmartError) as caught:
        clickmart.apply(dsn=dsn.format(SECRET))
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@pytest.mark.parametrize("form", ["words", "url"])
def test_a_password_is_in_no_output_no_command_line_and_no_table(dsn: str, tmp_path: Path, form: str) -> None:
    """With every word on: the traceback of a load by processes whose connection is lost, and what it left behind."""
    for number in range(4):
        (tmp_path / f"{number}.jsonl").write_text(f'{{"event_id": "{number}"}}\n' * 20_000)
    parts = psycopg.conninfo.conninfo_to_dict(dsn)
    secret = make_conninfo(dsn, password=SECRET)
    if form == "url":
        host = str(parts["host"]).replace("/", "%2F")
        secret = f"postgresql://{parts['user']}:%73{SECRET[1:]}@{host}:{parts['port']}/{parts['dbname']}"
    # By the environment, since who gives it by --dsn has put it on a command line.
    environment = os.environ | {"CLICKMART_DSN": secret, "CLICKMART_DEBUG": "1"}
    command = [sys.executable, "-m", "clickmart", "load", str(tmp_path), "--jobs", "2", "--json"]
    seen: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as load:
        watch = threading.Thread(target=lambda: seen.extend(command_lines(load)))
        watch.start()
        output, errors = load.communicate(timeout=120)
        watch.join()
    assert load.returncode == 0
    assert len(json.loads(output)["files"]) == 4
    assert any("pickle" in line for line in seen)  # the processes of --jobs were among them
    for text in (output, errors, *seen):
        assert SECRET not in text
    assert query(dsn, "select 1 from stage.loads where loads::text like %s", f"%{SECRET}%") == []
    gone = make_conninfo(secret, dbname="gone")
    for arguments in (["status"], ["load", str(tmp_path)]):
        environment["CLICKMART_DSN"] = gone
        failed = subprocess.run(
            [sys.executable, "-m", "clickmart", *arguments],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        assert failed.returncode == 1
        assert 'database "gone" does not exist' in failed.stderr
        assert SECRET not in failed.stdout + failed.stderr


def command_lines(process: subprocess.Popen[str]) -> Iterator[str]:
    """What all may see of the process and its children while it runs."""
    while process.poll() is None:
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                yield entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue


# Files


def test_a_link_that_leads_out_of_a_folder_is_refused_with_where_it_leads(tmp_path: Path) -> None:
    write_files(tmp_path, {"out/secret.jsonl": "{}\n", "in/deep/a.jsonl": "{}\n", "in/b.jsonl": "{}\n"})
    inside = tmp_path / "in"
    (inside / "again.jsonl").symlink_to("deep/a.jsonl")
    (inside / "loop").symlink_to(".")
    assert find_files([inside]) == [f"{inside}/again.jsonl", f"{inside}/b.jsonl"]
    for name, target in (("c.jsonl", "../out/secret.jsonl"), ("d", "../out"), ("deep/e.jsonl", "/etc/hosts")):
        link = inside / name
        link.symlink_to(target)
        real = os.path.realpath(link)
        for path in (inside, f"{inside}/*", f"{inside}/**/*.jsonl", f"{inside}/*/secret.jsonl"):
            if "secret" in str(path) and name != "d":
                continue
            if "**" in str(path) and name == "d":
                continue  # which enters no link
            with pytest.raises(LoadError, match=rf"{re.escape(name)} is a link that leads out of .*, to {real}: name"):
                find_files([path])
        link.unlink()
    (inside / "c.jsonl").symlink_to("../out/secret.jsonl")
    assert find_files([inside / "c.jsonl"]) == [f"{inside}/c.jsonl"]  # named, and so meant


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").symlink_to("b.jsonl")
    (tmp_path / "in" / "b.jsonl").symlink_to("a.jsonl")
    (tmp_path / "in" / "up").symlink_to("..")
    with pytest.raises(LoadError, match="is a link that leads out of"):
        find_files([tmp_path / "in"])
    (tmp_path / "in" / "up").unlink()
    for file in find_files([tmp_path / "in"]):
        with pytest.raises(LoadError, match="Too many levels of symbolic links"), clickmart.readers.Source.open(file):
            pass


@pytest.mark.parametrize("name", ["../x", "..\\x", "/etc/passwd", "x/../../y", "a b", "A"])
def test_a_card_has_no_name_that_could_lead_elsewhere(tmp_path: Path, dsn: str, name: str) -> None:
    folder = write_files(tmp_path / "shop", {
        "dashboards/one/dashboard.toml": f"[cards.{json.dumps(name)}]\n"
        "place = { column = 0, row = 0, width = 1, height = 1 }\n",
        "x.sql": "select 'read' as said",
    })  # fmt: skip
    smallest_project(folder)
    result = run("report", "-o", "-", "--project", str(folder), dsn=dsn)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "names are of lower-case letters a to z, digits and _" in result.stderr


@pytest.mark.parametrize("name", ["../clickmart.toml", "/etc/passwd", "../../etc/passwd", "stage/../../clickmart.toml"])
@pytest.mark.parametrize("tag", ["{{% include '{}' %}}", "{{% from '{}' import x %}}", "{{% extends '{}' %}}"])
def test_a_template_reads_nothing_outside_of_sql(tmp_path: Path, name: str, tag: str) -> None:
    project = smallest_project(tmp_path, {"sql/cdm/10.sql": tag.format(name), "clickmart.toml": "[settings]\n"})
    with pytest.raises(ProjectError, match=rf"sql/cdm/10\.sql:1: no template '{re.escape(name)}' in sql/"):
        list(read_project(project.folder).files)


@as_root
def test_what_stands_behind_a_link_of_another_user_is_not_written_over(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("kept")
    link = tmp_path / "report.html"
    link.symlink_to(kept)
    os.chown(link, 1, 1, follow_symlinks=False)
    with pytest.raises(OSError, match="it is a link that another user has put there"):
        write_whole(link, b"new")
    assert kept.read_text() == "kept"
    os.chown(link, 0, 0, follow_symlinks=False)
    write_whole(link, b"new")
    assert (kept.read_text(), link.is_symlink()) == ("new", True)


def test_the_file_that_a_report_is_written_to_first_is_no_link_that_is_there(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("kept")
    planted = tmp_path / ".report.html.new"
    planted.symlink_to(kept)
    with pytest.raises(OSError, match="symbolic links"):
        write_whole(tmp_path / "report.html", b"new")
    assert kept.read_text() == "kept"
    assert planted.is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_the_file_that_a_report_is_written_to_first_is_nobody_elses(tmp_path: Path) -> None:
    planted = tmp_path / ".report.html.new"
    planted.write_text("kept")
    os.chown(planted, 65534, -1)
    with pytest.raises(PermissionError, match="another user's file"):
        write_whole(tmp_path / "report.html", b"new")
    assert planted.read_text() == "kept"
    assert not (tmp_path / "report.html").exists()
