"""The connection by which Metabase reads the warehouse: made from a DSN, and waited for until it is synced."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from ..errors import MetabaseError, UsageError
from ..warehouse import DSN_VARIABLE, NO_CONNECTION_STRING, find_warehouse
from .client import Metabase
from .objects import FoundDatabase

#: Where the warehouse is for Metabase, if its server reaches it by another name or user than clickmart does.
DATABASE_VARIABLE: Final = "METABASE_DATABASE_DSN"
#: Values of sslmode with which libpq insists on TLS; with the others Metabase is told to do without.
_TLS: Final = frozenset({"require", "verify-ca", "verify-full"})
_POLL: Final = 1.0


def connection_body(name: str, dsn: str | None) -> dict[str, Any]:
    """The body that makes the database: of METABASE_DATABASE_DSN, else of `dsn`, else of CLICKMART_DSN.

    It holds the DSN's password. Raises UsageError where the DSN names no server that Metabase could reach.
    """
    found = os.environ.get(DATABASE_VARIABLE) or find_warehouse(dsn).conninfo
    if not found:
        raise UsageError(
            f"Metabase needs a server that it can reach; name it by {DATABASE_VARIABLE}, --dsn or {DSN_VARIABLE}"
        )
    try:
        said = conninfo_to_dict(found)
    except psycopg.ProgrammingError:
        raise UsageError(f"{DATABASE_VARIABLE}: {NO_CONNECTION_STRING}") from None
    host, port = str(said.get("host") or ""), str(said.get("port") or 5432)
    if not host or host.startswith("/") or "," in host or not port.isdigit():
        raise UsageError(
            f"Metabase connects over TCP to one host, and the DSN has {host or 'none'}; name it by {DATABASE_VARIABLE}"
        )
    lacking = [part for part in ("dbname", "user") if not said.get(part)]
    if lacking:
        raise UsageError(f"the DSN for Metabase has no {' and no '.join(lacking)}")
    mode = str(said.get("sslmode") or "prefer")
    details: dict[str, Any] = {
        "host": host,
        "port": int(port),
        "dbname": said["dbname"],
        "user": said["user"],
        "password": said.get("password") or "",
        "ssl": mode in _TLS,
    }
    if mode in _TLS:
        details["ssl-mode"] = mode
    return {"name": name, "engine": "postgres", "details": details}


def wait_for_sync(
    metabase: Metabase,
    database: int,
    seconds: float,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Returns once Metabase has read the database's tables. Raises MetabaseError after so many `seconds`."""
    end = clock() + seconds
    while True:
        found = metabase.get(f"/api/database/{database}", FoundDatabase)
        where = f"{metabase.url}: database {found.name!r}"
        if found.initial_sync_status in ("complete", None):
            return
        if found.initial_sync_status == "aborted":
            raise MetabaseError(f"{where}: Metabase gave up its sync; look at it under Admin settings, Databases")
        if clock() >= end:
            raise MetabaseError(f"{where}: not synced after {seconds:g} s; push again, or give it more by --timeout")
        metabase.sleep(_POLL)
