"""Real input, loaded and applied by the package's functions: its marts are known to the row, or the oracle's.

The files are not ours to publish: where they are absent, their tests are skipped. Events of the generator that made
them, which is public, are made here.
"""

from __future__ import annotations

import gzip
import itertools
import json
import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import clickmart
import oracle
import psycopg
import pytest
from clickmart.columns import NAMES
from clickmart.warehouse import Warehouse
from conftest import Server, read_marts
from fake_web_events import Simulation
from faker import Faker
from oracle import Event, Marts

MINI = "events-2022-Sep-30-mini"
FORMS = ["csv", "json.zip", "jsonl.gz", "parquet", "parquet.gz"]
FILES = ["newprolab_sample.jsonl", *(f"{MINI}.{form}" for form in FORMS)]

SharedData = Callable[[str], Path]


@pytest.fixture
def fresh_dsn(server: Server) -> Iterator[str]:
    """A database with nothing in it, on each server."""
    with server.database(template=False) as dsn:
        yield dsn


def known_marts(shared_data: SharedData, file: str) -> dict[str, object]:
    """The right marts of a file, as they stand beside it; `totals` are a table of their own."""
    return json.loads(shared_data(f"{file.partition('.')[0]}.marts.json").read_bytes())


def as_known(found: Marts, count_events: int) -> dict[str, object]:
    return {
        "events_hours": [[str(hour), kind, count] for hour, kind, count in found.events_hours],
        "products_hours": [[str(hour), count] for hour, count in found.products_hours],
        "top_pages": [[page_url, count] for _, page_url, count in found.top_pages],
        "sources": [list(source) for *source, _ in found.sources],
        "totals": {
            "events": count_events,
            "purchases": len(found.purchases),
            "products": sum(products for _, _, products, *_ in found.purchases),
        },
    }


def marts_in(dsn: str) -> Marts:
    with Warehouse(dsn).connect() as connection:
        return read_marts(connection)


def count_in(dsn: str, table: str) -> int:
    with psycopg.connect(dsn) as connection:
        ((count,),) = connection.execute(f"select count(*) from {table}".encode()).fetchall()
        return int(count)


def json_lines(path: Path) -> list[Event]:
    content = path.read_bytes()
    return [json.loads(line) for line in (gzip.decompress(content) if path.suffix == ".gz" else content).splitlines()]


@pytest.mark.parametrize("file", ["newprolab_sample.jsonl", f"{MINI}.jsonl.gz"])
def test_the_oracle_makes_the_known_marts(shared_data: SharedData, file: str) -> None:
    rows = json_lines(shared_data(file))
    assert as_known(oracle.marts(rows), len(rows)) == known_marts(shared_data, file)


@pytest.mark.parametrize("file", FILES)
def test_a_file_makes_its_known_marts_in_whatever_form_it_comes(
    fresh_dsn: str, shared_data: SharedData, file: str
) -> None:
    report = clickmart.load(shared_data(file), dsn=fresh_dsn)
    assert [(found.status, found.rows_rejected, found.unknown_columns) for found in report.files] == [("loaded", 0, ())]
    clickmart.apply(dsn=fresh_dsn)
    assert as_known(marts_in(fresh_dsn), count_in(fresh_dsn, "stage.events")) == known_marts(shared_data, file)
    assert not clickmart.check(dsn=fresh_dsn).failed


@pytest.mark.parametrize(
    ("forms", "applies"),
    [
        (FORMS, "an apply at the end"),
        (FORMS[::-1], "an apply after each"),
        ([FORMS[i] for i in (3, 0, 4, 2, 1)], "an apply after each"),
    ],
)
def test_all_forms_of_the_same_events_make_the_marts_of_one(
    fresh_dsn: str, shared_data: SharedData, forms: list[str], applies: str
) -> None:
    """Each event is delivered five times then, and stage.events holds each delivery."""
    files = [shared_data(f"{MINI}.{form}") for form in forms]
    if applies == "an apply after each":
        for file in files:
            clickmart.load(file, dsn=fresh_dsn)
            clickmart.apply(dsn=fresh_dsn)
    else:
        clickmart.load(files, dsn=fresh_dsn)
        clickmart.apply(dsn=fresh_dsn)
    known = known_marts(shared_data, MINI)
    count_events = known["totals"]["events"]
    assert as_known(marts_in(fresh_dsn), count_events) == known
    with psycopg.connect(fresh_dsn) as connection:
        query = "select count(*) from stage.events group by batch_id"
        assert connection.execute(query).fetchall() == [(count_events,)] * len(forms)
    clickmart.apply(dsn=fresh_dsn, full=True)
    assert as_known(marts_in(fresh_dsn), count_events) == known


def test_all_forms_hold_the_same_values_in_every_column(fresh_dsn: str, shared_data: SharedData) -> None:
    clickmart.load([shared_data(f"{MINI}.{form}") for form in FORMS], dsn=fresh_dsn)
    with psycopg.connect(fresh_dsn) as connection:
        query = f"select count(*) from (select distinct {', '.join(NAMES)} from stage.events) as events"
        ((count,),) = connection.execute(query.encode()).fetchall()
    assert count * len(FORMS) == count_in(fresh_dsn, "stage.events")


def test_files_of_two_feeds_make_the_marts_of_both_together(fresh_dsn: str, shared_data: SharedData) -> None:
    files = [shared_data("newprolab_sample.jsonl"), shared_data(f"{MINI}.jsonl.gz")]
    clickmart.load(files[1], dsn=fresh_dsn)
    clickmart.apply(dsn=fresh_dsn)
    clickmart.load(files, dsn=fresh_dsn)
    clickmart.apply(dsn=fresh_dsn)
    assert marts_in(fresh_dsn) == oracle.marts(json_lines(files[1]) + json_lines(files[0]))


# The public generator


class Steps(Simulation):
    """The simulation, which gives randrange a float: from Python 3.12 on that is an error."""

    def wait(self) -> None:
        self.cur_time += timedelta(seconds=self.batch_size + random.randrange(-3, 3))
        self.rate = self.get_rate_per_step()


@pytest.fixture(scope="module")
def made_events() -> list[Event]:
    """Some events of the feed's own generator, always the same ones."""
    state = random.getstate()
    random.seed(20220930)
    Faker.seed(20220930)
    simulation = Steps(user_pool_size=40, sessions_per_day=20_000, init_time=datetime(2022, 9, 30, 21))
    # It runs by the clock; the number of events ends it, so that a slow machine makes the same ones.
    made = [dict(event) for event in itertools.islice(simulation.run(duration_seconds=3600), 900)]
    random.setstate(state)
    return made


def test_the_generators_columns_are_those_of_stage_events(made_events: list[Event]) -> None:
    assert len(made_events) == 900
    assert all(tuple(event) == NAMES for event in made_events)


@pytest.mark.parametrize("count_files", [1, 7])
def test_events_of_the_generator_make_the_oracles_marts(
    fresh_dsn: str, made_events: list[Event], tmp_path: Path, count_files: int
) -> None:
    """In one file, or shuffled over seven with a tenth of them delivered again and an apply after each."""
    rows = list(made_events)
    if count_files > 1:
        draw = random.Random(count_files)
        rows += draw.sample(rows, len(rows) // 10)
        draw.shuffle(rows)
    for number in range(count_files):
        file = tmp_path / f"{number}.jsonl"
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows[number::count_files]))
        clickmart.load(file, dsn=fresh_dsn)
        clickmart.apply(dsn=fresh_dsn)
    found, expected = marts_in(fresh_dsn), oracle.marts(made_events)
    assert found == expected
    assert len(expected.purchases) > 20
    assert count_in(fresh_dsn, "stage.events") == len(rows)
    assert not clickmart.check(dsn=fresh_dsn).failed
