"""The bulk loader on Spark: `clickmart-spark PATH...`, or `spark-submit` of this file. Nothing else imports pyspark.

Spark finds the files and shares them out to Python on the executors; there the parsers of every load make rows of
them, which each task sends by COPY. Local files, which every executor must have, are read there; of others Spark
hands on the bytes. See docs/scale.md.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import click
from psycopg.conninfo import make_conninfo

if not __package__:
    # spark-submit runs this file as one that belongs to none.
    __package__ = "clickmart"

from .applying import apply_migrations
from .bulk_files import Checksums, Found, result_of, sort_out
from .bulk_loads import BulkLoad
from .bulk_pieces import BulkFile, Piece, Span, cut, write_pieces, write_spans
from .command import Command, json_option, print_load, progress, project_option, set_up
from .errors import LoadError, UsageError
from .hadoop_files import HadoopFiles
from .load_report import FileReport, LoadReport
from .loading import in_one_line, stored_text
from .project import read_project
from .version import __version__
from .warehouse import Connection, Warehouse, find_warehouse

logger = logging.getLogger(__name__)

#: Set where the JVM is there already, as it is under spark-submit.
_GATEWAY: Final = "PYSPARK_GATEWAY_PORT"
_PIECE: Final = (
    "load bigint, start bigint, size bigint, lines bigint, rows_loaded bigint, rows_rejected bigint, "
    "first_rejects array<struct<line: bigint, reason: string>>, unknown_columns array<string>, written_by bigint, "
    "format string, header binary, problem string"
)
#: Options of a connection that say nothing on another machine.
_LOCAL_OPTIONS: Final = frozenset((b"passfile", b"service", b"servicefile", b"fallback_application_name"))
#: The last line of a traceback of Python on an executor.
_OWN_ERROR: Final = re.compile(r"^clickmart\.errors\.\w+: (.+)$", re.MULTILINE)
_PYTHON_ERROR: Final = re.compile(r"^((?:\w+\.)*\w*(?:Error|Exception): .+)$", re.MULTILINE)


def load(
    *paths: str | os.PathLike[str],
    dsn: str | None = None,
    max_rejects: int | None = None,
    project: str | os.PathLike[str] | None = None,
) -> LoadReport:
    """Loads what the paths stand for (files, folders and globs, of any file system that Spark knows) as
    `clickmart.load` does, but all files in one transaction.

    Takes the active Spark session, or else starts one. A file that can't be loaded is in the report. Raises LoadError
    where a path names nothing to load, or the Spark job fails, which leaves nothing.
    """
    if max_rejects is not None and max_rejects < 0:
        raise UsageError(f"max_rejects must be 0 or more, found {max_rejects}")
    if not paths:
        raise UsageError("no path to load from")
    started = time.monotonic()
    settings = read_project(None if project is None else os.fspath(project))
    with _session() as session:
        files = HadoopFiles(session.sparkContext._jvm, session.sparkContext._jsc.hadoopConfiguration())
        names = files.find([os.fspath(path) for path in paths])
        warehouse = find_warehouse(dsn)
        apply_migrations(warehouse, settings)
        with warehouse.connect() as connection, Checksums.of(files) as checksums:
            reports = _load(session, connection, files, checksums, names, max_rejects)
    for report in reports:
        logger.info("%s: %s", report.file, report)
    return LoadReport(tuple(reports), time.monotonic() - started)


def _load(
    session: Any,
    connection: Connection,
    files: HadoopFiles,
    checksums: Checksums,
    names: Sequence[str],
    max_rejects: int | None,
) -> list[FileReport]:
    sorted_out = sort_out(connection, files, checksums, names)
    reports = {
        name: FileReport(stored_text(name), "failed", problem=why) for name, why in sorted_out.unreadable.items()
    }
    reports |= {name: FileReport(stored_text(name), "skipped", problem=why) for name, why in sorted_out.known.items()}
    new = sorted_out.new
    if new:
        with BulkLoad.begin(connection, len(new)) as bulk_load:
            numbers = range(bulk_load.first_load, bulk_load.first_load + len(new))
            logger.info("%s files, %s bytes to load", f"{len(new):,}", f"{sum(file.status.size for file in new):,}")
            checksums.begin(file.name for file in new)
            pieces: dict[int, list[Piece]] = {number: [] for number in numbers}
            with _tasks(session, connection, bulk_load.first_load) as tasks:
                for piece in _run(session, tasks, dict(zip(numbers, new, strict=True))):
                    pieces[piece.load].append(piece)
            results = [
                result_of(files, checksums, file, number, pieces[number])
                for number, file in zip(numbers, new, strict=True)
            ]
            published = bulk_load.publish(results, max_rejects)
        reports |= {file.name: report for file, report in zip(new, published, strict=True)}
    return [reports[name] for name in names]


@dataclass(frozen=True, slots=True)
class _Tasks:
    """What the tasks know: where the warehouse is, and the name of the file with its password, if it has one."""

    first_load: int
    conninfo: str
    password_file: str

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """On an executor: a connection with the password of the file, else with what the environment there gives."""
        conninfo = self.conninfo
        if self.password_file:
            from pyspark import SparkFiles

            file = Path(SparkFiles.get(self.password_file))
            file.chmod(0o600)  # Spark copies it for everyone to read
            conninfo = make_conninfo(conninfo, password=file.read_text(encoding="utf-8"))
        with Warehouse(conninfo).connect() as connection:
            yield connection


@contextmanager
def _tasks(session: Any, connection: Connection, first_load: int) -> Iterator[_Tasks]:
    """Lets the tasks know the password by a file, since whatever else they are sent may be shown or logged."""
    options = {
        option.keyword.decode(): option.val.decode()
        for option in connection.pgconn.info
        if option.val
        and option.val != option.compiled
        and option.dispchar != b"*"
        and option.keyword not in _LOCAL_OPTIONS
    }
    conninfo = make_conninfo("", **options)
    password = connection.info.password
    if not password:
        yield _Tasks(first_load, conninfo, "")
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"clickmart-{first_load}-{os.urandom(8).hex()}")
        file.touch(0o600)
        file.write_text(password, encoding="utf-8")
        session.sparkContext.addFile(str(file))
        yield _Tasks(first_load, conninfo, file.name)


def _run(session: Any, tasks: _Tasks, files: Mapping[int, Found]) -> Iterator[Piece]:
    """Has Spark's tasks write the files; what the attempts say that it has taken for done."""
    some = {number: file for number, file in files.items() if file.status.size}
    local = {number: file for number, file in some.items() if file.local_path}
    others = {number: file for number, file in some.items() if not file.local_path}
    try:
        yield from _run_local(session, tasks, local)
        yield from _run_others(session, tasks, others)
    except LoadError:
        raise
    except Exception as error:
        raise LoadError(f"the Spark job failed, nothing is loaded: {_spark_problem(error)}") from error


def _run_local(session: Any, tasks: _Tasks, files: Mapping[int, Found]) -> list[Piece]:
    shares = _shares(session, [(file.numbered(number), file.local_path) for number, file in files.items()])
    if not shares:
        return []

    def write(shares: Iterable[list[Span]]) -> Iterator[Piece]:
        for spans in shares:
            yield from write_spans(spans, tasks.first_load, tasks.connect)

    pieces: list[Piece] = session.sparkContext.parallelize(shares, len(shares)).mapPartitions(write).collect()
    return pieces


def _shares(session: Any, files: Sequence[tuple[BulkFile, str]]) -> list[list[Span]]:
    """The files cut and put together to shares, each for a task, as large as Spark makes those of files it reads."""
    conf = session._jsparkSession.sessionState().conf()
    opening = conf.filesOpenCostInBytes()
    size_for_each = sum(file.size + opening for file, _ in files) // session.sparkContext.defaultParallelism
    largest = max(1, min(conf.filesMaxPartitionBytes(), max(opening, size_for_each)))
    shares: list[list[Span]] = []
    room = 0
    for span in cut(files, largest):
        size = span.end - span.start + opening
        if not shares or size > room:
            shares.append([])
            room = largest + opening
        shares[-1].append(span)
        room -= size
    return shares


def _run_others(session: Any, tasks: _Tasks, files: Mapping[int, Found]) -> Iterator[Piece]:
    by_uri = {file.status.uri: file.numbered(number) for number, file in files.items()}

    def write(batches: Iterable[Any]) -> Iterator[Any]:
        import pyarrow

        for piece in write_pieces(batches, by_uri, tasks.first_load, tasks.connect):
            rejects = [{"line": line, "reason": reason} for line, reason in piece.first_rejects]
            row = asdict(piece) | {"first_rejects": rejects}
            yield pyarrow.RecordBatch.from_pylist([row], _piece_schema())

    frames = [_texts(session, *group) for group in _groups(files.values())]
    if not frames:
        return
    found = reduce(lambda one, other: one.unionAll(other), frames).mapInArrow(write, _PIECE)
    for row in found.collect():
        fields = row.asDict()
        rejects = tuple((reject.line, reject.reason) for reject in fields.pop("first_rejects"))
        names = tuple(fields.pop("unknown_columns"))
        header = bytes(fields.pop("header"))
        yield Piece(first_rejects=rejects, unknown_columns=names, header=header, **fields)


def _piece_schema() -> Any:
    import pyarrow

    whole, text = pyarrow.int64(), pyarrow.string()
    kinds = {
        "first_rejects": pyarrow.list_(pyarrow.struct({"line": whole, "reason": text})),
        "unknown_columns": pyarrow.list_(text),
        "format": text,
        "header": pyarrow.binary(),
        "problem": text,
    }
    return pyarrow.schema({field.name: kinds.get(field.name, whole) for field in dataclasses.fields(Piece)})


def _groups(files: Iterable[Found]) -> list[tuple[list[str], str, str]]:
    """Paths that are read alike: with the separator between their texts, and the extension of those that Spark must
    neither unpack nor cut."""
    groups: dict[tuple[str, str], list[str]] = {}
    for file in files:
        extension = f".{file.status.path.rpartition('.')[2].lower()}" if file.is_whole else ""
        groups.setdefault((file.separator.decode(), extension), []).append(file.status.path)
    return [(paths, *group) for group, paths in groups.items()]


def _texts(session: Any, paths: list[str], separator: str, extension: str) -> Any:
    """The bytes of files as rows of text, each with its separator, its file, and where in it the piece starts."""
    from pyspark.sql.functions import col, expr

    reader = session.read.format("text").option("lineSep", separator)
    # The paths are names, not patterns.
    reader = reader.option("__globPaths__", "false")
    if extension:
        codec = session.sparkContext._jvm.org.apache.hadoop.io.compress.PassthroughCodec
        reader = reader.option("io.compression.codecs", codec.CLASSNAME)
        # The option's name is Hadoop's own, which Spark's builds of it have changed.
        reader = reader.option(codec.OPT_EXTENSION, extension)
    text = expr(f"concat(cast(value as binary), cast('{separator}' as binary))".replace("\n", "\\n"))
    return reader.load(paths).select(
        text.alias("text"), col("_metadata.file_path").alias("uri"), col("_metadata.file_block_start").alias("start")
    )


def _spark_problem(error: Exception) -> str:
    """What went wrong, of all that Spark says: the error that a task met, or else what the first line says."""
    text = str(error)
    if found := _OWN_ERROR.findall(text) or _PYTHON_ERROR.findall(text):
        return in_one_line(found[-1])
    return in_one_line(text.strip().partition("\n")[0] or type(error).__name__)


@contextmanager
def _session() -> Iterator[Any]:
    """The active Spark session, else one that ends with the load."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="pyspark")
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        raise LoadError("pyspark is not installed here: pip install 'clickmart[spark]'") from None
    active = SparkSession.getActiveSession()
    if active is not None:
        yield active
        return
    if _GATEWAY not in os.environ and not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        raise LoadError("no Java is here, which Spark needs: install Java 17 or newer, or set JAVA_HOME")
    is_loud = _GATEWAY in os.environ or bool(os.environ.get("CLICKMART_DEBUG"))
    # The tasks need what is installed beside this.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    with tempfile.TemporaryFile() as log:
        with _stderr_to(log if not is_loud else None):
            try:
                session = SparkSession.builder.appName("clickmart-spark").getOrCreate()
            except Exception as error:
                why = _spark_problem(error)
                raise LoadError(f"Spark can't be started: {why}; CLICKMART_DEBUG=1 shows what it says") from error
        try:
            yield session
        finally:
            session.stop()


@contextmanager
def _stderr_to(log: Any) -> Iterator[None]:
    """Has what is started meanwhile write its errors there: the JVM says much that nobody asked for, and all that
    matters comes back as an exception."""
    if log is None:
        yield
        return
    sys.stderr.flush()
    before = os.dup(2)
    try:
        os.dup2(log.fileno(), 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("--dsn", metavar="DSN", help="Where the warehouse is; else CLICKMART_DSN, else PGHOST and the like.")
@click.option("--max-rejects", metavar="N", type=click.IntRange(min=0), help="Fail a file with more rejects than N.")
@project_option
@json_option
@click.version_option(__version__)
@click.pass_context
def main(
    ctx: click.Context,
    paths: tuple[str, ...],
    dsn: str | None,
    max_rejects: int | None,
    project: str | None,
    as_json: bool,
) -> None:
    """Load files, folders or globs into stage.events on Spark, each content once, all in one transaction.

    Paths are those of any file system that Spark knows (hdfs://, s3a://, file:/). Formats are those of `clickmart
    load`. Settings of Spark come from its own files, or by `spark-submit` of this module.
    """
    set_up(ctx)
    with progress():
        report = load(*paths, dsn=dsn, max_rejects=max_rejects, project=project)
    print_load(report, as_json)


if __name__ == "__main__":
    # What the tasks are sent must belong to a module that they can import.
    import_module("clickmart.spark_loader").main()
