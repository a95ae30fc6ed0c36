"""clickmart metabase export: files that refer to each other, and to the same things as a push."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from clickmart.errors import ProjectError, UsageError
from clickmart.metabase.exporting import export
from metabase_project import a_project, push
from metabase_standin import StandIn
from projects import clean_environment, outcome, run


@pytest.fixture(autouse=True)
def _no_warehouse_named(monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)


def exported(folder: Path) -> dict[str, dict[str, Any]]:
    export(a_project(folder / "shop"), str(folder / "out"), "clickmart", "Warehouse", "a@example.com")
    files = sorted((folder / "out").rglob("*.yaml"))
    return {
        file.relative_to(folder / "out").as_posix(): yaml.safe_load(file.read_text(encoding="utf-8")) for file in files
    }


def test_every_reference_leads_to_a_file_and_every_id_is_its_own(tmp_path: Path) -> None:
    files = exported(tmp_path)
    ids = [entity["entity_id"] for entity in files.values()]
    (week,) = [entity for entity in files.values() if entity["name"] == "Week"]
    inner = [row["entity_id"] for row in (*week["tabs"], *week["dashcards"])]
    assert len({*ids, *inner}) == len(ids) + len(inner)
    (home,) = [entity["entity_id"] for path, entity in files.items() if path == "collections/main/clickmart.yaml"]
    assert {entity.get("collection_id", home) for entity in files.values()} == {home}
    tabs = {tab["entity_id"] for tab in week["tabs"]}
    parameters = {parameter["id"] for parameter in week["parameters"]}
    for dashcard in week["dashcards"]:
        assert dashcard["card_id"] in (None, *ids)
        assert dashcard["dashboard_tab_id"][0] == week["entity_id"]
        assert dashcard["dashboard_tab_id"][1] in tabs
        assert {row["parameter_id"] for row in dashcard["parameter_mappings"]} <= parameters
    assert week["parameters"][1]["values_source_config"]["card_id"] in ids


def test_cards_have_the_ids_the_queries_and_the_settings_of_a_push(tmp_path: Path) -> None:
    files = exported(tmp_path)
    standin = StandIn(version=63)
    standin.add_database()
    with standin.running():
        push(standin, a_project(tmp_path / "pushed"))
    for card in standin.cards.values():
        (entity,) = [entity for entity in files.values() if entity["entity_id"] == card["entity_id"]]
        assert entity["name"] == card["name"]
        assert entity["visualization_settings"] == card["visualization_settings"]
        stage = entity["dataset_query"]["stages"][0]
        assert (stage["native"], stage["template-tags"]) == (
            card["dataset_query"]["sql"],
            card["dataset_query"]["tags"],
        )
        assert entity["dataset_query"]["database"] == "Warehouse"


def test_an_export_of_the_same_project_is_the_same_to_the_byte(tmp_path: Path) -> None:
    project = a_project(tmp_path / "shop")
    for name in ("one", "two"):
        export(project, str(tmp_path / name), "clickmart", "clickmart", "a@example.com")
    one, two = (
        {file.relative_to(tmp_path / name): file.read_bytes() for file in (tmp_path / name).rglob("*.yaml")}
        for name in ("one", "two")
    )
    assert one == two
    assert len(one) == 10


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(ProjectError, match="exists already and isn't an empty folder"):
        export(a_project(tmp_path / "shop"), str(tmp_path / "out"), "clickmart", "clickmart", "a@example.com")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_creator_is_an_address(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'nobody' is no e-mail address"):
        export(a_project(tmp_path / "shop"), str(tmp_path / "out"), "clickmart", "clickmart", "nobody")


def test_the_command_names_its_files(tmp_path: Path) -> None:
    folder = str(a_project(tmp_path / "shop").folder)
    result = run("metabase", "export", str(tmp_path / "out"), "--project", folder)
    lines = result.stdout.splitlines()
    assert lines[0] == "collections/main/clickmart.yaml"
    assert lines[-1] == f"10 files in {tmp_path / 'out'}"
    assert outcome(result)[::2] == (0, "")
