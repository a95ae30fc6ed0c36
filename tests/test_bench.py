"""The bench takes every figure that it names and says what was not run. No time is asserted: a machine may be busy."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.errors import BenchError
from bench.figures import Figure
from bench.inputs import Inputs
from bench.marts import compare
from bench.processes import run

ROOT = Path(__file__).parents[1]
SIZES = {
    "--events": 400,
    "--history": 600,
    "--additions": 20,
    "--busy": 100,
    "--array": 50_000,
    "--peer-events": 300,
    "--rounds": 1,
}


def take(output: Path, *options: str) -> tuple[dict[str, Any], str]:
    """The JSON and the Markdown of a small bench."""
    sizes = [word for name, value in SIZES.items() for word in (name, str(value))]
    command = [sys.executable, "-m", "bench", *sizes, "--output", str(output), *options]
    taken = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert taken.returncode == 0, taken.stderr
    return json.loads(output.read_text(encoding="utf-8")), taken.stdout


@pytest.mark.slow
def test_each_figure_is_taken_beside_its_floor(tmp_path: Path) -> None:
    report, tables = take(tmp_path / "figures.json", "--no-peers")
    figures = {figure["name"]: figure for figure in report["figures"]}
    loads = {"load-jsonl", "load-jobs", "load-jobs-one-file", "load-csv", "load-parquet"}
    refreshes = {"apply-full", "apply-full-history", "apply-new", "apply-busy-user"}
    assert figures.keys() == loads | refreshes | {"load-array", "apply-nothing", "status", "help"}
    for figure in figures.values():
        assert figure["what"] in tables
        assert figure["seconds"]
        assert figure["peak_bytes"] > 10_000_000, "a Python process takes more"
        if figure["name"] != "load-array":
            assert len(figure["floor"]["seconds"]) == len(figure["seconds"]) == len(figure["pair_ratios"])
            assert figure["ratio"] > 0
            assert figure["target_ratio"] or figure["limit_seconds"]
    for name in loads:
        assert figures[name]["notes"]["rows"] == 400
    assert figures["load-array"]["notes"]["rows"] > 10
    assert {"stage.events", "stage.page_views", "cdm.purchases"} < {
        table["table"] for table in report["disk"]["tables"]
    }
    assert "disk for a million events" in tables
    assert report["not_run"] == {}
    assert report["machine"].keys() >= {"cores", "cpu", "memory_bytes", "postgresql", "settings", "clickmart", "commit"}


@pytest.mark.slow
def test_a_peer_that_is_not_installed_is_named_with_the_reason(tmp_path: Path) -> None:
    report, tables = take(tmp_path / "figures.json", "--only", "psycopg-copy", "duckdb")
    figures = {figure["name"]: figure for figure in report["figures"]}
    assert figures["peer-load-psycopg-copy"]["notes"]["rows_per_second"] > 0
    assert {"peer-load-clickmart", "peer-models-clickmart-whole", "peer-models-clickmart-full"} < figures.keys()
    if importlib.util.find_spec("duckdb"):
        assert figures["peer-models-duckdb"]["notes"]["marts"]["marts that differ"] == []
    else:
        assert report["not_run"] == {"duckdb": "duckdb is not installed here; make bench installs it"}
        assert "- not run: duckdb: " in tables


def test_a_ratio_is_of_the_medians_and_of_each_pair() -> None:
    figure = Figure("a", "what", "size", "floor", (1.0, 2.0, 4.0), (2.0, 5.0, 4.0), target=2.0)
    assert figure.ratio == 2.0
    assert figure.pair_ratios == (2.0, 2.5, 1.0)
    assert figure.reached is True


def test_the_peak_is_that_of_a_process_and_its_children() -> None:
    child = "import time; kept = bytearray(b'x' * 40_000_000); time.sleep(0.5)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    assert run([sys.executable, "-c", parent]).peak_bytes > 45_000_000


def test_a_command_that_fails_is_named_with_what_it_said() -> None:
    with pytest.raises(BenchError, match=r"(?s)ended with 3:.no such thing"):
        run([sys.executable, "-c", "import sys; sys.stderr.write('no such thing'); sys.exit(3)"])


def test_halves_and_an_array_hold_the_records_of_their_source(tmp_path: Path) -> None:
    source = tmp_path / "events.jsonl"
    lines = [f'{{"event_id": "{number}"}}\n' for number in range(101)]
    source.write_text("".join(lines), encoding="utf-8")
    inputs = Inputs(tmp_path, kept=False)
    halves = [path.read_text(encoding="utf-8") for path in inputs.halves(source)]
    assert "".join(halves) == "".join(lines)
    assert all(half.count("\n") > 45 for half in halves)
    array = inputs.array(source, 5000)
    assert array.stat().st_size >= 5000
    assert json.loads(array.read_text(encoding="utf-8"))[:101] == [json.loads(line) for line in lines]


def test_times_of_other_marts_are_not_compared() -> None:
    marts = {
        "events_hours": [("2026-03-02 00:00:00", "cart", 3)],
        "products_hours": [("2026-03-02 00:00:00", 2)],
        "top_pages": [(1, "a", 1)],
        "sources": [("(direct)", "(none)", 1, 1)],
        "purchases": [("u", "2026-03-02 00:00:00", 2, "(direct)", "(none)")],
    }
    assert compare("dbt", marts, marts)["marts that differ"] == []
    assert compare("dbt", marts | {"top_pages": [(1, "b", 1)]}, marts)["marts that differ"] == ["top_pages"]
    with pytest.raises(BenchError, match="dbt has other marts than clickmart"):
        compare("dbt", marts | {"purchases": []}, marts)


@pytest.mark.parametrize(
    "options", [["--events", "0"], ["--only", "nothing"], ["--no-peers", "--only", "dbt"], ["--history", "5"]]
)
def test_a_wrong_option_is_a_usage_error(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(options)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err
