"""Where the warehouse is, what is said when it can't be reached, and psql on it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import clickmart
import psycopg
import pytest
from clickmart.embedded import wheel_bin
from clickmart.errors import WarehouseError
from clickmart.warehouse import Warehouse, find_warehouse, libpq_environment
from conftest import Server
from projects import clean_environment, outcome, query, run
from psycopg.conninfo import conninfo_to_dict, make_conninfo

SECRET = "s3cr&t-Пароль"


@pytest.fixture(autouse=True)
def _no_warehouse_named(monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)


def parameters(dsn: str) -> dict[str, str]:
    return {name: str(value) for name, value in conninfo_to_dict(dsn).items()}


# Which warehouse


def test_the_dsn_of_the_call_comes_first_then_that_of_the_environment_then_libpq_then_the_embedded_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    warehouse = find_warehouse()
    assert (warehouse.conninfo, warehouse.embedded and warehouse.embedded.home) == ("", tmp_path / ".clickmart")
    for name in ("PGDATABASE", "PGHOST", "PGSERVICE"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "x")
            assert find_warehouse() == Warehouse("")
    monkeypatch.setenv("PGHOST", "x")
    monkeypatch.setenv("CLICKMART_DSN", "dbname=b")
    assert find_warehouse() == Warehouse("dbname=b")
    assert find_warehouse("dbname=a") == Warehouse("dbname=a")
    monkeypatch.setenv("CLICKMART_DSN", "")
    assert find_warehouse("") == Warehouse("")


def test_every_way_of_naming_the_warehouse_leads_to_it(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (plan,) = {str(clickmart.status(dsn=dsn)), run("status", dsn=dsn).stdout.removesuffix("\n")}
    url = "postgresql://{user}@/{dbname}?host={host}&port={port}".format(**parameters(dsn))
    assert str(clickmart.status(dsn=url)) == plan
    with monkeypatch.context() as patch:
        patch.setenv("CLICKMART_DSN", dsn)
        assert str(clickmart.status()) == plan
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE"}
    for name, value in parameters(dsn).items():
        monkeypatch.setenv(names[name], value)
    assert str(clickmart.status()) == plan


def test_a_session_means_the_same_whatever_the_server_has_set(dsn: str) -> None:
    query(dsn, f"alter database {parameters(dsn)['dbname']} set timezone to 'Asia/Tokyo'")
    odd = f"{dsn} options='-c datestyle=german -c intervalstyle=iso_8601 -c standard_conforming_strings=off'"
    with Warehouse(odd).connect() as connection:
        row = connection.execute(
            "select '2026-03-02 10:00'::timestamptz::text, '1 day'::interval::text, '\\'"
        ).fetchone()
    assert row == ("2026-03-02 10:00:00+00", "1 day", "\\")


# A warehouse that can't be reached


@pytest.mark.parametrize("dsn", ["nonsense", "host=x sslmod=y", "postgresql://u:p@[::1", "postgresql://u@h/d?nope=1"])
@pytest.mark.parametrize("command", ["status", "apply", "check", "psql", "demo"])
def test_a_dsn_that_is_none_is_one_message(dsn: str, command: str) -> None:
    message = "the DSN is no connection string; write postgresql://user@host/database or host=... dbname=..."
    assert outcome(run(command, dsn=dsn)) == (1, "", f"clickmart: {message}\n")


def test_a_server_that_is_not_there_is_one_message_of_libpq() -> None:
    result = run("status", dsn="host=127.0.0.1 port=1 dbname=x")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(
        "clickmart: can't connect to the warehouse: "
        'connection to server at "127.0.0.1", port 1 failed: Connection refused'
    )


@pytest.fixture
def guarded(dsn: str) -> Iterator[str]:
    """The database for a user who needs a password; the conninfo is without it."""
    user = f"guarded_{parameters(dsn)['dbname']}"
    ((hba,),) = query(dsn, "show hba_file")
    text = Path(hba).read_text()
    Path(hba).write_text(f"local all {user} scram-sha-256\n{text}")
    try:
        query(dsn, f"create role {user} login superuser password '{SECRET}'")
        query(dsn, "select pg_reload_conf()")
        yield make_conninfo(dsn, user=user)
    finally:
        Path(hba).write_text(text)
        query(dsn, "select pg_reload_conf()")
        query(dsn, f"drop role {user}")


def test_a_password_opens_and_a_wrong_one_is_never_shown(guarded: str) -> None:
    assert run("status", dsn=make_conninfo(guarded, password=SECRET)).exit_code == 0
    result = run("status", dsn=make_conninfo(guarded, password="wr0ng"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "password authentication failed for user" in result.stderr
    assert "wr0ng" not in result.stderr


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://me:my@secret@127.0.0.1:1/db",
        "postgresql://me:my/secret@127.0.0.1:1/db",
        "postgresql://me:my?secret@127.0.0.1:1/db",
        "postgresql://me:secret@127.0.0.1:1:1/db",
        "postgresql://me:my secret@127.0.0.1:1/db",
        "postgresql://me:secret@127.0.0.1:1/db",
        "postgresql://me:%secret@127.0.0.1:1/db",
        "host=127.0.0.1 port=1 password=secret",
        "host=127.0.0.1 port=1 password='secret",
        "host=127.0.0.1 port=1 password=my secret",
    ],
)
@pytest.mark.parametrize("command", ["status", "psql"])
def test_no_part_of_a_password_is_shown_however_the_dsn_is_misspelt(dsn: str, command: str) -> None:
    result = run(command, dsn=dsn) if command == "status" else clickmart_process("psql", "-c", "select 1", dsn=dsn)
    output = result.stdout + result.stderr
    assert "secret" not in output
    assert output.count("\n") >= 1
    assert "Traceback" not in output


@pytest.mark.parametrize("password", ["my@secret", "my/secret", "my?secret", "my#secret", "a@b@c"])
@pytest.mark.parametrize("command", ["status", "psql"])
def test_a_password_with_an_unescaped_mark_is_told_how_to_write_it(password: str, command: str) -> None:
    result = run(command, dsn=f"postgresql://me:{password}@nowhere.invalid/db")
    message = "in a user or a password of the DSN, @ / ? # must be written %40 %2F %3F %23"
    assert outcome(result) == (1, "", f"clickmart: {message}\n")


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://me:my%40secret@host/db",
        "postgresql://host:5432/db?user=me@corp",
        "postgresql://[::1]:5432/db?user=me@corp",
        "postgresql://[::1]/db?user=me@corp",
        "postgres://me@host1:1,host2:2/db?options=a@b",
        "postgresql://host1:1,host2:2/db?user=a@b",
        "postgresql:///db?host=/tmp/a@b&user=me",
        "host=@abstract user=me@corp password=my@secret/x",
    ],
)
def test_a_mark_where_it_may_stand_is_no_error(dsn: str) -> None:
    assert find_warehouse(dsn) == Warehouse(dsn)


def test_a_database_that_is_not_in_utf8_is_refused(embedded_server: Server) -> None:
    with psycopg.connect(embedded_server.conninfo, autocommit=True) as connection:
        connection.execute("create database latin encoding latin1 locale 'C' template template0 locale_provider libc")
        try:
            message = "the database's encoding is LATIN1; clickmart needs one made with UTF8"
            result = run("apply", dsn=make_conninfo(embedded_server.conninfo, dbname="latin"))
            assert outcome(result) == (1, "", f"clickmart: {message}\n")
        finally:
            connection.execute("drop database latin")


# psql


def clickmart_process(
    *arguments: str, dsn: str | None = None, text: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    options = ["--dsn", dsn] if dsn else []
    command = [sys.executable, "-m", "clickmart", *options, *arguments]
    return subprocess.run(
        command, input=text, capture_output=True, encoding="utf-8", env=os.environ | environment, timeout=60
    )


def finished(process: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    return process.returncode, process.stdout, process.stderr


def test_psql_asks_the_warehouse(dsn: str) -> None:
    result = clickmart_process("psql", "-XAtc", "select current_database(), 'é'", dsn=dsn)
    assert finished(result) == (0, f"{parameters(dsn)['dbname']}|é\n", "")


def test_psql_reads_what_it_is_given(dsn: str) -> None:
    result = clickmart_process("psql", "-XAt", dsn=dsn, text="select 1;\n\\echo two\n")
    assert finished(result) == (0, "1\ntwo\n", "")


def test_the_exit_code_of_psql_comes_back(dsn: str) -> None:
    assert clickmart_process("psql", "-XAtc", "select 1 / 0", dsn=dsn).returncode == 1
    result = clickmart_process("psql", "-Xf", "-", "-v", "ON_ERROR_STOP=1", dsn=dsn, text="select stepp;")
    assert result.returncode == 3
    assert clickmart_process("psql", "--nonsense", dsn=dsn).returncode == 1


def test_psql_takes_another_database_of_the_same_server(dsn: str) -> None:
    assert finished(clickmart_process("psql", "-XAt", "postgres", "-c", "select current_database()", dsn=dsn)) == (
        0, "postgres\n", "",
    )  # fmt: skip


@pytest.fixture
def told(tmp_path: Path) -> dict[str, str]:
    """An environment with a psql that shows what it is told."""
    program = tmp_path / "bin" / "psql"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "<%s>" "$@"\necho\nenv | grep ^PG | sort\n[ "$1" != die ] || kill -9 $$\n')
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["-h", "-d", "x"],
        ["--help"],
        ["--version"],
        ["-c", "select 'a  b'; -- é", "-tA", "--", "-x"],
        ["--json", "--dsn", "x", "--project=y"],
        ["-f", "-", "name", "-v", "a=b", ""],
    ],
)
def test_arguments_are_psqls_own(dsn: str, told: dict[str, str], arguments: list[str]) -> None:
    output = clickmart_process("psql", *arguments, dsn=dsn, **told).stdout
    assert output.partition("\n")[0] == "".join(f"<{argument}>" for argument in arguments)


def test_a_password_reaches_psql_and_stands_on_no_command_line(dsn: str, told: dict[str, str]) -> None:
    conninfo = make_conninfo(dsn, password=SECRET, connect_timeout=5, sslmode="prefer")
    result = clickmart_process("psql", "-c", "x", dsn=conninfo, **told)
    found = dict(line.split("=", 1) for line in result.stdout.splitlines()[1:])
    assert result.stdout.splitlines()[0] == "<-c><x>"
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE"}
    expected = {names[name]: value for name, value in parameters(dsn).items()}
    assert found == {**expected, "PGPASSWORD": SECRET, "PGCONNECT_TIMEOUT": "5", "PGSSLMODE": "prefer"}


def test_a_psql_that_a_signal_ends_ends_the_command_as_a_shell_would_say(dsn: str, told: dict[str, str]) -> None:
    assert clickmart_process("psql", "die", dsn=dsn, **told).returncode == 128 + signal.SIGKILL


def test_without_a_psql_on_the_path_it_is_that_of_the_embedded_server(dsn: str, tmp_path: Path) -> None:
    result = clickmart_process("psql", "--version", dsn=dsn, PATH=str(tmp_path))
    version = subprocess.run([wheel_bin() / "psql", "--version"], capture_output=True, text=True).stdout
    assert finished(result) == (0, version, "")
    assert finished(clickmart_process("psql", "-XAtc", "select 1", dsn=dsn, PATH=str(tmp_path))) == (0, "1\n", "")


def test_what_psql_can_not_be_told_of_a_dsn_is_refused() -> None:
    with pytest.raises(WarehouseError) as caught:
        libpq_environment("dbname=x keepalives=0 password=secret")
    assert str(caught.value) == "psql can't be given keepalives of the DSN; set it in libpq's service file instead"


def test_psql_is_a_function_that_returns_the_exit_code_also_in_a_thread(dsn: str) -> None:
    codes: list[int] = []

    def work() -> None:
        codes.append(clickmart.psql("-Xqc", "select 1 / 0", dsn=dsn))

    work()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert codes == [1, 1]
