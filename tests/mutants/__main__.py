"""Makes every mutant of the SQL, and says which of them the laws and the tests let live.

First each is put to the laws of docs/meaning.md 5 on histories of random events, in a database of its own: that takes a
second or two, or some ten for one that lives. Those that live are put to the tests, in a copy of the project.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import psycopg
from clickmart import applying
from clickmart.embedded import wheel_bin
from clickmart.errors import ClickmartError
from clickmart.project import init_project, read_project
from clickmart.warehouse import Warehouse
from conftest import Server, Shop, open_shop, run_server
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from oracle import Marts, marts
from strategies import Cut, cuts, events
from test_laws import (
    load_and_refresh,
    loaded,
    open_loaders,
    open_shop_of_equal_hashes,
    test_a_load_that_ends_late_is_taken_in_as_if_it_had_been_there,
    test_raw_events_that_are_detached_leave_the_marts_as_if_they_were_there,
    test_texts_of_equal_hashes_are_texts_of_their_own,
    whole,
)

from .sql import Mutant, mutants
from .trials import ROOT, copied_project, failed_test

#: The tests of a file that the laws alone do not cover, by the ends of their files' names; of all others those at "".
TESTS: Final = {
    "": ("checks", "apply", "laws", "rules"),
    "sql/cdm/10_settings.sql": ("rules", "apply", "settings"),
    "sql/cdm/20_attributions.sql": ("sessions",),
    "sql/cdm/20_explain.sql": ("explain",),
    "sql/cdm/25_history.sql": ("history",),
    "sql/cdm/20_sessions.sql": ("sessions", "laws", "apply"),
    "sql/cdm/20_loads.sql": ("dashboards", "rejects"),
    "sql/cdm/40_checks.sql": ("checks",),
    "sql/cdm/40_proof.sql": ("proof",),
    "sql/cdm/40_row_checks.sql": ("checks",),
    "sql/cdm/50_roles.sql": ("roles",),
    "sql/stage/20_parsed_events.sql": ("rules", "sources"),
}
#: What makes no mart of these is no business of the laws.
LAWLESS: Final = (
    "sql/cdm/20_attributions.sql",
    "sql/cdm/20_explain.sql",
    "sql/cdm/20_loads.sql",
    "sql/cdm/25_history.sql",
    "sql/cdm/40_proof.sql",
    "sql/cdm/40_row_checks.sql",
    "sql/cdm/50_roles.sql",
)
#: What no server takes is no program, and counts for nothing.
REFUSED: Final = "refused"
#: A mutant may never end.
TIMEOUT: Final = "5s"


@dataclass(frozen=True)
class History:
    """Files of events with applies between them, and the marts that they make."""

    cut: Cut
    marts: Marts


@dataclass(frozen=True)
class Subject:
    """A mutant of a file of the project."""

    path: str
    mutant: Mutant
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.mutant.describe(self.text)}"

    @contextmanager
    def written(self, folder: Path) -> Iterator[None]:
        """The folder's file is the mutant meanwhile."""
        file = folder / self.path
        file.write_text(self.mutant.apply(self.text), encoding="utf-8")
        try:
            yield
        finally:
            file.write_text(self.text, encoding="utf-8")


def put_to_examples(law: Callable[[st.DataObject], None], count: int) -> None:
    """Calls a property with so many examples, always the same, which are not made smaller where it fails."""

    @seed(1)
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def put(data: st.DataObject) -> None:
        law(data)

    put()


def histories(count: int) -> list[History]:
    """So many histories, always the same: some with equal deliveries in any order, some with others in theirs."""
    found: list[History] = []

    def collect(data: st.DataObject) -> None:
        equal = data.draw(st.booleans())
        cut = data.draw(cuts(data.draw(events(equal_deliveries=equal)), shuffled=equal))
        found.append(History(cut, marts(loaded(cut.files))))

    put_to_examples(collect, count)
    return found


def broken_law(server: Server, folder: Path, subject: Subject, against: Sequence[History]) -> str:
    """What the laws have against a mutant; empty where they let it live."""
    with open_shop(server, folder) as shop:
        _limit(shop)
        try:
            with subject.written(folder):
                project = read_project(folder)
                applying.apply(Warehouse(shop.dsn), project)
        except ClickmartError as error:
            return f"{REFUSED}: {str(error).splitlines()[0]}"
        if subject.path in LAWLESS:
            return ""
        for number, history in enumerate(against, 1):
            try:
                if broken := _broken_by(shop, history):
                    return f"history {number}: {broken}"
            except psycopg.Error as error:
                return f"history {number}: {str(error).splitlines()[0]}"
    with subject.written(folder):
        return _broken_property(server, folder, max(len(against) // 3, 1))


def _limit(shop: Shop) -> None:
    """No statement of this session, or of any that comes, runs without end."""
    (name,) = shop.query("select current_database()")[0]
    for scope in (f'alter database "{name}"', ""):
        shop.connection.execute(f"{scope} set statement_timeout = '{TIMEOUT}'".encode())


def _broken_by(shop: Shop, history: History) -> str:
    shop.reset()
    load_and_refresh(shop, history.cut)
    if shop.marts() != history.marts:
        return "other marts"
    if failures := shop.failures():
        return f"checks {', '.join(failures)}"
    before = whole(shop)
    shop.refresh(full=True)
    if whole(shop) != before:
        return "full is not incremental"
    shop.reset()
    for file in history.cut.files:
        shop.load(*file)
    shop.refresh(full=True)
    return "full at once is other marts" if shop.marts() != history.marts else ""


def _broken_property(server: Server, folder: Path, examples: int) -> str:
    """The first of the rarer laws that so many examples break."""
    with ExitStack() as stack:
        shop = stack.enter_context(open_shop(server, folder))
        weak = stack.enter_context(open_shop_of_equal_hashes(server, folder))
        for made in (shop, weak):
            _limit(made)
            applying.apply(Warehouse(made.dsn), read_project(folder))
        for law, fixture in (
            (test_a_load_that_ends_late_is_taken_in_as_if_it_had_been_there, stack.enter_context(open_loaders(shop))),
            (test_a_load_that_ends_late_is_taken_in_as_if_it_had_been_there, stack.enter_context(open_loaders(weak))),
            (test_raw_events_that_are_detached_leave_the_marts_as_if_they_were_there, shop),
            (test_texts_of_equal_hashes_are_texts_of_their_own, weak),
        ):
            try:
                put_to_examples(partial(law.hypothesis.inner_test, fixture), examples)
            except (AssertionError, psycopg.Error, ClickmartError) as error:
                return f"{law.__name__}: {(str(error) or 'other marts').splitlines()[0]}"
    return ""


def main() -> None:
    """The command; prints a line for each mutant and the score."""
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    parser.add_argument("paths", nargs="*", help="files of the project, as sql/cdm/10_purchases.sql; left out, all")
    parser.add_argument("--sample", type=int, help="so many of them, chosen at random")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--histories", type=int, default=60, help="so many for each mutant")
    parser.add_argument("--laws-only", action="store_true", help="leave the tests out")
    options = parser.parse_args()
    paths = options.paths or [
        str(path.relative_to(ROOT)) for path in [ROOT / "sql/macros.jinja", *sorted((ROOT / "sql").rglob("*.sql"))]
    ]
    texts = {path: (ROOT / path).read_text(encoding="utf-8") for path in paths}
    subjects = [Subject(path, mutant, text) for path, text in texts.items() for mutant in mutants(text)]
    if options.sample:
        subjects = random.Random(options.seed).sample(subjects, min(options.sample, len(subjects)))
    against = histories(options.histories)
    living: list[Subject] = []
    stillborn = 0
    with tempfile.TemporaryDirectory(prefix="clickmart-mutants-") as home, run_server(wheel_bin()) as server:
        folder = Path(home) / "project"
        init_project(str(folder))
        for subject in subjects:
            broken = broken_law(server, folder, subject, against)
            stillborn += broken.startswith(REFUSED)
            print(f"{'dead ' if broken else 'lives'} {subject}{f'  [{broken}]' if broken else ''}", flush=True)
            if not broken:
                living.append(subject)
    count = len(subjects) - stillborn
    print(f"PostgreSQL refuses {stillborn}; of {count} the laws kill {count - len(living)}", flush=True)
    if options.laws_only:
        return
    with copied_project() as tree:
        for subject in list(living):
            with subject.written(tree):
                failed = failed_test(tree, TESTS.get(subject.path, TESTS[""]))
            print(f"{'dead ' if failed else 'LIVES'} {subject}{f'  [{failed}]' if failed else ''}", flush=True)
            if failed:
                living.remove(subject)
    print(f"of {count} laws and tests kill {count - len(living)}")


if __name__ == "__main__":
    main()
