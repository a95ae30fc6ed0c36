"""A warehouse and a clickmart, or a project, of different ages: the newer one brings the warehouse up to itself, the
older one changes nothing and says what it lacks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import clickmart
import pytest
from clickmart.errors import ProjectError
from clickmart.project import init_project
from clickmart.version import __version__
from clickmart.warehouse import Warehouse
from conftest import Server, Shop
from oracle import marts
from projects import outcome, query, run, run_json, value, write_files
from strategies import Event
from test_laws import some_events, write

NEXT = "migrations/0100_next.sql"


def whole(dsn: str) -> list[list[tuple[object, ...]]]:
    """All that a command that is refused must leave as it is."""
    tables = ["clickmart.migrations", "clickmart.files", "clickmart.project", "stage.loads", "stage.events"]
    return [query(dsn, f"select * from {table}") for table in tables] + [
        query(dsn, "select oid, relname, relfilenode from pg_class where relnamespace > 16383 order by oid")
    ]


def store(dsn: str, rows: Sequence[Event]) -> None:
    """Events of a file, as any release has stored them."""
    query(
        dsn,
        "insert into stage.loads (file_name, checksum, size, format, rows_loaded, rows_rejected, started_at, status) "
        "values ('a.jsonl', 'a', 1, 'jsonl', %s, 0, now(), 'loaded')",
        len(rows),
    )
    for row in rows:
        values = ", ".join(["%s"] * len(row))
        query(dsn, f"insert into stage.events (batch_id, {', '.join(row)}) values (1, {values})", *row.values())


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(write(tmp_path / "a.jsonl", some_events(1)))


@pytest.fixture
def newer_dsn(dsn: str, tmp_path: Path) -> str:
    """A warehouse to which clickmart 99.1.0 has applied one migration more."""
    init_project(tmp_path / "newer")
    write_files(tmp_path / "newer", {NEXT: "create table cdm.next (a int);"})
    clickmart.apply(dsn=dsn, project=tmp_path / "newer")
    query(dsn, "update clickmart.migrations set version = '99.1.0' where name = '0100_next.sql'")
    return dsn


@pytest.mark.parametrize("command", ["apply", "apply --plan", "apply --full", "load", "demo"])
def test_a_warehouse_of_a_newer_clickmart_is_refused_and_left_as_it_is(
    newer_dsn: str, tmp_path: Path, file: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = whole(newer_dsn)
    arguments = [*command.split(), file] if command == "load" else command.split()
    assert outcome(run(*arguments, dsn=newer_dsn)) == (
        1,
        "",
        f"clickmart: {NEXT}: applied here by clickmart 99.1.0, but not in the built-in project of clickmart "
        f"{__version__}; install clickmart 99.1.0 or newer, or name the project that has it by --project\n",
    )
    assert whole(newer_dsn) == before
    assert not (tmp_path / "report.html").exists()


def test_the_status_of_a_warehouse_of_a_newer_clickmart_names_what_is_unknown(newer_dsn: str) -> None:
    before = whole(newer_dsn)
    result = run("status", "--exit-code", dsn=newer_dsn)
    assert (result.exit_code, result.stderr) == (3, "")
    assert f"\nunknown: {NEXT}, applied by clickmart 99.1.0 and not in this project\n" in result.stdout
    assert "pending: nothing" not in result.stdout
    assert run_json("status", dsn=newer_dsn)["unknown"] == [NEXT]
    assert whole(newer_dsn) == before


def test_a_project_that_lacks_a_migration_is_refused_by_its_folder(dsn: str, tmp_path: Path) -> None:
    shop, other = init_project(tmp_path / "shop"), init_project(tmp_path / "other")
    write_files(shop, {NEXT: ""})
    clickmart.apply(dsn=dsn, project=shop)
    before = whole(dsn)
    lacking = f"clickmart: {NEXT}: applied here by clickmart {__version__}, but not in "
    assert outcome(run("apply", "--project", str(other), dsn=dsn)) == (
        1, "", f"{lacking}{other}; bring back what is missing, or name the project that has it by --project\n",
    )  # fmt: skip
    assert outcome(run("apply", dsn=dsn)) == (
        1, "", f"{lacking}the built-in project of clickmart {__version__}; name the project that has it by --project\n",
    )  # fmt: skip
    assert whole(dsn) == before
    write_files(other, {NEXT: ""})
    assert str(clickmart.apply(dsn=dsn, project=other)) == "nothing to do"


def test_a_shops_own_migration_is_no_obstacle_to_a_load_without_the_project(
    dsn: str, tmp_path: Path, file: str
) -> None:
    write_files(init_project(tmp_path / "shop"), {NEXT: ""})
    clickmart.apply(dsn=dsn, project=tmp_path / "shop")
    assert clickmart.load(file, dsn=dsn).rows_loaded == len(some_events(1))
    assert clickmart.apply(dsn=dsn, project=tmp_path / "shop").new_rows == len(some_events(1))


@pytest.mark.parametrize(
    ("version", "is_newer"),
    [(__version__, False), (f"{__version__}.dev1", False), ("0.0.9", False), ("0.10", True), ("1.0rc1", True)],
)
def test_versions_compare_by_their_numbers(dsn: str, tmp_path: Path, file: str, version: str, is_newer: bool) -> None:
    query(dsn, "insert into clickmart.migrations values ('0100_next.sql', 'x', now(), %s)", version)
    assert run("load", file, dsn=dsn).exit_code == is_newer


def test_a_newer_project_brings_a_warehouse_of_any_older_one_up_to_itself(
    embedded_server: Server, tmp_path: Path, file: str
) -> None:
    """With all that was loaded before. The newer one may load before its first apply, if the older one did no more than
    load; an older project is refused by it."""
    names = sorted(path.name for path in (init_project(tmp_path / "all") / "migrations").iterdir())
    for count in range(1, len(names)):
        older = init_project(tmp_path / f"first {count}")
        for name in names[count:]:
            (older / "migrations" / name).unlink()
        with embedded_server.database(template=False) as dsn:
            if lacking := [name for name in ("0004_rejects.sql", "0006_sources.sql") if name in names[count:]]:
                with pytest.raises(
                    ProjectError, match=f"lacks migrations/{' and '.join(lacking)}: run `clickmart apply`"
                ):
                    clickmart.load(file, dsn=dsn, project=older)
                store(dsn, some_events(1))
            else:
                clickmart.load(file, dsn=dsn, project=older)
            assert value(dsn, "select count(*) from clickmart.migrations") == count
            status = run_json("status", dsn=dsn)
            assert [row["name"] for row in status["pending"]][: len(names) - count] == [
                f"migrations/{name}" for name in names[count:]
            ]
            clickmart.load(write(tmp_path / "b.jsonl", some_events(2)), dsn=dsn)
            # Nothing was applied yet but migrations: whoever loads then needs them all.
            assert value(dsn, "select count(*) from clickmart.migrations") == len(names)
            report = clickmart.apply(dsn=dsn)
            assert report.new_loads == 2
            with Warehouse(dsn).connect() as connection:
                shop = Shop(dsn, connection, tmp_path)
                assert shop.marts() == marts(some_events(1) + some_events(2))
                assert shop.failures() == []
            assert str(clickmart.apply(dsn=dsn)) == "nothing to do"
