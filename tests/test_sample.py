"""The bundled sample and the generator that makes it: bench/generate.py."""

import csv
import dataclasses
import gzip
import importlib.util
import json
import re
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from clickmart.columns import NAMES

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "runner" / "sample"
GENERATOR = ROOT / "bench" / "generate.py"

TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)?", re.ASCII)


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("generate", GENERATOR)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def make(generator, tmp_path_factory):
    """Writes events to a fresh folder and returns its files and the counts."""

    def run(out="events.jsonl", form=None, **settings):
        settings = generator.Settings(**{"events": 2_000, "users": 90, "days": 3, **settings})
        form, paths = generator.targets(tmp_path_factory.mktemp("made") / out, form, settings)
        return paths, generator.generate(settings, form, paths)

    return run


def lines(path):
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    assert not text or text.endswith("\n")
    return text.splitlines()


def records(path):
    """The lines that are JSON objects."""
    found = []
    for line in lines(path):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def instant(text):
    """The UTC time that the text means; None where it is no timestamp."""
    match = TIMESTAMP.fullmatch(text)
    try:
        at = datetime.fromisoformat(match[1] + (match[2] or "+00:00").replace("Z", "+00:00")) if match else None
    except ValueError:
        return None
    return at and at.astimezone(UTC).replace(tzinfo=None)


def faults(paths):
    """How many records have which fault, counted from the files alone; the keys as sample/README.md begins its rows."""
    found, seen = Counter(), set()
    for number, path in enumerate(paths):
        found["records"] += len(lines(path))
        for line in lines(path):
            try:
                record = json.loads(line)
            except ValueError:
                found["broken: a line cut"] += 1
                continue
            if not isinstance(record, dict):
                found["broken: an array"] += 1
                continue
            texts = {name: value for name, value in record.items() if isinstance(value, str)}
            found["broken: a port `abc`"] += texts.get("referer_url_port") == "abc"
            found["broken: a latitude `1e999`"] += texts["geo_latitude"] == "1e999"
            found["broken: a NUL character in page_url"] += "\0" in texts["page_url"]
            found["broken: a lone surrogate"] += any(re.search("[\ud800-\udfff]", text) for text in texts.values())
            again = record["event_id"] in seen
            found["doubled"] += again
            seen.add(record["event_id"])
            time = record["event_timestamp"]
            at = instant(time)
            if at is None:
                found["odd times: no timestamp"] += 1
                continue
            found["odd times: with `T` and `Z`"] += time.endswith("Z")
            found["odd times: with `+03:00`"] += time.endswith("+03:00")
            found["odd times: with `T`, whole seconds"] += "T" in time and len(time) == 19
            days_after = number - (at.date() - datetime(2026, 3, 2).date()).days
            assert days_after in (0, 1), f"{path.name}: {time}"
            found["late"] += days_after == 1 and not again
    return found


@pytest.fixture(scope="module")
def sample_files():
    return sorted(SAMPLE.glob("*.jsonl.gz"))


def test_the_bundled_sample_is_what_the_generator_writes_today(generator, sample_files, tmp_path, capsys):
    generator.main(["--sample", str(tmp_path)])
    made = sorted(tmp_path.iterdir())
    assert [path.name for path in made] == [f"events-2026-03-{day:02d}.jsonl.gz" for day in range(2, 9)]
    assert [path.name for path in sample_files] == [path.name for path in made]
    for bundled, path in zip(sample_files, made, strict=True):
        assert lines(bundled) == lines(path), bundled.name
    assert sum(path.stat().st_size for path in sample_files) < 700_000
    counts = json.loads(capsys.readouterr().out)
    found = faults(sample_files)
    assert counts["files"] == 7
    assert counts["records"] == found["records"] == counts["events"] + counts["doubled"]
    assert 8_000 <= counts["records"] <= 10_000
    assert (counts["late"], counts["doubled"]) == (found["late"], found["doubled"])
    broken = [found[key] for key in found if key.startswith("broken")]
    assert sorted(counts["broken"].values()) == sorted(broken)
    odd_times = [found[key] for key in found if key.startswith("odd times")]
    assert sorted(counts["odd_times"].values()) == sorted(odd_times)


def test_the_sample_holds_some_of_every_fault_as_its_readme_says(sample_files):
    readme = (SAMPLE / "README.md").read_text(encoding="utf-8")
    stated = {row: int(count) for row, count in re.findall(r"^\| (.+) \| (\d+) \|$", readme, re.MULTILINE)}
    found = faults(sample_files)
    kinds = set(found) - {"records"}
    assert len(stated) == len(kinds) == 12
    assert all(found.values())
    assert stated == {row: found[kind] for row in stated for kind in kinds if row.startswith(kind)}
    read, loaded, rejected = (
        int(text.replace(",", ""))
        for text in re.search(r"So (\S+) records are read: (\S+) rows.*, (\d+)", readme).groups()
    )
    assert read == found["records"] == loaded + rejected
    assert rejected == sum(count for kind, count in found.items() if kind.startswith("broken"))


def test_every_well_formed_record_of_the_sample_has_exactly_the_source_columns(sample_files):
    for path in sample_files:
        for record in records(path):
            assert tuple(record) == NAMES
            assert isinstance(record["device_is_mobile"], bool)
            others = (value for name, value in record.items() if name != "device_is_mobile")
            assert all(value is None or isinstance(value, str) for value in others)


def test_a_record_has_the_shape_of_the_real_feed(make):
    ((path,), _) = make()
    for record in records(path):
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}", record["event_timestamp"])
        assert record["event_type"] == "pageview"
        assert record["referer_url_port"] in ("80", None)
        assert -90 <= float(record["geo_latitude"]) <= 90
        assert -180 <= float(record["geo_longitude"]) <= 180
        assert record["page_url"].startswith("http://shop.example.com" + record["page_url_path"])
        assert re.match(r"(192\.0\.2|198\.51\.100|203\.0\.113)\.\d+$", record["ip_address"])
        assert re.search(r"@example\.(com|org)$", record["user_custom_id"] or "@example.com")


def test_the_sample_tells_something(sample_files):
    """Enough people who buy, of several products, from several sources, at all hours, some of them unknown."""
    events = [record for path in sample_files for record in records(path)]
    sections = Counter(record["page_url_path"].split("/")[1].split("?")[0] for record in events)
    assert sections["confirmation"] > 200
    assert {f"product_{letter}" for letter in "abcdef"} | {"home", "cart", "payment", "blog", "help", ""} <= set(
        sections
    )
    assert len({(record["referer_url"], record["utm_campaign"]) for record in events}) >= 10
    assert len({at.hour for record in events if (at := instant(record["event_timestamp"]))}) == 24
    users = {record["user_domain_id"] for record in events}
    assert 300 < len(users) <= 400
    unnamed = [record for record in events if not record["user_domain_id"]]
    assert any(record["user_custom_id"] for record in unnamed)
    assert any(not record["user_custom_id"] for record in unnamed)
    assert any("?utm=" in record["page_url"] for record in events)


def test_a_seed_says_it_all(make):
    ((once,), _), ((again,), _), ((other,), _) = make(seed=7), make(seed=7), make(seed=8)
    assert once.read_bytes() == again.read_bytes()
    assert not set(lines(once)) & set(lines(other))


def test_another_process_writes_the_same(make, tmp_path):
    """No set order and no hash of this process is in it."""
    ((path,), counts) = make("events.jsonl.gz", seed=5, doubled=0.1)
    out = tmp_path / "other.jsonl.gz"
    options = ("--events", "2000", "--users", "90", "--days", "3", "--seed", "5", "--doubled", "0.1")
    done = subprocess.run(
        [sys.executable, GENERATOR, out, *options], check=True, capture_output=True, env={"PYTHONHASHSEED": "1"}
    )
    assert json.loads(done.stdout) == counts
    assert lines(out) == lines(path)


@pytest.mark.parametrize("events", [1, 2, 99, 30_001])
def test_n_events_asked_are_n_events_written(make, events):
    (paths, counts) = make("folder", events=events, files=2)
    made = [record["event_id"] for path in paths for record in records(path)]
    assert len(made) == len(set(made)) == events == counts["records"]


def test_one_user_and_one_day_are_enough(make):
    ((path,), _) = make(events=50, users=1, days=1)
    assert len({record["user_domain_id"] for record in records(path)}) == 1
    assert {record["event_timestamp"][:10] for record in records(path)} == {"2026-03-02"}


def test_doubled_deliveries_come_on_top_and_are_equal_in_every_value(make):
    (paths, counts) = make("folder", files=3, doubled=0.2)
    written = [line for path in paths for line in lines(path)]
    assert counts["doubled"] > 200
    assert len(written) == counts["records"] == 2_000 + counts["doubled"]
    assert len(set(written)) == 2_000


def test_the_faults_do_not_change_the_other_events(make):
    ((plain,), _) = make()
    (paths, counts) = make("folder", files=1, broken=0.05, odd_times=0.05)
    changed = set(lines(plain)) - {line for path in paths for line in lines(path)}
    assert len(changed) == sum(counts["broken"].values()) + sum(counts["odd_times"].values()) > 100


def test_late_events_sit_in_the_file_after_their_day_and_nothing_else_does(make):
    (paths, counts) = make("folder", files=3, late=0.1)
    assert [path.name for path in paths] == [f"events-2026-03-0{day}.jsonl" for day in (2, 3, 4)]
    day_after = {"2026-03-02": "2026-03-03", "2026-03-03": "2026-03-04"}
    late = 0
    for path in paths:
        file_day = path.stem.removeprefix("events-")
        for record in records(path):
            event_day = record["event_timestamp"][:10]
            assert file_day in (event_day, day_after.get(event_day))
            late += event_day != file_day
    assert late == counts["late"] > 50


def test_neighbours_stand_in_no_strict_order_of_time(make):
    ((path,), _) = make(events=20_000)
    times = [record["event_timestamp"] for record in records(path)]
    backwards = sum(later < earlier for earlier, later in pairwise(times))
    assert 0.1 < backwards / len(times) < 0.5


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("faults", [{}, {"late": 0.05, "doubled": 0.05, "odd_times": 0.05, "files": 3}])
def test_every_format_holds_the_same_values(make, suffix, faults):
    typed = {"referer_url_port": int, "geo_latitude": float, "geo_longitude": float}
    (expected_paths, expected_counts) = make(f"events.jsonl{suffix}", **faults)
    expected = [record for path in expected_paths for record in records(path)]

    (paths, counts) = make(f"events.csv{suffix}", **faults)
    assert counts["records"] == expected_counts["records"]
    rows = [row for path in paths for row in csv.DictReader(lines(path))]
    assert tuple(rows[0]) == NAMES
    bare = [{name: "" if value is None else str(value) for name, value in record.items()} for record in expected]
    assert rows == bare

    (paths, counts) = make(f"events.parquet{suffix}", **faults)
    assert counts["records"] == expected_counts["records"]
    rows = []
    for path in paths:
        with gzip.open(path) if suffix else path.open("rb") as file:
            rows += pq.read_table(file).to_pylist()
    for record in expected:
        for name, kind in typed.items():
            record[name] = record[name] and kind(record[name])
    assert rows == expected


def test_csv_tells_an_empty_text_from_a_missing_one(make):
    ((path,), _) = make("events.csv")
    ((twin,), _) = make()
    for line, record in zip(lines(path)[1:], records(twin), strict=True):
        assert line.count(',""') == sum(value == "" for value in record.values())


def test_broken_csv_records_are_of_the_kinds_that_csv_has(make):
    ((path,), counts) = make("events.csv", broken=0.02)
    rows = list(csv.reader(lines(path)))[1:]
    port, latitude = NAMES.index("referer_url_port"), NAMES.index("geo_latitude")
    assert counts["broken"] == {
        "port": sum(row[port] == "abc" for row in rows),
        "latitude": sum(row[latitude] == "1e999" for row in rows),
        "fields": sum(len(row) > len(NAMES) for row in rows),
    }
    assert all(counts["broken"].values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "either OUT or --sample"),
        (["x.jsonl", "--sample", "y"], "either OUT or --sample"),
        (["--sample", "y", "--events", "5"], "takes no other option"),
        (["x.jsonl", "--events", "0"], "events: 0 is less than 1"),
        (["x.jsonl", "--late", "0.1"], "late needs 2 files"),
        (["x.jsonl", "--broken", "0.6", "--doubled", "0.6"], "1 at most in all"),
        (["x.jsonl", "--format", "csv"], "suffix says jsonl"),
        (["x.xml"], "no such format"),
        (["x.parquet", "--broken", "0.1"], "values have types"),
        (["x.jsonl", "--start", "9999-12-31"], "beyond the year 9999"),
    ],
)
def test_wrong_usage_is_one_clear_message(generator, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        generator.main(options)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_option(generator, capsys):
    with pytest.raises(SystemExit):
        generator.main(["--help"])
    text = capsys.readouterr().out
    options = [field.name.replace("_", "-") for field in dataclasses.fields(generator.Settings)]
    assert [option for option in ["sample", "format", *options] if f"--{option} " not in text] == []
