"""The server of the bench: clickmart's embedded PostgreSQL as it is, but open to 127.0.0.1 too, which JDBC needs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from clickmart import embedded
from clickmart.columns import NAMES
from psycopg import sql
from psycopg.conninfo import make_conninfo

from .processes import Run, run

Connection = psycopg.Connection[tuple[Any, ...]]

TCP_HOST: Final = "127.0.0.1"
CLICKMART: Final = (sys.executable, "-m", "clickmart")
SQL: Final = Path(__file__).parent / "sql"


@dataclass(frozen=True, slots=True)
class Database:
    """A database of the bench's server, clickmart's project being applied to it."""

    conninfo: str

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            yield connection

    def execute(self, query: str) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []

    def scalar(self, query: str) -> Any:
        return self.execute(query)[0][0]

    def seconds(self, query: str | sql.Composed) -> float:
        """How long a statement takes on a session that is open already."""
        with self.connect() as connection:
            started = time.perf_counter()
            connection.execute(query if isinstance(query, sql.Composed) else query.encode())
            return time.perf_counter() - started

    def clickmart(self, *arguments: str | os.PathLike[str]) -> Run:
        """Runs the command on this database."""
        return run([*CLICKMART, *arguments], environment={"CLICKMART_DSN": self.conninfo})

    def empty(self) -> None:
        """Empties the warehouse as if nothing had been loaded, whatever its tables are."""
        tables = self.execute(
            "select format('%I.%I', relnamespace::regnamespace, relname) from pg_class "
            "where relnamespace in ('stage'::regnamespace, 'cdm'::regnamespace) and relkind in ('r', 'p') "
            "and not relispartition and relname not in ('partitions', 'settings', 'rebuild')"
        )
        self.execute(f"truncate {', '.join(name for (name,) in tables)}")
        self.settle()

    def settle(self) -> None:
        """Writes out what the last work left to be written, so that the next doesn't pay for it."""
        self.execute("checkpoint")

    def copy_out(self, path: Path) -> None:
        """Writes the rows of stage.events as the CSV file that `copy_in` reads."""
        query = sql.SQL("copy (select {} from stage.events order by batch_id, id) to stdout (format csv)")
        with (
            self.connect() as connection,
            path.open("wb") as file,
            connection.cursor() as cursor,
            cursor.copy(query.format(_columns())) as copy,
        ):
            for block in copy:
                file.write(block)
        path.chmod(0o644)

    def copy_in(self, path: Path, table: str = "stage.events") -> float:
        """The floor of a load: seconds that the server takes to read these rows from its own disk."""
        query = sql.SQL("copy {} ({}) from {} (format csv)")
        return self.seconds(query.format(sql.Identifier(*table.split(".")), _columns(), sql.Literal(str(path))))


def _columns() -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, [*NAMES, "batch_id"]))


@dataclass(frozen=True, slots=True)
class Server:
    """The running server; its own database is that of the folder's `.clickmart`."""

    conninfo: str
    folder: Path

    def own_database(self) -> Database:
        """The database that `clickmart` finds in the folder."""
        found = Database(self.conninfo)
        found.clickmart("apply")
        return found

    @contextmanager
    def database(self, name: str) -> Iterator[Database]:
        """A fresh database of this name, dropped at the end: a run that broke off may have left one."""
        found = Database(make_conninfo(self.conninfo, dbname=name))
        self._drop(name)
        Database(self.conninfo).execute(f'create database "{name}"')
        try:
            found.clickmart("apply")
            yield found
        finally:
            self._drop(name)

    def _drop(self, name: str) -> None:
        Database(self.conninfo).execute(f'drop database if exists "{name}" (force)')

    def tcp(self, database: Database) -> str:
        """The conninfo of a database over TCP."""
        return make_conninfo(database.conninfo, host=TCP_HOST)


@contextmanager
def run_server(folder: Path) -> Iterator[Server]:
    """Starts the embedded server of `folder` and stops it at the end."""
    # Its settings stand on its command line, where no configuration file overrides them.
    embedded.SETTINGS["listen_addresses"] = TCP_HOST
    server = embedded.EmbeddedServer(home=folder / ".clickmart")
    try:
        yield Server(server.start(), folder)
    finally:
        server.stop()
