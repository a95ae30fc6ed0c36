"""A TOML file of a project, and the lines of its values for messages."""

from __future__ import annotations

import io
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ProjectError
from .whole_files import read_text


@dataclass(frozen=True, slots=True)
class TomlFile:
    """A file's text and what it says; `name` is how messages call it."""

    name: str
    text: str
    document: dict[str, Any]

    def place_of(self, *keys: str) -> str:
        """The file and the line, from 1, on which its text sets the value that the keys lead to."""
        lines = self.text.split("\n")
        start = 1
        for end in range(1, len(lines) + 1):
            try:
                value: Any = tomllib.loads("\n".join(lines[:end]))
            except tomllib.TOMLDecodeError:
                continue  # the value that begins at `start` goes on
            for key in keys:
                value = value.get(key) if isinstance(value, Mapping) else None
            if value is not None:
                break
            start = end + 1
        return f"{self.name}:{start}"


def read_toml(path: Path, name: str) -> TomlFile | None:
    """The file, None where there is none. Raises ProjectError, with the line, for a text that is no TOML."""
    try:
        text = io.StringIO(read_text(path, name), newline=None).read()  # whatever ends its lines
    except FileNotFoundError:
        return None
    try:
        return TomlFile(name, text, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        message, _, place = str(error).removesuffix(")").rpartition(" (at ")
        line = place.removeprefix("line ").replace(", column ", ":")
        if place == "end of document":
            line = str(text.count("\n") + 1)
        raise ProjectError(f"{name}:{line}: {message}") from None
