"""`clickmart metabase export`: the dashboards as the YAML files that a paid Metabase imports.

The ids are those that a push gives, made from names, so that an import again changes the same things.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..dashboards import Card, Dashboard, Text, metabase_sql, read_dashboards
from ..errors import MetabaseError, ProjectError, UsageError
from ..project import Project
from .filters import parameter_id, parameter_type
from .objects import entity_id, query_body, tag_body, text_settings
from .settings import display_of, settings_of

try:
    import yaml
except ModuleNotFoundError:
    raise MetabaseError(
        "clickmart metabase export needs pyyaml; install it by: pip install 'clickmart[metabase]'"
    ) from None

Entity = dict[str, Any]
_COLLECTIONS: Final = Path("collections") / "main"


@dataclass(frozen=True, slots=True)
class MetabaseExport:
    """The files that were written, by their paths from `folder`."""

    folder: Path
    files: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {"folder": str(self.folder), "files": list(self.files)}

    def __str__(self) -> str:
        return "\n".join([*self.files, f"{len(self.files)} files in {self.folder}"])


def export(project: Project, folder: str, collection: str, database: str, creator: str) -> MetabaseExport:
    """Writes the files to `folder`, which must be empty or not exist. Raises ProjectError, UsageError."""
    if not re.fullmatch(r"[^@\s]+@[^@\s]+", creator):
        raise UsageError(f"{creator!r} is no e-mail address; the creator is a user of that Metabase")
    files = dict(_files(read_dashboards(project), collection, database, creator))
    target = Path(folder).absolute()
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise ProjectError(f"{folder}: exists already and isn't an empty folder; name another one")
        for path, entity in files.items():
            file = target / path
            file.parent.mkdir(parents=True, exist_ok=True)
            text = yaml.safe_dump(entity, allow_unicode=True, sort_keys=False, default_flow_style=False, width=120)
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ProjectError(f"{folder}: can't be written: {error.strerror}") from None
    return MetabaseExport(target, tuple(path.as_posix() for path in files))


def _files(
    dashboards: tuple[Dashboard, ...], collection: str, database: str, creator: str
) -> Iterator[tuple[Path, Entity]]:
    home = entity_id(collection)
    folder = re.sub(r"[^a-z0-9_]+", "_", collection.lower())
    meta = _meta("Collection", home, collection)
    yield _COLLECTIONS / f"{folder}.yaml", {"name": collection, "entity_id": home, "slug": folder, "serdes/meta": meta}
    for dashboard in dashboards:
        for card in dashboard.cards:
            path = _COLLECTIONS / folder / f"{dashboard.name}.{card.name}.yaml"
            yield path, _card(dashboard, card, collection, database, creator)
        yield _COLLECTIONS / folder / f"{dashboard.name}.yaml", _dashboard(dashboard, collection, creator)


def _card(dashboard: Dashboard, card: Card, collection: str, database: str, creator: str) -> Entity:
    id_ = entity_id(collection, dashboard.name, card.name)
    tags = {name: tag_body(dashboard.name, card.name, name, dashboard.filters[name]) for name in card.variables}
    return {
        "name": card.title,
        **({"description": card.description} if card.description else {}),
        "entity_id": id_,
        "creator_id": creator,
        "collection_id": entity_id(collection),
        "type": "question",
        "display": display_of(card.chart),
        "dataset_query": query_body(database, metabase_sql(card.sql).rstrip(), tags, 5, True),
        "visualization_settings": settings_of(card),
        "parameters": [],
        "parameter_mappings": [],
        "serdes/meta": _meta("Card", id_, card.title),
    }


def _dashboard(dashboard: Dashboard, collection: str, creator: str) -> Entity:
    id_ = entity_id(collection, dashboard.name)
    tabs = {name: entity_id(collection, dashboard.name, "tab", name) for name in dashboard.tabs}
    dashcards: list[tuple[str, Card | Text, Entity]] = []
    for card in dashboard.cards:
        card_id = entity_id(collection, dashboard.name, card.name)
        mappings = [
            {
                "card_id": card_id,
                "parameter_id": parameter_id(dashboard.name, name),
                "target": ["variable", ["template-tag", name]],
            }
            for name in card.variables
        ]
        part: Entity = {"card_id": card_id, "visualization_settings": {}, "parameter_mappings": mappings}
        dashcards.append((card.name, card, part))
    for number, text in enumerate(dashboard.texts):
        settings = text_settings(text.text, text.heading)
        part = {"card_id": None, "visualization_settings": settings, "parameter_mappings": []}
        dashcards.append((f"text {number}", text, part))
    return {
        "name": dashboard.title,
        **({"description": dashboard.description} if dashboard.description else {}),
        "entity_id": id_,
        "creator_id": creator,
        "collection_id": entity_id(collection),
        "parameters": _parameters(dashboard, collection),
        "tabs": [{"entity_id": tab, "name": name, "position": n} for n, (name, tab) in enumerate(tabs.items())],
        "dashcards": [_dashcard(id_, name, placed, part, tabs) for name, placed, part in dashcards],
        "serdes/meta": _meta("Dashboard", id_, dashboard.title),
    }


def _dashcard(dashboard: str, name: str, placed: Card | Text, part: Entity, tabs: Mapping[str, str]) -> Entity:
    id_ = entity_id(dashboard, "dashcard", name)
    place = placed.place
    return {
        "entity_id": id_,
        **part,
        "row": place.row,
        "col": place.column,
        "size_x": place.width,
        "size_y": place.height,
        "dashboard_tab_id": [dashboard, tabs[placed.tab]] if placed.tab is not None else None,
        "serdes/meta": [{"id": dashboard, "model": "Dashboard"}, {"id": id_, "model": "DashboardCard"}],
    }


def _parameters(dashboard: Dashboard, collection: str) -> list[Entity]:
    parameters = []
    for name, filter_ in dashboard.filters.items():
        said: Entity = {
            "id": parameter_id(dashboard.name, name),
            "name": filter_.title,
            "slug": name,
            "type": parameter_type(filter_),
        }
        if filter_.values is not None:
            card, _, column = filter_.values.partition(".")
            source = {
                "card_id": entity_id(collection, dashboard.name, card),
                "value_field": ["field", column, {"base-type": "type/Text"}],
            }
            said |= {"values_query_type": "list", "values_source_type": "card", "values_source_config": source}
        parameters.append(said)
    return parameters


def _meta(model: str, id_: str, name: str) -> list[Entity]:
    return [{"id": id_, "label": re.sub(r"\W+", "_", name.lower()).strip("_"), "model": model}]
