"""The dashboards of a project: dashboards/NAME/dashboard.toml, and beside it one SQL file a card. No database.

A card's file runs in psql as it is. Its filters stand in it as comments, `-- [[ and day >= {{from}} ]]`: where a filter
has a value, the clause counts with it, else it stays a comment. Metabase has the same brackets without the dashes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec
from psycopg import sql

from .errors import ProjectError, UsageError
from .places import Position
from .project import Project
from .statements import split_statements, tokens
from .toml_file import TomlFile, read_toml
from .whole_files import read_text

FILE_NAME: Final = "dashboard.toml"
GRID_COLUMNS: Final = 24
#: Charts that the report draws, by Metabase's names but for `number`, Metabase's `scalar`. Any other name is taken for
#: one of Metabase's own, and is a table in the report.
CHARTS: Final = ("table", "number", "line", "area", "bar", "row", "pie", "funnel")

_T = TypeVar("_T", bound=msgspec.Struct)
_NAME: Final = re.compile(r"[a-z0-9_]+")
_VARIABLE: Final = re.compile(r"\{\{\s*([\w.-]+)\s*\}\}")
# A clause without a variable is none: `[[` also begins an array of arrays.
_CLAUSE: Final = re.compile(
    r"--[ \t]*\[\[(?P<commented>[^\n]*?\{\{[^\n]*?)\]\][ \t]*$|\[\[(?P<bare>(?:(?!\]\]).)*?\{\{.*?\}\}.*?)\]\]",
    re.MULTILINE | re.DOTALL,
)
_LAST_IN_LINE: Final = re.compile(r"(\[\[[^\n\[]*\{\{[^\n]*\]\])[ \t]*$", re.MULTILINE)


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rectangle on a grid of 24 columns; rows are of Metabase's height, some 50 pixels."""

    column: int
    row: int
    width: int
    height: int


class Filter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a reader may narrow a dashboard by: `{{name}}` in its cards.

    `values` is the card and the column, as `sources.referer_url`, whose values are offered; None offers none.
    """

    title: str
    type: Literal["date", "text", "number"]
    values: str | None = None


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a column of a card is shown. `format`: percent is of a fraction from 0 to 1, duration is of seconds."""

    title: str | None = None
    format: Literal["number", "percent", "duration", "bytes", "link", "date", "hour"] | None = None


class Text(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A text, in Markdown, or a heading between the cards."""

    text: str
    place: Place
    heading: bool = False
    tab: str | None = None


class _CardFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A card as dashboard.toml says it."""

    place: Place
    title: str | None = None
    description: str = ""
    chart: str = "table"
    x: str | None = None
    y: str | tuple[str, ...] = ()
    series: str | None = None
    stacked: bool = False
    columns: dict[str, Column] = {}
    tab: str | None = None
    metabase: dict[str, Any] = {}


class Card(msgspec.Struct, frozen=True):
    """A query and how it is shown.

    `path` is its SQL file from the project folder, `sql` that file's text, `variables` the filters in it.
    `x` is the column of the axis or of the steps, `y` those of the values, `series` that which tells colours apart.
    `metabase`: further settings of the chart, as Metabase names them.
    """

    name: str
    path: str
    title: str
    description: str
    chart: str
    x: str | None
    y: tuple[str, ...]
    series: str | None
    stacked: bool
    columns: Mapping[str, Column]
    place: Place
    tab: str | None
    metabase: Mapping[str, Any]
    sql: str
    variables: tuple[str, ...]

    @property
    def named_columns(self) -> tuple[str, ...]:
        """The columns that the chart can't do without."""
        return tuple(name for name in (self.x, *self.y, self.series) if name is not None)


class Dashboard(msgspec.Struct, frozen=True):
    """Cards and texts by their places, in tabs where it has any; `path` is dashboard.toml from the project folder."""

    name: str
    path: str
    title: str
    description: str
    tabs: tuple[str, ...]
    filters: Mapping[str, Filter]
    cards: tuple[Card, ...]
    texts: tuple[Text, ...]


class _DashboardFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of dashboard.toml; filters, cards and texts are converted one by one, for messages that name them."""

    title: str | None = None
    description: str = ""
    tabs: tuple[str, ...] = ()
    filters: dict[str, Any] = {}
    cards: dict[str, Any] = {}
    texts: list[Any] = []


def read_dashboards(project: Project) -> tuple[Dashboard, ...]:
    """All dashboards, by name; their cards in the order of tabs and places.

    Raises ProjectError, with file and line, for what can't be read, an unknown name, or a value of the wrong type.
    """
    folder = project.folder / "dashboards"
    names = sorted(path.parent.name for path in folder.glob(f"*/{FILE_NAME}") if not path.parent.name.startswith("."))
    stray = [path for path in sorted(folder.glob("*/*.sql")) if path.parent.name not in names]
    if stray:
        path = stray[0].relative_to(project.folder).as_posix()
        raise ProjectError(f"{path}: a card without a dashboard; put {FILE_NAME} beside it")
    return tuple(_read_dashboard(folder / name, f"dashboards/{name}") for name in names)


def query_of(card: Card, values: Mapping[str, str]) -> str:
    """The card's SQL with the filters' values in it, as literals; clauses of filters without a value are comments.

    Raises ProjectError where a variable stands outside of a clause and has no value.
    """

    def clause(found: re.Match[str]) -> str:
        body = found["commented"] or found["bare"]
        if all(name in values for name in _VARIABLE.findall(body)):
            return body.strip()
        return found[0] if found["commented"] else ""

    text = _CLAUSE.sub(clause, card.sql)
    pieces, end = [], 0
    for found in _live_variables(text):
        if found[1] not in values:
            where = Position.of(card.path, text, found.start())
            problem = f"{found[0]} has no value; give it one, or make its line a clause, -- [[ ... {found[0]} ]]"
            raise ProjectError(f"{where}: {problem}")
        pieces += [text[end : found.start()], sql.quote(values[found[1]])]
        end = found.end()
    return "".join(pieces) + text[end:]


def _live_variables(text: str) -> Iterator[re.Match[str]]:
    """The variables of an SQL text that stand in no comment."""
    comments = [token for token in tokens(text) if token.kind == "comment"]
    for found in _VARIABLE.finditer(text):
        if not any(comment.start < found.start() < comment.end for comment in comments):
            yield found


def metabase_sql(card_sql: str) -> str:
    """A card's SQL as Metabase has it: the clauses of filters without their dashes."""
    return _CLAUSE.sub(lambda found: f"[[{found['commented'] or found['bare']}]]", card_sql)


def file_sql(native_sql: str) -> str:
    """The SQL of a file from that of Metabase, so that psql runs it: the reverse of metabase_sql for clauses that end
    their line. Others stay as they are."""
    return _LAST_IN_LINE.sub(r"-- \1", native_sql)


def filter_values(dashboards: tuple[Dashboard, ...], given: Mapping[str, str]) -> dict[str, str]:
    """The given values of filters, checked against the filters of the dashboards. Raises UsageError."""
    known = {name: filter_ for dashboard in dashboards for name, filter_ in dashboard.filters.items()}
    for name, value in given.items():
        if name not in known:
            raise UsageError(f"no dashboard has a filter {name!r}; there are {', '.join(known) or 'none'}")
        try:
            if known[name].type == "date":
                date.fromisoformat(value)
            elif known[name].type == "number":
                float(value)
        except ValueError:
            wanted = "a date such as 2026-03-02" if known[name].type == "date" else "a number"
            raise UsageError(f"filter {name} must be {wanted}, found {value!r}") from None
        if "\0" in value:
            raise UsageError(f"filter {name} holds a NUL character")
    return dict(given)


def _read_dashboard(folder: Path, path: str) -> Dashboard:
    file = read_toml(folder / FILE_NAME, f"{path}/{FILE_NAME}")
    if file is None:
        raise ProjectError(f"{path}/{FILE_NAME}: a link that leads nowhere")
    head = _converted(file, file.document, _DashboardFile)
    filters = {
        _name(file, "filters", name): _converted(file, value, Filter, "filters", name)
        for name, value in head.filters.items()
    }
    cards = [
        _read_card(folder, file, name, _converted(file, value, _CardFile, "cards", name), filters)
        for name, value in head.cards.items()
    ]
    texts = tuple(_converted(file, value, Text, "texts") for value in head.texts)
    for sql_file in sorted(folder.glob("*.sql")):
        if sql_file.stem not in head.cards:
            raise ProjectError(f"{path}/{sql_file.name}: no card of {FILE_NAME}; write [cards.{sql_file.stem}] there")

    if len(set(head.tabs)) < len(head.tabs):
        raise ProjectError(f"{file.place_of('tabs')}: tabs must have names of their own")
    parts = [("cards", card.name, card.tab, card.place) for card in cards]
    parts += [("texts", text.text, text.tab, text.place) for text in texts]
    for kind, name, tab, place in parts:
        problem = ""
        if tab is None and head.tabs:
            problem = f"{name!r} stands in no tab; write tab = one of {', '.join(head.tabs)}"
        elif tab is not None and tab not in head.tabs:
            problem = f"no tab {tab!r}; tabs has {', '.join(head.tabs) or 'none'}"
        elif min(place.column, place.row) < 0 or min(place.width, place.height) < 1:
            problem = "a place begins at column and row 0, and is 1 wide and high or more"
        elif place.column + place.width > GRID_COLUMNS:
            problem = f"column {place.column} and width {place.width} pass the {GRID_COLUMNS} columns"
        if problem:
            # The place is looked for in case of need alone: that takes long.
            where = file.place_of(kind, name) if kind == "cards" else file.place_of(kind)
            raise ProjectError(f"{where}: {problem}")
    for name, filter_ in filters.items():
        card_name, _, column = (filter_.values or "").partition(".")
        if filter_.values is not None and (card_name not in head.cards or not column):
            where = file.place_of("filters", name, "values")
            raise ProjectError(f"{where}: values must be a card and a column of it, as card.column")

    order = {tab: number for number, tab in enumerate(head.tabs)}
    cards.sort(key=lambda card: (order.get(card.tab or "", 0), card.place.row, card.place.column, card.name))
    return Dashboard(
        name=folder.name,
        path=file.name,
        title=head.title or folder.name,
        description=head.description,
        tabs=head.tabs,
        filters=filters,
        cards=tuple(cards),
        texts=texts,
    )


def _read_card(folder: Path, file: TomlFile, name: str, said: _CardFile, filters: Mapping[str, Filter]) -> Card:
    _name(file, "cards", name)
    path = f"{file.name.removesuffix(FILE_NAME)}{name}.sql"
    try:
        text = read_text(folder / f"{name}.sql", path).replace("\r\n", "\n")
    except FileNotFoundError:
        raise ProjectError(f"{file.place_of('cards', name)}: the card has no query; write {path}") from None
    if "\0" in text:
        raise ProjectError(f"{Position.of(path, text, text.index(chr(0)))}: a NUL character stands here")
    statements = list(split_statements(text))
    if len(statements) != 1:
        raise ProjectError(f"{path}: a card is one query, and here are {len(statements)}")
    variables: dict[str, None] = {}
    with_clauses = _CLAUSE.sub(lambda found: found["commented"] or found["bare"], text)
    quoted = [token for token in tokens(with_clauses) if token.kind in ("quoted", "dollar")]
    for found, within in zip(_VARIABLE.finditer(text), _VARIABLE.finditer(with_clauses), strict=True):
        where = Position.of(path, text, found.start())
        if any(token.start < within.start() < token.end for token in quoted):
            raise ProjectError(f"{where}: {found[0]} stands in quotes; it is put in with quotes of its own")
        if found[1] not in filters:
            raise ProjectError(f"{where}: no filter {found[1]!r}; {file.name} has {', '.join(filters) or 'none'}")
        variables[found[1]] = None
    return Card(
        name=name,
        path=path,
        title=said.title or name,
        description=said.description,
        chart=said.chart,
        x=said.x,
        y=(said.y,) if isinstance(said.y, str) else said.y,
        series=said.series,
        stacked=said.stacked,
        columns=said.columns,
        place=said.place,
        tab=said.tab,
        metabase=said.metabase,
        sql=text,
        variables=tuple(variables),
    )


def is_name(name: str) -> bool:
    """Whether a card or a filter may be called so."""
    return _NAME.fullmatch(name) is not None


def _name(file: TomlFile, kind: str, name: str) -> str:
    if not is_name(name):
        where = file.place_of(kind, name)
        raise ProjectError(f"{where}: {name!r}: names are of lower-case letters a to z, digits and _")
    return name


def _converted(file: TomlFile, value: object, to: type[_T], *keys: str) -> _T:
    """The value as that type. Raises ProjectError with the line of what doesn't fit."""
    try:
        return msgspec.convert(value, to)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at ")
        inner = re.findall(r"\w+", path.strip("`").removeprefix("$"))
        unknown = re.search(r"unknown field `(.*)`", message)
        inner += [unknown[1]] if unknown else []
        where = file.place_of(*keys, *inner[:1])
        name = ".".join([*keys, *inner])
        known = ", ".join(to.__struct_fields__) if len(inner) == 1 else ""
        problem = f"unknown name; there are {known}" if unknown and known else message[:1].lower() + message[1:]
        raise ProjectError(f"{where}: {name}: {problem}") from None
