"""Where the warehouse is, and a connection to it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from .embedded import EmbeddedServer
from .errors import SqlError, WarehouseError

DSN_VARIABLE: Final = "CLICKMART_DSN"
LIBPQ_VARIABLES: Final = ("PGHOST", "PGSERVICE", "PGDATABASE")
EMBEDDED_FOLDER: Final = ".clickmart"
OLDEST_SERVER: Final = 150000
NO_CONNECTION_STRING: Final = (
    "the DSN is no connection string; write postgresql://user@host/database or host=... dbname=..."
)
#: A network that goes silent, as that of a firewall which forgets connections, is else noticed after two hours. After
#: half a minute both sides ask, and they give up after a minute. Over a Unix socket it means nothing.
_KEEPALIVES: Final = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,  # milliseconds
}
_PASSWORD_KEYWORD: Final = re.compile(r"\b(?:password|passwd|pwd)\s*[=:]", re.IGNORECASE)

Connection = psycopg.Connection[tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class Warehouse:
    """A PostgreSQL by its conninfo, or the embedded one of a folder."""

    conninfo: str
    embedded: EmbeddedServer | None = None

    @property
    def exists(self) -> bool:
        """False for an embedded warehouse that was never made: then there is nothing to ask."""
        return self.embedded is None or self.embedded.exists()

    def start(self) -> str:
        """The conninfo, the embedded server being started when needed."""
        return self.embedded.start() if self.embedded else self.conninfo

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection in autocommit, its session set so that no default of the server changes a meaning.

        Raises WarehouseError where the server can't be reached, is too old or doesn't hold UTF-8, or where the
        connection is lost; SqlError where PostgreSQL refuses a statement and nobody has caught it.
        """
        conninfo = self.start()
        try:
            connection = psycopg.connect(
                _with_keepalives(conninfo), autocommit=True, fallback_application_name="clickmart"
            )
        except psycopg.ProgrammingError:
            raise WarehouseError(NO_CONNECTION_STRING) from None
        except psycopg.OperationalError as error:
            message = str(error).strip().removeprefix("connection failed: ")
            raise WarehouseError(f"can't connect to the warehouse: {message}") from None
        try:
            with connection:
                version, encoding = connection.info.server_version, connection.info.parameter_status("server_encoding")
                if version < OLDEST_SERVER:
                    raise WarehouseError(f"the server is PostgreSQL {version // 10000}; clickmart needs 15 or newer")
                if encoding != "UTF8":
                    raise WarehouseError(f"the database's encoding is {encoding}; clickmart needs one made with UTF8")
                reset_session(connection)
                yield connection
        except psycopg.Error as error:
            raise (lost(error) if is_lost(error) else SqlError(message_of(error))) from error


def _with_keepalives(conninfo: str) -> str:
    """The conninfo with what keeps a connection from waiting for ever, unless it says that itself, or a service does.
    Raises psycopg.ProgrammingError for one that is none."""
    said = conninfo_to_dict(conninfo)
    if "service" in said or os.environ.get("PGSERVICE"):
        return conninfo
    return make_conninfo(conninfo, **{**_KEEPALIVES, **said})


def reset_session(connection: Connection) -> None:
    """Sets the session as a new one, whatever a migration or an SQL file has set in it."""
    connection.execute(
        "reset session authorization; reset role; reset all; "
        "select set_config(name, setting, false) from (values ('TimeZone', 'UTC'), ('DateStyle', 'ISO'), "
        "('IntervalStyle', 'postgres'), ('client_encoding', 'UTF8'), ('standard_conforming_strings', 'on'), "
        # By it what a client that was killed has begun ends too, and holds no lock. Windows can't tell.
        "('client_min_messages', 'warning'), ('client_connection_check_interval', '1s'), "
        # The server's part of _KEEPALIVES: it keeps the locks of a client that it still waits for.
        "('tcp_keepalives_idle', '30'), ('tcp_keepalives_interval', '10'), ('tcp_keepalives_count', '3'), "
        "('tcp_user_timeout', '60000')) as settings (name, setting) "
        "where name <> 'client_connection_check_interval' or version() !~* 'windows|visual c|mingw'"
    )


def is_lost(error: psycopg.Error) -> bool:
    """Whether the connection ended with the error."""
    if error.diag.message_primary is None:
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    return error.diag.severity_nonlocalized in ("FATAL", "PANIC")


def lost(error: psycopg.Error) -> WarehouseError:
    return WarehouseError(f"the connection to the warehouse was lost: {message_of(error)}")


def message_of(error: psycopg.Error) -> str:
    """What PostgreSQL says, without its own idea of the place."""
    diagnosis = error.diag
    lines = [diagnosis.message_primary or str(error).strip()]
    lines += [f"detail: {diagnosis.message_detail}"] if diagnosis.message_detail else []
    lines += [f"hint: {diagnosis.message_hint}"] if diagnosis.message_hint else []
    return "\n".join(lines)


def find_warehouse(dsn: str | None = None, folder: str | Path | None = None) -> Warehouse:
    """The warehouse that `dsn` names, else CLICKMART_DSN, else libpq's variables, else the embedded one of `folder`
    (None is the current folder). Raises WarehouseError for a DSN that libpq would misread."""
    dsn = dsn or os.environ.get(DSN_VARIABLE)
    if dsn:
        _refuse_unescaped(dsn)
        _refuse_misplaced(dsn)
        return Warehouse(dsn)
    if any(os.environ.get(name) for name in LIBPQ_VARIABLES):
        return Warehouse("")
    return Warehouse("", EmbeddedServer(home=Path(folder or Path.cwd()).absolute() / EMBEDDED_FOLDER))


def _refuse_unescaped(dsn: str) -> None:
    """libpq ends a password at its first @ or /, takes what follows for a host, and says that in its errors."""
    authority, _, rest = re.sub("[/?#]", "\0", dsn.partition("://")[2], count=1).partition("\0")
    user, at, host = authority.partition("@")
    port = user.rpartition(":")[2] if ":" in user and not at else ""
    if "@" in host or ("@" in rest and re.search(r"[^\d\]]", port)):
        raise WarehouseError("in a user or a password of the DSN, @ / ? # must be written %40 %2F %3F %23")


def _refuse_misplaced(dsn: str) -> None:
    """libpq takes a password that stands in the wrong place for a host, a user or a port, and says that in its errors:
    `host=db;password=x`, or `postgresql://me:x/shop` with the host forgotten."""
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        return  # as the connection will say
    port = str(parts.get("port", ""))
    others = [str(value) for keyword, value in parts.items() if keyword != "password"]
    if not re.fullmatch(r"[0-9, ]*", port) or any(_PASSWORD_KEYWORD.search(value) for value in others):
        raise WarehouseError(NO_CONNECTION_STRING)


def libpq_environment(conninfo: str) -> dict[str, str]:
    """The conninfo as libpq's environment variables, so that no password stands on a command line. Raises
    WarehouseError for a keyword that has none."""
    variables = {option.keyword: option.envvar for option in psycopg.pq.Conninfo.get_defaults()}
    try:
        options = psycopg.pq.Conninfo.parse(conninfo.encode())
    except psycopg.OperationalError:
        raise WarehouseError(NO_CONNECTION_STRING) from None
    environment = {}
    for option in options:
        if option.val is not None:
            variable = variables.get(option.keyword)
            if variable is None:
                keyword = option.keyword.decode()
                raise WarehouseError(
                    f"psql can't be given {keyword} of the DSN; set it in libpq's service file instead"
                )
            environment[variable.decode()] = option.val.decode()
    return environment
