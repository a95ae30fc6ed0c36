"""Files of a source to records, by its mapping: every format to named fields, and these to rows.

Each record is read exactly; there is no fast way beside it, as there is for files that need no mapping.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from functools import partial
from io import BytesIO, RawIOBase
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from .csv_reader import read_csv_fields
from .errors import LoadError
from .field_paths import Fields, top_name
from .json_array import elements
from .json_reader import beginning
from .json_values import compact, parse_object
from .mapped_values import RowMaker
from .mappings import SourceMapping
from .records import Header, Record, Reject
from .streams import whole_lines

if TYPE_CHECKING:
    from .joined_files import Partners

logger = logging.getLogger(__name__)

#: So many records, or bytes of them, are handed on at a time.
_LIST_RECORDS: Final = 100
_LIST_BYTES: Final = 2**17
#: So many events, or bytes of them, are looked at before any row is loaded: whether the mapping is one for them.
_TRIAL_EVENTS: Final = 1000
_TRIAL_BYTES: Final = 2**22
_SHOWN: Final = 10
#: Files whose records have no fields within fields.
_FLAT: Final = ("csv", "tsv", "log")
#: What counts a row for somebody, and for a page; of each group one is enough.
_ESSENTIAL: Final = (("user_domain_id", "user_custom_id"), ("page_url_path",))

#: A record before it is mapped: its line, what it was as it stood, and its fields or what is wrong with them.
Found = tuple[int, Any, Fields | Reject]


class MappedReader:
    """Reads one file, which messages call `name`. `passed` is how many of its events the mapping didn't ask for so far;
    what stands before the records goes into `header`. `partners` are those of the records in other files, if any."""

    partners: Partners | None = None

    def __init__(self, mapping: SourceMapping, name: str = "", header: Header | None = None) -> None:
        self.passed = 0
        self._mapping = mapping
        self._name = name
        self._header = header or Header()
        self._maker = RowMaker(mapping)

    def fields(self, content: str, blocks: Iterator[bytes]) -> Iterator[Found]:
        """The records of a file of that content, unpacked, before they are mapped. Raises LoadError where it has no
        records such as the mapping needs."""
        if self._mapping.each and content in _FLAT:
            raise LoadError(f"{self._mapping.place} has `each`, which needs records of JSON or Parquet, not {content}")
        read = {"json": self._json, "csv": self._csv, "tsv": self._tsv, "log": self._log}.get(content, _json_lines)
        return read(blocks)

    def parquet_fields(self, file: RawIOBase | BinaryIO) -> Iterator[Found]:
        """The same of a Parquet file."""
        from .parquet_reader import read_parquet_rows

        # What an event of `each` is, the whole of its record tells.
        names = None if self._mapping.each or self._mapping.parts else set(map(top_name, self._mapping.paths))
        for row, raw, text in read_parquet_rows(file, names):
            yield row, raw, _fields(text.encode("utf-8", "surrogateescape"), as_written=True)

    def record(self, content: str, line: int, raw: bytes, header: bytes) -> Record | None:
        """The record of what stood on that line of such a file, without its line feed; None where it is none, or more
        than one, or has parts in other files. Raises LoadError for a header that can't be read."""
        if self._mapping.parts:
            return None
        found: list[Found]
        if content in _FLAT:
            lines = [header, raw] if header else [raw]
            found = list(self.fields(content, iter([b"".join([line + b"\n" for line in lines])])))
        else:
            found = [(line, raw, _fields(raw, as_written=content == "parquet"))]
        records = [record._replace(line=line, raw=raw) for one in found for record in self._mapped(*one)]
        return records[0] if len(records) == 1 else None

    def _json(self, blocks: Iterator[bytes]) -> Iterator[Found]:
        line, is_array, blocks = beginning(blocks)
        if not is_array:
            yield from _json_lines(blocks, line)
            return
        self._header.content = b"["
        for number, raw, _, reason in elements(blocks, line):
            yield number, raw, Reject(reason) if reason else _fields(raw)

    def _csv(self, blocks: Iterator[bytes]) -> Iterator[Found]:
        return iter(read_csv_fields(blocks, self._header))

    def _tsv(self, blocks: Iterator[bytes]) -> Iterator[Found]:
        """Fields with tabs between them, without quotes; an empty one is missing."""
        names = self._mapping.fields
        wanted = self._wanted(names)
        for number, raw in _lines(blocks):
            text = _text(raw)
            if isinstance(text, Reject):
                if not names:
                    raise LoadError(f"line {number}: the header can't be read: {text}")
                yield number, raw, text
                continue
            texts = text.split("\t")
            if not names:
                names, self._header.content = tuple(texts), raw
                wanted = self._wanted(names)
            elif len(texts) > len(names):
                yield number, raw, Reject(f"{len(texts)} fields, where the source has {len(names)}")
            else:
                yield number, raw, {name: texts[at] for at, name in wanted if at < len(texts) and texts[at]}

    def _wanted(self, names: Sequence[str]) -> list[tuple[int, str]]:
        """Places and names of the fields that the mapping looks at; of all where it looks at none, to be told."""
        looked_at = set(map(top_name, self._mapping.paths))
        every = list(enumerate(names))
        return [(at, name) for at, name in every if name in looked_at] or every

    def _log(self, blocks: Iterator[bytes]) -> Iterator[Found]:
        match_of = re.compile(self._mapping.pattern).match
        for number, raw in _lines(blocks):
            text = _text(raw)
            if isinstance(text, Reject):
                yield number, raw, text
            elif match := match_of(text):
                yield number, raw, match.groupdict()
            else:
                yield number, raw, Reject(f"not a line as the pattern of {self._mapping.place} has it")

    def records(self, found: Iterator[Found]) -> Iterator[list[Record]]:
        """The records in lists, once the first ones have shown that the mapping is one for them. Raises LoadError where
        it is none."""
        trial = _Trial(self._mapping, self._maker, self._name)
        records: list[Record] = []
        size = 0
        is_event = not (self._mapping.each or self.partners)
        for line, raw, fields in found:
            size += len(raw)
            # What most files have alone has no need to go through generators.
            if is_event and trial.ended and not isinstance(fields, Reject):
                if record := self._record(line, raw, fields):
                    records.append(record)
            else:
                for record in self._mapped(line, raw, fields, trial):
                    records.append(record)
                    # One record may have a million events.
                    if trial.ended and len(records) >= _LIST_RECORDS:
                        yield records
                        records = []
            if trial.is_over(size) and (len(records) >= _LIST_RECORDS or size >= _LIST_BYTES):
                yield records
                records, size = [], 0
        trial.end()
        yield records

    def _mapped(self, line: int, raw: object, fields: Fields | Reject, trial: _Trial | None = None) -> Iterator[Record]:
        for event_raw, event in self._events(raw, fields):
            if isinstance(event, Reject):
                yield Record(line, event_raw, None, str(event))
                continue
            record = self._record(line, event_raw, event)
            if trial:
                trial.look_at(event, is_taken=record is not None)
            if record:
                yield record

    def _record(self, line: int, raw: object, event: Fields) -> Record | None:
        """The record of an event; None for one that is passed over."""
        try:
            if self._maker.takes(event):
                return Record(line, raw, self._maker.row(event), None)
        except Reject as reject:
            return Record(line, raw, None, str(reject))
        self.passed += 1
        return None

    def _events(self, raw: object, fields: Fields | Reject) -> Iterator[tuple[object, Fields | Reject]]:
        """The events of a record: itself; with its partners; or, of `each`, the record with each element in the place
        of all. What is kept of a joined one as it stood is all of it, and of an element the record with that one alone,
        which read again is that event."""
        if self.partners and not isinstance(fields, Reject):
            try:
                joined = self.partners.joined(fields)
            except Reject as reject:
                yield raw, reject
            else:
                yield partial(compact, joined), joined
            return
        each = self._mapping.each
        if not each or isinstance(fields, Reject):
            yield raw, fields
            return
        values = fields.get(each)
        if not isinstance(values, list):
            yield raw, Reject(f"no array {each}")
            return
        for value in values:
            yield partial(compact, {**fields, each: [value]}), {**fields, each: value}


class _Trial:
    """Looks at the first events of a file before any of its rows is loaded."""

    def __init__(self, mapping: SourceMapping, maker: RowMaker, name: str) -> None:
        self._mapping = mapping
        self._maker = maker
        self._name = name
        self.ended = False
        self._seen = self._taken = 0
        self._fed: set[str] = set()
        self._filtered: set[str] = set()
        self._names: dict[str, None] = {}

    def look_at(self, event: Fields, *, is_taken: bool) -> None:
        if self.ended:
            return
        if self._seen >= _TRIAL_EVENTS:
            self.end()
            return
        self._seen += 1
        self._filtered |= self._maker.filtered_by(event)
        self._names.update(dict.fromkeys(event))
        if is_taken:
            self._taken += 1
            self._fed |= self._maker.fed(event)

    def is_over(self, size: int) -> bool:
        """Whether enough was seen, in events or in bytes of them; then it ends."""
        if not self.ended and (self._seen >= _TRIAL_EVENTS or size >= _TRIAL_BYTES):
            self.end()
        return self.ended

    def end(self) -> None:
        """Says what is amiss; raises LoadError where the mapping is none for these events."""
        if self.ended:
            return
        self.ended = True
        where = f"source {self._mapping.name} ({self._mapping.place})"
        first = f"the first {self._seen:,} events" if self._seen > 1 else "the first event"
        lack = f"which {first} lack{'s' * (self._seen == 1)}; {self._found()}: is it this source?"
        if self._seen and (lacking := [path for path in self._mapping.filter_paths if path not in self._filtered]):
            raise LoadError(f"{where} takes events by {', '.join(lacking)}, {lack}")
        if self._taken and "event_timestamp" not in self._fed:
            paths = ", ".join(self._mapping.columns["event_timestamp"].paths)
            raise LoadError(f"{where} feeds event_timestamp from {paths}, {lack}")
        for columns in _ESSENTIAL:
            if self._taken and self._fed.isdisjoint(columns):
                of = [path for name in columns for path in self._mapping.paths_of(name)]
                fields = f" ({', '.join(of)})" if of else ""
                logger.warning("%s: nothing in %s feeds %s%s", self._name, first, " or ".join(columns), fields)

    def _found(self) -> str:
        names = list(self._names)
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return f"found {', '.join(names[:_SHOWN])}{more}"


def _json_lines(blocks: Iterator[bytes], line: int = 1) -> Iterator[Found]:
    for number, raw in _lines(blocks, line):
        if not raw.isspace():
            yield number, raw, _fields(raw)


def _lines(blocks: Iterator[bytes], line: int = 1) -> Iterator[tuple[int, bytes]]:
    """Each line that is not empty, without its line feed."""
    for number, raw in enumerate(chain.from_iterable(map(BytesIO, whole_lines(blocks))), line):
        raw = raw.removesuffix(b"\n")
        if raw not in (b"", b"\r"):
            yield number, raw


def _fields(raw: bytes, *, as_written: bool = False) -> Fields | Reject:
    try:
        return parse_object(raw, as_written=as_written)
    except Reject as reject:
        return reject


def _text(raw: bytes) -> str | Reject:
    try:
        return raw.removesuffix(b"\r").decode()
    except UnicodeDecodeError as error:
        return Reject(f"not UTF-8: the byte {raw[error.start]:#04x} after {error.start} others")
