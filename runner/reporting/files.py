"""The dashboards as a file: one HTML page that needs nothing else, or an image a card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from ..card_rows import CardRows, read_card
from ..dashboards import Card, Dashboard, filter_values, read_dashboards
from ..errors import ProjectError, UsageError
from ..project import Project
from ..tables import counted
from ..warehouse import Connection
from ..whole_files import write_whole
from .shown_values import number_text

#: Rows of a card in its chart; its table has some of them.
CHART_ROWS: Final = 5000

Format = Literal["html", "png"]


@dataclass(frozen=True, slots=True)
class Freshness:
    """How new the numbers are: when the last load came to its end, and whether all loads are in the marts.

    Both None where the project has no loads.
    """

    loaded_at: datetime | None = None
    is_complete: bool | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the warehouse said, in one moment: `made_at`. `filters` are the values of filters in force."""

    title: str
    made_at: datetime
    freshness: Freshness
    filters: Mapping[str, str]
    dashboards: tuple[tuple[Dashboard, tuple[tuple[Card, CardRows], ...]], ...]


@dataclass(frozen=True, slots=True)
class ReportFile:
    """What was written: `files` with their sizes in bytes, of so many dashboards and cards.

    `page` is the page itself where it was asked for in the place of a file; None else.
    """

    files: tuple[tuple[Path, int], ...]
    count_dashboards: int
    count_cards: int
    filters: Mapping[str, str]
    page: str | None = None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size in self.files)

    def as_dict(self) -> dict[str, Any]:
        return {
            "files": [{"file": str(path), "size": size} for path, size in self.files],
            "dashboards": self.count_dashboards,
            "cards": self.count_cards,
            "filters": dict(self.filters),
        }

    def __str__(self) -> str:
        if self.page is not None:
            return self.page
        named = [str(path) for path, _ in self.files]
        what = f"{counted(self.count_dashboards, 'dashboard')}, {counted(self.count_cards, 'card')}"
        return "\n".join([*named, f"{what}, {number_text(self.size, 'bytes')}"])


def write_report(
    connection: Connection,
    project: Project,
    path: Path | None,
    *,
    format: Format = "html",  # the option's name
    dashboards: tuple[str, ...] = (),
    filters: Mapping[str, str] | None = None,
) -> ReportFile:
    """Writes the dashboards of those names, all without any, to the file `path`, or as images to the folder `path`.

    None gives the page back instead. `filters`: values by the filters' names. Raises UsageError for a name that there
    isn't or a value that doesn't fit its filter, SqlError for a card that PostgreSQL refuses, ProjectError for one that
    is no card or where the file can't be written; a file that stood there stays then.
    """
    snapshot = read_snapshot(connection, project, dashboards, filters or {})
    count_cards = sum(len(cards) for _, cards in snapshot.dashboards)
    if format == "png":
        from .card_images import images_of

        contents = {f"{name}.png": image for name, image in images_of(snapshot)}
        written = _write_folder(path or Path(), contents)
        return ReportFile(written, len(snapshot.dashboards), count_cards, snapshot.filters)
    from .page import page_of

    page = page_of(snapshot)
    content = page.encode()
    if path is None:
        return ReportFile((), len(snapshot.dashboards), count_cards, snapshot.filters, page)
    _write(path, content)
    return ReportFile(((path, len(content)),), len(snapshot.dashboards), count_cards, snapshot.filters)


def read_snapshot(
    connection: Connection, project: Project, names: tuple[str, ...], filters: Mapping[str, str]
) -> Snapshot:
    """The rows of the cards of those dashboards, as they stand in one snapshot."""
    known = read_dashboards(project)
    for name in names:
        if name not in [dashboard.name for dashboard in known]:
            raise UsageError(f"no dashboard {name!r}; there are {', '.join(d.name for d in known) or 'none'}")
    chosen = tuple(dashboard for dashboard in known if not names or dashboard.name in names)
    values = filter_values(chosen, filters)
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        row = connection.execute("select now()").fetchone()
        made_at = row[0] if row else None
        assert isinstance(made_at, datetime)
        freshness = _freshness(connection)
        read = tuple(
            (
                dashboard,
                tuple(
                    (card, read_card(connection, project, card, _own(dashboard, values), limit=CHART_ROWS))
                    for card in dashboard.cards
                ),
            )
            for dashboard in chosen
        )
    return Snapshot(_title(project), made_at, freshness, values, read)


def _own(dashboard: Dashboard, values: Mapping[str, str]) -> dict[str, str]:
    """The values of the dashboard's own filters: another's may have the same name for other cards alone."""
    return {name: value for name, value in values.items() if name in dashboard.filters}


def _title(project: Project) -> str:
    from ..project import builtin_folder

    return "clickmart" if project.folder == builtin_folder() else project.folder.name


def _freshness(connection: Connection) -> Freshness:
    found = connection.execute("select to_regclass('cdm.freshness')").fetchone()
    if found is None or found[0] is None:
        return Freshness()
    row = connection.execute("select loaded_at, count_pending_loads = 0 from cdm.freshness").fetchone()
    loaded_at, is_complete = row or (None, None)
    return Freshness(loaded_at, bool(is_complete)) if isinstance(loaded_at, datetime) else Freshness()


def _write_folder(folder: Path, contents: Mapping[str, bytes]) -> tuple[tuple[Path, int], ...]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ProjectError(f"{folder}: can't be made: {error.strerror}; -o names a folder for images") from None
    for name, content in contents.items():
        _write(folder / name, content)
    return tuple((folder / name, len(content)) for name, content in contents.items())


def _write(path: Path, content: bytes) -> None:
    try:
        write_whole(path, content)
    except OSError as error:
        raise ProjectError(f"{path}: can't be written: {error.strerror}") from None
