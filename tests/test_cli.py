"""The command: what it prints, where, and with which exit code it ends."""

from __future__ import annotations

import inspect
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import clickmart
import pytest
from clickmart.cli import main
from clickmart.errors import ProjectError, UsageError
from clickmart.project import init_project, read_project
from projects import clean_environment, outcome, query, run, smallest_project, value, write_files

COMMANDS = sorted(main.commands)
EVENT = {"event_timestamp": "2026-03-02 10:00:00", "user_domain_id": "u", "page_url_path": "/product_a"}


@pytest.fixture(autouse=True)
def _no_warehouse_named(monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)


def python(code: str, *, folder: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", env=os.environ | environment, cwd=folder, timeout=60
    )


# Help and usage


def test_the_commands_are_those_of_the_specification() -> None:
    assert {"apply", "check", "demo", "init", "load", "psql", "render", "status", "stop"} <= set(COMMANDS)


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS if name != "psql")])
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_explains_itself(command: list[str], option: str) -> None:
    result = run(*command, option)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"Usage: {' '.join(['clickmart', *command])} [OPTIONS]")
    assert not re.search(r"^  -\S+( \S+)*$", result.stdout.replace("-h, --help", ""), re.MULTILINE), (
        "an option unexplained"
    )


def test_the_help_names_every_command_with_a_sentence() -> None:
    lines = run("--help").stdout.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines] == COMMANDS
    assert all(line.endswith(".") and not line.endswith("...") for line in lines), "a sentence with no room"


def test_the_version_is_that_of_the_package() -> None:
    assert outcome(run("--version")) == (0, f"clickmart, version {clickmart.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["aply"], "No such command 'aply'"),
        (["apply", "--fulll"], "No such option '--fulll'"),
        (["apply", "shop"], "Got unexpected extra argument (shop)"),
        (["apply", "--jobs", "0"], "Invalid value for '--jobs': 0 is not in the range x>=1"),
        (["apply", "--dsn", "x"], "--dsn stands before the command: clickmart --dsn DSN COMMAND."),
        (["load"], "Missing argument 'PATH...'"),
        (["load", "x", "--max-rejects", "-1"], "Invalid value for '--max-rejects': -1 is not in the range x>=0"),
        (["load", "x", "--jobs", "many"], "Invalid value for '--jobs': 'many' is not a valid integer range"),
        (["init"], "Missing argument 'DIR'"),
    ],
)
def test_wrong_usage_ends_with_2_and_one_message(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: clickmart ")
    assert message in result.stderr


def test_without_a_command_the_help_is_shown_as_wrong_usage() -> None:
    result = run()
    assert result.exit_code == 2
    assert result.stdout + result.stderr == run("--help").stdout


def test_it_runs_as_a_module_too() -> None:
    command = [sys.executable, "-m", "clickmart", "--help"]
    # As wide as the tests' own run, which has no terminal to leave a margin in.
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "82"})
    assert (result.returncode, result.stdout.split(), result.stderr) == (0, run("--help").stdout.split(), "")


def test_importing_the_package_and_asking_for_help_imports_no_library() -> None:
    heavy = "[name for name in ('psycopg', 'pyarrow', 'jinja2', 'msgspec') if name in sys.modules]"
    assert python(f"import sys, clickmart; print({heavy})").stdout == "[]\n"
    code = (
        f"import sys\nfrom clickmart.cli import main\nmain(['load', '--help'], standalone_mode=False)\nprint({heavy})"
    )
    assert python(code).stdout.endswith("\n[]\n")


def test_an_apply_and_a_status_of_what_stands_import_nothing_that_renders_or_loads(tmp_path: Path, dsn: str) -> None:
    unused = "[name for name in ('pyarrow', 'jinja2', 'msgspec', 'clickmart.loading') if name in sys.modules]"
    code = "import sys, clickmart\nprint(clickmart.{}(dsn=sys.argv[1]).{})\nprint(" + unused + ")"
    for call, attribute, expected in (("apply", "files", "()"), ("status", "plan.files", "()")):
        script = tmp_path / "script.py"
        script.write_text(code.format(call, attribute))
        done = subprocess.run([sys.executable, script, dsn], capture_output=True, text=True, check=True)
        assert done.stdout == f"{expected}\n[]\n"


# init and render


def test_init_says_what_it_made_and_how_to_use_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = f"{tmp_path}/my shop"
    assert outcome(run("init", "my shop")) == (
        0, f"{made}: a project folder; change it, then `clickmart apply --project '{made}'`\n", "",
    )  # fmt: skip
    message = "my shop: exists already and isn't an empty folder; name another one"
    assert outcome(run("init", "my shop")) == (1, "", f"clickmart: {message}\n")
    assert outcome(run("render", "--project", "shop")) == (
        1, "", "clickmart: shop: no such folder; `clickmart init shop` makes a project there\n",
    )  # fmt: skip


def test_render_prints_all_files_in_order_and_needs_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLICKMART_DSN", "host=nowhere.invalid")
    result = run("render")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "".join(file.text for file in read_project().files)


def test_what_render_prints_runs_in_psql_as_it_is_and_again(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "all.sql").write_bytes(run("render").stdout_bytes)
    query(dsn, "update cdm.rebuild set page_views = false, purchases = false")
    for _ in range(2):
        command = ["psql", dsn, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-1", "-f", tmp_path / "all.sql"]
        result = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | {"PGOPTIONS": "-c client_min_messages=warning"}
        )
        assert (result.returncode, result.stderr) == (0, "")
    # Their functions are new, so the next refresh is to build all anew.
    assert query(dsn, "select page_views, purchases from cdm.rebuild") == [(True, True)]
    assert run("apply", dsn=dsn).stdout.startswith("refresh: 0 new loads, 0 rows, marts built anew\n")
    assert run("check", dsn=dsn).exit_code == 0


def test_files_that_lack_their_last_semicolon_or_line_end_still_follow_one_another(tmp_path: Path) -> None:
    files = {
        "sql/a/1.sql": "select 1",
        "sql/a/2.sql": "select 2 -- two;\n",
        "sql/a/3.sql": "select 3; -- three",
        "sql/a/4.sql": "-- four",
        "sql/a/5.sql": "",
        "sql/cdm/90_refresh.sql": "select 0;\n",
    }
    project = smallest_project(tmp_path, files)
    assert run("render", "--project", str(project.folder)).stdout == (
        "select 0;\nselect 1\n;\nselect 2 -- two;\n;\nselect 3; -- three\n-- four\n\n"
    )


@pytest.mark.parametrize("name", ["sql/cdm/20_sources.sql", "cdm/20_sources.sql", "20_sources.sql", "20_sources"])
def test_render_takes_one_file_by_path_name_or_stem(name: str) -> None:
    (file,) = (file for file in read_project().files if file.path == "sql/cdm/20_sources.sql")
    assert outcome(run("render", name)) == (0, file.text, "")


@pytest.mark.parametrize("name", ["migrations/0001_stage.sql", "0001_stage.sql", "0001_stage"])
def test_render_takes_one_migration_too_as_it_is(name: str) -> None:
    assert outcome(run("render", name)) == (0, read_project().migrations[0].text, "")


def test_render_of_an_unknown_or_doubtful_name_is_wrong_usage_and_lists_the_names(tmp_path: Path) -> None:
    smallest_project(tmp_path, {"sql/a/1.sql": "", "sql/b/1.sql": "{{ 1 }}"})
    names = "there are migrations/0001_cdm.sql, sql/cdm/90_refresh.sql, sql/a/1.sql, sql/b/1.sql"
    for name, problem in (("2", "names no SQL file of the project"), ("1.sql", "means sql/a/1.sql and sql/b/1.sql")):
        result = run("render", name, "--project", str(tmp_path))
        assert outcome(result) == (2, "", f"clickmart: '{name}' {problem}; {names}\n")


def test_sql_comes_out_as_utf8_whatever_the_terminal_is(tmp_path: Path) -> None:
    smallest_project(tmp_path, {"sql/cdm/90_refresh.sql": "select 'é𝄞';\n"})
    code = f"from clickmart.cli import main\nmain(['render', '--project', {str(tmp_path)!r}])"
    for encoding in ("ascii", "latin-1"):
        assert python(code, PYTHONIOENCODING=encoding).stdout == "select 'é𝄞';\n"


def test_data_that_a_terminal_lacks_letters_for_is_no_error(empty_dsn: str, tmp_path: Path) -> None:
    smallest_project(
        tmp_path, {"sql/a/1.sql": "create schema checks; create view checks.odd as select 'ж'::text as x;"}
    )
    run("apply", "--project", str(tmp_path), dsn=empty_dsn)
    code = "from clickmart.cli import main\nmain(['check'])"
    result = python(code, PYTHONIOENCODING="latin-1", CLICKMART_DSN=empty_dsn)
    assert (result.returncode, result.stdout) == (1, "FAILED  odd\nx\n-\n\\u0436\n")


# load


def test_load_reports_on_stdout_and_says_failures_on_stderr_one_by_one(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = json.dumps(EVENT) + "\n"
    write_files(tmp_path, {"good.jsonl": line, "bad.csv.gz": b"no gzip", "worse.jsonl": "{\n", "copy.jsonl": line})
    result = run("load", "good.jsonl", "bad.csv.gz", "worse.jsonl", "copy.jsonl", dsn=dsn)
    assert result.exit_code == 1
    report = [re.split(r"  +", text, maxsplit=1) for text in result.stdout.splitlines()]
    assert [name for name, *_ in report[:-1]] == ["good.jsonl", "bad.csv.gz", "worse.jsonl", "copy.jsonl"]
    assert [rest[0].split()[0].strip(":,") for _, *rest in report[:-1]] == ["1", "failed", "failed", "skipped"]
    messages = result.stderr.splitlines()
    assert [message.split()[:2] for message in messages] == [
        ["clickmart:", "bad.csv.gz:"],
        ["clickmart:", "worse.jsonl:"],
    ]


def test_load_of_what_is_not_there_is_an_error_before_anything_is_loaded(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path, {"good.jsonl": json.dumps(EVENT)})
    for arguments, path in ((["good.jsonl", "none.jsonl"], "none.jsonl"), (["x*.csv"], "x*.csv"), ([""], "")):
        result = run("load", *arguments, dsn=dsn)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith(f"clickmart: {path}: ")
        assert result.stderr.count("\n") == 1
    assert value(dsn, "select count(*) from stage.loads") == 0


def test_load_into_an_empty_database_makes_the_tables_of_the_project_first(empty_dsn: str, tmp_path: Path) -> None:
    write_files(tmp_path, {"e.jsonl": json.dumps(EVENT)})
    init_project(tmp_path / "shop")
    write_files(tmp_path / "shop", {"migrations/0003.sql": "create table cdm.mine (a int);"})
    result = run("load", str(tmp_path / "e.jsonl"), "--project", str(tmp_path / "shop"), dsn=empty_dsn)
    assert (result.exit_code, result.stderr) == (0, "")
    assert value(empty_dsn, "select count(*) from cdm.mine") == 0
    assert run("apply", "--project", str(tmp_path / "shop"), dsn=empty_dsn).stdout.count("migrations/") == 0


# The functions


def test_every_command_is_a_function_whose_result_is_what_it_prints(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path, {"e.jsonl": json.dumps(EVENT), "s/f.jsonl": json.dumps({**EVENT, "event_id": "2"})})

    def same(function: Callable[..., object], *arguments: str, seconds: str = "", **options: object) -> None:
        """Both after one another: so the second finds nothing left to do, or the same to say."""
        found = str(function(*arguments, dsn=dsn, **options))
        printed = run(function.__name__, *arguments, *(f"--{name}" for name in options), dsn=dsn).stdout
        assert printed == f"{found}\n"

    assert str(clickmart.load("e.jsonl", dsn=dsn)).startswith("e.jsonl  1 row in ")
    assert str(clickmart.load(Path("s"), ["e.jsonl"], dsn=dsn)).count("\n") == 2
    same(clickmart.load, "e.jsonl")
    same(clickmart.apply, plan=True)
    assert str(clickmart.apply(dsn=dsn)).startswith("refresh: 2 new loads, 2 rows\napplied in ")
    for function in (clickmart.apply, clickmart.status, clickmart.check):
        same(function)
    assert run("render").stdout == str(clickmart.render())
    assert str(clickmart.stop()) + "\n" == run("stop").stdout
    assert str(clickmart.init("a")).replace("/a", "/b") + "\n" == run("init", "b").stdout


def test_the_functions_are_typed_and_explained() -> None:
    names = ["load", "apply", "status", "render", "check", "init", "stop", "demo", "psql"]
    assert set(names) <= set(clickmart.__all__)
    for name in names:
        function = getattr(clickmart, name)
        signature = inspect.signature(function)
        assert function.__doc__, name
        assert signature.return_annotation is not inspect.Signature.empty, name
        assert all(each.annotation is not inspect.Signature.empty for each in signature.parameters.values()), name
    assert (Path(clickmart.__file__).parent / "py.typed").is_file()
    with pytest.raises(AttributeError, match="has no attribute 'lod'"):
        clickmart.lod  # noqa: B018


def test_the_functions_raise_what_the_command_says(dsn: str) -> None:
    with pytest.raises(UsageError, match=r"^no path to load from$"):
        clickmart.load(dsn=dsn)
    with pytest.raises(UsageError, match=r"^jobs must be 1 or more, found 0$"):
        clickmart.load("x", jobs=0)
    with pytest.raises(UsageError, match=r"^max_rejects must be 0 or more, found -1$"):
        clickmart.load("x", max_rejects=-1)
    with pytest.raises(ProjectError, match=r"^none: no such folder"):
        clickmart.apply(dsn=dsn, project="none")


# Faults, pipes and signals


def test_a_fault_of_the_program_itself_is_one_message_and_a_traceback_on_demand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(**_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr("clickmart.api.status", fail)
    message = "clickmart: a fault of clickmart itself: KeyError: 'x'\nCLICKMART_DEBUG=1 shows where\n"
    assert outcome(run("status")) == (1, "", message)
    monkeypatch.setenv("CLICKMART_DEBUG", "1")
    with pytest.raises(KeyError):
        run("status")


def test_an_error_shows_its_traceback_on_demand(tmp_path: Path) -> None:
    code = "from clickmart.cli import main\nmain(['apply', '--project', 'none'])"
    quiet = python(code, folder=tmp_path)
    assert (quiet.returncode, "Traceback" in quiet.stderr) == (1, False)
    loud = python(code, folder=tmp_path, CLICKMART_DEBUG="1")
    assert (loud.returncode, "Traceback" in loud.stderr) == (1, True)


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "clickmart", "render"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert (process.wait(timeout=60), process.stderr.read()) == (1, b"")
    process.stderr.close()


def test_progress_shows_on_a_dumb_terminal_and_results_go_to_stdout_all_the_same(
    empty_dsn: str, tmp_path: Path
) -> None:
    smallest_project(tmp_path)
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "clickmart", "--dsn", empty_dsn, "apply", "--project", str(tmp_path)]
    # One that can move its cursor shows a line that changes instead: tests/test_terminal.py.
    environment = os.environ | {"TERM": "dumb"}
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=end, env=environment, text=True, timeout=60)
    os.close(end)
    shown = os.read(terminal, 10_000).decode()
    os.close(terminal)
    assert shown.splitlines() == [
        "applying migrations/0001_cdm.sql",
        "applying sql/cdm/90_refresh.sql",
        "refreshing the marts",
    ]
    assert result.stdout.splitlines()[:2] == ["migrations/0001_cdm.sql  new", "sql/cdm/90_refresh.sql   new"]


def test_an_interrupt_ends_an_apply_and_leaves_the_warehouse_as_it_was(empty_dsn: str, tmp_path: Path) -> None:
    smallest_project(tmp_path, {"sql/a/1.sql": "create table cdm.t (a int); select pg_sleep(60);"})
    command = [sys.executable, "-m", "clickmart", "--dsn", empty_dsn, "apply", "--project", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    sleeping = "select 1 from pg_stat_activity where query ~ '^select pg_sleep' and datname = current_database()"
    while not query(empty_dsn, sleeping):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)
    said = "clickmart: interrupted; applied: migrations/0001_cdm.sql; what was not finished is undone\n"
    assert (process.returncode, *output) == (1, "", said)
    assert query(empty_dsn, "select to_regclass('cdm.t'), to_regnamespace('cdm')::text") == [(None, "cdm")]
    assert not query(empty_dsn, sleeping)
