"""A project folder, read without a database."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest
from clickmart.errors import ProjectError
from clickmart.project import Project, builtin_folder, builtin_timelines, init_project, read_project
from clickmart.settings import Settings
from projects import smallest_project

BUILTIN = ("migrations", "sql", "sources", "dashboards")


def paths(project: Project) -> list[str]:
    return [file.path for file in project.files]


def refusal(folder: Path, files: dict[str, str | bytes]) -> str:
    project = smallest_project(folder, files)
    with pytest.raises(ProjectError) as caught:
        read_all(project)
    return str(caught.value)


def read_all(project: Project) -> int:
    return len(project.migrations) + len(project.files)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


# Order


def test_stage_comes_first_then_cdm_then_the_other_folders_by_name_nested_ones_too(tmp_path: Path) -> None:
    names = ["b/1.sql", "a/z/1.sql", "a/2.sql", "cdm/20.sql", "cdm/10.sql", "cdm/sub/1.sql", "stage/9.sql", "B/1.sql"]
    project = smallest_project(tmp_path, {f"sql/{name}": "" for name in names})
    assert paths(project) == [
        "sql/stage/9.sql",
        "sql/cdm/10.sql",
        "sql/cdm/20.sql",
        "sql/cdm/90_refresh.sql",
        "sql/cdm/sub/1.sql",
        "sql/B/1.sql",
        "sql/a/2.sql",
        "sql/a/z/1.sql",
        "sql/b/1.sql",
    ]


def test_migrations_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    project = smallest_project(tmp_path, {f"migrations/{name}.sql": "" for name in ("10", "9", "0002_b", "0002_a")})
    assert [m.name for m in project.migrations] == ["0001_cdm.sql", "0002_a.sql", "0002_b.sql", "10.sql", "9.sql"]


def test_only_sql_files_count_and_no_hidden_ones(tmp_path: Path) -> None:
    files = ["sql/macros.jinja", "sql/cdm/notes.md", "sql/cdm/.#90_refresh.sql", "sql/.ipynb_checkpoints/x.sql"]
    project = smallest_project(
        tmp_path, dict.fromkeys([*files, "migrations/._0001.sql", "migrations/old/1.sql"], b"\xff")
    )
    (tmp_path / "sql" / "cdm" / "folder.sql").mkdir()
    assert (paths(project), [m.name for m in project.migrations]) == (["sql/cdm/90_refresh.sql"], ["0001_cdm.sql"])


def test_a_file_directly_in_sql_is_refused(tmp_path: Path) -> None:
    message = "sql/10_mine.sql: stands in no folder of sql/; move it into one, as sql/cdm"
    assert refusal(tmp_path, {"sql/10_mine.sql": ""}) == message


# Migrations


def test_the_checksum_of_a_migration_is_that_of_its_bytes(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbfselect 1;\r\n"
    migration = smallest_project(tmp_path, {"migrations/0001_cdm.sql": content}).migrations[0]
    assert migration.checksum == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("begin", "begin"),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", "begin isolation"),
        ("start transaction", "start transaction"),
        ("commit", "commit"),
        ("commit and chain", "commit and"),
        ("end", "end"),
        ("rollback", "rollback"),
        ("abort", "abort"),
        ("prepare transaction 'x'", "prepare transaction"),
    ],
)
def test_a_migration_must_not_end_its_own_transaction(tmp_path: Path, statement: str, words: str) -> None:
    text = f"create table t (a text); -- é; commit;\n/* begin; */ select 'commit;';\n  {statement};\n"
    assert refusal(tmp_path, {"migrations/0002.sql": text}) == (
        f"migrations/0002.sql:3:3: {words} would break the one transaction that the migration and its ledger row are; "
        "leave it out, or begin the file with the line `-- clickmart: no transaction`"
    )


@pytest.mark.parametrize(
    "text",
    [
        "savepoint s; rollback to s; release s;",
        "do $$ begin null; end $$;",
        "create function f() returns int begin atomic select 1; end;",
        "select 1 as \"commit\"; select 'a'\n'; commit; ';",
        "-- clickmart: no transaction\nbegin; select 1; commit;",
        "\ufeff-- Clickmart: No Transaction \r\nbegin; commit;",
    ],
)
def test_what_ends_no_transaction_is_taken(tmp_path: Path, text: str) -> None:
    assert smallest_project(tmp_path, {"migrations/0002.sql": text}).migrations[1].text == text.removeprefix("\ufeff")


@pytest.mark.parametrize("line", ["--clickmart: no transaction", "\n-- clickmart: no transaction", "-- no transaction"])
def test_only_the_first_line_opts_out_of_the_transaction(tmp_path: Path, line: str) -> None:
    assert "begin would break" in refusal(tmp_path, {"migrations/0002.sql": f"{line}\nbegin;"})


@pytest.mark.parametrize("statement", ["copy t from stdin", "COPY (select 1) TO STDOUT"])
@pytest.mark.parametrize("path", ["migrations/0002.sql", "sql/cdm/10.sql"])
def test_a_copy_from_or_to_the_client_is_refused_since_none_is_there(tmp_path: Path, path: str, statement: str) -> None:
    assert refusal(tmp_path, {path: f"select 1;\n{statement};\n1\n\\.\n"}) == (
        f"{path}:2:1: copy from stdin or to stdout needs psql at the other end; write insert instead"
    )


def test_an_sql_file_must_not_end_the_transaction_of_all_files(tmp_path: Path) -> None:
    files = {
        "sql/cdm/10.sql": "{% from 'm.jinja' import m %}\n{{ m() }}",
        "sql/m.jinja": "{% macro m() %}--\n commit{% endmacro %}",
    }
    assert refusal(tmp_path, files) == (
        "sql/m.jinja:2:2: commit would break the one transaction that all files are; leave it out"
    )


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"migrations/0002.sql": b"select 1;\xff"},
            "migrations/0002.sql: not UTF-8 text (invalid start byte at byte 9)",
        ),
        ({"sql/cdm/1.sql": b"--\xe9\n"}, "sql/cdm/1.sql: not UTF-8 text (invalid continuation byte at byte 2)"),
        (
            {"migrations/0002.sql": "select 1;\n\0drop table t;"},
            "migrations/0002.sql:2:1: PostgreSQL can't store the character U+0000 that stands here",
        ),
        ({"sql/cdm/a\nb.sql": ""}, "'sql/cdm/a\\nb.sql': a name that can't be shown; rename the file"),
    ],
)
def test_a_file_that_can_not_be_sql_is_refused_by_its_name(
    tmp_path: Path, files: dict[str, str | bytes], message: str
) -> None:
    assert refusal(tmp_path, files) == message


@pytest.mark.parametrize("folder", ["migrations", "sql/cdm"])
def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path, folder: str) -> None:
    project = smallest_project(tmp_path)
    (tmp_path / folder / "99.sql").symlink_to("nowhere")
    with pytest.raises(ProjectError, match=rf"^{folder}/99.sql: (can't be read: No such file|no template)"):
        read_all(project)


# Folders


def test_the_built_in_project_has_the_default_settings_and_all_parts() -> None:
    project = read_project()
    assert project.settings == Settings()
    assert all((project.folder / part).is_dir() for part in BUILTIN)
    assert (len(project.migrations), paths(project)[0]) == (9, "sql/stage/10_events.sql")


def test_init_writes_the_whole_built_in_project(tmp_path: Path) -> None:
    made = init_project(tmp_path / "new" / "my shop")
    assert made == tmp_path / "new" / "my shop"
    expected = {f"{part}/{name}": text for part in BUILTIN for name, text in contents(builtin_folder() / part).items()}
    expected |= {f"tests/{path.name}": path.read_bytes() for path in builtin_timelines().iterdir()}
    found = contents(made)
    found.pop("clickmart.toml")
    assert found == expected


def test_what_init_writes_renders_as_the_built_in_project_does(tmp_path: Path) -> None:
    made = read_project(init_project(tmp_path / "shop"))
    assert (made.settings, made.files, made.migrations) == (
        read_project().settings,
        read_project().files,
        read_project().migrations,
    )


def test_init_takes_an_empty_folder_and_refuses_one_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    init_project(tmp_path / "shop")
    before = contents(tmp_path)
    for folder in (tmp_path / "shop", tmp_path / "shop" / "clickmart.toml"):
        with pytest.raises(ProjectError) as caught:
            init_project(folder)
        assert str(caught.value) == f"{folder}: exists already and isn't an empty folder; name another one"
    assert contents(tmp_path) == before


def test_init_where_no_folder_can_be_made_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProjectError) as caught:
        init_project(tmp_path / "file" / "shop")
    assert str(caught.value) == f"{tmp_path}/file/shop: can't be made: Not a directory"


def test_a_folder_that_is_no_project_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("file").write_text("")
    Path("half/sql").mkdir(parents=True)
    Path("other/migrations").mkdir(parents=True)
    lacks = "no project folder, it lacks sql/ or migrations/; `clickmart init` makes one"
    for folder, message in (
        *((folder, f"{folder}: {lacks}") for folder in ("empty", "half", "other")),
        ("file", "file: no such folder; `clickmart init file` makes a project there"),
        ("none", "none: no such folder; `clickmart init none` makes a project there"),
    ):
        with pytest.raises(ProjectError) as caught:
            read_project(folder)
        assert str(caught.value) == message


def test_a_project_can_be_reached_through_a_link_and_by_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smallest_project(tmp_path / "shop", {"sql/cdm/10.sql": "\n{{ nobody }}"})
    (tmp_path / "link").symlink_to("shop")
    monkeypatch.chdir(tmp_path)
    for folder in ("link", "./shop/../link", "shop"):
        with pytest.raises(ProjectError, match=r"^sql/cdm/10.sql:2: 'nobody' is undefined$"):
            assert read_project(folder).files


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_refused_by_its_name(tmp_path: Path) -> None:
    project = smallest_project(tmp_path, {"sql/cdm/10.sql": ""})
    (tmp_path / "sql/cdm/10.sql").chmod(0)
    with pytest.raises(ProjectError, match=r"^sql/cdm/10.sql: can't be read: Permission denied$"):
        assert project.files


def test_a_copy_of_the_folder_renders_the_same(tmp_path: Path) -> None:
    project = read_project(init_project(tmp_path / "one"))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert read_project(tmp_path / "two").files == project.files
