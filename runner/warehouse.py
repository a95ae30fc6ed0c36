"""Where the warehouse is, and a connection to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from .embedded import EmbeddedServer
from .errors import WarehouseError

DSN_VARIABLE: Final = "CLICKMART_DSN"
LIBPQ_VARIABLES: Final = ("PGHOST", "PGSERVICE", "PGDATABASE")
EMBEDDED_FOLDER: Final = ".clickmart"
OLDEST_SERVER: Final = 150000

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

        Raises WarehouseError where the server can't be reached, is too old or doesn't hold UTF-8.
        """
        try:
            connection = psycopg.connect(self.start(), autocommit=True, application_name="clickmart")
        except psycopg.ProgrammingError:
            raise WarehouseError(
                "the DSN is no connection string; write postgresql://user@host/database or host=... dbname=..."
            ) from None
        except psycopg.OperationalError as error:
            raise WarehouseError(f"can't connect to the warehouse: {str(error).strip()}") from None
        with connection:
            version, encoding = connection.info.server_version, connection.info.parameter_status("server_encoding")
            if version < OLDEST_SERVER:
                raise WarehouseError(f"the server is PostgreSQL {version // 10000}; clickmart needs 15 or newer")
            if encoding != "UTF8":
                raise WarehouseError(f"the database's encoding is {encoding}; clickmart needs one made with UTF8")
            connection.execute(
                "select set_config(name, setting, false) from (values ('TimeZone', 'UTC'), ('DateStyle', 'ISO'), "
                "('IntervalStyle', 'postgres'), ('client_encoding', 'UTF8'), ('standard_conforming_strings', 'on'), "
                "('client_min_messages', 'warning')) as settings (name, setting)"
            )
            yield connection


def find_warehouse(dsn: str | None = None, folder: str | Path | None = None) -> Warehouse:
    """The warehouse that `dsn` names, else CLICKMART_DSN, else libpq's variables, else the embedded one of `folder`
    (None is the current folder)."""
    dsn = dsn or os.environ.get(DSN_VARIABLE)
    if dsn:
        return Warehouse(dsn)
    if any(os.environ.get(name) for name in LIBPQ_VARIABLES):
        return Warehouse("")
    return Warehouse("", EmbeddedServer(home=Path(folder or Path.cwd()).absolute() / EMBEDDED_FOLDER))


#: libpq's keywords that psql takes from the environment, so that no password stands on a command line
_ENVIRONMENT: Final = {
    "host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER",
    "password": "PGPASSWORD", "passfile": "PGPASSFILE", "service": "PGSERVICE", "options": "PGOPTIONS",
    "application_name": "PGAPPNAME", "sslmode": "PGSSLMODE", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY",
    "sslrootcert": "PGSSLROOTCERT", "channel_binding": "PGCHANNELBINDING", "connect_timeout": "PGCONNECT_TIMEOUT",
    "target_session_attrs": "PGTARGETSESSIONATTRS", "gssencmode": "PGGSSENCMODE",
}  # fmt: skip


def libpq_environment(conninfo: str) -> dict[str, str]:
    """The conninfo as libpq's environment variables. Raises WarehouseError for a keyword that has none."""
    try:
        parameters = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        raise WarehouseError("the DSN is no connection string") from None
    unknown = [name for name in parameters if name not in _ENVIRONMENT]
    if unknown:
        raise WarehouseError(f"psql can't be given {unknown[0]} of the DSN; set it in libpq's service file instead")
    return {_ENVIRONMENT[name]: str(value) for name, value in parameters.items() if value is not None}
