"""The tests put to a mutant, in a copy of the project."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
#: Slow tests that are left out: of memory and time, and of interrupts.
SLOW: Final = ("interrupt_ends", "no_statement_is_spent", "memory", "hundred_thousand", "one_days_events")
#: Of the tests that run on two servers one is enough, and examples are the same for all mutants.
OPTIONS: Final = (
    *("-x", "-q", "-k", " and ".join(f"not {name}" for name in ("machine", *SLOW))),
    *("-m", "not spark and not metabase_live", "--hypothesis-seed=0"),
)
#: A mutant may never end, or ask for all memory; the tests of a file take some minutes at most.
SECONDS: Final = 600
MEMORY: Final = 6 * 2**30


@contextmanager
def copied_project() -> Iterator[Path]:
    """A copy of the project in which `clickmart` is the copy's own package."""
    with tempfile.TemporaryDirectory(prefix="clickmart-mutants-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build"))
        (tree / "clickmart").symlink_to("runner")
        yield tree


def failed_test(tree: Path, tests: Iterable[str], seconds: float | None = SECONDS) -> str:
    """The first test that fails in a copy of the project, of files named by their ends; empty where none does. None: it
    may last."""
    files = [f"tests/test_{name}.py" for name in tests]
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *OPTIONS, *files],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=_bound,
    )
    try:
        output, _ = run.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        run.send_signal(signal.SIGINT)  # the servers of the tests are to end too
        with suppress(subprocess.TimeoutExpired):
            run.communicate(timeout=20)
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        return f"not done in {seconds} s"
    if run.returncode not in (0, 1):
        return f"pytest ended with {run.returncode}"
    named = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return named[0] if named else ""


def _bound() -> None:
    """What holds for the tests of a mutant, whatever has started this: some of them interrupt a command."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    signal.signal(signal.SIGINT, signal.SIG_DFL)
