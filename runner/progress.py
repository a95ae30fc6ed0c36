"""How far a long work is: said by logging, whose records carry it beside their message."""

from __future__ import annotations

from typing import Final, TypedDict

#: The level of what whoever watches shall see and keep: more than progress, less than a warning, which a log gets too.
NOTICE: Final = 25


class Progress(TypedDict):
    """`done` of `total` steps are done, whatever is a step; the message says what goes on now."""

    done: int
    total: int


def progress(done: int, total: int) -> Progress:
    return Progress(done=done, total=total)
