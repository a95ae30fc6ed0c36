"""A record of a source to the row of stage.events that its mapping makes of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qs

from .columns import NAMES
from .field_paths import Fields, Lookup, lookup
from .json_values import text_of_value
from .mappings import UNITS, Filter, Rule, SourceMapping
from .records import Reject
from .typed_values import Row

#: Gives what becomes a column's text, None where it is missing.
_Value = Callable[[Fields], Any]
_Change = Callable[[str], str | None]

#: Of each transform so many texts, shorter than that, are remembered with what was made of them.
_KEPT_TEXTS: Final = 1024
_KEPT_LENGTH: Final = 500
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
        names = [name for name in NAMES if name in mapping.columns]
        #: Of each that is fed its place, its name, and what gives its value.
        self._columns = [(NAMES.index(name), name, self._value(mapping.columns[name])) for name in names]
        self._lookups = {name: list(map(lookup, mapping.columns[name].paths)) for name in names}
        self._filters = [(filter.path, lookup(filter.path), _test(filter)) for filter in mapping.only]

    def takes(self, fields: Fields) -> bool:
        """Whether the record is one that the mapping asks for."""
        for _, find, test in self._filters:  # noqa: SIM110  a generator takes twice as long
            if not test(_as_text(find(fields))):
                return False
        return True

    def row(self, fields: Fields) -> Row:
        """The row. Raises Reject where a text can't be stored."""
        row: Row = [None] * len(NAMES)
        texts = []
        for slot, name, value_of in self._columns:
            value = value_of(fields)
            if value is None:
                continue
            # Most are plain texts, which are looked at together below.
            if value.__class__ is not str:
                try:
                    value = text_of_value(name, value)
                except Reject:
                    self._refuse(fields)
                    raise
            row[slot] = value
            texts.append(value)
        together = "".join(texts)
        if not together.isascii() or "\0" in together:
            self._refuse(fields)
        return row

    def _refuse(self, fields: Fields) -> None:
        """Raises Reject for the first column whose text can't be stored, if there is one."""
        for _, name, value_of in self._columns:
            text_of_value(name, value_of(fields))

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

    def _value(self, rule: Rule) -> _Value:
        value = self._origin(rule)
        if rule.transform:
            value = self._changed(value, _CHANGES[rule.transform](rule.by))
        return value if rule.default is None else self._first((value, lambda _: rule.default))

    def _origin(self, rule: Rule) -> _Value:
        if rule.value is not None:
            return lambda _: rule.value
        lookups = list(map(lookup, rule.paths))
        if rule.joined is not None:
            return self._joined(lookups, rule.joined)
        if len(lookups) == 1 and self._missing == {""}:
            return lookups[0]  # an empty text stays one, as in a file without a mapping
        return self._first(lookups)

    def _first(self, values: Sequence[_Value]) -> _Value:
        missing = self._missing

        def first(fields: Fields) -> object:
            for value in values:
                found = value(fields)
                if found is not None and (found.__class__ is not str or found not in missing):
                    return found
            return None

        return first

    def _joined(self, lookups: Sequence[Lookup], between: str) -> _Value:
        def joined(fields: Fields) -> object:
            values = [value for find in lookups if self._is_there(value := find(fields))]
            return between.join(filter(None, map(_as_text, values))) if values else None

        return joined

    def _changed(self, value: _Value, change: _Change) -> _Value:
        missing = self._missing
        # The same referers, agents and seconds come again and again.
        known = lru_cache(_KEPT_TEXTS)(change)

        def changed(fields: Fields) -> object:
            found = value(fields)
            if found is None or (found.__class__ is str and found in missing):
                return None
            text = _as_text(found) or ""
            return known(text) if len(text) < _KEPT_LENGTH else change(text)

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
