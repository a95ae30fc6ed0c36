"""JSON texts to values exactly as written, by the standard library: strict, and no number loses a digit."""

from __future__ import annotations

import json
import math
import re
from typing import Final, NoReturn

from .records import Reject, has_surrogates

#: Deeper nesting is a reject: a limit of its own is the same on every Python, unlike that of the stack.
MAX_DEPTH: Final = 500

_BRACKETS: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]]', re.DOTALL)


class _Number(str):
    """A number's text as it is to be stored, to be told from a string."""

    __slots__ = ()


def _fraction(literal: str) -> _Number:
    """The shortest text that reads back the same; as written where a float can't hold the number at all."""
    value = float(literal)
    mantissa = literal.lower().partition("e")[0]
    lost = math.isinf(value) or (value == 0 and mantissa.strip("-0."))
    return _Number(literal if lost else repr(value))


def _no_constant(name: str) -> NoReturn:
    raise Reject(f"not JSON: {name}")


_DECODER: Final = json.JSONDecoder(parse_int=_Number, parse_float=_fraction, parse_constant=_no_constant)
_AS_WRITTEN: Final = json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_no_constant)
_quoted: Final = json.JSONEncoder(ensure_ascii=False).encode


def parse_object(raw: bytes, *, as_written: bool = False) -> dict[str, object]:
    """The object that a text is; of a key given twice the last counts. Raises Reject.

    `as_written`: fractions keep the form that they have, in which a Parquet reader wrote them.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise Reject(f"not UTF-8: the byte {raw[error.start]:#04x} after {error.start} others") from error
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_too_deep(text):
        raise Reject(f"nested deeper than {MAX_DEPTH} levels")
    try:
        fields = (_AS_WRITTEN if as_written else _DECODER).decode(text)
    except json.JSONDecodeError as error:
        raise Reject(f"not JSON: {error.msg} after {error.pos} characters") from error
    if not isinstance(fields, dict):
        raise Reject(f"{_kind(fields)}, not a JSON object")
    return fields


def parse_nested(text: str) -> object:
    """The object or array that a text within a record holds, None where it holds none."""
    if text[:1] not in ("{", "[") or _is_too_deep(text):
        return None
    try:
        return _DECODER.decode(text)
    except (json.JSONDecodeError, Reject):
        return None


def text_of_value(name: str, value: object) -> str | None:
    """The text of one of parse_object's values, None for null. Raises Reject where it can't be stored."""
    if value is None:
        return None
    if isinstance(value, str):
        text = str(value)
        if "\0" in text:
            raise Reject(f"a NUL character in {name}")
    else:
        text = compact(value)
    if has_surrogates(text):
        raise Reject(f"a lone surrogate in {name}")
    return text


def compact(value: object) -> str:
    """One of parse_object's values as JSON without blanks, and with nothing escaped that need not be."""
    if isinstance(value, _Number):
        return str(value)
    # Plain loops, since below Python 3.12 a comprehension doubles the stack that each level of nesting takes.
    items = []
    if isinstance(value, list):
        for item in value:
            items.append(compact(item))
        return f"[{','.join(items)}]"
    if isinstance(value, dict):
        for key, item in value.items():
            items.append(f"{_quoted(key)}:{compact(item)}")
        return f"{{{','.join(items)}}}"
    return _quoted(value)


def _is_too_deep(text: str) -> bool:
    depth = 0
    for token in _BRACKETS.finditer(text):
        if token[0] in ("{", "["):
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif token[0] in ("}", "]"):
            depth -= 1
    return False


def _kind(value: object) -> str:
    if isinstance(value, list):
        return "an array"
    if isinstance(value, _Number):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return _quoted(value)
