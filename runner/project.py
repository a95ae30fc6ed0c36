"""A project folder, read: migrations, rendered SQL files, settings. No database."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from .errors import ProjectError
from .settings import DEFAULT_FILE, FILE_NAME, Settings, read_settings
from .statements import split_statements
from .templates import Position, Templates, file_name

PARTS: Final = ("migrations", "sql", "dashboards")
#: Folders of sql/ that come first, in this order; any other follows by name.
LAYERS: Final = ("stage", "cdm")
NO_TRANSACTION: Final = "-- clickmart: no transaction"
#: Statements that would end the transaction in which a migration and its ledger row are one.
_TRANSACTION_WORDS: Final = frozenset({"begin", "start", "commit", "end", "rollback", "abort"})


def checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, slots=True)
class Migration:
    """A migration: plain SQL, applied once. `path` is its path from the project folder, `name` the file's own name."""

    path: str
    name: str
    content: bytes
    checksum: str

    @property
    def text(self) -> str:
        return self.content.decode("utf-8")

    @property
    def in_transaction(self) -> bool:
        """False where the first line opts out, as `create index concurrently` needs."""
        return self.text.removeprefix("\ufeff").partition("\n")[0].strip().lower() != NO_TRANSACTION


@dataclass(frozen=True, slots=True)
class SqlFile:
    """A template of sql/ and its rendered text; `path` is its path from the project folder."""

    path: str
    template: str
    text: str
    template_checksum: str
    checksum: str


@dataclass(frozen=True)
class Project:
    """A project folder as it stands on disk."""

    folder: Path
    settings: Settings

    @cached_property
    def templates(self) -> Templates:
        return Templates(self.folder / "sql", self.settings)

    @cached_property
    def migrations(self) -> tuple[Migration, ...]:
        """All migrations, in the order in which they apply. Raises ProjectError for one that is no UTF-8 text, or
        that would end its own transaction."""
        return tuple(map(_read_migration, sorted((self.folder / "migrations").glob("*.sql"), key=lambda p: p.name)))

    @cached_property
    def files(self) -> tuple[SqlFile, ...]:
        """All SQL files, rendered, in the order in which they apply. Raises ProjectError for one that can't render."""
        folder = self.folder / "sql"
        stray = sorted(folder.glob("*.sql"))
        if stray:
            raise ProjectError(f"sql/{stray[0].name}: stands in no folder of sql/; move it into one, as sql/cdm")
        paths = [path.relative_to(folder) for path in folder.rglob("*.sql") if path.is_file()]
        paths.sort(key=lambda path: (_layer(path.parts[0]), path.as_posix()))
        return tuple(self._render(path.as_posix()) for path in paths)

    def locate(self, path: str, offset: int) -> Position | None:
        """From which line of the project's own files a character of a file's rendered text comes."""
        for migration in self.migrations:
            if migration.path == path:
                return Position.of(path, migration.text, offset)
        return self.templates.locate(Path(path).relative_to("sql").as_posix(), offset)

    def _render(self, template: str) -> SqlFile:
        text = self.templates.render(template)
        if "\0" in text:
            raise ProjectError(f"{file_name(template)}: holds a NUL character")
        return SqlFile(
            path=file_name(template),
            template=template,
            text=text,
            template_checksum=checksum((self.folder / "sql" / template).read_bytes()),
            checksum=checksum(text.encode()),
        )


def _layer(folder: str) -> tuple[int, str]:
    return (LAYERS.index(folder) if folder in LAYERS else len(LAYERS), folder)


def _read_migration(path: Path) -> Migration:
    name = f"migrations/{path.name}"
    try:
        content = path.read_bytes()
        text = content.decode("utf-8")
    except OSError as error:
        raise ProjectError(f"{name}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ProjectError(f"{name}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    migration = Migration(name, path.name, content, checksum(content))
    if migration.in_transaction:
        for statement in split_statements(text):
            if statement.first_word in _TRANSACTION_WORDS:
                place = Position.of(name, text, statement.offset)
                raise ProjectError(
                    f"{name}:{place.line}:{place.column}: {statement.first_word!r} would end the migration's "
                    f"transaction; leave it out, or begin the file with the line {NO_TRANSACTION!r}"
                )
    return migration


def builtin_folder() -> Path:
    """The built-in project: beside the package in a wheel, one folder up in a checkout."""
    package = Path(__file__).resolve().parent
    return package if (package / "sql").is_dir() else package.parent


def read_project(folder: str | Path | None = None) -> Project:
    """The project in `folder`; None is the built-in one. Raises ProjectError where it is none or its settings fail."""
    if folder is None:
        return Project(builtin_folder(), Settings())
    path = Path(folder).absolute()
    if not path.is_dir():
        raise ProjectError(f"{folder}: no such folder; `clickmart init {folder}` makes a project there")
    if not (path / "sql").is_dir() or not (path / "migrations").is_dir():
        raise ProjectError(f"{folder}: no project folder, it lacks sql/ or migrations/; `clickmart init` makes one")
    return Project(path, read_settings(path / FILE_NAME))


def init_project(folder: str | Path) -> Path:
    """Copies the built-in project to `folder`, which must not exist or be empty. Raises ProjectError."""
    target = Path(folder).absolute()
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise ProjectError(f"{folder}: exists already and isn't an empty folder; name another one")
        target.mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            if (builtin_folder() / part).is_dir():
                shutil.copytree(builtin_folder() / part, target / part, ignore=shutil.ignore_patterns("__pycache__"))
        (target / FILE_NAME).write_text(DEFAULT_FILE, encoding="utf-8")
    except OSError as error:
        raise ProjectError(f"{folder}: can't be made: {error.strerror}") from None
    return target
