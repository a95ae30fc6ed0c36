"""Work in parallel processes, none of which outlives the call for long, and any of which may die.

A process starts from nothing but the path of the imports: so it neither runs the caller's own script again, as
multiprocessing would have it, nor belongs to the terminal's foreground, where Ctrl-C would reach it.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from multiprocessing.connection import wait
from typing import IO, Any, Final, Self, TypeVar, cast

Item = TypeVar("Item")
Result = TypeVar("Result")
#: Gives a result for each item, as they come.
Work = Callable[[Iterator[Item]], Iterable[Result]]

_START: Final = "import pickle, sys; pipe = sys.stdin.buffer; sys.path[:] = pickle.load(pipe); pickle.load(pipe)()"


def in_processes(work: Work[Item, Result], items: Iterable[Item], count: int) -> Iterator[tuple[Item, Result | None]]:
    """Each item with its result as soon as one of `count` processes has it; None where the process died over it.

    Raises what `work` raises. Then, or if the caller takes no more results, the processes are killed.
    """
    waiting = deque(items)
    idle: list[_Worker] = []
    busy: dict[IO[bytes], tuple[_Worker, Item]] = {}
    with ExitStack() as workers:
        while waiting or busy:
            while waiting and len(busy) < count:
                worker = idle.pop() if idle else workers.enter_context(_Worker(work))
                item = waiting.popleft()
                worker.send(item)
                busy[worker.output] = (worker, item)
            for output in wait(busy):  # type: ignore[arg-type]
                worker, item = busy.pop(cast(IO[bytes], output))
                try:
                    result = worker.receive()
                except EOFError:
                    yield item, None
                    continue
                if isinstance(result, Exception):
                    raise result
                idle.append(worker)
                yield item, result


class _Worker:
    """A process; at the end of a `with` it is left to end, or killed if that was an error."""

    def __init__(self, work: Work[Any, Any]) -> None:
        command = [sys.executable, "-c", _START]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0)  # noqa: S603
        assert self._process.stdin
        assert self._process.stdout
        self._input = self._process.stdin
        self.output = self._process.stdout
        self.send(sys.path)
        self.send(partial(_serve, work))

    def send(self, item: object) -> None:
        with suppress(OSError):  # the process died, as `receive` will say
            pickle.dump(item, self._input)
            self._input.flush()

    def receive(self) -> Any:
        """What the process answers; EOFError where it died instead."""
        try:
            return pickle.load(self.output)  # noqa: S301
        except pickle.UnpicklingError:
            raise EOFError from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        if error:
            self._process.kill()
        with suppress(OSError):
            self._input.close()
        self.output.close()
        self._process.wait()


def _serve(work: Work[Any, Any]) -> None:
    """Runs in the process: answers what is sent until nothing more comes."""
    answers = open(sys.stdout.fileno(), "wb", buffering=0, closefd=False)  # noqa: SIM115
    with suppress(BrokenPipeError):  # nobody waits for answers any more
        try:
            for result in work(_received()):
                answers.write(pickle.dumps(result))
        except Exception as error:
            answers.write(pickle.dumps(error))


def _received() -> Iterator[Any]:
    with suppress(EOFError):
        while True:
            yield pickle.load(sys.stdin.buffer)  # noqa: S301
