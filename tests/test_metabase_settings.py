"""The settings that draw each chart at Metabase, and back from them to what dashboard.toml says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from clickmart.card_rows import read_card
from clickmart.dashboards import Card, Column, Dashboard, Place, read_dashboards
from clickmart.metabase.settings import display_of, said_of, settings_of
from clickmart.project import Project, read_project
from clickmart.warehouse import Warehouse
from conftest import Server
from hypothesis import given
from hypothesis import strategies as st
from metabase_project import a_project


def a_card(**said: Any) -> Card:
    defaults = {"name": "c", "path": "c.sql", "title": "C", "description": "", "chart": "table", "x": None, "y": ()}
    more = {"series": None, "stacked": False, "columns": {}, "metabase": {}, "place": Place(0, 0, 1, 1), "tab": None}
    return Card(**(defaults | more | {"sql": "select 1", "variables": ()} | said))


@pytest.mark.parametrize(
    ("said", "display", "settings"),
    [
        ({}, "table", {"table.pivot": False}),
        (
            {"chart": "bar", "x": "hour", "y": ("n",), "series": "type", "stacked": True},
            "bar",
            {"graph.dimensions": ["hour", "type"], "graph.metrics": ["n"], "stackable.stack_type": "stacked"},
        ),
        (
            {"chart": "line", "x": "h", "y": ("n", "m")},
            "line",
            {"graph.dimensions": ["h"], "graph.metrics": ["n", "m"]},
        ),
        (
            {"chart": "area", "x": "h", "y": ("n",)},
            "area",
            {"graph.dimensions": ["h"], "graph.metrics": ["n"], "stackable.stack_type": None},
        ),
        ({"chart": "row", "x": "h", "y": ("n",)}, "row", {"graph.dimensions": ["h"], "graph.metrics": ["n"]}),
        ({"chart": "pie", "x": "h", "y": ("n",)}, "pie", {"pie.dimension": "h", "pie.metric": "n"}),
        ({"chart": "funnel", "x": "h", "y": ("n",)}, "funnel", {"funnel.dimension": "h", "funnel.metric": "n"}),
        ({"chart": "number", "y": ("n",)}, "scalar", {"scalar.field": "n"}),
        ({"chart": "gauge", "metabase": {"gauge.segments": [1]}}, "gauge", {"gauge.segments": [1]}),
    ],
)
def test_each_chart_has_its_settings(said: dict[str, Any], display: str, settings: dict[str, Any]) -> None:
    card = a_card(**said)
    assert (display_of(card.chart), settings_of(card)) == (display, settings)


@pytest.mark.parametrize(
    ("format_", "settings"),
    [
        ("number", {"number_style": "decimal"}),
        ("percent", {"number_style": "percent"}),
        ("duration", {"number_style": "decimal", "suffix": " s"}),
        ("bytes", {"number_style": "decimal", "suffix": " B"}),
        ("link", {"view_as": "link"}),
        ("date", {"date_style": "YYYY/M/D", "date_separator": "-", "time_enabled": None}),
        ("hour", {"date_style": "YYYY/M/D", "date_separator": "-", "time_enabled": "minutes", "time_style": "HH:mm"}),
    ],
)
def test_titles_and_formats_are_settings_of_the_column(format_: Any, settings: dict[str, Any]) -> None:
    card = a_card(columns={"a b": Column("A", format_), "c": Column(None, format_), "d": Column()})
    assert settings_of(card)["column_settings"] == {
        '["name","a b"]': {"column_title": "A", **settings},
        '["name","c"]': settings,
    }


def test_raw_settings_have_the_last_word() -> None:
    columns = {"n": Column("N", "percent")}
    more = {"column_settings": {'["name","n"]': {"decimals": 1, "column_title": "M"}}, "graph.metrics": ["m"]}
    assert settings_of(a_card(chart="line", y=("n",), columns=columns, metabase=more)) == {
        "graph.metrics": ["m"],
        "column_settings": {'["name","n"]': {"column_title": "M", "number_style": "percent", "decimals": 1}},
    }


NAMES = st.sampled_from(["a", "b", "c d", 'q"', "é"])
FORMATS = ("number", "percent", "duration", "bytes", "link", "date", "hour")
COLUMNS = st.builds(Column, st.none() | NAMES, st.sampled_from([None, *FORMATS]))
RAW = st.dictionaries(
    st.sampled_from(["graph.show_goal", "graph.goal_value", "table.columns", "pie.show_legend", "graph.metrics"]),
    st.booleans() | st.integers(0, 9) | st.lists(NAMES, min_size=1, max_size=2),
    max_size=3,
)
CARDS = st.builds(
    a_card,
    chart=st.sampled_from(["table", "number", "line", "area", "bar", "row", "pie", "funnel", "combo", "gauge"]),
    x=st.none() | NAMES,
    y=st.lists(NAMES, max_size=3, unique=True).map(tuple),
    series=st.none() | NAMES,
    stacked=st.booleans(),
    columns=st.dictionaries(NAMES, COLUMNS, max_size=3),
    metabase=RAW,
)


@given(CARDS)
def test_what_is_read_back_draws_the_same(card: Card) -> None:
    """Law: the settings of what is said of settings are those settings, but for nulls where there is nothing to say."""
    settings = settings_of(card)
    said = said_of(display_of(card.chart), settings)
    y = said.get("y", ())
    again = a_card(
        chart=said.get("chart", "table"),
        x=said.get("x"),
        y=(y,) if isinstance(y, str) else tuple(y),
        series=said.get("series"),
        stacked=said.get("stacked", False),
        columns={name: Column(**column) for name, column in said.get("columns", {}).items()},
        metabase=said.get("metabase", {}),
    )
    assert display_of(again.chart) == display_of(card.chart)
    assert settings_of(again) == settings


def test_a_field_of_metabases_own_and_other_settings_of_a_column_are_raw() -> None:
    settings = {
        "table.pivot": False,
        "column_settings": {
            '["ref",["field",7,null]]': {"column_title": "F"},
            "nonsense": {"x": 1},
            '["name","n"]': {"column_title": "N", "number_style": "currency", "currency": "EUR"},
        },
    }
    assert said_of("table", settings) == {
        "columns": {"n": {"title": "N"}},
        "metabase": {
            "column_settings": {
                '["ref",["field",7,null]]': {"column_title": "F"},
                "nonsense": {"x": 1},
                '["name","n"]': {"number_style": "currency", "currency": "EUR"},
            }
        },
    }


def test_a_chart_without_a_name_of_clickmarts_keeps_metabases() -> None:
    assert said_of("sankey", {"sankey.source": "a"}) == {"chart": "sankey", "metabase": {"sankey.source": "a"}}
    assert said_of("scalar", {"scalar.field": "n"}) == {"chart": "number", "y": "n"}
    assert said_of("bar", {"graph.dimensions": ["a", "b", "c"], "stackable.stack_type": "normalized"}) == {
        "chart": "bar",
        "metabase": {"graph.dimensions": ["a", "b", "c"], "stackable.stack_type": "normalized"},
    }


# On PostgreSQL


def named_columns(card: Card) -> set[str]:
    """The columns that the card's settings name at Metabase."""
    settings = settings_of(card)
    names = set(settings.get("graph.dimensions", [])) | set(settings.get("graph.metrics", []))
    names |= {settings[key] for key in settings if key.endswith((".dimension", ".metric", ".field"))}
    return names | {json.loads(key)[1] for key in settings.get("column_settings", {})}


@pytest.mark.parametrize("which", ["built-in", "test"])
def test_every_card_gives_the_columns_that_its_settings_name(
    which: str, embedded_server: Server, tmp_path: Path
) -> None:
    project = read_project() if which == "built-in" else a_project(tmp_path)
    dashboards: tuple[Dashboard, ...] = read_dashboards(project)
    values = {"from": "2026-03-02", "source": "a", "least": "1"}
    with embedded_server.database() as dsn, Warehouse(dsn).connect() as connection:
        for dashboard in dashboards:
            for card in dashboard.cards:
                found = read_card(connection, project, card, {}, limit=10)
                assert named_columns(card) <= set(found.columns), card.path
                given_values = {name: value for name, value in values.items() if name in card.variables}
                assert read_card(connection, project, card, given_values, limit=10).columns == found.columns


def test_the_built_in_dashboards_have_charts_to_check(tmp_path: Path) -> None:
    project: Project = read_project()
    assert sum(len(named_columns(card)) for dashboard in read_dashboards(project) for card in dashboard.cards) > 10
