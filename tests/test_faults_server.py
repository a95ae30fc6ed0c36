"""Servers that end amid a command, networks that break, disks that are full, sessions that may not take long
(docs/reliability.md): the command says so once, and the next one goes on from what stood before."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import clickmart
import psycopg
import pytest
from clickmart.embedded import EmbeddedServer
from clickmart.errors import ClickmartError
from clickmart.warehouse import Warehouse
from conftest import Server, read_marts
from faults import assert_goes_on, ended, eventually, held, left_behind, sessions, start
from projects import query, value
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from strategies import Event
from test_faults import rounds
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


@pytest.mark.parametrize("command", ["load", "apply"])
@pytest.mark.parametrize("fault", [kill_postmaster, shut_down_at_once, restart, kill_backend])
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
    with Warehouse(dsn).connect() as connection:
        before = read_marts(connection)
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
    with Warehouse(dsn).connect() as connection:
        assert read_marts(connection) == before
    assert left_behind(dsn) == []
    for again in (["load", *files], ["apply"]):
        code, _, error = ended(start(*again, cwd=folder))
        assert (code, error) == (0, "")
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


def fill(folder: Path, free: int = 0) -> Path:
    """A file that leaves so many bytes of the disk free."""
    ballast = folder / "ballast"
    status = os.statvfs(folder)
    with ballast.open("wb") as file, suppress(OSError):
        os.posix_fallocate(file.fileno(), 0, max(1, status.f_bavail * status.f_frsize - free))
    return ballast
