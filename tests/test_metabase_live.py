"""clickmart metabase against a real Metabase: at METABASE_URL, with an administrator's key in METABASE_API_KEY.

It makes a collection of its own, and throws it away at the end. METABASE_DATABASE names a PostgreSQL that Metabase
has; else the one that clickmart would take.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clickmart.metabase import pulling, pushing
from clickmart.metabase.client import Metabase, find_metabase
from clickmart.metabase.found import find_collection
from clickmart.metabase.pushing import MetabaseOptions
from metabase_project import a_project, again, edit

pytestmark = [
    pytest.mark.metabase_live,
    pytest.mark.skipif(
        not os.environ.get("METABASE_URL"), reason="METABASE_URL is not set: no real Metabase was asked"
    ),
]
OPTIONS = MetabaseOptions(collection="clickmart live test", database=os.environ.get("METABASE_DATABASE"))


@pytest.fixture
def server() -> Iterator[Metabase]:
    with find_metabase(None) as server:
        yield server
        found = find_collection(server, OPTIONS.collection, [])
        if found is not None and not found.archived:
            server.write("PUT", f"/api/collection/{found.id}", {"archived": True})


def test_push_pull_and_every_card(server: Metabase, tmp_path: Path) -> None:
    project = a_project(tmp_path)
    planned = pushing.plan(project, server, OPTIONS)
    assert pushing.push(project, server, OPTIONS).steps == planned.steps
    assert str(pushing.push(project, server, OPTIONS)).startswith("nothing to do")
    assert str(pulling.pull(project, server, OPTIONS)).startswith("nothing to pull")
    collection = find_collection(server, OPTIONS.collection, [])
    assert collection is not None
    items = server.get(f"/api/collection/{collection.id}/items", dict[str, Any], {"models": ["card", "dashboard"]})
    cards = [item for item in items["data"] if item["model"] == "card"]
    assert len(cards) == 7
    for card in cards:
        answer = server.write("POST", f"/api/card/{card['id']}/query", {})
        assert answer["status"] == "completed", answer.get("error")
    edit(project, "dashboards/week/dashboard.toml", 'title = "Week"', 'title = "Month"')
    edit(project, "dashboards/week/sources.sql", "0.5", "0.25")
    report = pushing.push(again(project), server, OPTIONS)
    assert [step.name for step in report.steps] == ["week/sources", "week"]
    assert str(pushing.plan(again(project), server, OPTIONS)).startswith("nothing to do")
