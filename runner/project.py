"""A project folder, read: migrations, rendered SQL files, settings. No database."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .errors import ProjectError
from .mappings import SourceMapping, read_mapping, source_files
from .places import Position, file_name
from .settings import DEFAULT_FILE, FILE_NAME, PATTERNS, Settings, read_settings
from .statements import split_statements
from .version import __version__
from .whole_files import decoded

# Jinja takes long to import, and is needed where something has changed alone.
if TYPE_CHECKING:
    from .templates import Templates
    from .timeline_files import TimelineFile

#: The folder of the tests of the project's marts.
TIMELINES: Final = "tests"
PARTS: Final = ("migrations", "sql", "sources", "dashboards")
#: Folders of sql/ that come first, in this order; any other follows by name.
LAYERS: Final = ("stage", "cdm")
NO_TRANSACTION: Final = "-- clickmart: no transaction"
#: Statements that begin or end a transaction; a rollback to a savepoint does neither.
TRANSACTION_WORDS: Final = frozenset({"begin", "start", "commit", "end", "rollback", "abort"})
_CLIENT_COPY: Final = re.compile(r"\b(?:stdin|stdout)\b", re.IGNORECASE)


def checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, slots=True)
class Migration:
    """A migration: plain SQL, applied once. `path` is its path from the project folder, `name` the file's own name,
    `text` what the server gets: all of the file but for a byte order mark."""

    path: str
    name: str
    text: str
    checksum: str

    @property
    def in_transaction(self) -> bool:
        """False where the first line opts out, as `create index concurrently` needs."""
        return self.text.partition("\n")[0].strip().lower() != NO_TRANSACTION


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
        from .templates import Templates

        return Templates(self.folder / "sql", self.settings, self.source_steps)

    @cached_property
    def source_files(self) -> dict[str, Path]:
        """The file of each source, by its name: the project's own, and the built-in ones whose names it has not."""
        return source_files((self.folder, builtin_folder()))

    def mapping(self, source: str) -> SourceMapping:
        """What the fields of a source mean. Raises ProjectError, with the line, where there is none, or it is amiss."""
        return read_mapping(source, self.source_files)

    @cached_property
    def timelines(self) -> tuple[TimelineFile, ...]:
        """The tests of the project's marts, by name. Raises ProjectError, with the line, for one that can't be read."""
        from .timeline_files import ENDING, read_timeline

        folder = self.folder / TIMELINES
        if self.folder == builtin_folder():
            folder = builtin_timelines()
        return tuple(
            read_timeline(path, f"{TIMELINES}/{path.relative_to(folder).as_posix()}")
            for path in sorted(folder.glob(f"**/*{ENDING}"))
            if not any(part.startswith(".") for part in path.relative_to(folder).parts)
        )

    @cached_property
    def source_steps(self) -> dict[str, dict[str, str]]:
        """All step patterns of each source that has some of its own. Raises ProjectError for a source that is amiss."""
        return self._source_steps(self.settings)

    def _source_steps(self, settings: Settings) -> dict[str, dict[str, str]]:
        patterns = {name: getattr(settings, name) for name in PATTERNS}
        return {source: patterns | own for source, own in self.own_steps.items()}

    @cached_property
    def own_steps(self) -> dict[str, dict[str, str]]:
        """The step patterns that each source has of its own. Raises ProjectError for a source that is amiss."""
        steps = {source: dict(self.mapping(source).steps) for source in self.source_files}
        return {source: own for source, own in steps.items() if own}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all that the SQL files are rendered from: while it stays, so do they."""
        folder = self.folder / "sql"
        parts = [__version__, repr(self.settings.as_dict())]
        try:
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                parts += [path.relative_to(folder).as_posix(), checksum(path.read_bytes())]
            for source, path in self.source_files.items():
                parts += [source, checksum(path.read_bytes())]
        except OSError as error:
            raise ProjectError(f"{error.filename or 'sql'}: can't be read: {error.strerror}") from None
        return checksum("\n".join(parts).encode("utf-8", "surrogateescape"))

    @cached_property
    def migrations(self) -> tuple[Migration, ...]:
        """All migrations, in the order in which they apply. Raises ProjectError for one that can't be read, or that
        would end its own transaction."""
        return tuple(map(self._read_migration, _sql_files(self.folder / "migrations", "*.sql")))

    @cached_property
    def files(self) -> tuple[SqlFile, ...]:
        """All SQL files, rendered, in the order in which they apply. Raises ProjectError for one that can't render, or
        that would end the transaction of all."""
        return tuple(map(self._render, self._templates_in_order))

    @cached_property
    def file_paths(self) -> frozenset[str]:
        """The paths of the SQL files, none of which is rendered for it."""
        return frozenset(map(file_name, self._templates_in_order))

    @cached_property
    def names(self) -> dict[str, tuple[str, ...]]:
        """Of each migration and SQL file, by its path, the names that mean it alone, the shortest first."""
        paths = [f"migrations/{file.name}" for file in _sql_files(self.folder / "migrations", "*.sql")]
        paths += map(file_name, self._templates_in_order)
        meant = {path: names_of(path) for path in paths}
        counts = Counter(name for names in meant.values() for name in set(names))
        return {path: tuple(name for name in names if counts[name] == 1) for path, names in meant.items()}

    @cached_property
    def _templates_in_order(self) -> tuple[str, ...]:
        folder = self.folder / "sql"
        if stray := _sql_files(folder, "*.sql"):
            raise ProjectError(f"sql/{stray[0].name}: stands in no folder of sql/; move it into one, as sql/cdm")
        paths = [path.relative_to(folder) for path in _sql_files(folder, "**/*.sql")]
        paths.sort(key=lambda path: (_layer(path.parts[0]), path.as_posix()))
        return tuple(path.as_posix() for path in paths)

    def locate(self, path: str, text: str, offset: int) -> Position:
        """Where in the project's own files the character `offset` of the `text` comes from, which the file at `path`
        holds or is rendered to."""
        if path.startswith("sql/"):
            return self.templates.locate(path.removeprefix("sql/"), text, offset)
        return Position.of(path, text, offset)

    def text_with(self, file: SqlFile, settings: Settings) -> str:
        """The text to which the file would be rendered with other settings."""
        other = type(self.templates)(self.folder / "sql", settings, self._source_steps(settings))
        return other.render(file.template)

    def _render(self, template: str) -> SqlFile:
        path, text = file_name(template), self.templates.render(template)
        self._refuse(path, text, in_transaction=True)
        content = (self.folder / path).read_bytes()
        return SqlFile(path, template, text, checksum(content), checksum(text.encode()))

    def _read_migration(self, file: Path) -> Migration:
        path = f"migrations/{file.name}"
        try:
            content = file.read_bytes()
        except OSError as error:
            raise ProjectError(f"{path}: can't be read: {error.strerror}") from None
        text = decoded(content, path)
        if "\0" in text:
            place = Position.of(path, text, text.index("\0"))
            raise ProjectError(f"{place}: PostgreSQL can't store the character U+0000 that stands here")
        migration = Migration(path, file.name, text, checksum(content))
        self._refuse(path, text, in_transaction=migration.in_transaction)
        return migration

    def _refuse(self, path: str, text: str, *, in_transaction: bool) -> None:
        """Raises ProjectError, with the place, for a statement that can't be run as part of the file."""
        for statement in split_statements(text):
            words = " ".join(statement.words)
            problem = ""
            if words.startswith("copy ") and _CLIENT_COPY.search(statement.text):
                problem = "copy from stdin or to stdout needs psql at the other end; write insert instead"
            elif not in_transaction or words == "rollback to":
                continue
            elif statement.words[0] in TRANSACTION_WORDS or words == "prepare transaction":
                whose = "the migration and its ledger row are" if path.startswith("migrations/") else "all files are"
                problem = f"{words} would break the one transaction that {whose}; leave it out"
                if path.startswith("migrations/"):
                    problem += f", or begin the file with the line `{NO_TRANSACTION}`"
            if problem:
                raise ProjectError(f"{self.locate(path, text, statement.offset)}: {problem}")


def _sql_files(folder: Path, pattern: str) -> list[Path]:
    """The files of a folder by name, without hidden ones, which editors and systems put beside others. A link that
    leads nowhere stays, to be an error."""
    files = []
    for path in sorted(folder.glob(pattern), key=lambda path: path.name):
        name = path.relative_to(folder.parent).as_posix()
        if path.is_dir() or "/." in name:
            continue
        if not name.isprintable():
            raise ProjectError(f"{name!a}: a name that can't be shown; rename the file")
        files.append(path)
    return files


def _layer(folder: str) -> tuple[int, str]:
    return (LAYERS.index(folder) if folder in LAYERS else len(LAYERS), folder)


def names_of(path: str) -> tuple[str, ...]:
    """What a person may call the file at this path of the project, the shortest first."""
    return Path(path).stem, Path(path).name, path.removeprefix("sql/"), path


def builtin_timelines() -> Path:
    """The built-in project's own tests of its marts, which `init` puts into tests/."""
    return Path(__file__).resolve().parent / "timelines"


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
        shutil.copytree(builtin_timelines(), target / TIMELINES)
        with (target / FILE_NAME).open("x", encoding="utf-8") as file:
            file.write(DEFAULT_FILE)
    except OSError as error:
        raise ProjectError(f"{folder}: can't be made: {error.strerror or error}") from None
    return target
