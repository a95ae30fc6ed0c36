"""Project folders of a test's own, and the command run in the test's process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result
from clickmart import applying
from clickmart.cli import main
from clickmart.project import Project, read_project
from clickmart.warehouse import Warehouse

#: The least that an apply needs: a refresh that finds nothing.
REFRESH = """create or replace function cdm.refresh("full" boolean default false)
returns table (count_loads bigint, count_rows bigint, is_rebuilt boolean)
language sql as $$ select 0::bigint, 0::bigint, false $$;
"""
SMALLEST = {"migrations/0001_cdm.sql": "create schema cdm;\n", "sql/cdm/90_refresh.sql": REFRESH}


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def smallest_project(folder: Path, files: Mapping[str, str | bytes] | None = None) -> Project:
    """The smallest project that applies, with these files in it or in the place of its own."""
    return read_project(write_files(folder, {**SMALLEST, **(files or {})}))


def apply(dsn: str, project: Project, *, full: bool = False) -> applying.ApplyReport:
    # Read anew, as each command does.
    return applying.apply(Warehouse(dsn), Project(project.folder, read_project(project.folder).settings), full=full)


def query(dsn: str, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    """The rows of a statement; none where it gives none."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []


def value(dsn: str, statement: str, *parameters: object) -> Any:
    return query(dsn, statement, *parameters)[0][0]


def relations(dsn: str) -> set[str]:
    """The tables, views and indexes of everyone but the system."""
    rows = query(
        dsn,
        "select relnamespace::regnamespace || '.' || relname from pg_class "
        "where relnamespace::regnamespace::text !~ '^(pg_|information_schema$)' and relkind in ('r', 'v', 'i')",
    )
    return {name for (name,) in rows}


def ledger(dsn: str) -> tuple[list[str], list[str]]:
    """The names in the ledger: of migrations, and of files."""
    migrations = query(dsn, "select name from clickmart.migrations order by name")
    files = query(dsn, "select path from clickmart.files order by path")
    return [name for (name,) in migrations], [path for (path,) in files]


def run(*arguments: str, dsn: str | None = None) -> Result:
    """The command, in this process."""
    options = ["--dsn", dsn] if dsn else []
    return CliRunner(catch_exceptions=False).invoke(main, [*options, *arguments], prog_name="clickmart")


def run_json(*arguments: str, dsn: str | None = None) -> Any:
    result = run(*arguments, "--json", dsn=dsn)
    assert result.stderr == ""
    return json.loads(result.stdout)


def outcome(result: Result) -> tuple[int, str, str]:
    return result.exit_code, result.stdout, result.stderr


def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes away all by which a warehouse could be named."""
    for name in ("CLICKMART_DSN", "CLICKMART_DEBUG", "PGHOST", "PGSERVICE", "PGDATABASE", "PGPORT", "PGUSER"):
        monkeypatch.delenv(name, raising=False)
