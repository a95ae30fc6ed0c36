"""Connections that break, and sessions that may not take long (docs/reliability.md): the command says so once, and the
next one goes on from what stood before."""

from __future__ import annotations

import os
import random
import re
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import clickmart
import pytest
from clickmart.errors import WarehouseError
from clickmart.warehouse import Connection, Warehouse
from faults import assert_goes_on, ended, eventually, held, left_behind, marts_of, rounds, sessions, start
from projects import query, value
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from strategies import Event
from test_laws import some_events, write


class Proxy:
    """A way to the server that breaks: by TCP, after so many bytes in both directions together."""

    def __init__(self, dsn: str) -> None:
        self.passed = 0
        self.breaks_after: int | None = None
        self.is_reset = False
        parameters = conninfo_to_dict(dsn)
        self._target = f"{parameters['host']}/.s.PGSQL.{parameters['port']}"
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        # No encryption is asked for, so that the bytes are those of the protocol; and none of the environment's.
        self.dsn = make_conninfo(dsn, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable")
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, selectors.DefaultSelector() as selector:
            server.connect(self._target)
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            with suppress(OSError):
                while True:
                    for key, _ in selector.select():
                        source, target = key.fileobj, key.data
                        assert isinstance(source, socket.socket)
                        block = source.recv(65536)
                        room = len(block) if self.breaks_after is None else self.breaks_after - self.passed
                        target.sendall(block[: max(0, room)])
                        self.passed += len(block)
                        if not block or len(block) > room:
                            self._end(client)
                            return

    def _end(self, client: socket.socket) -> None:
        if self.is_reset:  # what is under way is lost as well
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


@pytest.fixture
def proxy(dsn: str) -> Iterator[Proxy]:
    found = Proxy(dsn)
    yield found
    found.close()


@pytest.mark.parametrize("command", ["load", "load --jobs 2", "apply", "apply --full"])
def test_a_connection_that_breaks_at_any_byte_is_said_to_be_lost_and_nothing_is_half_done(
    dsn: str, proxy: Proxy, tmp_path: Path, command: str, request: pytest.FixtureRequest
) -> None:
    """Where it breaks as the commit is answered, all is done and the client can't know; the next finds it so."""
    draw = random.Random(request.node.name)
    files: dict[str, list[Event]] = {}
    longest = 0
    for number in rounds(request, 4, 60):
        new = [str(tmp_path / f"{number}-{part}.jsonl") for part in range(2)]
        for part, file in enumerate(new):
            files[file] = some_events(2 * number + part)
            write(Path(file), files[file])
        if command.startswith("apply"):
            clickmart.load(new, dsn=dsn)
        proxy.passed, proxy.is_reset = 0, draw.random() < 0.5
        # The first goes through, to know how much passes.
        proxy.breaks_after = draw.randrange(longest) if longest else None
        problems = problems_of(command, new, proxy.dsn)
        longest = longest or proxy.passed
        for problem in problems:
            assert re.match("can't connect to the warehouse: |the connection to the warehouse was lost: ", problem)
        assert bool(problems) == (proxy.breaks_after is not None and proxy.passed > proxy.breaks_after)
        eventually(lambda: not sessions(dsn))
        assert left_behind(dsn) == []
        proxy.breaks_after = None
        assert_goes_on(dsn, files)


def problems_of(command: str, files: list[str], dsn: str) -> list[str]:
    """What a command has to say against it; nothing where it did its work."""
    try:
        if command.startswith("load"):
            report = clickmart.load(files, dsn=dsn, jobs=2 if "jobs" in command else 1)
            return [file.problem for file in report.files if file.status == "failed"]
        clickmart.apply(dsn=dsn, full="--full" in command)
    except WarehouseError as error:
        return [str(error)]
    return []


# A network that goes silent


def test_both_sides_ask_whether_the_other_is_still_there(proxy: Proxy) -> None:
    with Warehouse(proxy.dsn).connect() as connection:
        assert kept_alive(connection) == (1, 30, 10, 3, 60_000)
        # The server's own is a Unix socket here, where it has no effect.
        query = "select name, source from pg_settings where name ~ '^tcp_' order by name"
        names = ("tcp_keepalives_count", "tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_user_timeout")
        assert connection.execute(query).fetchall() == [(name, "session") for name in names]


def test_a_dsn_or_a_service_may_say_otherwise(proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"keepalives_idle": 7, "keepalives_count": 9, "tcp_user_timeout": 0}
    with Warehouse(make_conninfo(proxy.dsn, **own)).connect() as connection:
        assert kept_alive(connection) == (1, 7, 10, 9, 0)
    lines = [f"{name}={value}\n" for name, value in {**conninfo_to_dict(proxy.dsn), **own}.items()]
    (tmp_path / "services").write_text(f"[shop]\n{''.join(lines)}")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    with Warehouse("service=shop").connect() as connection:
        assert kept_alive(connection)[1:4:2] == (7, 9)


def kept_alive(connection: Connection) -> tuple[int, ...]:
    """Of the client's socket: whether it asks, after how long, how often, until when, and how long it waits at all."""
    with socket.socket(fileno=os.dup(connection.fileno())) as tcp:
        return (
            tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            *(tcp.getsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_{name}")) for name in SOCKET_OPTIONS),
        )


SOCKET_OPTIONS = ("KEEPIDLE", "KEEPINTVL", "KEEPCNT", "USER_TIMEOUT")


# Sessions that may not take long


@pytest.fixture
def hasty(dsn: str) -> Iterator[Callable[..., str]]:
    """The warehouse as a role with settings of its own sees it."""
    role = f"hasty_{value(dsn, 'select oid from pg_database where datname = current_database()')}"
    query(dsn, f"create role {role} login superuser")

    def with_settings(**settings: str) -> str:
        for name, setting in settings.items():
            query(dsn, f"alter role {role} set {name} = '{setting}'")
        return make_conninfo(dsn, user=role)

    yield with_settings
    query(dsn, f"drop role {role}")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lock_timeout": "200ms"}, "canceling statement due to lock timeout"),
        ({"statement_timeout": "500ms"}, "canceling statement due to statement timeout"),
    ],
    ids=["lock_timeout", "statement_timeout"],
)
@pytest.mark.parametrize("command", ["load", "apply"])
def test_a_role_whose_statements_may_not_take_long_is_told_so_and_nothing_is_half_done(
    dsn: str, hasty: Callable[..., str], tmp_path: Path, command: str, settings: dict[str, str], said: str
) -> None:
    files = {str(tmp_path / f"{number}.jsonl"): some_events(number) for number in range(2)}
    for file, events in files.items():
        write(Path(file), events)
    first, second = files
    clickmart.load([first, *([second] if command == "apply" else [])], dsn=dsn)
    before = marts_of(dsn)
    arguments = ["load", second] if command == "load" else ["apply"]
    with held(dsn, "stage.loads in share"):
        code, _, error = ended(start(*arguments, dsn=hasty(**settings)))
    assert code == 1
    where = f"{second}: " if command == "load" else r"sql/cdm/30_refresh\.sql:\d+:\d+: "
    assert re.match(f"clickmart: {where}{said}", error), error
    assert marts_of(dsn) == before
    assert left_behind(dsn) == []
    assert_goes_on(dsn, files)
