"""The calls to Metabase: what is tried again, what a refusal says, and that the key is never shown."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clickmart.errors import MetabaseError, UsageError
from clickmart.metabase import pushing
from clickmart.metabase.client import Metabase, find_metabase
from clickmart.project import Project
from metabase_project import a_project, client, edit
from metabase_standin import KEY, DroppedError, RefusedError, StandIn
from projects import clean_environment, outcome, run, run_json


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)
    monkeypatch.delenv("METABASE_DATABASE_DSN", raising=False)
    monkeypatch.setenv("METABASE_API_KEY", KEY)
    monkeypatch.delenv("METABASE_URL", raising=False)


@pytest.fixture
def standin() -> Iterator[StandIn]:
    standin = StandIn()
    standin.add_database()
    with standin.running():
        yield standin


def failing(standin: StandIn, times: int, error: Exception) -> None:
    """The next calls fail, that many of them."""
    left = [times]

    def fail(*_: Any) -> None:
        if left[0]:
            left[0] -= 1
            raise error

    standin.before = fail


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_a_read_is_tried_again(standin: StandIn, status: int) -> None:
    failing(standin, 3, RefusedError(status, "no"))
    with client(standin) as server:
        assert server.get("/api/card", list[Any]) == []
    assert len(standin.calls) == 4
    failing(standin, 4, RefusedError(status, "no"))
    with client(standin) as server, pytest.raises(MetabaseError, match=rf"GET \S+/api/card: {status} no") as caught:
        server.get("/api/card", list[Any])
    assert caught.value.status == status


def test_a_read_whose_connection_breaks_is_tried_again(standin: StandIn) -> None:
    failing(standin, 3, DroppedError())
    with client(standin) as server:
        assert server.get("/api/card", list[Any]) == []


def test_a_write_is_sent_once_but_for_429(standin: StandIn) -> None:
    failing(standin, 1, RefusedError(503, "no", {"retry-after": "1"}))
    with client(standin) as server, pytest.raises(MetabaseError, match="503 no"):
        server.write("POST", "/api/collection", {"name": "a"})
    failing(standin, 1, DroppedError())
    with client(standin) as server, pytest.raises(MetabaseError, match="whether it was done is unknown, push again"):
        server.write("POST", "/api/collection", {"name": "a"})
    assert standin.writes() == {"POST": 2}
    failing(standin, 2, RefusedError(429, "slow down"))
    with client(standin) as server:
        assert server.write("POST", "/api/collection", {"name": "a"})["name"] == "a"
    assert len(standin.collections) == 1


@pytest.mark.parametrize(("asked", "waited"), [("7", 7.0), ("100000", 30.0), ("Fri, 27 Nov 2026 21:00:00 GMT", 1.0)])
def test_a_server_that_asks_to_wait_is_waited_for(standin: StandIn, asked: str, waited: float) -> None:
    failing(standin, 1, RefusedError(503, "no", {"retry-after": asked}))
    pauses: list[float] = []
    with Metabase(standin.url, KEY, sleep=pauses.append) as server:
        server.get("/api/card", list[Any])
    assert pauses == [waited]


@pytest.mark.parametrize(
    ("status", "body", "shown"),
    [
        (401, "Unauthenticated", "401 Unauthenticated; is METABASE_API_KEY a key of this Metabase?"),
        (403, {"message": "No\n  way"}, "403 No way; the key's group needs curate access to the collection"),
        (400, {"errors": {"name": "blank"}, "specific-errors": {}}, '400 {"name":"blank"}'),
        (404, {"cause": "gone"}, "404 gone"),
        (418, {"message": "x" * 1000}, f"418 {'x' * 300}..."),
        (418, [1, 2], "418 [1, 2]"),
    ],
)
def test_a_refusal_is_one_line(standin: StandIn, status: int, body: Any, shown: str) -> None:
    failing(standin, 1, RefusedError(status, body))
    with client(standin) as server, pytest.raises(MetabaseError) as caught:
        server.get("/api/card", list[Any])
    assert str(caught.value).startswith(f"GET {standin.url}/api/card: {shown}")
    assert "\n" not in str(caught.value)


def test_an_answer_that_is_not_metabases_is_said(standin: StandIn) -> None:
    with client(standin) as server:
        with pytest.raises(MetabaseError, match=r"/api/card: not the answer that Metabase gives: Expected `object`"):
            server.get("/api/card", dict[str, Any])
        standin.before = lambda *_: (_ for _ in ()).throw(
            RefusedError(302, None, {"location": "https://other.example/"})
        )
        with pytest.raises(MetabaseError, match=r"is redirected to https://other\.example/; give the URL"):
            server.get("/api/card", list[Any])
    assert len(standin.calls) == 2  # the key goes nowhere else


def test_no_server_is_said(standin: StandIn) -> None:
    server = Metabase("http://127.0.0.1:9", KEY, sleep=lambda _: None)
    with server, pytest.raises(MetabaseError, match=r"^GET http://127\.0\.0\.1:9/api/card: no answer \("):
        server.get("/api/card", list[Any])


def test_a_metabase_below_a_path_is_asked_there() -> None:
    server = Metabase("http://127.0.0.1:9/metabase/", KEY, sleep=lambda _: None)
    with server, pytest.raises(MetabaseError, match=r"127\.0\.0\.1:9/metabase/api/card"):
        server.get("/api/card", list[Any])


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://me:secret@example.com", "holds a user or a password"),
        ("example.com", "is no URL of a Metabase"),
        ("ftp://example.com", "is no URL of a Metabase"),
        ("https://", "is no URL of a Metabase"),
        ("https://example.com/?key=1", "is no URL of a Metabase"),
    ],
)
def test_a_url_that_is_none_is_refused(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        find_metabase(url)
    assert "secret" not in str(caught.value)


def test_url_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no Metabase named; give --url or set METABASE_URL"):
        find_metabase(None)
    monkeypatch.setenv("METABASE_URL", "https://example.com/")
    assert find_metabase(None).url == "https://example.com"
    monkeypatch.delenv("METABASE_API_KEY")
    with pytest.raises(UsageError, match="METABASE_API_KEY is not set"):
        find_metabase(None)
    for bad in ("a b", "a\n", "ключ", "a\x7f"):
        monkeypatch.setenv("METABASE_API_KEY", bad)
        with pytest.raises(UsageError, match="holds a character that no key has") as caught:
            find_metabase(None)
        assert bad not in str(caught.value)


# The key


def test_the_key_is_shown_nowhere(
    standin: StandIn, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Law: whatever happens, no output, log, error or representation has the key."""
    project = a_project(tmp_path)
    shown: list[str] = []
    faults: list[Exception | None] = [
        None,
        RefusedError(401, f"no such key: {KEY}"),
        RefusedError(500, {"message": f"X-API-Key: {KEY}"}),
        RefusedError(302, None, {"location": f"https://example.com/?key={KEY}"}),
        DroppedError(),
    ]
    with caplog.at_level(logging.DEBUG):
        for fault in faults:
            if fault is not None:
                failing(standin, 10**6, fault)
            with client(standin) as server:
                server.sleep = lambda _: None
                shown += [repr(server), str(server), repr(vars(server)["_http"])]
                try:
                    shown.append(str(pushing.push(project, server, pushing.MetabaseOptions())))
                except MetabaseError as error:
                    shown += [str(error), repr(error), repr(error.__cause__), repr(error.__dict__)]
    captured = capsys.readouterr()
    assert len(caplog.records) > 10
    assert any("***" in text for text in shown)
    everything = [*shown, *(record.getMessage() for record in caplog.records), captured.out, captured.err]
    assert not [text for text in everything if KEY in text]


def test_the_command_shows_no_key_even_in_a_traceback(standin: StandIn, tmp_path: Path) -> None:
    standin.before = lambda *_: (_ for _ in ()).throw(RefusedError(401, f"no key {KEY}"))
    environment = os.environ | {"METABASE_API_KEY": KEY, "METABASE_URL": standin.url, "CLICKMART_DEBUG": "1"}
    command = [sys.executable, "-m", "clickmart", "metabase", "push"]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=60)
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr
    assert "401 no key ***" in ended.stderr
    assert KEY not in ended.stdout + ended.stderr


# The command


def test_plan_push_and_plan_again_on_the_command_line(standin: StandIn, tmp_path: Path) -> None:
    folder = str(a_project(tmp_path).folder)
    arguments = ("--url", standin.url, "--project", folder)
    planned = run("metabase", "plan", *arguments, "--exit-code")
    assert (planned.exit_code, planned.stderr) == (3, "")
    assert planned.stdout.startswith("+ create collection clickmart\n+ create card plain/one\n")
    assert planned.stdout.endswith("\n12 steps to do\n")
    pushed = run("metabase", "push", *arguments)
    assert outcome(pushed) == (0, planned.stdout.replace("12 steps to do", "12 steps done"), "")
    assert outcome(run("metabase", "plan", *arguments, "--exit-code")) == (0, "nothing to do\n", "")
    assert outcome(run("metabase", "pull", *arguments)) == (0, "nothing to pull\n", "")


@pytest.mark.parametrize("last", [1, 5, 12])
def test_a_push_that_is_killed_is_finished_by_the_next(standin: StandIn, tmp_path: Path, last: int) -> None:
    folder = str(a_project(tmp_path).folder)
    command = [sys.executable, "-m", "clickmart", "metabase", "push", "--url", standin.url, "--project", folder]
    started = threading.Event()

    def kill(method: str, path: str, write: int) -> None:
        if method != "GET" and write == last:
            started.wait(30)
            process.kill()
            process.wait()

    standin.before = kill
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    started.set()
    assert process.communicate(timeout=60) == (b"", b"")
    assert process.returncode == -signal.SIGKILL
    standin.before = lambda *_: None
    assert run("metabase", "push", "--url", standin.url, "--project", folder).exit_code == 0
    counts = (len(standin.collections), len(standin.cards), len(standin.dashboards))
    assert counts == (1, 7, 2)
    assert run("metabase", "plan", "--url", standin.url, "--project", folder).stdout == "nothing to do\n"


def test_json_has_the_steps(standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project: Project = a_project(tmp_path)
    monkeypatch.setenv("METABASE_URL", standin.url)
    run("metabase", "push", "--project", str(project.folder))
    edit(project, "dashboards/week/dashboard.toml", 'title = "Week"', 'title = "Month"')
    assert run_json("metabase", "plan", "--project", str(project.folder)) == {
        "url": standin.url,
        "version": "0.60",
        "collection": "clickmart",
        "done": False,
        "steps": [
            {
                "action": "update",
                "kind": "dashboard",
                "name": "week",
                "changes": [{"what": "title", "found": "Week", "wanted": "Month"}],
            }
        ],
        "notes": [],
    }


def test_errors_of_the_command_are_one_message(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    assert outcome(run("metabase", "plan")) == (
        2,
        "",
        "clickmart: no Metabase named; give --url or set METABASE_URL\n",
    )
    monkeypatch.setenv("METABASE_API_KEY", "mb_another")
    message = f"GET {standin.url}/api/database: 401 Unauthenticated; is METABASE_API_KEY a key of this Metabase?"
    assert outcome(run("metabase", "plan", "--url", standin.url)) == (1, "", f"clickmart: {message}\n")
    assert run("metabase", "pull", "--url", standin.url).stderr == (
        "clickmart: pull changes files, and the built-in project has none of yours; name your own by --project\n"
    )


def test_the_built_in_dashboards_can_be_pushed(standin: StandIn) -> None:
    assert run("metabase", "push", "--url", standin.url).exit_code == 0
    assert outcome(run("metabase", "push", "--url", standin.url)) == (0, "nothing to do\n", "")
    assert {"de_student"} <= {row["name"] for row in standin.dashboards.values()}


@pytest.mark.parametrize(
    ("package", "command"), [("httpx", "plan"), ("tomlkit", "pull --project ."), ("yaml", "export out")]
)
def test_a_package_that_is_missing_is_named_with_its_extra(package: str, command: str, tmp_path: Path) -> None:
    a_project(tmp_path)
    code = f"import sys; sys.modules[{package!r}] = None; from clickmart.cli import main; main()"
    arguments = [sys.executable, "-c", code, "metabase", *command.split()]
    environment = os.environ | {"METABASE_URL": "http://127.0.0.1:9"}
    ended = subprocess.run(arguments, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=60)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.endswith("install it by: pip install 'clickmart[metabase]'\n")
    assert ended.stderr.startswith(
        f"clickmart: clickmart metabase {command.split()[0] if package != 'httpx' else 'needs'}"
    )
