"""Dashboards of a test's own, and the texts of a report's page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path

from clickmart.project import Project
from clickmart.settings import Settings
from projects import write_files

#: A text that is markup, script, quote and entity, and in Russian.
HOSTILE = "<script>window.ran=1</script><img src=x onerror=window.ran=1>\"'`&amp;\\ ${1} Ж\u2028"


class PageText(HTMLParser):
    """The tables of a page, as texts, under their cards' titles; its tags, and all that its attributes lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.tags: list[str] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self._title = ""
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action", "srcset", "data")]
        if tag in ("h3", "h4"):
            self._title = ""
        if tag == "tr":
            self.tables.setdefault(self._title, []).append([])
        if tag in ("td", "th"):
            self.tables[self._title][-1].append("")
        if tag in ("h3", "h4", "td", "th", "script", "style"):
            self._in = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._in:
            self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in in ("script", "style"):
            return
        self.texts.append(data)
        if self._in in ("h3", "h4"):
            self._title += data
        if self._in in ("td", "th"):
            self.tables[self._title][-1][-1] += data


def toml(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(name)} = {toml(item)}" for name, item in value.items()) + " }"
    return json.dumps(value)


def dashboards(folder: Path, cards: Mapping[str, tuple[str | bytes, dict[str, object]]], head: str = "") -> Project:
    """A project with one dashboard, `one`: each card's query and what dashboard.toml says of it."""
    lines = [head]
    files: dict[str, str | bytes] = {}
    for row, (name, (query, said)) in enumerate(cards.items()):
        place = {"column": 0, "row": 8 * row, "width": 12, "height": 8}
        lines += [f"[cards.{name}]", *(f"{key} = {toml(value)}" for key, value in {"place": place, **said}.items())]
        files[f"dashboards/one/{name}.sql"] = query
    files["dashboards/one/dashboard.toml"] = "\n".join([*lines, ""])
    return Project(write_files(folder, files), Settings())
