"""Real servers for the tests: the embedded PostgreSQL, and the machine's own where there is one.

A database with the built-in project applied is the template, and each test has a fresh copy of it.
"""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from pathlib import Path

import oracle
import psycopg
import pytest
from clickmart import applying
from clickmart.embedded import EmbeddedServer, wheel_bin
from clickmart.loading import load_file
from clickmart.project import Project, read_project
from clickmart.settings import Settings
from clickmart.warehouse import Connection, Warehouse
from hypothesis import HealthCheck, settings
from oracle import Marts
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pytest_postgresql.janitor import DatabaseJanitor

SHARED = Path(__file__).parents[2] / "shared"

# A database is asked in each example: no deadline, and its fixtures are reset by the example itself.
_CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("default", deadline=None, max_examples=40, suppress_health_check=_CHECKS)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=3000)
settings.load_profile("default")

_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--thorough", action="store_true", help="thousands of examples of each property")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--thorough"):
        settings.load_profile("thorough")


def machine_bin() -> Path | None:
    """The bin folder of the newest PostgreSQL of the machine's packages."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[4]))
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    return Path(on_path).resolve().parent if on_path else None


class _Janitor(DatabaseJanitor):
    """Copies the files of a template, which takes two thirds of the time that rows and their log take."""

    def init(self) -> None:
        with self.cursor() as cursor:
            names = sql.Identifier(self.dbname), sql.Identifier(self.template_dbname or "template0")
            cursor.execute(sql.SQL("create database {} template {} strategy file_copy").format(*names))


@dataclass(frozen=True)
class Server:
    """A running server and its template database."""

    conninfo: str
    template: str

    @contextmanager
    def database(self, *, template: bool = True) -> Iterator[str]:
        """The conninfo of a database of one's own, with the built-in project applied or empty."""
        parameters = conninfo_to_dict(self.conninfo)
        name = f"test_{next(_numbers)}"
        with _Janitor(
            user=str(parameters["user"]),
            host=str(parameters["host"]),
            port=str(parameters["port"]),
            dbname=name,
            template_dbname=self.template if template else "template0",
        ):
            yield make_conninfo(self.conninfo, dbname=name)


@contextmanager
def run_server(bin_folder: Path) -> Iterator[Server]:
    home = Path(tempfile.mkdtemp(prefix="clickmart-"))
    embedded = EmbeddedServer(home=home / "server", bin=bin_folder)
    try:
        conninfo = embedded.start()
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute("alter system set fsync = off")  # no test here outlives a power cut
            connection.execute("select pg_reload_conf()")
        applying.apply(Warehouse(conninfo), read_project())
        yield Server(conninfo, str(conninfo_to_dict(conninfo)["dbname"]))
    finally:
        embedded.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def embedded_server() -> Iterator[Server]:
    with run_server(wheel_bin()) as server:
        yield server


@pytest.fixture(scope="session")
def machine_server() -> Iterator[Server]:
    bin_folder = machine_bin()
    if bin_folder is None:
        pytest.skip("no PostgreSQL of the machine's packages")
    with run_server(bin_folder) as server:
        yield server


@pytest.fixture(scope="session", params=["embedded", "machine"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each test that uses it runs on both servers."""
    found: Server = request.getfixturevalue(f"{request.param}_server")
    return found


@pytest.fixture
def dsn(embedded_server: Server) -> Iterator[str]:
    """A fresh database with the built-in project applied."""
    with embedded_server.database() as conninfo:
        yield conninfo


@pytest.fixture
def empty_dsn(embedded_server: Server) -> Iterator[str]:
    """A fresh database with nothing in it."""
    with embedded_server.database(template=False) as conninfo:
        yield conninfo


@cache
def project_with(settings: oracle.Settings) -> Project:
    """The built-in project with the oracle's settings."""
    window = f"{settings.purchase_window // timedelta(microseconds=1)} microseconds"
    if settings.purchase_window == oracle.DEFAULTS.purchase_window:
        window = Settings().purchase_window
    return replace(
        read_project(),
        settings=Settings(
            product=settings.product,
            cart=settings.cart,
            payment=settings.payment,
            confirmation=settings.confirmation,
            purchase_window=window,
            session_gap=f"{settings.session_gap // timedelta(microseconds=1)} microseconds"
            if settings.session_gap != oracle.DEFAULTS.session_gap
            else Settings().session_gap,
            top_pages=settings.top_pages,
        ),
    )


@dataclass
class Shop:
    """A warehouse of a test's own: events in, marts out."""

    dsn: str
    connection: Connection
    folder: Path

    def load(self, *rows: dict[str, object]) -> None:
        """One file of these events, loaded."""
        file = self.folder / f"{next(_numbers)}.jsonl"
        # The number makes each file's content its own.
        lines = [json.dumps({**row, "file": file.name}) for row in rows]
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        report = load_file(self.connection, str(file))
        assert (report.status, report.rows_loaded) == ("loaded", len(rows)), report
        file.unlink()

    def refresh(self, *, full: bool = False) -> None:
        self.connection.execute("select cdm.refresh(%s)", (full,))

    def apply(self, project: Project | None = None, *, full: bool = False) -> applying.ApplyReport:
        return applying.apply(Warehouse(self.dsn), project or read_project(), full=full)

    def query(self, query: str, *parameters: object) -> list[tuple[object, ...]]:
        return self.connection.execute(query.encode(), parameters or None).fetchall()

    def marts(self) -> Marts:
        """The marts in the oracle's shape, all of one statement's snapshot."""
        return read_marts(self.connection)

    def failures(self) -> list[str]:
        """The names of the checks that fail."""
        names = self.query("select relname from pg_class where relnamespace = 'checks'::regnamespace")
        return [str(name) for (name,) in names if self.query(f'select from checks."{name}"')]

    def reset(self) -> None:
        """Empties the warehouse, as if nothing had been loaded."""
        self.connection.execute(
            "truncate stage.loads, stage.events, stage.events_rejected, stage.page_views, "
            "cdm.purchases, cdm.user_days, cdm.sessions, cdm.events_hours, cdm.products_hours, cdm.page_totals, "
            "cdm.source_totals, cdm.refreshes, cdm.changes"
        )


def read_marts(connection: Connection) -> Marts:
    """The marts in the oracle's shape."""
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read")

        def rows(query: str) -> list[tuple[object, ...]]:
            return connection.execute(query.encode()).fetchall()

        return Marts(
            events_hours=sorted(rows("select hour_timestamp, event_type, count_events from cdm.events_hours")),
            products_hours=sorted(rows("select hour_timestamp, count_products from cdm.products_hours")),
            top_pages=sorted(rows("select id, page_url, count_purchases from cdm.top_pages")),
            sources=sorted(
                rows("select referer_url, utm_campaign, count_users, count_purchases, share_users from cdm.sources"),
                key=lambda row: (str(row[0]).encode(), str(row[1]).encode()),
            ),
            purchases=sorted(
                rows("select user_id, confirmed_at, count_products, referer_url, utm_campaign from cdm.purchases")
            ),
            paths=rows(
                "select first_product_at, first_cart_at, paid_at, page_urls from cdm.purchases "
                "order by user_id, confirmed_at"
            ),
            sessions=rows(
                "select user_id, started_at, ended_at, count_views, entry_page_url, exit_page_url, referer_url, "
                "utm_campaign from cdm.sessions order by user_id, started_at"
            ),
            user_days=rows("select * from cdm.user_days order by day, user_id, referer_url, utm_campaign"),
        )


@contextmanager
def open_shop(server: Server, folder: Path) -> Iterator[Shop]:
    with server.database() as conninfo, Warehouse(conninfo).connect() as connection:
        yield Shop(conninfo, connection, folder)


@pytest.fixture
def shop(server: Server, tmp_path: Path) -> Iterator[Shop]:
    """A warehouse with the built-in project applied and nothing loaded; on both servers."""
    with open_shop(server, tmp_path) as opened:
        yield opened


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """A file of real input, by name."""

    def find(name: str) -> Path:
        path = SHARED / "data" / name
        if not path.exists():
            pytest.skip(f"{path} is not here")
        return path

    return find
