"""The bulk loader on Spark: what it leaves is what `clickmart load` of the same files leaves, however tasks fare.

Local mode in this process, all tests with one session; a cluster of real executor processes in another, as a session
can't be of two masters.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pyarrow as pa
import pytest
from clickmart import spark_loader
from clickmart.bulk_files import Found
from clickmart.errors import ClickmartError, LoadError
from clickmart.loading import LoadReport, load_file, load_files
from clickmart.warehouse import Warehouse
from comparing import GATE, JSON_LINES, RECORDS, broken_lines, stored, told
from conftest import Server
from psycopg.conninfo import make_conninfo
from pyarrow import parquet
from test_loading import BAD, GOOD, UNREADABLE, counts, eventually, lines, query, write, zip_of

pytestmark = [
    pytest.mark.spark,
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("java"), reason="no java here, which Spark needs"),
]
pyspark = pytest.importorskip("pyspark", reason="pyspark is not installed here")

ROOT = Path(__file__).parents[1]
#: Spark asks no name server for this machine's name.
QUIET = {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOCAL_HOSTNAME": "localhost", "PYSPARK_PYTHON": sys.executable}
PASSWORD = "never-shown-7f3a91"


@pytest.fixture(scope="module")
def session() -> Iterator[Any]:
    """The one session in local mode; files are cut into pieces of some kilobytes."""
    from pyspark.sql import SparkSession

    os.environ.update(QUIET)
    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.sql.files.maxPartitionBytes", "20000").config(
        "spark.sql.files.openCostInBytes", "1"
    )
    found = builder.config("spark.driver.host", "127.0.0.1").getOrCreate()
    found.sparkContext.setLogLevel("OFF")
    yield found
    found.stop()


@pytest.fixture
def spark_dsn(session: Any, dsn: str) -> str:
    """A fresh database, and a session that loads into it."""
    return dsn


@pytest.fixture(params=["read by the tasks", "read by Spark"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How a file is read; those of other file systems, which are not here, are read as a local one can be, too."""
    if request.param == "read by Spark":
        monkeypatch.setattr(Found, "local_path", "")


def spark_load(dsn: str, *files: str, max_rejects: int | None = None) -> LoadReport:
    return spark_loader.load(*files, dsn=dsn, max_rejects=max_rejects)


def execute(dsn: str, statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statements.encode())


def assert_as_by_load(server: Server, dsn: str, *files: str, max_rejects: int | None = None) -> LoadReport:
    """Both ways leave and say the same."""
    report = spark_load(dsn, *files, max_rejects=max_rejects)
    with server.database() as other:
        expected = load_files(Warehouse(other), [file.file for file in report.files], max_rejects=max_rejects)
        assert told(report) == told(expected)
        found, wanted = stored(dsn), stored(other)
        assert found["loads"] == wanted["loads"]
        assert found["rejects"] == wanted["rejects"]
        assert found["events"] == wanted["events"]
    return report


# The same as by `clickmart load`

CSV = (
    b"event_id,os,referer_url_port,extra,page_url\r\n"
    b'1,"two\nlines",80,x,"a ""quoted"" one"\r\n'
    b"2,,80.0\n"
    b"\n"
    b"3,a,b,c,d,e,f\n"
    b'4,"",abc,"",""\r\n'
    b"5,\xff,1,x,y\n"
    b"6,a\0b,1,x,y\n"
    b'7,"text"behind,1,x,y\n'
    b"8,last,1,x,y"
)


def parquet_file(folder: Path, name: str, **columns: Any) -> str:
    parquet.write_table(pa.table(columns), folder / name, row_group_size=7)
    return str(folder / name)


@pytest.mark.usefixtures("way")
def test_json_lines_in_many_pieces_are_as_by_load(embedded_server: Server, spark_dsn: str, tmp_path: Path) -> None:
    content = broken_lines(5)
    files = [
        write(tmp_path, "a.jsonl", content),
        write(tmp_path, "a.json", b"\xef\xbb\xbf \r\n" + content.replace(b"\n", b"\r\n") + b"\n"),
    ]
    report = assert_as_by_load(embedded_server, spark_dsn, *files)
    assert report.rows_rejected > 300
    # Rows of several transactions, which is to say pieces, or this test would show nothing of lines.
    ((pieces,),) = query(spark_dsn, "select count(distinct xmin::text) from stage.events")
    assert pieces > 10


@pytest.mark.usefixtures("way")
def test_every_other_format_is_as_by_load(embedded_server: Server, spark_dsn: str, tmp_path: Path) -> None:
    zstd = pa.compress(JSON_LINES, codec="zstd", asbytes=True)
    array = json.dumps(RECORDS).encode()
    table = {
        "event_id": [number * 10**15 for number in range(100)],
        "os": [None, "a\0b", "x", "}," * 9] * 25,
        "geo_latitude": [number / 7 for number in range(100)],
        "event_timestamp": pa.array(range(100), pa.timestamp("ns", "UTC")),
        "referer_url_port": pa.array([2**number % 10**10 for number in range(100)], pa.uint64()),
        "other": [[1, None]] * 100,
    }
    one = parquet_file(tmp_path, "one.parquet", **table)
    parquet.write_table(pa.table({"os": ["only"]}), tmp_path / "two.parquet", use_deprecated_int96_timestamps=True)
    files = [
        one,
        str(tmp_path / "two.parquet"),
        write(tmp_path, "three.parquet.gz", gzip.compress(Path(one).read_bytes() + b"")),
        write(tmp_path, "a.jsonl.gz", gzip.compress(JSON_LINES) + gzip.compress(b"x\n")),
        write(tmp_path, "b.jsonl.zst", zstd),
        write(tmp_path, "c.ndjson.zip", zip_of("a")),
        write(tmp_path, "D.JSONL.GZ", gzip.compress(JSON_LINES + b"y")),
        write(tmp_path, "array.json", b"\xef\xbb\xbf\n" + array.replace(b"}, {", b"},\n{") + b"\n"),
        write(tmp_path, "one line.json", array),
        write(tmp_path, "cut.json", array[: array.rindex(b"},") + 2]),
        write(tmp_path, "bad.json", b'[{"os": "1"}, nope, {"os": "\xff"},{"os": 1}}, {"os": "2'),
        write(tmp_path, "array.json.gz", gzip.compress(array)),
        write(tmp_path, "blank.json", b" \n\t"),
        write(tmp_path, "plain.csv", CSV),
        write(tmp_path, "mark.csv", b"\xef\xbb\xbf" + CSV + b"\n"),
        write(tmp_path, "marks.csv", b"\xef\xbb\xbf\xef\xbb\xbf" + CSV),
        write(tmp_path, "open.csv", b'event_id,os\n1,2\n3,"never closed\n4,5\n'),
        write(tmp_path, "open end.csv", b'event_id,os\n1,2\n3,"never closed\n4,5'),
        write(tmp_path, "packed.csv.gz", gzip.compress(CSV)),
        write(tmp_path, "empty.jsonl", b""),
        write(tmp_path, "a [1]{b},*?%20#.jsonl", GOOD * 3),
    ]
    report = assert_as_by_load(embedded_server, spark_dsn, *files)
    assert {file.status for file in report.files} == {"loaded"}


@pytest.mark.usefixtures("way")
def test_files_that_fail_are_as_by_load(embedded_server: Server, spark_dsn: str, tmp_path: Path) -> None:
    """Each for its own reason, which it has in both ways, and the others are loaded."""
    names = [name for name, (content, _) in UNREADABLE.items() if content is not None and name != "none.txt"]
    files = [write(tmp_path, name, UNREADABLE[name][0] or b"") for name in names]
    files += [
        write(tmp_path, "rejects.jsonl", b"\n" + BAD * 2),
        write(tmp_path, "too many.csv", b"event_id,referer_url_port\n1,1\n2,x\n3,x\n4,x\n"),
        write(tmp_path, "good.jsonl", GOOD + BAD * 2),
        write(tmp_path, "empty.parquet", b""),
        write(tmp_path, "twice.jsonl", GOOD + BAD * 2),
    ]
    report = assert_as_by_load(embedded_server, spark_dsn, *files, max_rejects=2)
    assert [file.status for file in report.files] == ["failed"] * (len(names) + 2) + ["loaded", "failed", "skipped"]
    assert query(spark_dsn, "select count(*) from stage.events") == [(1,)]


def test_what_spark_lists_is_what_load_lists(spark_dsn: str, tmp_path: Path) -> None:
    for name in ("a.jsonl", "in/b.jsonl", "in/deep/c.csv", "in/notes.txt", "in/.hidden.jsonl", "in/_h/d.csv"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"event_id\nx\n" if name.endswith("csv") else lines(1, name))
    report = spark_load(spark_dsn, str(tmp_path / "a.jsonl"), str(tmp_path / "in"), f"{tmp_path}/*.jsonl")
    assert [file.file for file in report.files] == [
        str(tmp_path / n) for n in ("a.jsonl", "in/b.jsonl", "in/deep/c.csv")
    ]
    # By their URIs they are the same contents under other names, found by Hadoop.
    again = spark_load(spark_dsn, f"file:{tmp_path}/in", f"file:{tmp_path}/*.jsonl")
    assert [(file.file, file.status) for file in again.files] == [
        (f"file:{tmp_path}/{name}", "skipped") for name in ("in/b.jsonl", "in/deep/c.csv", "a.jsonl")
    ]
    for path, message in {
        f"{tmp_path}/none": "no such file or folder",
        f"file:{tmp_path}/none.csv": "no such file or folder",
        f"file:{tmp_path}/in/notes.txt": "the extension is not known",
        "nosuch://host/a.csv": "nosuch",
        "-": "standard input",
    }.items():
        with pytest.raises(ClickmartError, match=message):
            spark_load(spark_dsn, path)
    (hidden,) = spark_load(spark_dsn, str(tmp_path / "in/.hidden.jsonl")).files
    assert hidden.problem == "Spark passes over files whose names start with a dot or an underscore: rename it"
    assert counts(spark_dsn) == (3, 0, 3)


# Once, and all at once


def test_a_second_run_reads_nothing(session: Any, spark_dsn: str, tmp_path: Path) -> None:
    files = [write(tmp_path, "a.jsonl", JSON_LINES), write(tmp_path, "b.csv", CSV)]
    first = spark_load(spark_dsn, *files)
    jobs = session.sparkContext.statusTracker().getJobIdsForGroup(None)
    second = spark_load(spark_dsn, *files)
    assert session.sparkContext.statusTracker().getJobIdsForGroup(None) == jobs
    assert [file.status for file in first.files + second.files] == ["loaded"] * 2 + ["skipped"] * 2
    with Warehouse(spark_dsn).connect() as connection:
        assert load_file(connection, files[0]).status == "skipped"
    assert query(spark_dsn, "select count(*) from stage.loads") == [(2,)]
    assert query(spark_dsn, "select count(*) from stage.bulk_loads") == [(1,)]


def test_a_job_that_fails_leaves_nothing_and_says_why(spark_dsn: str, tmp_path: Path) -> None:
    """Here over connections that the server ends."""
    files = [write(tmp_path, "a.jsonl", JSON_LINES)]
    execute(spark_dsn, GATE.format(action="perform pg_terminate_backend(pg_backend_pid())"))
    with pytest.raises(LoadError) as raised:
        spark_load(spark_dsn, *files)
    message = str(raised.value)
    assert message.startswith("the Spark job failed, nothing is loaded: the connection to the warehouse was lost: ")
    assert "\n" not in message
    assert counts(spark_dsn) == (0, 0, 0)
    assert query(spark_dsn, "select status from stage.bulk_loads") == [("dropped",)]


def test_a_file_that_changes_while_it_is_read_is_failed(
    spark_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [write(tmp_path, "a.jsonl", JSON_LINES), write(tmp_path, "b.jsonl", GOOD)]
    run = spark_loader._run

    def changed(*arguments: Any) -> Any:
        yield from list(run(*arguments))
        with Path(files[0]).open("ab") as file:
            file.write(GOOD)

    monkeypatch.setattr(spark_loader, "_run", changed)
    report = spark_load(spark_dsn, *files)
    assert [file.status for file in report.files] == ["failed", "loaded"]
    assert report.files[0].problem == "the file changed while it was read: load it once nothing writes to it"
    assert counts(spark_dsn) == (1, 0, 1)


# On a cluster


@pytest.fixture
def spark_home(tmp_path: Path) -> Path:
    """Spark with folders of its own for what its processes work with, and with logs of all that they say."""
    home = tmp_path / "spark"
    (home / "conf").mkdir(parents=True)
    for entry in Path(pyspark.__file__).parent.iterdir():
        (home / entry.name).symlink_to(entry)
    (home / "conf" / "log4j2.properties").write_text(
        "rootLogger.level = info\nlogger.driver.name = org.apache.spark.api.python.PythonGatewayServer\n"
        "logger.driver.level = info\nrootLogger.appenderRef.stderr.ref = stderr\nappender.stderr.type = Console\n"
        "appender.stderr.name = stderr\nappender.stderr.target = SYSTEM_ERR\n"
        "appender.stderr.layout.type = PatternLayout\nappender.stderr.layout.pattern = %p %c: %m%n%ex\n"
    )
    return home


def command(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "SPARK", "PYSPARK"))}
    return subprocess.Popen(
        arguments, env=inherited | QUIET | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@contextmanager
def spark_command(home: Path, dsn: str, *files: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """The command, loud, with these settings of Spark; its processes end with the block."""
    confs = " ".join(f"--conf {name.replace('_', '.')}={value}" for name, value in settings.items())
    process = command(
        str(Path(sys.executable).with_name("clickmart-spark")),
        *files,
        "--json",
        SPARK_HOME=str(home),
        CLICKMART_DEBUG="1",
        CLICKMART_DSN=dsn,
        PYSPARK_SUBMIT_ARGS=f"--conf spark.executor.memory=512m {confs} pyspark-shell",
    )
    # Read as it comes, or a full pipe would stop it.
    with ThreadPoolExecutor(1) as thread:
        process.output = thread.submit(process.communicate)  # type: ignore[attr-defined]
        try:
            yield process
        finally:
            for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            process.kill()


def executors(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The JVMs of the executors."""
    found = psutil.Process(process.pid).children(recursive=True)
    return [child for child in found if any("CoarseGrainedExecutorBackend" in part for part in child.cmdline())]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def waiting(dsn: str) -> int:
    """How many sessions stand at the gate."""
    return len(query(dsn, "select from pg_locks where locktype = 'advisory' and not granted"))


@contextmanager
def role_with_password(dsn: str) -> Iterator[str]:
    """A DSN of a role that the server asks for its password."""
    role = f"spark_{os.getpid()}"
    ((name,),) = query(dsn, "show hba_file")
    before = Path(name).read_text()
    execute(dsn, f"create role {role} login superuser password '{PASSWORD}'")
    try:
        Path(name).write_text(f"local all {role} scram-sha-256\n{before}")
        query(dsn, "select pg_reload_conf()")
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(make_conninfo(dsn, user=role, passfile="/dev/null"))
        yield make_conninfo(dsn, user=role, password=PASSWORD)
    finally:
        Path(name).write_text(before)
        query(dsn, "select pg_reload_conf()")
        execute(dsn, f"drop role {role}")


def pages_of_the_ui(port: int) -> dict[str, str]:
    """What Spark shows of the application to whoever asks."""

    def get(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return str(answer.read().decode())

    (application,) = json.loads(get("/api/v1/applications"))
    paths = ["environment", "jobs", "stages?details=true", "executors", "sql?details=true&planDescription=true"]
    pages = {path: get(f"/api/v1/applications/{application['id']}/{path}") for path in paths}
    return pages | {"/environment/": get("/environment/"), "/SQL/": get("/SQL/")}


def test_executors_that_are_killed_change_nothing_and_the_password_is_nowhere_to_be_seen(
    embedded_server: Server, dsn: str, tmp_path: Path, spark_home: Path, request: pytest.FixtureRequest
) -> None:
    """Killed when some of their pieces are committed and others are about to be."""
    if not request.config.getoption("--thorough"):
        pytest.skip("it depends on how fast a cluster starts; with --thorough")
    files = [write(tmp_path, f"{n}.jsonl", b'{"os": "%d"}\n' % n + broken_lines(1)) for n in range(8)]
    full = "(select count(*) from stage.bulk_pieces) >= 3"
    execute(dsn, GATE.format(action=f"if {full} then perform pg_advisory_xact_lock_shared(42); end if"))
    port = free_port()
    settings = {"spark_master": "local-cluster[2,1,1024]", "spark_ui_port": str(port)}
    with (
        role_with_password(dsn) as secret_dsn,
        psycopg.connect(dsn, autocommit=True) as keeper,
        spark_command(spark_home, secret_dsn, *files, **settings) as process,
    ):
        keeper.execute("select pg_advisory_lock(42)")
        eventually(lambda: waiting(dsn) == 2 or process.poll() is not None, 200)
        assert process.poll() is None
        pages = pages_of_the_ui(port)
        committed = query(dsn, "select written_by::text from stage.bulk_pieces")
        assert len(committed) in (3, 4)  # two at a time may each see that the other isn't there yet
        killed = executors(process)
        assert len(killed) == 2
        for executor in killed:
            executor.kill()
        psutil.wait_procs(killed, 30)
        keeper.execute("select pg_advisory_unlock(42)")
        output, log = process.output.result(300)  # type: ignore[attr-defined]
        assert process.returncode == 0, log[-5000:]

    report = json.loads(output)
    assert [file["status"] for file in report["files"]] == ["loaded"] * 8
    with embedded_server.database() as other:
        load_files(Warehouse(other), files)
        assert stored(dsn) == stored(other)
    kept = query(dsn, "select distinct xmin::text from stage.events")
    assert set(kept).isdisjoint(committed)

    logs = [file.read_text() for file in spark_home.glob("work/*/*/stderr")]
    assert len(logs) > 2
    assert all(any(word in text for text in [log, *logs]) for word in ("Submitting", "Running task"))
    assert "collect at " in pages["jobs"]
    assert "clickmart-spark" in pages["/environment/"]
    for text in (log, output, *logs, *pages.values()):
        assert PASSWORD not in text


def test_of_a_task_that_is_speculated_one_attempt_counts_and_none_is_waited_for(
    embedded_server: Server, dsn: str, tmp_path: Path, spark_home: Path
) -> None:
    """The slow one has written all and stands still amid its commit, for longer than the load takes."""
    files = [write(tmp_path, f"{n}.jsonl", b'{"os": "%d"}\n' % n + broken_lines(1)) for n in range(4)]
    first = "pg_try_advisory_lock(43)"
    execute(dsn, GATE.format(action=f"if {first} then perform pg_advisory_xact_lock_shared(42); end if"))
    settings = {
        "spark_speculation": "true",
        "spark_speculation_quantile": "0.4",
        "spark_speculation_multiplier": "1.01",
        "spark_speculation_minTaskRuntime": "100ms",
        "spark_sql_files_openCostInBytes": "200000000",
        "spark_ui_enabled": "false",
    }
    with (
        psycopg.connect(dsn, autocommit=True) as keeper,
        cluster_of_two_hosts(spark_home) as master,
        spark_command(spark_home, dsn, *files, spark_master=master, **settings) as process,
    ):
        keeper.execute("select pg_advisory_lock(42)")
        output, log = process.output.result(300)  # type: ignore[attr-defined]
        assert process.returncode == 0, log[-5000:]
    assert "speculatable" in log
    assert [file["status"] for file in json.loads(output)["files"]] == ["loaded"] * 4
    with embedded_server.database() as other:
        load_files(Warehouse(other), files)
        assert stored(dsn) == stored(other)


@contextmanager
def cluster_of_two_hosts(home: Path) -> Iterator[str]:
    """A master and two workers, each with a host of its own: Spark speculates on another host alone."""
    url = f"spark://127.0.0.1:{free_port()}"
    port = url.rpartition(":")[2]
    deploy = "org.apache.spark.deploy"
    options = {
        "master": (f"{deploy}.master.Master", "--host", "127.0.0.1", "--port", port, "--webui-port", "0"),
        **{
            host: (
                f"{deploy}.worker.Worker",
                "--host",
                host,
                "--cores",
                "1",
                "--memory",
                "600m",
                "--webui-port",
                "0",
                url,
            )
            for host in ("127.0.0.1", "127.0.0.2")
        },
    }
    environment = os.environ | QUIET | {"SPARK_HOME": str(home), "SPARK_WORKER_DIR": str(home / "work")}
    with ExitStack() as processes:
        for name, arguments in options.items():
            log = processes.enter_context((home / f"{name}.log").open("wb"))
            process = subprocess.Popen(
                [home / "bin" / "spark-class", *arguments],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            processes.callback(lambda process=process: os.killpg(process.pid, signal.SIGKILL) or process.wait())
        yield url


# The command


def test_the_command_prints_what_load_prints_and_no_word_of_spark(dsn: str, tmp_path: Path) -> None:
    good, bad = write(tmp_path, "a.jsonl", GOOD + BAD), write(tmp_path, "b.csv", b"a\n1\n")
    process = command(str(Path(sys.executable).with_name("clickmart-spark")), "--dsn", dsn, good, bad)
    output, error = process.communicate(timeout=300)
    problem = "line 1: the header names no column of stage.events: found 'a', expected names like "
    assert error.startswith(f"clickmart: {bad}: {problem}")
    assert error.count("\n") == 1
    assert process.returncode == 1
    assert re.fullmatch(r"1 row, 1 rejected in [0-9.]+ s", output.splitlines()[0].removeprefix(good).strip())


def test_spark_submit_takes_the_module_as_a_file(dsn: str, tmp_path: Path) -> None:
    file = write(tmp_path, "a.jsonl", GOOD + BAD)
    submit = str(Path(sys.executable).with_name("spark-submit"))
    module = str(ROOT / "runner" / "spark_loader.py")
    process = command(submit, "--master", "local[1]", module, "--dsn", dsn, "--json", file)
    output, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    report = json.loads(output[output.index("{") :])
    assert (report["rows_loaded"], report["rows_rejected"]) == (1, 1)
    assert counts(dsn) == (1, 1, 1)


def test_without_java_the_command_says_what_it_needs(dsn: str, tmp_path: Path) -> None:
    file = write(tmp_path, "a.jsonl", GOOD)
    process = command(sys.executable, "-m", "clickmart.spark_loader", "--dsn", dsn, file, PATH="", JAVA_HOME="")
    assert process.communicate(timeout=60) == (
        "",
        "clickmart: no Java is here, which Spark needs: install Java 17 or newer, or set JAVA_HOME\n",
    )
    assert process.returncode == 1


def test_nothing_else_imports_pyspark() -> None:
    importing = re.compile(r"^\s*(?:from|import) (?:pyspark|py4j)\b", re.MULTILINE)
    found = [
        file.name for file in (ROOT / "runner").rglob("*.py") if importing.search(file.read_text(encoding="utf-8"))
    ]
    assert found == ["spark_loader.py"]
