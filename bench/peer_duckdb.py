"""The marts by DuckDB from a file of JSON lines, by the same models as dbt has, as a process of its own.

    python -m bench.peer_duckdb EVENTS_FILE DATABASE_FILE

On stdout are the seconds of reading the file and of the models, and the marts, which the bench compares.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Final

import jinja2
from clickmart.columns import COLUMNS, NAMES

from .marts import MARTS

MODELS: Final = Path(__file__).parent / "dbt" / "models"
#: each after those that it reads
ORDER: Final = ("page_views", "cart_adds", "purchases", "events_hours", "products_hours", "top_pages", "sources")
TYPES: Final = {"varchar": "varchar", "int4": "integer", "float8": "double", "boolean": "boolean"}


def main() -> None:
    import duckdb

    events, database = sys.argv[1:]
    columns = ", ".join(f"{name}: '{TYPES[kind]}'" for name, kind in COLUMNS.items())
    with duckdb.connect(database) as connection:
        started = time.perf_counter()
        connection.execute(
            f"create table raw as select {', '.join(NAMES)} "
            f"from read_json('{events}', format = 'newline_delimited', columns = {{{columns}}})"
        )
        connection.execute("create view events as select rowid as id, 1 as batch_id, * from raw")
        read = time.perf_counter()
        for model in ORDER:
            template = jinja2.Template((MODELS / f"{model}.sql").read_text(encoding="utf-8"))
            query = template.render(source=lambda schema, table: table, ref=lambda name: name)
            connection.execute(f"create table {model} as {query}")
        done = time.perf_counter()
        marts = {mart: connection.execute(query.format(mart=mart)).fetchall() for mart, query in MARTS.items()}
    print(json.dumps({"read_seconds": read - started, "model_seconds": done - read, "marts": marts}))


if __name__ == "__main__":
    main()
