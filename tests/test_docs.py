"""The documents say what is: their outputs are printed by the commands that they show."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import psycopg
import pytest
from clickmart import cli
from conftest import Server

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md")])
BUILD = runpy.run_path(str(ROOT / "docs" / "build.py"))
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(name: str) -> str:
    """The output that stands in the README under that mark."""
    found = re.search(rf"<!-- {name} -->\n```\n(.*?)```\n<!-- /{name} -->", README, re.DOTALL)
    assert found, name
    return found[1]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "CLICKMART"))}
    command = [sys.executable, "-m", "clickmart", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("demo")
    yield folder
    run(folder, "stop")


def test_the_readme_shows_what_the_demo_prints(demo_folder: Path) -> None:
    result = run(demo_folder, "demo")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == block("demo")


def test_the_readme_shows_what_an_error_looks_like(demo_folder: Path) -> None:
    assert run(demo_folder, "init", "shop").returncode == 0
    file = demo_folder / "shop" / "sql" / "cdm" / "20_sources.sql"
    file.write_text(file.read_text(encoding="utf-8").replace("    count_users,\n", "    count_userss,\n", 1))
    result = run(demo_folder, "apply", "--project", "shop")
    assert (result.returncode, result.stdout) == (1, "")
    assert f"$ clickmart apply --project shop\n{result.stderr}" == block("error")


@pytest.mark.parametrize("command", sorted(cli.main.commands))
def test_the_readme_names_each_command(command: str) -> None:
    assert re.search(rf"clickmart {command}\b|`{command}\b|make {command}\b", README)


def test_the_page_of_the_schema_is_what_make_docs_prints(server: Server) -> None:
    """On every server: the page says nothing that one version of PostgreSQL words otherwise."""
    with server.database() as dsn, psycopg.connect(dsn) as connection:
        page = BUILD["schema_page"](connection)
    assert (ROOT / "docs" / "schema.md").read_text(encoding="utf-8") == page


def test_the_page_of_the_command_is_what_make_docs_prints() -> None:
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == BUILD["cli_page"]()


@pytest.mark.parametrize("command", sorted(cli.main.commands))
def test_the_page_of_the_command_shows_each_command_with_examples_that_parse(command: str) -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    (text,) = re.findall(rf"## clickmart {command}\n\n```\n(.*?)\n```\n", page, re.DOTALL)
    examples = re.search(r"\n  Examples?:\n((?:    .+\n?)+)", text)
    assert examples, text
    for example in examples[1].strip().splitlines():
        found = re.search(r"\bclickmart ([^|>)]*)", example)
        assert found, example
        name, *arguments = shlex.split(re.sub(r"^--dsn \S+ ", "", found[1]))
        # A command keeps the option for help that its first context asks for.
        root = click.Context(cli.main, info_name="clickmart", **cli.main.context_settings)
        cli.main.commands[name].make_context(name, arguments, parent=root)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_each_link_to_a_file_leads_to_one(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_each_file_that_a_document_names_exists(document: Path) -> None:
    folders = "sql|migrations|runner|tests|docs|bench"
    for name in re.findall(rf"`((?:{folders})/[\w./*-]+)`", document.read_text(encoding="utf-8")):
        assert list(ROOT.glob(name.rstrip("/"))), name


def test_every_name_of_make_in_the_documents_is_a_target() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for document in DOCUMENTS:
        named = set(re.findall(r"(?:^|`)make (\w+)", document.read_text(encoding="utf-8"), re.MULTILINE))
        assert named <= targets | {"it"}


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "make test" in README
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").rstrip().endswith("make test")
