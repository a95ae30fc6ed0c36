"""Metabase's own programs on what clickmart makes: its client `mb` reads a push back, its validator reads an export.

They are installed by npm, once for all sessions, into .venv/npm; without npm or its registry these tests are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from clickmart.dashboards import metabase_sql, read_dashboards
from clickmart.metabase.settings import settings_of
from clickmart.project import read_project
from metabase_project import a_project, push
from metabase_standin import KEY, StandIn
from projects import clean_environment, run

PACKAGES = ("@metabase/cli@0.3.1", "@metabase/representations@1.2.0")
OLDEST_NODE = (20, 6)
FOLDER = Path(__file__).parents[1] / ".venv" / "npm"


@pytest.fixture(autouse=True)
def _no_warehouse_named(monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder of Metabase's programs."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("npm is not installed: Metabase's own programs did not check anything")
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout.strip()
    if tuple(map(int, version.removeprefix("v").split(".")[:2])) < OLDEST_NODE:
        pytest.skip(f"node is {version}, and Metabase's programs need 20.6: they did not check anything")
    wanted = FOLDER / "-".join(package.rpartition("@")[2] for package in PACKAGES)
    if not wanted.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(dir=FOLDER))
        command = [npm, "install", "--prefix", str(new), "--no-audit", "--no-fund", "--ignore-scripts", *PACKAGES]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if ended.returncode:
            shutil.rmtree(new)
            pytest.skip(f"npm can't install {' and '.join(PACKAGES)}: {ended.stderr.strip()[-300:]}")
        try:
            new.rename(wanted)
        except OSError:  # another session was first
            shutil.rmtree(new)
    return wanted / "node_modules" / ".bin"


def mb(programs: Path, standin: StandIn, home: Path, *arguments: str) -> Any:
    environment = os.environ | {"HOME": str(home), "XDG_CONFIG_HOME": str(home), "MB_CLI_DISABLE_KEYRING": "1"}
    environment |= {"MB_URL": standin.url, "MB_API_KEY": KEY}
    command = [str(programs / "mb"), *arguments, "--json", "--max-bytes", "0"]
    ended = subprocess.run(
        command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL, timeout=120
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.parametrize(("version", "tag_list"), [(56, False), (60, False), (63, True)])
def test_metabases_client_reads_back_what_a_push_made(
    version: int, tag_list: bool, programs: Path, tmp_path: Path
) -> None:
    project = a_project(tmp_path / "shop")
    (week,) = [dashboard for dashboard in read_dashboards(project) if dashboard.name == "week"]
    standin = StandIn(version=version, tag_list=tag_list)
    standin.add_database()
    with standin.running():
        push(standin, project)
        (collection,) = standin.collections
        items = mb(programs, standin, tmp_path, "collection", "items", str(collection))["data"]
        assert sorted((item["model"], item["name"]) for item in items) == sorted(
            [
                ("dashboard", "Week"),
                ("dashboard", "plain"),
                ("card", "one"),
                *(("card", card.title) for card in week.cards),
            ]
        )
        ids = {item["name"]: str(item["id"]) for item in items}
        shown = mb(programs, standin, tmp_path, "dashboard", "get", ids["Week"], "--full")
        assert [tab["name"] for tab in shown["tabs"]] == list(week.tabs)
        assert [parameter["slug"] for parameter in shown["parameters"]] == list(week.filters)
        placed = mb(programs, standin, tmp_path, "dashboard", "cards", ids["Week"])["data"]
        assert len(placed) == len(week.cards) + len(week.texts)
        cards = {str(row["card_id"]): row for row in placed}
        for card in week.cards:
            read = mb(programs, standin, tmp_path, "card", "get", ids[card.title], "--full")
            query = read["dataset_query"]
            sql = query["stages"][0]["native"] if version >= 57 else query["native"]["query"]
            assert sql == metabase_sql(card.sql).rstrip()
            assert read["visualization_settings"] == settings_of(card)
            place = cards[ids[card.title]]
            assert [place[name] for name in ("col", "row", "size_x", "size_y")] == [
                card.place.column,
                card.place.row,
                card.place.width,
                card.place.height,
            ]


def test_metabases_client_writes_what_a_pull_then_brings(programs: Path, tmp_path: Path) -> None:
    """The stand-in takes the client's writes as it takes clickmart's, and a pull reads them."""
    project = a_project(tmp_path / "shop")
    standin = StandIn()
    standin.add_database()
    with standin.running():
        push(standin, project)
        number = str(standin.card("Sources")["id"])
        mb(programs, standin, tmp_path, "card", "update", number, "--body", '{"name": "From where"}')
        environment = {"METABASE_API_KEY": KEY}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            result = run("metabase", "pull", "--url", standin.url, "--project", str(project.folder))
        assert '-title = "Sources" # with shares\n+title = "From where" # with shares\n' in result.stdout


@pytest.mark.parametrize("which", ["built-in", "test"])
def test_metabases_validator_takes_every_file_of_an_export(which: str, programs: Path, tmp_path: Path) -> None:
    project = read_project() if which == "built-in" else a_project(tmp_path / "shop")
    folder = tmp_path / "out"
    options = [] if which == "built-in" else ["--project", str(project.folder)]
    result = run("metabase", "export", str(folder), *options)
    assert (result.exit_code, result.stderr) == (0, "")
    count = len(list(folder.rglob("*.yaml")))
    assert result.stdout.splitlines()[-1] == f"{count} files in {folder}"
    command = [str(programs / "representations"), "validate-schema", "--folder", str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout.split()) == (0, [str(count), "passed,", "0", "failed"])


def test_the_validator_refuses_a_broken_file(programs: Path, tmp_path: Path) -> None:
    run("metabase", "export", str(tmp_path / "out"))
    file = next((tmp_path / "out").rglob("*.sources.yaml"))
    file.write_text(file.read_text(encoding="utf-8").replace("display: table", "display: nonsense"), encoding="utf-8")
    command = [str(programs / "representations"), "validate-schema", "--folder", str(tmp_path / "out")]
    assert subprocess.run(command, capture_output=True, text=True, timeout=120).returncode != 0
