"""Every small change of an SQL template that may change what it means: one mutant each."""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlglot.dialects.postgres import Postgres
from sqlglot.tokens import TokenType

#: What a word or a sign becomes. The other way about stands here too.
SWAPPED: Final = {
    "=": "!=",
    "!=": "=",
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "+": "-",
    "-": "+",
    "and": "or",
    "or": "and",
    "min": "max",
    "max": "min",
    "greatest": "least",
    "least": "greatest",
    "bool_or": "bool_and",
    "bool_and": "bool_or",
    "first": "last",
    "last": "first",
    "desc": "asc",
    "left": "inner",
    "full": "left",
    "true": "false",
    "false": "true",
}
#: Words that are left out behind one of these; "not" is wherever it stands.
_LEFT_OUT: Final = {"all": ("union", "except"), "distinct": ("select", "(")}
#: What ends a condition, beside the bracket around it.
_ENDS: Final = frozenset(
    (
        *("and", "or", "group by", "order by", "having", "limit", "offset", "union", "except", "window", "returning"),
        *("then", "when", "else", "end", "loop", "join", "left", "cross", "inner", "full", "on", "where", "filter"),
        *("over", "rows", "for", "into", "set"),
    )
)
_LISTS: Final = ("order by", "partition by", "group by")
#: Constants that are the same in every place where they stand together, whatever they are.
_ARBITRARY: Final = ("hashtextextended", "chr")
#: Statements of a body that change no number: how fast it is, and what it says of itself.
_SILENT: Final = ("analyze", "raise", "execute format ( 'analyze")
_TAG: Final = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
#: An order that a macro gives, a key on each line.
_ORDER: Final = re.compile(r"\{% macro \w*_order\(.*?%\}\n(.*?)\{%-? endmacro", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Token:
    """`word` is a token in lower case as it stands at text[start:end]; `body` is where the dollar-quoted body begins
    that it is in, or 0; `part` is the number of tags before it."""

    kind: TokenType
    word: str
    start: int
    end: int
    body: int
    part: int = 0


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of a text: what is put in the place of text[start:end]."""

    start: int
    end: int
    replacement: str
    kind: str

    def apply(self, text: str) -> str:
        return text[: self.start] + self.replacement + text[self.end :]

    def describe(self, text: str) -> str:
        """Line, and what becomes what."""
        line = text.count("\n", 0, self.start) + 1
        before = " ".join(text[self.start : self.end].split())
        shown = before if len(before) <= 60 else f"{before[:57]}..."
        return f"{line}: {self.kind}: {shown} -> {self.replacement or 'nothing'}"


def mutants(text: str) -> list[Mutant]:
    """All mutants of a template, in order. Comments in the database, templates' own tags and fences are left alone."""
    tags = [match.span() for match in _TAG.finditer(text)]
    parts = [start for start, _ in tags if text.startswith("{%", start)]
    tokens = [
        replace(token, part=bisect(parts, token.start))
        for token in _without_comments(_tokens(text))
        if not _is_within(token, tags)
    ]
    found = [*_words(tokens), *_conditions(tokens), *_clauses(tokens), *_keys(text, tokens), *_statements(tokens)]
    return sorted(set(found), key=lambda mutant: (mutant.start, mutant.end, mutant.replacement))


def _tokens(text: str, offset: int = 0, body: int = 0) -> Iterator[Token]:
    """The tokens of a text, those of dollar-quoted bodies in the place of these."""
    for token in Postgres().tokenize(text):
        if token.token_type == TokenType.HEREDOC_STRING:
            inner = text.index(token.text, token.start)
            yield from _tokens(token.text, offset + inner, offset + inner)
            continue
        word = text[token.start : token.end + 1].lower()
        yield Token(token.token_type, word, offset + token.start, offset + token.end + 1, body)


def _without_comments(tokens: Iterator[Token]) -> Iterator[Token]:
    """Without `comment on ... is '...';`."""
    skipping, previous = False, ";"
    for token in tokens:
        skipping = skipping or (token.word == "comment" and previous in (";", "-%}", "%}", "}}"))
        if not skipping:
            yield token
        previous = token.word
        skipping = skipping and token.word != ";"


def _is_within(token: Token, spans: Sequence[tuple[int, int]]) -> bool:
    return any(start <= token.start < end for start, end in spans)


def _words(tokens: Sequence[Token]) -> Iterator[Mutant]:
    between = False
    call = ""
    for index, token in enumerate(tokens):
        before = tokens[index - 1].word if index else ""
        behind = tokens[index + 1].word if index + 1 < len(tokens) else ""
        between = between or token.word == "between"
        call = before if token.word == "(" and before in _ARBITRARY else "" if token.word == ")" else call
        if token.word == "and" and between:
            between = False
        elif token.word in SWAPPED and _is_meant(token.word, before, behind):
            yield Mutant(token.start, token.end, SWAPPED[token.word], "operator")
        elif token.word == "not" or (token.word in _LEFT_OUT and before in _LEFT_OUT[token.word] and behind != "on"):
            yield Mutant(token.start, token.end, "", "left out")
        elif token.word == "is" and behind in ("null", "distinct"):
            yield Mutant(token.end, token.end, " not", "operator")
        elif token.kind == TokenType.NUMBER and token.word.isdigit() and not call and before not in ("offset", *_LISTS):
            yield Mutant(token.start, token.end, str(int(token.word) + 1), "constant")
        elif token.kind == TokenType.STRING and before not in ("raise", "info", "debug") and not call:
            yield Mutant(token.end - 1, token.end - 1, "x", "constant")


def _is_meant(word: str, before: str, behind: str) -> bool:
    """Whether a word stands for what it may be swapped as, by its neighbours."""
    if word in ("first", "last"):
        return before == "nulls"
    if word in ("left", "full"):
        return behind == "join"
    if word in ("or", "true", "false"):
        return behind != "replace" and before != "on"
    return not word.isalpha() or word in ("and", "desc") or behind == "("


def _end_of_condition(tokens: Sequence[Token], start: int) -> int:
    """The index behind the condition that starts there."""
    depth = cases = 0
    for index in range(start, len(tokens)):
        word = tokens[index].word
        if word == ")":
            depth -= 1
        here = (tokens[index].body, tokens[index].part)
        if depth < 0 or word == ";" or here != (tokens[start].body, tokens[start].part):
            return index
        if depth == cases == 0 and word in _ENDS and index > start and not _is_between(tokens, start, index):
            return index
        depth += word == "("
        cases += (word == "case") - (word == "end" and cases > 0)
    return len(tokens)


def _is_between(tokens: Sequence[Token], start: int, index: int) -> bool:
    words = [token.word for token in tokens[start:index]]
    return tokens[index].word == "and" and words.count("between") > words.count("and")


def _conditions(tokens: Sequence[Token]) -> Iterator[Mutant]:
    """Each condition of a where, having, on or when held for true; each part of one left out."""
    for index, token in enumerate(tokens):
        if token.word not in ("where", "having", "and", "or", "on", "when", "if", "elsif") or index + 1 == len(tokens):
            continue
        start, end = index + 1, _end_of_condition(tokens, index + 1)
        if end == start or tokens[start].word == "replace" or _is_between(tokens, max(0, index - 6), index):
            continue
        if token.word in ("and", "or"):
            yield Mutant(token.start, tokens[end - 1].end, "", "condition left out")
        elif tokens[start].word not in ("conflict", "matched", "not", "commit", "function", "true", "false"):
            yield Mutant(tokens[start].start, tokens[end - 1].end, "true", "condition held for true")


def _clauses(tokens: Sequence[Token]) -> Iterator[Mutant]:
    for index, token in enumerate(tokens[:-1]):
        behind = tokens[index + 1]
        if token.word == "limit" and behind.kind == TokenType.NUMBER:
            yield Mutant(token.start, behind.end, "", "clause left out")
        elif token.word in _LISTS:
            end = _end_of_condition(tokens, index + 1)
            yield Mutant(token.start, tokens[end - 1].end, "", "clause left out")
        elif token.word == "filter" and behind.word == "(":
            end = _end_of_condition(tokens, index + 2)
            yield Mutant(token.start, tokens[end].end, "", "clause left out")
        elif token.word == "else" and token.body:
            end = _end_of_condition(tokens, index + 1)
            if end > index + 1 and tokens[end].word == "end" and tokens[end - 1].word != ";":
                yield Mutant(token.start, tokens[end - 1].end, "", "clause left out")


def _keys(text: str, tokens: Sequence[Token]) -> Iterator[Mutant]:
    """Each key of an order, a group or a partition left out, where there are several."""
    for index, token in enumerate(tokens[:-1]):
        if token.word not in _LISTS:
            continue
        end, depth, commas = _end_of_condition(tokens, index + 1), 0, []
        for place in range(index + 1, end):
            depth += (tokens[place].word == "(") - (tokens[place].word == ")")
            if tokens[place].word == "," and depth == 0:
                commas.append(place)
        for before, behind in zip([index, *commas], [*commas, end], strict=True):
            if commas and before == index:
                yield Mutant(tokens[before + 1].start, tokens[behind].end, "", "key left out")
            elif commas:
                yield Mutant(tokens[before].start, tokens[behind - 1].end, "", "key left out")
    for order in _ORDER.finditer(text):
        for key in re.finditer(r"^.*,\n|,\n.*\n?\Z", order[1], re.MULTILINE):
            yield Mutant(order.start(1) + key.start(), order.start(1) + key.end(), "", "key left out")


def _statements(tokens: Sequence[Token]) -> Iterator[Mutant]:
    """Each statement of a body left out."""
    start: int | None = None
    begun = 0
    for index, token in enumerate(tokens):
        if token.word == "begin":
            begun = token.body
        if not token.body or token.body != begun:
            start = None
        elif token.word in ("begin", "then", "else", "loop", ";") and not _in_brackets(tokens, index):
            if start is not None and token.word == ";" and start < index:
                words = " ".join(token.word for token in tokens[start:index])
                block = tokens[start].word in ("end", "if", "exception", "declare", "for", "foreach")
                if not words.startswith(_SILENT) and not block:
                    yield Mutant(tokens[start].start, token.end, "", "statement left out")
            if token.word in (";", "begin", "loop") or _starts_block(tokens, index):
                start = index + 1


def _in_brackets(tokens: Sequence[Token], index: int) -> bool:
    depth = 0
    for token in tokens[:index]:
        if token.body == tokens[index].body:
            depth += (token.word == "(") - (token.word == ")")
    return depth > 0


def _starts_block(tokens: Sequence[Token], index: int) -> bool:
    """Whether a then or else is that of an if and not of a case or merge."""
    for token in reversed(tokens[:index]):
        if token.word in ("case", "when", "matched"):
            return False
        if token.word in ("if", "elsif", ";"):
            return True
    return False
