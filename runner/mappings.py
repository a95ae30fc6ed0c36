"""What a source's own fields mean: which of them feeds which column of stage.events, by a file of the project.

sources/NAME.toml of the project folder, else the built-in one of that name. docs/sources.md tells the form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from .columns import COLUMNS, NAMES
from .errors import ProjectError
from .field_paths import parse_path
from .settings import PATTERNS
from .toml_file import TomlFile, read_toml

FOLDER: Final = "sources"
#: What a file may be besides the formats that load knows: fields with tabs between them, or lines by a pattern.
MAPPED_FORMATS: Final = ("tsv", "log")
FORMATS: Final = ("jsonl", "json", "csv", "parquet", *MAPPED_FORMATS)
UNITS: Final = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6}
PARTS: Final = ("scheme", "host", "port", "path")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_KEYS: Final = ("like", "format", "fields", "pattern", "missing", "each", "main", "parts", "only", "columns", "steps")
#: Of a column's rule: where its value comes from, and what is made of it; of each no more than one.
_ORIGINS: Final = ("from", "join", "value")
_TRANSFORMS: Final = ("unit", "time", "part", "parameter", "pattern", "matches", "values")
_RULE_KEYS: Final = (*_ORIGINS, *_TRANSFORMS, "with", "default")
_FILTER_KEYS: Final = ("matches", "not")

Transform = Literal["unit", "time", "part", "parameter", "pattern", "matches", "values"]


@dataclass(frozen=True, slots=True)
class Rule:
    """How a column gets its value.

    `paths`: the first of these fields that is not missing; with `joined`, all of them with that text between. `value`:
    this text, of no field. `transform` names what is made of it, by `by`; `default` stands in where that is missing.
    """

    paths: tuple[str, ...] = ()
    joined: str | None = None
    value: str | None = None
    transform: Transform | None = None
    by: Any = None
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which texts a field must have for a record to be taken: one of `values`, or one that the regular expression
    `matches` finds something in, or one that `excludes` does not."""

    path: str
    values: tuple[str, ...] = ()
    matches: str | None = None
    excludes: str | None = None


@dataclass(frozen=True)
class SourceMapping:
    """A source's file, read. `place` is its path.

    `format`: what files are whose names don't say, empty for none. `fields`: the names of a TSV's fields where no
    header gives them. `pattern`: how a line of a log is to be read. `missing`: texts that mean nothing. `each`: an
    array of the record, whose elements are the events. `main`: how the files of events are named where others beside
    them have parts of each; `parts`: how these are named, and by which field they are found. `columns`: a rule for each
    column that is fed. `steps`: step patterns that stand in the place of the settings'.
    """

    name: str
    place: str
    format: str = ""
    fields: tuple[str, ...] = ()
    pattern: str = ""
    missing: tuple[str, ...] = ()
    each: str = ""
    main: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)
    only: tuple[Filter, ...] = ()
    columns: Mapping[str, Rule] = field(default_factory=dict)
    steps: Mapping[str, str] = field(default_factory=dict)

    @property
    def unfed(self) -> list[str]:
        """The columns that nothing feeds."""
        return [name for name in NAMES if name not in self.columns]

    @property
    def paths(self) -> list[str]:
        """The fields that it looks at."""
        return [path for name in self.columns for path in self.paths_of(name)] + [filter.path for filter in self.only]

    @property
    def filter_paths(self) -> list[str]:
        """The fields that a record must have to be taken."""
        return [filter.path for filter in self.only if filter.values or filter.matches is not None]

    def paths_of(self, column: str) -> tuple[str, ...]:
        """The fields that feed a column."""
        return self.columns[column].paths if column in self.columns else ()


def source_files(folders: Iterable[Path]) -> dict[str, Path]:
    """The file of each source by its name, those of earlier folders standing before those of later ones."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted((folder / FOLDER).glob("*.toml")):
            if not path.name.startswith("."):
                found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def read_mapping(name: str, files: Mapping[str, Path]) -> SourceMapping:
    """The mapping of the source of that name. Raises ProjectError, with the file and its line, where there is none, or
    it is not as docs/sources.md has it."""
    if name not in files:
        known = f"there are {', '.join(files)}" if files else "there are none"
        raise ProjectError(f"no source {name!r}; {known}; one of your own is {FOLDER}/NAME.toml of the project folder")
    return _read(name, files, ())


def _read(name: str, files: Mapping[str, Path], readers: Sequence[str]) -> SourceMapping:
    place = f"{FOLDER}/{name}.toml"
    if not _NAME.fullmatch(name):
        raise ProjectError(f"{place}: a source's name has letters, digits, - and _, 63 at the most")
    file = read_toml(files[name], place)
    if file is None:
        raise ProjectError(f"{place}: no such file")
    return _Reader(file, name).mapping(lambda like: _like(like, file, files, (*readers, name)))


def _like(like: str, file: TomlFile, files: Mapping[str, Path], readers: Sequence[str]) -> SourceMapping:
    if like in readers:
        raise ProjectError(f"{file.place_of('like')}: like leads back to {like!r}")
    if like not in files:
        raise ProjectError(f"{file.place_of('like')}: no source {like!r} to be like; there are {', '.join(files)}")
    return _read(like, files, readers)


class _Reader:
    """Reads one file; every error is a ProjectError that names the line."""

    def __init__(self, file: TomlFile, name: str) -> None:
        self._file = file
        self._name = name
        self._document = file.document

    def mapping(self, like: Callable[[str], SourceMapping]) -> SourceMapping:
        for key in self._document:
            if key not in _KEYS:
                self._fail((key,), f"unknown name {key!r}; there are {', '.join(_KEYS)}")
        base = like(self._text("like")) if "like" in self._document else SourceMapping("", "")
        columns = dict(base.columns)
        for column in self._table("columns"):
            if column not in COLUMNS:
                self._fail(("columns", column), f"stage.events has no column {column!r}; it has {', '.join(COLUMNS)}")
            columns[column] = self._rule(column)
        steps = dict(base.steps)
        for step in self._table("steps"):
            if step not in PATTERNS:
                self._fail(("steps", step), f"unknown step {step!r}; there are {', '.join(PATTERNS)}")
            steps[step] = self._text("steps", step)
        mapping = SourceMapping(
            self._name,
            self._file.name,
            self._format() if "format" in self._document else base.format,
            self._texts("fields") if "fields" in self._document else base.fields,
            self._regex("pattern") if "pattern" in self._document else base.pattern,
            self._texts("missing") if "missing" in self._document else base.missing,
            self._text("each") if "each" in self._document else base.each,
            self._text("main") if "main" in self._document else base.main,
            {part: self._text("parts", part) for part in self._table("parts")} or base.parts,
            tuple(map(self._filter, self._table("only"))) if "only" in self._document else base.only,
            columns,
            steps,
        )
        if "event_timestamp" not in columns:
            self._fail(("columns",), "nothing feeds event_timestamp, without which there is no page view")
        if bool(mapping.main) != bool(mapping.parts):
            self._fail(("main",) if mapping.main else ("parts",), "main and [parts] go together: what is joined to it")
        if mapping.main and mapping.each:
            self._fail(("each",), "the events of `each` can't have parts in other files")
        if mapping.format == "log" and not mapping.pattern:
            self._fail(("format",), "a log needs a pattern, whose named groups are the fields")
        return mapping

    def _fail(self, keys: Sequence[str], problem: str) -> None:
        raise ProjectError(f"{self._file.place_of(*keys)}: {problem}")

    def _at(self, keys: Sequence[str]) -> Any:
        value: Any = self._document
        for key in keys:
            value = value[key]
        return value

    def _table(self, key: str) -> dict[str, Any]:
        table = self._document.get(key, {})
        if not isinstance(table, dict):
            self._fail((key,), f"{key} is no table; write [{key}]")
        return dict(table)

    def _text(self, *keys: str) -> str:
        value = self._at(keys)
        if not isinstance(value, str):
            self._fail(keys, f"{keys[-1]} must be a text in quotes, found {value!r}")
        return self._storable(keys, value)[0]

    def _storable(self, keys: Sequence[str], *texts: str) -> tuple[str, ...]:
        if "\0" in "".join(texts):
            self._fail(keys, f"{keys[-1]} holds a NUL character")
        return texts

    def _texts(self, *keys: str) -> tuple[str, ...]:
        """One text or a list of them, one or more."""
        value = self._at(keys)
        if isinstance(value, str):
            return self._storable(keys, value)
        if not isinstance(value, list) or not value or not all(isinstance(text, str) for text in value):
            self._fail(keys, f"{keys[-1]} must be a text in quotes, or a list of such, found {value!r}")
        return self._storable(keys, *value)

    def _format(self) -> str:
        value = self._text("format")
        if value not in FORMATS:
            self._fail(("format",), f"unknown format {value!r}; there are {', '.join(FORMATS)}")
        return value

    def _paths(self, *keys: str) -> tuple[str, ...]:
        paths = self._texts(*keys)
        self._refuse_no_path(keys, *paths)
        return paths

    def _refuse_no_path(self, keys: Sequence[str], *paths: str) -> None:
        for path in paths:
            try:
                parse_path(path)
            except ValueError as error:
                self._fail(keys, str(error))

    def _regex(self, *keys: str) -> str:
        pattern = self._text(*keys)
        try:
            re.compile(pattern)
        except re.error as error:
            self._fail(keys, f"{keys[-1]} is no regular expression of Python: {error}")
        return pattern

    def _filter(self, path: str) -> Filter:
        keys = ("only", path)
        self._refuse_no_path(keys, path)
        value = self._at(keys)
        if not isinstance(value, dict):
            return Filter(path, self._texts(*keys))
        self._refuse_unknown(keys, value, _FILTER_KEYS)
        return Filter(
            path,
            matches=self._regex(*keys, "matches") if "matches" in value else None,
            excludes=self._regex(*keys, "not") if "not" in value else None,
        )

    def _rule(self, column: str) -> Rule:
        keys = ("columns", column)
        value = self._at(keys)
        if not isinstance(value, dict):
            return Rule(self._paths(*keys))
        self._refuse_unknown(keys, value, _RULE_KEYS)
        origins = [key for key in _ORIGINS if key in value]
        if len(origins) != 1:
            self._fail(keys, f"{column} needs one of {', '.join(_ORIGINS)}, found {' and '.join(origins) or 'none'}")
        transforms = [key for key in _TRANSFORMS if key in value]
        if len(transforms) > 1:
            self._fail(keys, f"{column} has {' and '.join(transforms)}; one of them is all there can be")
        if "with" in value and "join" not in value:
            self._fail(keys, f"{column} has `with` and nothing to join")
        transform: Any = transforms[0] if transforms else None
        return Rule(
            self._paths(*keys, origins[0]) if origins[0] != "value" else (),
            (self._text(*keys, "with") if "with" in value else "") if "join" in value else None,
            self._text(*keys, "value") if "value" in value else None,
            transform,
            self._argument(transform, *keys, transform) if transform else None,
            self._text(*keys, "default") if "default" in value else None,
        )

    def _argument(self, transform: Transform, *keys: str) -> Any:
        """What a transform goes by."""
        if transform == "values":
            table = self._at(keys)
            if not isinstance(table, dict) or not all(isinstance(text, str) for text in table.values()):
                self._fail(keys, "values must be a table of texts, as { a = 'x', b = 'y' }")
            return dict(table)
        if transform in ("pattern", "matches"):
            pattern = self._regex(*keys)
            if transform == "pattern" and re.compile(pattern).groups != 1:
                self._fail(keys, "pattern must have one group in brackets, which is what the column gets")
            return pattern
        text = self._text(*keys)
        choices: Iterable[str] = {"unit": UNITS, "part": PARTS}.get(transform, ())
        if choices and text not in choices:
            self._fail(keys, f"unknown {transform} {text!r}; there are {', '.join(choices)}")
        return text

    def _refuse_unknown(self, keys: Sequence[str], table: Mapping[str, Any], known: Sequence[str]) -> None:
        for key in table:
            if key not in known:
                self._fail((*keys, key), f"unknown name {key!r}; there are {', '.join(known)}")
        if not table:
            self._fail(keys, f"{keys[-1]} says nothing; there are {', '.join(known)}")
