"""Short commands, as a person or cron starts them, against psql and an import of the driver."""

from __future__ import annotations

import sys
from typing import Final

from clickmart.embedded import wheel_bin

from .figures import Figure, alternate
from .processes import Run, run
from .server import CLICKMART, Database, Server

LIMIT: Final = 0.3
PSQL: Final = "psql -c 'select 1'"
#: short times scatter most, and cost least to take again
TIMES: Final = 3


def measure_commands(server: Server, database: Database, *, rounds: int) -> list[Figure]:
    """The commands in the server's folder, with nothing new to do."""
    database.clickmart("apply")
    rows = database.scalar("select count(*) from stage.events")
    # Not the machine's, which may be a script around it.
    psql = wheel_bin() / "psql"

    def query() -> float:
        return run([psql, "-X", "-q", "-d", database.conninfo, "-c", "select 1"]).seconds

    def imported() -> float:
        return run([sys.executable, "-c", "import psycopg"]).seconds

    figures = []
    for name, argument in (("apply-nothing", "apply"), ("status", "status"), ("help", "--help")):

        def command(argument: str = argument) -> Run:
            return run([*CLICKMART, argument], folder=server.folder)

        floor, floor_what = (imported, "python -c 'import psycopg'") if argument == "--help" else (query, PSQL)
        pairs = alternate(name, rounds * TIMES, floor, command)
        what = f"clickmart {argument}{' with nothing new' if argument == 'apply' else ''}"
        figures.append(
            Figure(
                name,
                what,
                f"{rows:,} events",
                floor_what,
                pairs.floor,
                pairs.subject,
                limit=LIMIT,
                peak_bytes=pairs.peak_bytes,
            )
        )
    return figures
