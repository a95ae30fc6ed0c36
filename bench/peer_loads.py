"""Other ways to bring a file of JSON lines to PostgreSQL, each as a process of its own.

    python -m bench.peer_loads WAY CONNINFO FILE TABLE

CONNINFO is over TCP. TABLE is one that has the columns and indexes of stage.events; dlt makes its own. On stdout is how
many seconds the work itself took, without imports and the start of a session.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from clickmart.columns import COLUMNS, NAMES
from psycopg.conninfo import conninfo_to_dict

JDBC_DRIVER: Final = Path("/usr/share/java/postgresql.jar")
BATCH: Final = 10_000
#: what Spark calls the types
SPARK_TYPES: Final = {"varchar": "string", "int4": "int", "float8": "double", "boolean": "boolean"}
DLT_DATASET: Final = "peer_dlt"

#: does the work of one way and returns its seconds
Way = Callable[[str, Path, str], float]


@contextmanager
def spark_session(*jars: Path) -> Iterator[Any]:
    """Spark on this machine alone, the same for every way that has one."""
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    with tempfile.TemporaryDirectory() as folder:
        builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
        builder = builder.config("spark.jars", ",".join(map(str, jars))).config("spark.driver.host", "127.0.0.1")
        session = builder.config("spark.driver.memory", "2g").config("spark.local.dir", folder).getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
        yield session
        session.stop()


def spark(conninfo: str, file: Path, table: str, *, rewritten: bool = False) -> float:
    """Spark's JDBC append with its own defaults; `rewritten` has the driver send many rows in one statement."""
    from pyspark.sql.functions import col

    to = conninfo_to_dict(conninfo)
    properties = {"driver": "org.postgresql.Driver", "user": str(to["user"])}
    properties |= {"reWriteBatchedInserts": "true", "batchsize": str(BATCH)} if rewritten else {}
    with spark_session(JDBC_DRIVER) as session:
        started = time.perf_counter()
        # The source writes numbers as texts. With a schema Spark need not read the file twice.
        schema = ", ".join(f"{name} {'boolean' if kind == 'boolean' else 'string'}" for name, kind in COLUMNS.items())
        events = session.read.schema(schema).json(str(file))
        events = events.select([col(name).cast(SPARK_TYPES[kind]) for name, kind in COLUMNS.items()])
        url = f"jdbc:postgresql://{to['host']}:{to['port']}/{to['dbname']}"
        events.write.jdbc(url, table, mode="append", properties=properties)
        return time.perf_counter() - started


def spark_clickmart(conninfo: str, file: Path, table: str) -> float:
    """clickmart's own loader on Spark, into stage.events whatever the table."""
    from clickmart import spark_loader

    with spark_session():
        started = time.perf_counter()
        report = spark_loader.load(file, dsn=conninfo)
        assert not report.failed, report
        return time.perf_counter() - started


def spark_rewritten(conninfo: str, file: Path, table: str) -> float:
    return spark(conninfo, file, table, rewritten=True)


def dlt(conninfo: str, file: Path, table: str) -> float:
    """dlt as its documentation begins: a resource that yields records, run to the destination postgres."""
    import dlt

    to = conninfo_to_dict(conninfo)
    credentials = f"postgresql://{to['user']}:unused@{to['host']}:{to['port']}/{to['dbname']}"
    with tempfile.TemporaryDirectory() as folder:
        pipeline = dlt.pipeline(
            "bench",
            pipelines_dir=folder,
            destination=dlt.destinations.postgres(credentials),
            dataset_name=DLT_DATASET,
        )
        started = time.perf_counter()
        resource = dlt.resource(records(file), name="events", write_disposition="append")
        pipeline.run(resource).raise_on_failed_jobs()
        return time.perf_counter() - started


def psycopg_insert(conninfo: str, file: Path, table: str) -> float:
    """The first loop that one writes: a batch of records, one insert for each."""
    import psycopg
    from psycopg import sql

    names, places = (
        sql.SQL(", ").join(part) for part in (map(sql.Identifier, NAMES), [sql.Placeholder()] * len(NAMES))
    )
    insert = sql.SQL("insert into {} ({}) values ({})").format(sql.Identifier(*table.split(".")), names, places)
    started = time.perf_counter()
    with psycopg.connect(conninfo) as connection, connection.cursor() as cursor:
        for batch in batches(rows(file)):
            cursor.executemany(insert, batch)
    return time.perf_counter() - started


def psycopg_copy(conninfo: str, file: Path, table: str) -> float:
    """The loop that psycopg's documentation advises: write_row of each record to one COPY."""
    import psycopg
    from psycopg import sql

    names = sql.SQL(", ").join(map(sql.Identifier, NAMES))
    query = sql.SQL("copy {} ({}) from stdin").format(sql.Identifier(*table.split(".")), names)
    started = time.perf_counter()
    with psycopg.connect(conninfo) as connection, connection.cursor() as cursor, cursor.copy(query) as copy:
        for row in rows(file):
            copy.write_row(row)
    return time.perf_counter() - started


def pandas(conninfo: str, file: Path, table: str) -> float:
    """read_json in pieces, as the whole wouldn't fit into memory, and to_sql of each."""
    import pandas as pd
    import sqlalchemy

    to = conninfo_to_dict(conninfo)
    schema, name = table.split(".")
    started = time.perf_counter()
    engine = sqlalchemy.create_engine(f"postgresql+psycopg://{to['user']}@{to['host']}:{to['port']}/{to['dbname']}")
    with engine.begin() as connection, pd.read_json(file, lines=True, chunksize=BATCH, convert_dates=False) as pieces:
        for piece in pieces:
            piece.to_sql(name, connection, schema=schema, if_exists="append", index=False)
    return time.perf_counter() - started


WAYS: Final[dict[str, Way]] = {
    "spark": spark,
    "spark-rewritten": spark_rewritten,
    "spark-clickmart": spark_clickmart,
    "dlt": dlt,
    "psycopg-insert": psycopg_insert,
    "psycopg-copy": psycopg_copy,
    "pandas": pandas,
}


def records(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def rows(file: Path) -> Iterator[list[Any]]:
    return ([record.get(name) for name in NAMES] for record in records(file))


def batches(items: Iterable[list[Any]]) -> Iterator[list[list[Any]]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, BATCH)):
        yield batch


def main() -> None:
    way, conninfo, file, table = sys.argv[1:]
    print(json.dumps({"seconds": WAYS[way](conninfo, Path(file), table)}))


if __name__ == "__main__":
    main()
