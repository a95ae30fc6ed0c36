"""Ctrl-C and the signals that ask a command to end: all are one interrupt, which says what was done before it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

#: Sent by Ctrl-C, by whoever stops a service, and by a terminal that is closed.
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signalled(KeyboardInterrupt):
    """One of these signals: `str()` is its name. All that cleans up after Ctrl-C, psycopg too, cleans up after it.

    Not KeyboardInterrupt itself for Ctrl-C either: where one has passed through a text that was executed, as a data
    class makes one, Python ends by the signal in spite of the exit code.
    """


@contextmanager
def signals_as_interrupts() -> Iterator[None]:
    """Has the signals raise Signalled in the main thread. One that is ignored, as nohup has it, stays so."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    taken = [number for number, handler in before.items() if handler in (signal.SIG_DFL, signal.default_int_handler)]
    for number in taken:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Signalled(signal.Signals(number).name)


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
    how = "interrupted" if str(interrupt) in ("", "SIGINT") else f"ended by {interrupt}"
    return "; ".join([how, *getattr(interrupt, "__notes__", []), "what was not finished is undone"])
