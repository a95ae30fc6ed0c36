"""Paths to a field within a record: `context.page.url`, `items[0].id`, `params[key=page].value`, `"with.dots".id`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from .json_values import parse_nested

#: A record as a reader has it: texts and nulls, and what JSON has besides.
Fields = Mapping[str, object]
#: Finds a value in a record; None where there is none.
Lookup = Callable[[Fields], object]
#: A name, the number of an element, or what one field of an element is.
Step = str | int | tuple[str, str]

_STEP: Final = re.compile(
    r'(?:^|(?<!^)\.)(?:"(?P<quoted>[^"]+)"|(?P<name>[^."\[\]=]+))'
    r"|(?<!^)\[(?:(?P<number>\d{1,9})|(?P<key>[^\[\]=]+)=(?P<value>[^\[\]]*))\]"
)
#: Exporters write nested values as JSON texts into formats that have none; the columns of one record share them. What
#: is longer is parsed for each, so that not much is held.
_SHARED_LENGTH: Final = 2**16
_shared: Final = lru_cache(16)(parse_nested)


def parse_path(text: str) -> tuple[Step, ...]:
    """The steps of a path. Raises ValueError where it is none."""
    steps: list[Step] = []
    at = 0
    while at < len(text):
        match = _STEP.match(text, at) if at == 0 or text[at] in ".[" else None
        if match is None:
            raise ValueError(f"{text!r} is no path to a field, as context.page.url or items[0].id")
        if match["number"] is not None:
            steps.append(int(match["number"]))
        elif match["key"] is not None:
            steps.append((match["key"], match["value"]))
        else:
            steps.append(match["quoted"] or match["name"])
        at = match.end()
    if not steps:
        raise ValueError("an empty path leads to no field")
    return tuple(steps)


def lookup(path: str) -> Lookup:
    """What finds the value at the path. A text on the way that holds a JSON object is gone into. Raises ValueError."""
    first, *rest = parse_path(path)
    assert isinstance(first, str)
    if not rest:
        return lambda fields: fields.get(first)

    def find(fields: Fields) -> object:
        value: Any = fields.get(first)
        for step in rest:
            # Records are plain dicts of plain lists, and to ask for the type is the quickest.
            if value.__class__ is dict:
                value = value.get(step)
            elif value is None:
                return None
            else:
                value = _within(value, step)
        return value

    return find


def top_name(path: str) -> str:
    """The name of the record's own field that the path leads into."""
    return str(parse_path(path)[0])


def _within(value: object, step: Step) -> object:
    if isinstance(value, str):
        value = _shared(value) if len(value) < _SHARED_LENGTH else parse_nested(value)
    if isinstance(step, str):
        return value.get(step) if isinstance(value, dict) else None
    if not isinstance(value, list):
        return None
    if isinstance(step, int):
        return value[step] if step < len(value) else None
    name, text = step
    for element in value:
        if isinstance(element, dict) and element.get(name) == text:
            return element
    return None
