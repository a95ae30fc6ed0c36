"""Work in processes of its own: what comes back, and what is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from clickmart.workers import in_processes

# What the processes run is imported there by its name.


def squares(items: Iterator[int]) -> Iterator[tuple[int, int]]:
    """Each item's square and the process that found it."""
    for item in items:
        yield item * item, os.getpid()


def groups(items: Iterator[int]) -> Iterator[int]:
    """The process group of who works on each item."""
    for _ in items:
        yield os.getpgrp()


def dies_over(fatal: str, items: Iterator[str]) -> Iterator[str]:
    for item in items:
        if item == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        yield item


def fails(items: Iterator[str]) -> Iterator[str]:
    for item in items:
        if item == "bad":
            raise ValueError("what went wrong")
        yield item


def waits(items: Iterator[Path]) -> Iterator[int]:
    """Writes the number of its process to the file, and never answers."""
    for item in items:
        item.write_text(str(os.getpid()))
        time.sleep(600)
        yield 0


def ends(pid: int) -> bool:
    """Whether a process is gone within some seconds."""
    for _ in range(500):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def written(path: Path) -> int:
    """The number of a process, once it stands in the file."""
    for _ in range(2000):
        if path.exists() and path.read_text():
            return int(path.read_text())
        time.sleep(0.01)
    raise AssertionError(f"nothing in {path}")


def test_each_item_has_its_result_from_no_more_processes_than_asked_for() -> None:
    results = dict(in_processes(squares, range(20), 3))
    assert {item: square for item, (square, _) in results.items()} == {item: item * item for item in range(20)}
    processes = {process for _, process in results.values()}
    assert 1 <= len(processes) <= 3
    assert os.getpid() not in processes


def test_a_process_serves_one_item_after_the_other() -> None:
    assert len({process for _, (_, process) in in_processes(squares, range(5), 1)}) == 1


def test_what_a_terminal_sends_to_the_command_does_not_reach_its_processes() -> None:
    """Ctrl-C is sent to a whole group of processes; the command alone has to answer it."""
    ((_, group),) = in_processes(groups, [1], 1)
    assert group != os.getpgrp()


def test_no_item_needs_no_process() -> None:
    assert list(in_processes(squares, [], 4)) == []


def test_an_item_over_which_the_process_dies_has_no_result_and_the_others_have() -> None:
    items = [str(number) for number in range(8)]
    results = dict(in_processes(partial(dies_over, "3"), items, 2))
    assert results == {item: None if item == "3" else item for item in items}


def test_a_text_that_is_no_utf8_comes_through() -> None:
    assert dict(in_processes(partial(dies_over, ""), ["\udcff\n"], 1)) == {"\udcff\n": "\udcff\n"}


def test_an_error_of_the_work_is_raised() -> None:
    with pytest.raises(ValueError, match="what went wrong"):
        list(in_processes(fails, ["good", "bad"], 1))


def test_a_caller_who_stops_leaves_no_process_behind(tmp_path: Path) -> None:
    results = in_processes(partial(answers_or_waits, str(tmp_path)), ["first", "second"], 2)
    assert next(results) == ("first", "first")
    pid = written(tmp_path / "second")
    results.close()
    assert ends(pid)


def answers_or_waits(folder: str, items: Iterator[str]) -> Iterator[str]:
    for item in items:
        if item == "second":
            next(waits(iter([Path(folder, item)])))
        yield item


def test_the_processes_end_when_the_caller_is_killed(tmp_path: Path) -> None:
    """Silently, once the item is done."""
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from functools import partial
from clickmart.workers import in_processes
from test_workers import slow
list(in_processes(slow, [{str(tmp_path / "pid")!r}], 1))
"""
    caller = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    pid = written(tmp_path / "pid")
    caller.kill()
    assert caller.communicate()[1] == b""
    assert ends(pid)


def slow(items: Iterator[str]) -> Iterator[str]:
    for item in items:
        Path(item).write_text(str(os.getpid()))
        time.sleep(0.3)
        yield item


def test_a_script_that_calls_it_is_not_run_again(tmp_path: Path) -> None:
    """So it needs no guard by its __name__."""
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_workers import squares\nfrom clickmart.workers import in_processes\n"
        "print([square for _, (square, _) in in_processes(squares, [3], 2)])\n"
    )
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr) == ("[9]\n", "")
