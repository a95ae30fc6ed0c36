"""Jinja templates of a project's SQL, and from where in them each character of the rendered text comes."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from traceback import walk_tb
from types import CodeType
from typing import Any, Final

import jinja2
from jinja2.bccache import Bucket
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream
from jinja2.loaders import split_template_path
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .errors import ProjectError
from .places import Position, file_name
from .settings import Settings
from .whole_files import read_text

# Private-use characters that frame "template:offset:length" in a rendering made only to be mapped.
_OPEN: Final = "\U000f7f01"
_CLOSE: Final = "\U000f7f02"
_MARK: Final = re.compile(f"{_OPEN}([0-9]+):([0-9]+):([0-9]+){_CLOSE}")
# What must not stand in a plain literal: two dollars may end the body around it, and a filter such as `indent` changes
# what has lines.
_NOT_PLAIN: Final = re.compile(r"[\x00-\x1f\x7f]|\$[^$]*\$")
_ESCAPED: Final = re.compile(r"[\x00-\x1f\x7f$\\]")
_NOT_STORABLE: Final = re.compile("[\0\ud800-\udfff]")


def literal(value: object) -> str:
    """A value as an SQL text literal of one line, also safe within a dollar-quoted body."""
    text = str(value).replace("'", "''")
    if _NOT_PLAIN.search(text):
        escaped = _ESCAPED.sub(lambda found: "\\\\" if found[0] == "\\" else f"\\u{ord(found[0]):04x}", text)
        return f"E'{escaped}'"
    return f"'{text}'"


class Templates:
    """The templates below a project's folder `sql/`, rendered with its settings and the step patterns of its sources.

    They run in Jinja's sandbox and an unknown name is an error; names of templates are paths from `sql/`.
    """

    def __init__(
        self, sql_folder: Path, settings: Settings, source_steps: Mapping[str, Mapping[str, str]] | None = None
    ) -> None:
        self._folder = sql_folder
        self._settings = settings
        self._source_steps = source_steps or {}
        self._environment = self._new_environment()

    def render(self, name: str) -> str:
        """The template's text with the settings put in. Raises ProjectError with the template's own line."""
        text = self._render(self._environment, name)
        if found := _NOT_STORABLE.search(text):
            place = self.locate(name, text, found.start())
            raise ProjectError(f"{place}: PostgreSQL can't store the character U+{ord(found[0]):04X} that stands here")
        return text

    def locate(self, name: str, text: str, offset: int) -> Position:
        """From where the character `offset`, from 0, of the rendered `text` comes: a line of the template, or of one
        that it imports. It is a line of the text itself, and says so, where that can't be told, as when a template
        counts the characters it makes."""
        as_rendered = Position.of(f"{file_name(name)} (as rendered)", text, offset)
        environment = self._new_environment()
        environment.bytecode_cache = None  # marks are of one rendering
        marks = _Marks(environment)
        environment.extensions[_Marks.identifier] = marks
        try:
            marked = self._render(environment, name)
        except ProjectError:
            return as_rendered
        spans: list[tuple[int, int, int, int]] = []
        length = read = 0
        for match in _MARK.finditer(marked):
            length += match.start() - read
            read = match.end()
            spans.append((length, int(match[1]), int(match[2]), int(match[3])))
        if _MARK.sub("", marked) != text or not spans or offset < spans[0][0]:
            return as_rendered
        start, template, source_offset, source_length = spans[
            bisect.bisect_right(spans, offset, key=lambda span: span[0]) - 1
        ]
        # What an expression gives is found where the expression begins: its span has no length.
        source_offset += min(offset - start, source_length)
        template_name = marks.names[template]
        return Position.of(file_name(template_name), marks.sources[template_name], source_offset)

    def _new_environment(self) -> jinja2.Environment:
        environment = ImmutableSandboxedEnvironment(
            loader=jinja2.FunctionLoader(self._read),
            undefined=_Undefined,
            autoescape=False,
            keep_trailing_newline=True,
            bytecode_cache=_compiled(),
        )
        # What comes out otherwise each time would be applied again each time.
        del environment.globals["lipsum"], environment.filters["random"]
        environment.filters["literal"] = literal
        # Visible to imported macros too, which get no context of their own.
        environment.globals["settings"] = _SettingsByName(self._settings.as_dict())
        environment.globals["source_steps"] = self._source_steps
        return environment

    def _read(self, name: str) -> tuple[str, str, None] | None:
        """Source and path of a template, None where there is none of this name."""
        path = self._folder.joinpath(*split_template_path(name))
        try:
            return read_text(path, file_name(name)), str(path), None
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _render(self, environment: jinja2.Environment, name: str) -> str:
        try:
            return environment.get_template(name).render()
        except ProjectError:
            raise
        except jinja2.TemplateSyntaxError as error:
            raise ProjectError(f"{file_name(error.name or name)}:{error.lineno}: {error.message}") from None
        except jinja2.TemplateNotFound as error:
            raise ProjectError(f"{self._place_of(error, name)}: no template {error.name!r} in sql/") from None
        except Exception as error:  # a template may fail in any way that Python can
            message = str(error) or type(error).__name__
            raise ProjectError(f"{self._place_of(error, name)}: {message}") from None

    def _place_of(self, error: BaseException, name: str) -> str:
        """File and line of the innermost template in the error's traceback."""
        place = file_name(name)
        for frame, line in walk_tb(error.__traceback__):
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(self._folder):
                place = f"{file_name(path.relative_to(self._folder).as_posix())}:{line}"
        return place


class _Compiled(jinja2.BytecodeCache):
    """What sources compile to, by their content: whatever the settings, it is the same."""

    def __init__(self) -> None:
        self._codes: dict[tuple[str, str], CodeType] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._codes.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        if bucket.code:
            self._codes[bucket.key, bucket.checksum] = bucket.code


#: A plan renders the files with the settings of now and with those of the last apply.
_compiled: Final = cache(_Compiled)


class _SettingsByName(dict[str, Any]):
    """The settings as templates see them; a class of its own to be told from a template's other mappings."""


class _Undefined(jinja2.StrictUndefined):
    """Says which settings there are where a template asks for another."""

    __slots__ = ()

    @property
    def _undefined_message(self) -> str:
        if isinstance(self._undefined_obj, _SettingsByName):
            return f"no setting {self._undefined_name!r}; there are {', '.join(self._undefined_obj)}"
        return super()._undefined_message


class _Marks(Extension):
    """Puts a mark before each line of a template's own text and before each `{{`, so that a rendering tells where its
    characters stood."""

    def __init__(self, environment: jinja2.Environment) -> None:
        super().__init__(environment)
        self.names: list[str] = []
        self.sources: dict[str, str] = {}

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        normalized = re.sub("\r\n|\r", "\n", source)
        self.names.append(name or "")
        self.sources[name or ""] = normalized
        return normalized

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        name = stream.name or ""
        template = len(self.names) - 1
        offsets = self._offsets(self.sources[name], name)
        for token in stream:
            if token.type == "data":
                yield Token(token.lineno, "data", "".join(_marked(token.value, template, next(offsets))))
                continue
            if token.type == "variable_begin":
                yield Token(token.lineno, "data", f"{_OPEN}{template}:{next(offsets)}:0{_CLOSE}")
            yield token

    def _offsets(self, source: str, name: str) -> Iterator[int]:
        """Where each text and each `{{` of the source starts: the lexer yields the whole source, but for stripped
        blanks."""
        offset = 0
        for _, kind, text in self.environment.lexer.tokeniter(source, name):
            while not source.startswith(text, offset):
                offset += 1
            if kind in ("data", "variable_begin"):
                yield offset
            offset += len(text)


def _marked(text: str, template: int, offset: int) -> Iterable[str]:
    """The text with its marks. Blank lines stay as they are, since filters such as `indent` tell them from others."""
    for line in text.splitlines(keepends=True):
        yield line if line.isspace() else f"{_OPEN}{template}:{offset}:{len(line)}{_CLOSE}{line}"
        offset += len(line)
