"""Where each statement of an SQL text starts and ends, as psql would tell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_TOKEN: Final = re.compile(
    r"""
      (?P<comment> --[^\n]* )
    | (?P<block> /\* )
    | (?P<text> [eE]'(?:[^'\\]|''|\\.)*' | '(?:[^']|'')*' | "(?:[^"]|"")*" )
    | (?P<dollar> \$(?:[^\W\d]\w*)?\$ )
    | (?P<word> [^\W\d][\w$]* )
    | (?P<mark> [();] )
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK: Final = re.compile(r"/\*|\*/")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement: `offset` is its first character's place in the text, from 0; `first_word` in lower case."""

    offset: int
    text: str
    first_word: str


def split_statements(text: str) -> Iterator[Statement]:
    """The statements of an SQL text, in order, without their semicolons; comments alone make no statement.

    A semicolon within quotes, a dollar-quoted body, a comment, brackets or a body of `begin atomic` ends nothing.
    """
    start = position = 0
    first: re.Match[str] | None = None
    brackets = blocks = 0
    previous_word = ""
    while match := _TOKEN.search(text, position):
        position = match.end()
        kind, token = match.lastgroup, match[0].lower()
        if kind == "comment":
            continue
        if kind == "block":
            position = _end_of_comment(text, position)
            continue
        if kind == "mark" and token == ";" and not brackets and not blocks:  # noqa: S105
            if first:
                yield Statement(first.start(), text[first.start() : match.start()], first[0].lower())
            start, first, previous_word = position, None, ""
            continue
        first = first or match
        if kind == "dollar":
            end = text.find(match[0], position)
            position = end + len(match[0]) if end >= 0 else len(text)
        elif kind == "mark":
            brackets += (token == "(") - (token == ")")  # noqa: S105
        elif kind == "word":
            if (token == "atomic" and previous_word == "begin") or (blocks and token == "case"):  # noqa: S105
                blocks += 1
            elif blocks and token == "end":  # noqa: S105
                blocks -= 1
            previous_word = token
    if first and text[start:].strip():
        yield Statement(first.start(), text[first.start() :].rstrip(), first[0].lower())


def _end_of_comment(text: str, position: int) -> int:
    """The end of a block comment, which may hold others, whose `/*` ended at `position`."""
    depth = 1
    while depth and (match := _BLOCK.search(text, position)):
        depth += 1 if match[0] == "/*" else -1
        position = match.end()
    return position if not depth else len(text)
