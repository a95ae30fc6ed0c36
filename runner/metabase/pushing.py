"""`clickmart metabase`: the project's dashboards against a Metabase, and what each command tells of it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..dashboards import read_dashboards
from ..errors import MetabaseError, UsageError
from ..project import Project
from ..tables import counted
from .client import Metabase
from .database import connection_body, wait_for_sync
from .found import DEFAULT_NAME, Found, read_database, read_found, read_version
from .objects import CardKey
from .steps import Change, Step, make_steps
from .writes import run_steps

_SIGNS: Final = {"create": "+", "restore": "+", "adopt": "~", "update": "~", "archive": "-"}
_LONGEST: Final = 100


@dataclass(frozen=True, slots=True)
class MetabaseOptions:
    """Where things are at Metabase. `collection` is the one that clickmart makes, `database` Metabase's name of the
    warehouse: None is "clickmart", or the only PostgreSQL there. `timeout`: seconds for the sync of a new database."""

    collection: str = DEFAULT_NAME
    database: str | None = None
    create_database: bool = False
    dsn: str | None = None
    timeout: float = 300.0

    def __post_init__(self) -> None:
        if not self.collection.strip() or "/" in self.collection or not self.collection.isprintable():
            raise UsageError(f"{self.collection!r} is no name for a collection; write one line without a slash")


@dataclass(frozen=True, slots=True)
class MetabasePlan:
    """What a push would write, or has written where it is `done`."""

    url: str
    version: int | None
    collection: str
    steps: tuple[Step, ...]
    notes: tuple[str, ...]
    done: bool = False

    @property
    def pending(self) -> bool:
        return bool(self.steps) and not self.done

    def as_dict(self) -> dict[str, Any]:
        return {
            "url": self.url,
            "version": self.version and f"0.{self.version}",
            "collection": self.collection,
            "done": self.done,
            "steps": [step.as_dict() for step in self.steps],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        lines = [line for step in self.steps for line in _step_lines(step)]
        verb = "done" if self.done else "to do"
        lines.append(f"{counted(len(self.steps), 'step')} {verb}" if self.steps else "nothing to do")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def plan(project: Project, metabase: Metabase, options: MetabaseOptions) -> MetabasePlan:
    """What a push would do. Only reads. Raises MetabaseError, ProjectError, UsageError."""
    found, steps = _plan(project, metabase, options)
    return MetabasePlan(metabase.url, found.version, options.collection, steps, found.notes)


def push(project: Project, metabase: Metabase, options: MetabaseOptions) -> MetabasePlan:
    """Makes Metabase hold the project's dashboards, then reads them back.

    Raises MetabaseError where a call fails, or where Metabase afterwards holds something else than was written.
    """
    found, steps = _plan(project, metabase, options)
    if found.database is not None and found.database.initial_sync_status == "incomplete":
        wait_for_sync(metabase, found.database.id, options.timeout)
    if steps:
        collection = int(found.collection.id) if found.collection else None
        run_steps(metabase, steps, options.collection, collection, timeout=options.timeout)
        _, left = _plan(project, metabase, options)
        if left:
            shown = "\n".join(line for step in left for line in _step_lines(step))
            raise MetabaseError(f"{metabase.url}: took all writes, and still differs:\n{shown}")
    return MetabasePlan(metabase.url, found.version, options.collection, steps, found.notes, done=True)


def _plan(project: Project, metabase: Metabase, options: MetabaseOptions) -> tuple[Found, tuple[Step, ...]]:
    dashboards = read_dashboards(project)
    connection = None
    if options.create_database:
        connection = connection_body(options.database or DEFAULT_NAME, options.dsn)
        metabase.hide(connection["details"]["password"])
    version = read_version(metabase)
    database = read_database(metabase, options.database, may_lack=connection is not None)
    found = read_found(
        metabase,
        options.collection,
        [CardKey(dashboard.name, card.name) for dashboard in dashboards for card in dashboard.cards],
        [dashboard.name for dashboard in dashboards],
        version=version,
        database=database,
    )
    return found, make_steps(dashboards, found, options.collection, connection)


def _step_lines(step: Step) -> list[str]:
    lines = [f"{_SIGNS[step.action]} {step.action} {step.kind} {step.name}"]
    return lines + [f"    {line}" for change in step.changes for line in _change_lines(change)]


def _change_lines(change: Change) -> list[str]:
    before, after = change.found, change.wanted
    if isinstance(before, str) and isinstance(after, str) and "\n" in before + after:
        diff = list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0))[2:]
        return [f"{change.what}:", *(f"  {line}" for line in diff)]
    return [f"{change.what}: {_short(before)} -> {_short(after)}"]


def _short(value: object) -> str:
    if value is None:
        return "none"
    text = ", ".join(f"{key}: {inner}" for key, inner in value.items()) if isinstance(value, Mapping) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
