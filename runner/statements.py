"""Where each statement of an SQL text starts and ends, as psql would tell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

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


class Token(NamedTuple):
    """`text[start:end]` of an SQL text; kind is comment, quoted, dollar, word or other."""

    kind: str
    start: int
    end: int


def split_statements(text: str) -> Iterator[Statement]:
    """The statements of an SQL text, in order, without their semicolons; comments alone make no statement.

    A semicolon within quotes, a dollar-quoted body, a comment, brackets or a body of `begin atomic` ends nothing.
    """
    start = end = brackets = blocks = 0
    words: list[str] = []
    previous = ""
    for token in tokens(text):
        if token.kind == "comment":
            continue
        piece = text[token.start : token.end].lower()
        if piece == ";" and not brackets and not blocks:
            if words:
                yield Statement(start, text[start:end], tuple(words), closed=True)
            words, previous = [], ""
            continue
        if piece == "(":
            brackets += 1
        elif piece == ")":
            brackets = max(0, brackets - 1)
        elif (piece == "atomic" and previous == "begin") or (blocks and piece == "case"):
            blocks += 1
        elif blocks and piece == "end":
            blocks -= 1
        if not words:
            start = token.start
        if len(words) < 2:
            words.append(piece)
        previous, end = piece, token.end
    if words:
        yield Statement(start, text[start:end], tuple(words), closed=False)


def tokens(text: str) -> Iterator[Token]:
    """The words, marks, quoted texts and comments of an SQL text, in order."""
    position = 0
    while match := _TOKEN.search(text, position):
        position = match.end()
        if match[0] == "/*":
            position = _end_of_comment(text, position)
        elif match.lastgroup == "dollar":
            body_end = text.find(match[0], position)
            position = body_end + len(match[0]) if body_end >= 0 else len(text)
        yield Token(match.lastgroup or "", match.start(), position)


def _end_of_comment(text: str, position: int) -> int:
    """The end of a block comment, which may hold others, whose `/*` ended at `position`."""
    depth = 1
    while depth and (match := _BLOCK.search(text, position)):
        depth += 1 if match[0] == "/*" else -1
        position = match.end()
    return position if not depth else len(text)
