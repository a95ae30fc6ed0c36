"""Makes mutants of the runner, and says which of them the tests let live.

Each is put to the tests that fit its module, in a copy of the project in which `clickmart` is the copy's own package.
The tests of a module are those named here, the quickest first: the first that fails ends them.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from clickmart.embedded import wheel_bin
from conftest import run_server

from .python import Mutant, mutants
from .trials import ROOT, copied_project, failed_test

#: The tests of a module, by the ends of their files' names; of all others those at "".
TESTS: Final = {
    "": ("cli", "loading"),
    "applying": ("version_skew", "status", "apply", "roles"),
    "batches": ("csv_reader", "parquet_reader", "event_writer", "rejects"),
    "checks": ("checks", "proof"),
    "columns": ("csv_reader", "json_reader", "event_writer"),
    "compression": ("readers", "bad_input"),
    "csv_reader": ("csv_reader", "event_writer"),
    "event_writer": ("event_writer", "rejects"),
    "interrupts": ("loading", "faults"),
    "json_array": ("json_reader",),
    "json_reader": ("json_reader", "event_writer"),
    "json_values": ("parquet_reader", "json_reader"),
    "ledger": ("status", "version_skew", "apply"),
    "load_report": ("rejects", "loading"),
    "loading": ("rejects", "loading"),
    "paths": ("paths", "hostile"),
    "plan": ("status", "version_skew", "apply"),
    "project": ("project", "templates", "status", "apply"),
    "proof": ("proof",),
    "readers": ("readers", "bad_input"),
    "records": ("csv_reader", "parquet_reader", "json_reader"),
    "reject_export": ("rejects",),
    "reject_file": ("rejects", "event_writer"),
    "reject_groups": ("rejects",),
    "replaying": ("rejects",),
    "settings": ("settings", "project", "templates"),
    "sql_errors": ("sql_errors", "checks", "apply"),
    "state": ("status", "version_skew"),
    "statements": ("statements", "project", "apply"),
    "stored_rejects": ("rejects",),
    "streams": ("csv_reader", "readers"),
    "tables": ("checks", "rejects", "terminal"),
    "templates": ("templates", "sql_errors", "settings"),
    "toml_file": ("settings", "project"),
    "typed_values": ("event_writer",),
    "warehouse": ("warehouse", "apply"),
    "whole_files": ("project", "hostile"),
    "workers": ("workers", "loading"),
}
#: Put behind the copy's conftest.py: one server for all mutants, on which each has databases of its own.
STANDING_SERVER: Final = """
import os

_numbers = itertools.count(os.getpid() * 10_000)


@pytest.fixture(scope="session")
def embedded_server() -> Server:
    return {server!r}
"""


def tests_of(path: str) -> Sequence[str]:
    return TESTS.get(Path(path).stem, TESTS[""])


def main() -> None:
    """The command; prints a line for each mutant and the score."""
    parser = argparse.ArgumentParser(prog="mutants.runner", description=__doc__)
    parser.add_argument("modules", nargs="*", help="such as statements; left out, all that have tests of their own")
    parser.add_argument("--sample", type=int, help="so many mutants, chosen at random")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--after", type=int, default=0, help="leave out so many of them, to go on")
    parser.add_argument("--like", help="only those that are told with this text, to repeat one")
    parser.add_argument("--unproven", action="store_true", help="leave out to see that the tests pass without a change")
    options = parser.parse_args()
    modules = options.modules or [module for module in TESTS if module]
    made: list[tuple[str, Mutant]] = [
        (f"runner/{module}.py", mutant)
        for module in modules
        for mutant in mutants((ROOT / f"runner/{module}.py").read_text(encoding="utf-8"))
        if not options.like or options.like in str(mutant)
    ]
    print(f"{len(made)} mutants of {len(modules)} modules", flush=True)
    if options.sample:
        made = random.Random(options.seed).sample(made, min(options.sample, len(made)))
    made = made[options.after :]
    killed = 0
    with run_server(wheel_bin()) as server, copied_project() as tree:
        with (tree / "tests/conftest.py").open("a", encoding="utf-8") as conftest:
            conftest.write(STANDING_SERVER.format(server=server))
        used = dict.fromkeys(test for path, _ in made for test in tests_of(path))
        if not options.unproven and (failed := failed_test(tree, used, None)):
            sys.exit(f"without a change: {failed}")
        for path, mutant in made:
            started = time.monotonic()
            file = tree / path
            before = file.read_text(encoding="utf-8")
            file.write_text(mutant.text(), encoding="utf-8")
            try:
                failed = failed_test(tree, tests_of(path))
            finally:
                file.write_text(before, encoding="utf-8")
            killed += bool(failed)
            took = f"{time.monotonic() - started:.0f} s"
            print(f"{'dead ' if failed else 'LIVES'} {path}:{mutant}  [{failed or took}]", flush=True)
    print(f"of {len(made)} the tests kill {killed}")


if __name__ == "__main__":
    main()
