"""A record of a source to the row of stage.events that its mapping makes of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qs

from .columns import NAMES
from .field_paths import Fields, Lookup, lookup
from .json_values import text_of_value
from .mappings import UNITS, Filter, Rule, SourceMapping
from .typed_values import Row

#: The text of a value that is there, None for one that is missing.
_Text = Callable[[Fields], object]
_Change = Callable[[str], str | None]

_EPOCH: Final = datetime(1970, 1, 1)
_MICROSECOND: Final = timedelta(microseconds=1)
_FIRST, _LAST = (datetime.min - _EPOCH) // _MICROSECOND, (datetime.max - _EPOCH) // _MICROSECOND
_DIGITS: Final = re.compile(r"[+-]?[0-9]{1,17}")
#: RFC 3986, appendix B: scheme, authority, path, query. Every text matches.
_URL: Final = re.compile(r"(?:([^:/?#]+):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?", re.DOTALL)
#: Of an authority without the user: the host, and the port behind it.
_HOST: Final = re.compile(r"(\[[^\]]*\]|[^:]*)(?::(.*))?", re.DOTALL)


class RowMaker:
    """Makes rows by a mapping, which it compiles once."""

    def __init__(self, mapping: SourceMapping) -> None:
        self._missing = frozenset(("", *mapping.missing))
        self._names = [name for name in NAMES if name in mapping.columns]
        self._texts = [(name, self._text(mapping.columns[name])) for name in self._names]
        self._slots = [NAMES.index(name) for name in self._names]
        self._lookups = {name: list(map(lookup, mapping.columns[name].paths)) for name in self._names}
        self._filters = [(filter.path, lookup(filter.path), _test(filter)) for filter in mapping.only]

    def takes(self, fields: Fields) -> bool:
        """Whether the record is one that the mapping asks for."""
        return all(test(_as_text(find(fields))) for _, find, test in self._filters)

    def row(self, fields: Fields) -> Row:
        """The row. Raises Reject where a text can't be stored."""
        row: Row = [None] * len(NAMES)
        for slot, (name, text) in zip(self._slots, self._texts, strict=True):
            row[slot] = text_of_value(name, text(fields))
        return row

    def fed(self, fields: Fields) -> set[str]:
        """The columns for which the record has a field."""
        return {
            name
            for name, lookups in self._lookups.items()
            if not lookups or any(self._is_there(find(fields)) for find in lookups)
        }

    def filtered_by(self, fields: Fields) -> set[str]:
        """The fields to choose records by that this one has."""
        return {path for path, find, _ in self._filters if find(fields) is not None}

    def _is_there(self, value: object) -> bool:
        return value is not None and not (isinstance(value, str) and value in self._missing)

    def _text(self, rule: Rule) -> _Text:
        text = self._origin(rule)
        if rule.transform:
            text = self._transformed(text, _CHANGES[rule.transform](rule.by))
        if rule.default is not None:
            default = rule.default
            before = text
            text = lambda fields: value if self._is_there(value := before(fields)) else default  # noqa: E731
        return text

    def _origin(self, rule: Rule) -> _Text:
        if rule.value is not None:
            value = rule.value
            return lambda _: value
        lookups = list(map(lookup, rule.paths))
        if rule.joined is not None:
            return self._joined(lookups, rule.joined)
        if len(lookups) == 1:
            return self._single(lookups[0])
        return lambda fields: next((value for find in lookups if self._is_there(value := find(fields))), None)

    def _single(self, find: Lookup) -> _Text:
        if self._missing == {""}:
            return find  # an empty text stays one, as in a file without a mapping
        return lambda fields: value if self._is_there(value := find(fields)) else None

    def _joined(self, lookups: Sequence[Lookup], between: str) -> _Text:
        def text(fields: Fields) -> object:
            values = [value for find in lookups if self._is_there(value := find(fields))]
            return between.join(filter(None, map(_as_text, values))) if values else None

        return text

    def _transformed(self, text: _Text, change: _Change) -> _Text:
        def changed(fields: Fields) -> object:
            value = text(fields)
            return change(_as_text(value) or "") if self._is_there(value) else None

        return changed


def _as_text(value: object) -> str | None:
    return value if isinstance(value, str) else text_of_value("a field", value)


def _test(filter: Filter) -> Callable[[str | None], bool]:
    if filter.values:
        values = frozenset(filter.values)
        return values.__contains__
    matches = re.compile(filter.matches or "").search
    if filter.excludes is None:
        return lambda text: text is not None and matches(text) is not None
    excludes = re.compile(filter.excludes).search
    if filter.matches is None:
        return lambda text: text is None or excludes(text) is None
    return lambda text: text is not None and matches(text) is not None and excludes(text) is None


def _since_epoch(unit: str) -> _Change:
    per_second = UNITS[unit]

    def timestamp(text: str) -> str:
        """The instant; the text as it is where it is no number of such units, to be kept for whoever looks."""
        if _DIGITS.fullmatch(text):
            microseconds = int(text) * (10**6 // per_second)
        else:
            try:
                number = Decimal(text)
            except InvalidOperation:
                return text
            if not number.is_finite() or number.adjusted() > 20:
                return text
            microseconds = int(number * 10**6 // per_second)
        if not _FIRST <= microseconds <= _LAST:
            return text
        return (_EPOCH + microseconds * _MICROSECOND).isoformat(" ", "microseconds")

    return timestamp


def _time(format: str) -> _Change:
    @lru_cache
    def timestamp(text: str) -> str:
        """The instant in UTC; the text as it is where it has another form."""
        try:
            instant = datetime.strptime(text, format)
            instant = instant.astimezone(UTC) if instant.tzinfo else instant
        except (ValueError, OverflowError):
            return text
        return instant.replace(tzinfo=None).isoformat(" ", "microseconds")

    return timestamp


def _url_part(part: str) -> _Change:
    def found(text: str) -> str | None:
        match = _URL.match(text)
        assert match  # as every text does
        scheme, authority, path, _ = match.groups()
        if part in ("scheme", "path"):
            return (scheme if part == "scheme" else path) or None
        host = _HOST.match((authority or "").rpartition("@")[2])
        return (host and host[1 if part == "host" else 2]) or None

    return found


def _url_parameter(name: str) -> _Change:
    def found(text: str) -> str | None:
        if name not in text:
            return None
        match = _URL.match(text)
        query = match[4] if match else None
        return parse_qs(query).get(name, [None])[0] if query else None

    return found


def _group(pattern: str) -> _Change:
    search = re.compile(pattern).search
    return lambda text: match[1] if (match := search(text)) else None


def _matches(pattern: str) -> _Change:
    search = re.compile(pattern).search
    return lambda text: "true" if search(text) else "false"


#: Of each transform what makes it, by what it goes by.
_CHANGES: Final[dict[str, Callable[..., _Change]]] = {
    "unit": _since_epoch,
    "time": _time,
    "part": _url_part,
    "parameter": _url_parameter,
    "pattern": _group,
    "matches": _matches,
    "values": lambda table: table.get,
}
