"""What the warehouse takes on disk."""

from __future__ import annotations

from typing import Any

from .server import SQL, Database


def measure_disk(database: Database) -> dict[str, Any]:
    """The bytes that a million events cost, by table, with and without its indexes."""
    database.clickmart("apply")
    events = database.scalar("select count(*) from stage.events")
    tables = [
        {
            "table": name,
            "bytes_per_million": round(table_bytes * 1e6 / events),
            "index_bytes_per_million": round(index_bytes * 1e6 / events),
        }
        for name, table_bytes, index_bytes in database.execute((SQL / "disk.sql").read_text(encoding="utf-8"))
    ]
    return {
        "events": events,
        "tables": tables,
        "bytes_per_million": sum(table["bytes_per_million"] for table in tables),
        "index_bytes_per_million": sum(table["index_bytes_per_million"] for table in tables),
    }
