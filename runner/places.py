"""Places in a project's files, as errors name them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a project's file: `line` and `column` from 1, `text` the line itself."""

    file: str
    line: int
    column: int
    text: str

    @classmethod
    def of(cls, file: str, text: str, offset: int) -> Position:
        """The place of the character `offset`, from 0, of a file's text."""
        start = text.rfind("\n", 0, offset) + 1
        line = text[start:].partition("\n")[0].removesuffix("\r")
        return cls(file, text.count("\n", 0, start) + 1, offset - start + 1, line)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


def file_name(template: str) -> str:
    """A template's path from the project folder."""
    return str(PurePosixPath("sql") / template)
