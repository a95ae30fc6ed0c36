"""Where each statement of an SQL text starts and ends, as psql would tell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_TOKEN: Final = re.compile(
    r"""
      (?P<comment> --[^\n\r]*+ | /\* )
    | (?P<quoted> [eE]'(?:[^'\\]++|''|\\.)*+' | '[^']*+' | "[^"]*+" )
    | (?P<dollar> \$(?:[^\W\d]\w*+)?\$ )
    | (?P<word> [^\W\d][\w$]*+ )
    | (?P<other> \S )
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK: Final = re.compile(r"/\*|\*/")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement: `offset` is its first character's place in the text, from 0; `words` are its first two words and
    marks, in lower case; `closed` says that a semicolon ends it."""

    offset: int
    text: str
    words: tuple[str, ...]
    closed: bool


def split_statements(text: str) -> Iterator[Statement]:
    """The statements of an SQL text, in order, without their semicolons; comments alone make no statement.

    A semicolon within quotes, a dollar-quoted body, a comment, brackets or a body of `begin atomic` ends nothing.
    """
    position = start = end = brackets = blocks = 0
    words: list[str] = []
    previous = ""
    while match := _TOKEN.search(text, position):
        position = match.end()
        kind, piece = match.lastgroup, match[0].lower()
        if kind == "comment":
            position = _end_of_comment(text, position) if piece == "/*" else position
            continue
        if piece == ";" and not brackets and not blocks:
            if words:
                yield Statement(start, text[start:end], tuple(words), closed=True)
            words, previous = [], ""
            continue
        if kind == "dollar":
            body_end = text.find(match[0], position)
            position = body_end + len(match[0]) if body_end >= 0 else len(text)
        elif piece == "(":
            brackets += 1
        elif piece == ")":
            brackets = max(0, brackets - 1)
        elif (piece == "atomic" and previous == "begin") or (blocks and piece == "case"):
            blocks += 1
        elif blocks and piece == "end":
            blocks -= 1
        if not words:
            start = match.start()
        if len(words) < 2:
            words.append(piece)
        previous, end = piece, position
    if words:
        yield Statement(start, text[start:end], tuple(words), closed=False)


def _end_of_comment(text: str, position: int) -> int:
    """The end of a block comment, which may hold others, whose `/*` ended at `position`."""
    depth = 1
    while depth and (match := _BLOCK.search(text, position)):
        depth += 1 if match[0] == "/*" else -1
        position = match.end()
    return position if not depth else len(text)
