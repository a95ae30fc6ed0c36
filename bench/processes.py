"""Commands as real processes: the wall time of the whole process and the most memory it held, with its children.

The peak is the larger of two, sampled every SAMPLE_SECONDS: the sum of the resident sets of the process and all its
descendants, which sees processes that work at the same time; and the largest set that one of them ever had, which
misses few moments. Pages that processes share count in each of them, so the sum errs to the high side. Without /proc it
is what the kernel says at the end, which may be what the bench itself held when it started the process.
"""

from __future__ import annotations

import os
import resource
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from .errors import BenchError

SAMPLE_SECONDS: Final = 0.02
_PAGE: Final = resource.getpagesize()
_MAXRSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024
_SHOWN_LINES: Final = 15


@dataclass(frozen=True, slots=True)
class Run:
    """One process from start to end: seconds of wall time, and the most bytes that it and its children held."""

    seconds: float
    peak_bytes: int
    output: str


def run(
    command: Sequence[str | os.PathLike[str]],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Run:
    """Runs a command to its end. Raises BenchError where it fails, with the end of what it said."""
    shown = shlex.join(os.fspath(word) for word in command)
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                cwd=folder,
                env=None if environment is None else os.environ | environment,
            )
        except OSError as error:
            raise BenchError(f"{shown}: can't be run: {error.strerror}") from None
        sampler = _Sampler(process.pid)
        try:
            # Not process.wait(), which would lose what the kernel tells of this one process.
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        finally:
            sampled = sampler.end()
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said = (_text(errors) + _text(output)).strip().splitlines()[-_SHOWN_LINES:]
            raise BenchError("\n".join([f"{shown}: ended with {process.returncode}:", *said]))
        return Run(seconds, sampled or usage.ru_maxrss * _MAXRSS_UNIT, _text(output))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


class _Sampler(threading.Thread):
    """Watches a process and its descendants; without /proc it sees nothing."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self._peak, self._ended = pid, 0, threading.Event()
        if Path("/proc/self/statm").exists():
            self.start()

    def run(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self._peak = max(self._peak, *_resident_bytes(self._pid))

    def end(self) -> int:
        """The most bytes seen."""
        self._ended.set()
        if self.ident:
            self.join()
        return self._peak


def _resident_bytes(pid: int) -> tuple[int, int]:
    """The resident sets of a process and its descendants, added up, and the largest that one ever had; 0 for what is
    gone."""
    total, largest, waiting = 0, 0, [str(pid)]
    while waiting:
        process = Path("/proc", waiting.pop())
        with suppress(OSError, IndexError, ValueError):
            total += int((process / "statm").read_text().split()[1]) * _PAGE
            status = (process / "status").read_text()
            largest = max(largest, int(status.partition("VmHWM:")[2].split()[0]) * 1024)
        with suppress(OSError):
            for children in process.glob("task/*/children"):
                waiting += children.read_text().split()
    return total, largest
