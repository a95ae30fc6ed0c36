"""The errors that clickmart raises on purpose.

ClickmartError
├── UsageError        the call itself is wrong (exit code 2)
├── ProjectError      a project folder: settings, templates, migrations that drifted or that it lacks
├── SqlError          PostgreSQL refused a statement; knows file, line and column where they can be known
├── LoadError         a file that can't be read or loaded
├── WarehouseError    no connection, no server, not the server that is needed
└── MetabaseError     Metabase can't be reached, refuses a call, or answers what was not asked
"""

from __future__ import annotations


class ClickmartError(Exception):
    """Base of all: `str(error)` is the whole message for a person, `exit_code` is what the command ends with."""

    exit_code = 1


class UsageError(ClickmartError):
    """Options or arguments that contradict each other or name nothing."""

    exit_code = 2


class ProjectError(ClickmartError):
    """A project folder that can't be used as it stands."""


class SqlError(ClickmartError):
    """A statement that PostgreSQL refused.

    `file`, `line` and `column` (both from 1) say where in the project's own files; None where that can't be known.
    """

    def __init__(
        self, message: str, *, file: str | None = None, line: int | None = None, column: int | None = None
    ) -> None:
        super().__init__(message)
        self.file = file
        self.line = line
        self.column = column


class LoadError(ClickmartError):
    """A file that can't be read, or no file where one was named."""


class WarehouseError(ClickmartError):
    """The warehouse can't be reached, can't be started, or isn't what clickmart needs."""


class MetabaseError(ClickmartError):
    """A call that Metabase refused or answered wrongly. `status` is that of HTTP, None where there was no answer."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
