"""Servers that end amid a command, networks that break, disks that are full, sessions that may not take long
(docs/reliability.md): the command says so once, and the next one goes on from what stood before."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import clickmart
import psycopg
import pytest
from clickmart.embedded import EmbeddedServer
from clickmart.warehouse import Warehouse
from conftest import read_marts
from faults import assert_goes_on, ended, eventually, held, left_behind, marts_of, sessions, start
from projects import query, value
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from strategies import Event
from test_laws import some_events, write

LOST = "the connection to the warehouse was lost: [^\n]+(\n\tThis probably means [^\n]+\n[^\n]+)?"


def files_in(folder: Path, numbers: range, users: int = 10) -> dict[str, list[Event]]:
    """The events of each of so many files."""
    found = {str(folder / f"{number}.jsonl"): some_events(number, users) for number in numbers}
    for file, events in found.items():
        write(Path(file), events)
    return found


# A server that ends


def kill_postmaster(server: EmbeddedServer, _: int) -> None:
    os.kill(postmaster(server), signal.SIGKILL)


def shut_down_at_once(server: EmbeddedServer, _: int) -> None:
    os.kill(postmaster(server), signal.SIGQUIT)


def restart(server: EmbeddedServer, _: int) -> None:
    server.stop()
    server.start()


def kill_backend(_: EmbeddedServer, session: int) -> None:
    """Upon which the server ends all sessions, and recovers."""
    os.kill(session, signal.SIGKILL)


def postmaster(server: EmbeddedServer) -> int:
    return int((server.home / "data" / "postmaster.pid").read_text().split()[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with an embedded server of its own, and files of which the first three are in its marts."""
    folder = tmp_path_factory.mktemp("shop")
    conninfo = EmbeddedServer(home=folder / ".clickmart").start()
    clickmart.load(list(files_in(folder, range(3))), dsn=conninfo)
    clickmart.apply(dsn=conninfo)
    yield folder
    clickmart.stop(folder)


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        ("load", kill_postmaster),
        ("apply", kill_postmaster),
        ("load", shut_down_at_once),
        ("apply", restart),
        ("load", kill_backend),
        ("apply", kill_backend),
    ],
)
def test_a_server_that_ends_amid_a_command_is_one_message_and_the_next_command_goes_on(
    folder: Path, command: str, fault: Callable[[EmbeddedServer, int], None]
) -> None:
    server = EmbeddedServer(home=folder / ".clickmart")
    dsn = server.start()
    number = len(list(folder.glob("*.jsonl")))
    new = str(folder / f"{number}.jsonl")
    files = files_in(folder, range(number + 1))
    if command == "apply":
        clickmart.load(new, dsn=dsn)
    before = marts_of(dsn)
    arguments = ["load", new] if command == "load" else ["apply"]
    with suppress(psycopg.OperationalError), held(dsn, "stage.loads in share") as waiting:  # the holder is cut off too
        process = start(*arguments, cwd=folder)
        eventually(waiting)
        fault(server, waiting()[0])
        code, output, error = ended(process)
    assert code == 1
    assert re.fullmatch(f"clickmart: ({new}: )?{LOST}\n", error), error
    assert command == "load" or output == ""
    # The next command finds the server as it is, starts it if need be, and waits for it to recover.
    assert ended(start("status", cwd=folder))[::2] == (0, "")
    dsn = server.start()
    assert marts_of(dsn) == before
    assert left_behind(dsn) == []
    assert_goes_on(dsn, files)


# A disk that is full


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A folder of that size, on a file system of its own, which everyone may enter."""
    if os.geteuid():
        pytest.skip("only root can mount a small file system to be full")
    folder = Path(tempfile.mkdtemp(prefix="clickmart-disk-"))
    made = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}M,mode=755", "tmpfs", str(folder)]
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        mounted = subprocess.run(made, capture_output=True, text=True, check=False)
        if mounted.returncode:
            pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
        stack.callback(subprocess.run, ["umount", "-l", str(folder)], check=True)
        yield folder


def big_file(folder: Path, files: dict[str, list[Event]]) -> str:
    """One file more, of some megabytes, which don't get smaller when they are stored."""
    draw, big = random.Random(1), str(folder / "big.jsonl")
    files[big] = [{**event, "os": draw.randbytes(4000).hex()} for event in some_events(3, users=300)]
    write(Path(big), files[big])
    return big


def fill(folder: Path, free: int = 0) -> Path:
    """A file that leaves so many bytes of the disk free."""
    ballast = folder / "ballast"
    status = os.statvfs(folder)
    with ballast.open("wb") as file, suppress(OSError):
        os.posix_fallocate(file.fileno(), 0, max(1, status.f_bavail * status.f_frsize - free))
    return ballast


@pytest.fixture
def small_server() -> Iterator[tuple[EmbeddedServer, Path]]:
    """A server on a disk of its own, with the tables of the project, and the disk."""
    with small_disk(160) as disk:
        server = EmbeddedServer(home=disk / ".clickmart")
        clickmart.apply(dsn=server.start())
        try:
            yield server, disk
        finally:
            server.stop()


@pytest.mark.parametrize("command", ["load", "apply", "apply --full"])
def test_a_disk_without_room_for_the_data_is_one_message_and_nothing_changes_until_there_is_room(
    dsn: str, tmp_path: Path, command: str
) -> None:
    """The server itself goes on: what is full is a tablespace."""
    files = files_in(tmp_path, range(2))
    big_file(tmp_path, files)
    first, *others = files
    with small_disk(60) as disk, tablespace(dsn, disk) as dsn:
        clickmart.load(first, dsn=dsn)
        clickmart.apply(dsn=dsn)
        if command != "load":
            clickmart.load(others, dsn=dsn)
        # Who connects anew may find no room for what the server notes of its catalogs.
        with Warehouse(dsn).connect() as reader:
            before = read_marts(reader)
            ballast = fill(disk)
            code, _, error = ended(start(*command.split(), *(others if command == "load" else []), dsn=dsn))
            assert code == 1
            # Where it is said depends on what was to be written first.
            assert re.match("clickmart: [^\n]+: [^\n]*No space left on device", error), error
            assert "Traceback" not in error
            assert read_marts(reader) == before
        ballast.unlink()
        eventually(lambda: not sessions(dsn))
        assert left_behind(dsn) == []
        assert_goes_on(dsn, files)


@contextmanager
def tablespace(dsn: str, disk: Path) -> Iterator[str]:
    """The database moved to that disk."""
    name, server = f"small_{disk.name.rpartition('-')[2].lower()}", make_conninfo(dsn, dbname="postgres")
    folder = disk / "tablespace"
    folder.mkdir(mode=0o700)
    os.chown(folder, *owner_of_server(dsn))
    query(server, f"create tablespace {name} location '{folder}'")
    database = conninfo_to_dict(dsn)["dbname"]
    try:
        query(server, f"alter database {database} set tablespace {name}")
        yield dsn
    finally:
        query(server, f"alter database {database} set tablespace pg_default")
        query(server, f"drop tablespace {name}")


def owner_of_server(dsn: str) -> tuple[int, int]:
    status = Path(str(value(dsn, "select current_setting('data_directory')"))).stat()
    return status.st_uid, status.st_gid


def test_a_server_whose_disk_is_full_goes_on_when_there_is_room(
    small_server: tuple[EmbeddedServer, Path], tmp_path: Path
) -> None:
    """Though it may have ended, as it does without room for its log, and may not start as long as there is none."""
    server, disk = small_server
    files = files_in(tmp_path, range(2))
    big = big_file(tmp_path, files)
    first, second, _ = files
    dsn = server.start()
    clickmart.load(first, dsn=dsn)
    clickmart.apply(dsn=dsn)
    ballast = fill(disk, free=2**21)
    code, _, error = ended(start("load", second, big, cwd=disk))
    assert code == 1
    assert re.match(f"clickmart: {big}: ({LOST}|[^\n]*No space left on device)", error), error
    assert "Traceback" not in error
    code, _, error = ended(start("status", cwd=disk))
    assert code == 0 or error.startswith("clickmart: ")
    ballast.unlink()
    assert ended(start("status", cwd=disk))[::2] == (0, "")
    dsn = server.start()
    assert left_behind(dsn) == []
    assert_goes_on(dsn, files)


def test_rejects_that_find_no_room_in_the_temporary_folder_fail_their_file_alone(dsn: str, tmp_path: Path) -> None:
    wrong = [{"event_id": f"{number}", "referer_url_port": "x" * 2000} for number in range(1000)]
    write(tmp_path / "wrong.jsonl", [{"event_id": "right"}, *wrong])
    files = files_in(tmp_path, range(2))
    with small_disk(1) as disk:
        process = start("load", str(tmp_path / "wrong.jsonl"), *files, dsn=dsn, env={"TMPDIR": str(disk)})
        code, _, error = ended(process)
    assert (code, error) == (
        1,
        f"clickmart: {tmp_path}/wrong.jsonl: the rejects can't be set aside in {disk}: No space left on device; "
        "make room there, or name another folder by TMPDIR\n",
    )
    assert value(dsn, "select count(*) from stage.loads") == len(files)
    assert value(dsn, "select count(*) from stage.events_rejected") == 0
    report = clickmart.load(tmp_path / "wrong.jsonl", dsn=dsn)
    assert (report.rows_loaded, report.rows_rejected) == (1, 1000)


def test_a_report_that_finds_no_room_leaves_the_former_one_and_nothing_beside_it(dsn: str) -> None:
    with small_disk(4) as disk:
        page = disk / "report.html"
        assert ended(start("report", "-o", str(page), dsn=dsn))[0] == 0
        before = page.read_bytes()
        fill(disk)
        said = f"clickmart: {page}: can't be written: No space left on device\n"
        assert ended(start("report", "-o", str(page), dsn=dsn)) == (1, "", said)
        assert page.read_bytes() == before
        assert {path.name for path in disk.iterdir()} == {"ballast", "report.html"}


def test_what_a_killed_report_left_beside_the_file_is_gone_after_the_next(dsn: str, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("the former one")
    code = "import os, signal, pathlib; pathlib.Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
    code += f"import clickmart; clickmart.report({str(page)!r}, dsn={dsn!r})"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert page.read_text() == "the former one"
    assert len(list(tmp_path.iterdir())) == 2
    clickmart.report(page, dsn=dsn)
    assert list(tmp_path.iterdir()) == [page]
