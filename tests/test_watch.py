"""`clickmart watch`: new files are loaded and applied as they appear, each once, whatever happens meanwhile."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import clickmart
import pytest
from clickmart.embedded import EmbeddedServer, wheel_bin
from clickmart.errors import ClickmartError, LoadError, UsageError
from clickmart.project import init_project
from clickmart.watching import WatchReport
from faults import ended, start
from projects import outcome, query, run, value, write_files

INTERVAL = 0.1
COUNT = "select count(*) from stage.page_views"


def events(*names: str) -> str:
    rows = [{"event_id": name, "user_domain_id": "u1", "event_timestamp": "2022-09-30 10:00:00"} for name in names]
    return "".join(f"{json.dumps(row)}\n" for row in rows)


class Watched:
    """A folder that is watched, and the reports as they come."""

    def __init__(self, reports: Iterator[WatchReport], threads: ThreadPoolExecutor) -> None:
        self._reports = reports
        self._threads = threads

    def next(self) -> WatchReport:
        return self._threads.submit(next, self._reports).result(timeout=60)

    def loaded(self) -> list[tuple[str, str, int]]:
        """The next report: of each file its name, status and rows; all were applied."""
        report = self.next()
        assert report.load is not None
        assert (report.apply is not None) == bool(report.load.rows_loaded)
        return [(Path(file.file).name, file.status, file.rows_loaded) for file in report.load.files]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "incoming"
    folder.mkdir()
    return folder


@pytest.fixture
def watched(folder: Path) -> Iterator[Callable[..., Watched]]:
    with ThreadPoolExecutor() as threads:
        yield lambda **options: Watched(clickmart.watch(folder, interval=INTERVAL, **options), threads)


def test_what_is_there_and_what_comes_new_is_loaded_and_applied_once(
    dsn: str, folder: Path, watched: Callable[..., Watched]
) -> None:
    write_files(folder, {"a.jsonl": events("1", "2"), "notes.txt": "no events"})
    watching = watched(dsn=dsn)
    assert watching.loaded() == [("a.jsonl", "loaded", 2)]
    write_files(folder, {"deep/b.csv": "event_id\n3\n", ".c.jsonl": events("4"), "same.jsonl": events("1", "2")})
    assert watching.loaded() == [("b.csv", "loaded", 1)]  # and of a content that is loaded nothing is said
    (folder / ".c.jsonl").rename(folder / "c.jsonl")
    assert watching.loaded() == [("c.jsonl", "loaded", 1)]
    assert value(dsn, "select count(*) from stage.events") == 4
    assert value(dsn, COUNT) == 3


def test_a_folder_may_be_empty_and_a_glob_may_match_nothing_yet(dsn: str, folder: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor() as threads:
        paths = [folder, str(tmp_path / "later/*.jsonl")]
        watching = Watched(clickmart.watch(paths, dsn=dsn, interval=INTERVAL), threads)
        threading.Timer(5 * INTERVAL, write_files, (tmp_path, {"later/a.jsonl": events("1")})).start()
        assert watching.loaded() == [("a.jsonl", "loaded", 1)]


def test_events_in_four_files_are_taken_when_all_four_are_there(
    dsn: str, folder: Path, watched: Callable[..., Watched]
) -> None:
    whole = {"event_id": "1", "click_id": "c", "event_timestamp": "2022-09-30 10:00:00", "user_domain_id": "u"}
    parts = [f"{part}_events.jsonl" for part in ("browser", "location", "device", "geo")]
    write_files(folder, dict.fromkeys(parts[:3], f"{json.dumps(whole)}\n"))
    threading.Timer(8 * INTERVAL, write_files, (folder, {parts[3]: f"{json.dumps(whole)}\n"})).start()
    watching = watched(dsn=dsn, source="four_files")
    assert watching.loaded() == [(parts[0], "loaded", 1)]
    write_files(folder, {parts[2]: f"{json.dumps(whole | {'os': 'Linux'})}\n"})
    assert watching.loaded() == [(parts[0], "loaded", 1)]
    assert value(dsn, "select source from stage.loads limit 1") == "four_files"


def test_a_file_is_not_taken_while_it_is_written(dsn: str, folder: Path, watched: Callable[..., Watched]) -> None:
    def write() -> None:
        with (folder / "a.jsonl").open("w") as file:
            for number in range(60):
                file.write(events(str(number)))
                file.flush()
                time.sleep(INTERVAL / 5)

    writer = threading.Thread(target=write)
    writer.start()
    assert watched(dsn=dsn).loaded() == [("a.jsonl", "loaded", 60)]
    writer.join()


def test_a_file_that_failed_is_tried_again_when_it_has_changed(
    dsn: str, folder: Path, watched: Callable[..., Watched]
) -> None:
    write_files(folder, {"a.jsonl": "no JSON\n"})
    watching = watched(dsn=dsn)
    failed = watching.next()
    assert [problem.split(":")[1] for problem in failed.problems()] == [
        " none of its 1 records could be stored; they are in stage.events_rejected, batch_id 1; first"
    ]
    write_files(folder, {"b.jsonl": events("1")})
    assert watching.loaded() == [("b.jsonl", "loaded", 1)]
    write_files(folder, {"a.jsonl": events("2")})
    assert watching.loaded() == [("a.jsonl", "loaded", 1)]
    assert query(dsn, "select status, count(*) from stage.loads group by 1 order by 1") == [
        ("failed", 1),
        ("loaded", 2),
    ]


def test_a_server_that_is_gone_is_said_once_and_its_files_come_when_it_is_back(
    tmp_path: Path, folder: Path, watched: Callable[..., Watched]
) -> None:
    server = EmbeddedServer(home=tmp_path / "server", bin=wheel_bin())
    try:
        dsn = server.start()
        watching = watched(dsn=dsn)
        assert watching.next().load is None  # the tables
        server.stop()
        write_files(folder, {"a.jsonl": events("1")})
        gone = watching.next()
        (problem,) = gone.problems()
        assert (problem.startswith(f"{folder}/a.jsonl: can't connect to the warehouse: "), gone.apply) == (True, None)
        assert server.start() == dsn
        while (found := watching.next()).apply is None:
            assert all("can't connect" in problem for problem in found.problems())
        assert value(dsn, COUNT) == 1
    finally:
        server.stop()


def test_an_error_in_the_project_is_said_once_and_the_loads_are_applied_when_it_is_mended(
    dsn: str, tmp_path: Path, folder: Path, watched: Callable[..., Watched]
) -> None:
    project = init_project(tmp_path / "shop")
    watching = watched(dsn=dsn, project=project)
    write_files(folder, {"a.jsonl": events("1")})
    assert watching.loaded() == [("a.jsonl", "loaded", 1)]
    write_files(project, {"sql/cdm/95_mine.sql": "selec 1;"})
    write_files(folder, {"b.jsonl": events("2")})
    failed = watching.next()
    assert list(failed.problems()) == [failed.problem]
    assert failed.problem.startswith('sql/cdm/95_mine.sql:1:1: syntax error at or near "selec"')
    assert (failed.load is not None and failed.load.rows_loaded, value(dsn, COUNT)) == (1, 1)
    threading.Timer(10 * INTERVAL, write_files, (project, {"sql/cdm/95_mine.sql": "select 1;"})).start()
    mended = watching.next()
    if "(as rendered)" in mended.problem:  # it was mended just as the error was placed
        mended = watching.next()
    assert (mended.load, mended.problem, value(dsn, COUNT)) == (None, "", 2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_command_prints_a_line_of_json_for_each_round_and_ends_with_0_by_a_signal(
    dsn: str, folder: Path, number: signal.Signals
) -> None:
    write_files(folder, {"a.jsonl": events("1")})
    with start("watch", str(folder), "--interval", "0.2", "--json", dsn=dsn) as watching:
        assert watching.stdout is not None
        report = json.loads(watching.stdout.readline())
        assert (report["load"]["rows_loaded"], report["apply"]["new_loads"], report["problem"]) == (1, 1, None)
        watching.send_signal(number)
        _, out, error = ended(watching)
    how = "interrupted" if number is signal.SIGINT else f"ended by {number.name}"
    assert (watching.returncode, out) == (0, "")
    assert error == f"clickmart: {how}; what was not finished is undone\n"


def test_the_command_prints_what_load_and_apply_do(dsn: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clickmart import api

    write_files(folder, {"a.jsonl": events("1"), "b.jsonl": "x\n"})
    two_rounds = api.watch
    monkeypatch.setattr(api, "watch", lambda *paths, **options: islice(two_rounds(*paths, **options), 1))
    code, text, error = outcome(run("watch", str(folder), "--interval", "0.1", dsn=dsn))
    lines = text.splitlines()
    assert (code, lines[0].split(" in ")[0]) == (0, f"{folder}/a.jsonl  1 row")
    assert lines[2].startswith("1 row, 1 rejected from 2 files in ")
    assert lines[3] == "refresh: 1 new load, 1 row"
    assert error.startswith(f"clickmart: {folder}/b.jsonl: none of its 1 records could be stored;")


def test_what_can_not_be_watched_is_said_before_anything(dsn: str, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="none: no such file or folder"):
        next(clickmart.watch(tmp_path / "none", dsn=dsn))
    for interval in (0.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="interval must be more than 0 seconds, found"):
            clickmart.watch(tmp_path, interval=interval, dsn=dsn)
    with pytest.raises(UsageError, match="standard input can't be watched: name folders or globs, or load it"):
        clickmart.watch("-", dsn=dsn)
    with pytest.raises(UsageError, match="no path to load from"):
        clickmart.watch(dsn=dsn)
    with pytest.raises(ClickmartError, match="can't connect to the warehouse"):
        next(clickmart.watch(tmp_path, dsn=f"host={tmp_path}"))
