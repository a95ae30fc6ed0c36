"""Ctrl-C and the signals that ask a command to end: all are one interrupt, which says what was done before it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

#: Sent by whoever stops a service, and by a terminal that is closed.
_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)


class Terminated(KeyboardInterrupt):
    """One of these signals: `str()` is its name. All that cleans up after Ctrl-C, psycopg too, cleans up after it."""


@contextmanager
def signals_as_interrupts() -> Iterator[None]:
    """Has the signals raise Terminated in the main thread. One that is ignored, as nohup has it, stays so."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    taken = [number for number, handler in before.items() if handler == signal.SIG_DFL]
    for number in taken:
        signal.signal(number, _terminate)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated(signal.Signals(number).name)


@contextmanager
def standing(what: Callable[[], str]) -> Iterator[None]:
    """Adds to an interrupt within what stands in spite of it; an empty text is nothing to say."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if said := what():
            interrupt.add_note(said)
        raise


def raise_interrupt(error: BaseException) -> None:
    """Raises the interrupt in the wake of which an error came, as of a statement that it broke off, if there is one."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, KeyboardInterrupt):
            raise behind
        behind = behind.__cause__ or behind.__context__


def interrupt_text(interrupt: KeyboardInterrupt) -> str:
    """The message for a person."""
    how = f"ended by {interrupt}" if isinstance(interrupt, Terminated) else "interrupted"
    return "; ".join([how, *getattr(interrupt, "__notes__", []), "what was not finished is undone"])
