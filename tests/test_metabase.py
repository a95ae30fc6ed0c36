"""clickmart metabase plan and push, against a server that stands in for Metabase. No real Metabase runs here."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from clickmart.errors import ClickmartError, MetabaseError, UsageError
from clickmart.metabase import pushing
from clickmart.metabase.objects import mark_of
from clickmart.metabase.pushing import MetabaseOptions
from clickmart.project import Project
from metabase_project import a_project, again, client, edit, plan, push
from metabase_standin import DESCRIPTION, DroppedError, RefusedError, StandIn
from projects import clean_environment

VERSIONS = [(50, False), (56, False), (57, False), (60, True), (63, True)]
CARDS, DASHBOARDS = 7, 2


@pytest.fixture(autouse=True)
def _no_warehouse_named(monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)
    monkeypatch.delenv("METABASE_DATABASE_DSN", raising=False)


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with a_metabase().running() as running:
        yield running


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return a_project(tmp_path / "shop")


def a_metabase(version: int = 60, tag_list: bool = False) -> StandIn:
    standin = StandIn(version=version, tag_list=tag_list)
    standin.add_database("Sample Database", "h2")
    standin.add_database()
    return standin


def done(standin: StandIn, project: Project) -> Any:
    """What a push that nothing disturbs makes of an empty Metabase of that version."""
    with a_metabase(standin.version, standin.tag_list).running() as other:
        push(other, project)
        return other.content()


def test_every_call_is_checked_against_the_published_description() -> None:
    if not DESCRIPTION.exists():
        pytest.skip("Metabase's description is not here: the other tests run, and check no call against it")
    standin = a_metabase()
    standin.handle("POST", "/api/dashboard", {"X-API-Key": "wrong"}, b"{}")
    assert not standin.faults  # a call without the key gets no further
    from metabase_standin import KEY

    standin.handle("GET", "/api/card?f=nonsense", {"X-API-Key": KEY}, b"")
    standin.handle("GET", "/api/card?g=all", {"X-API-Key": KEY}, b"")
    standin.dashboards[1] = {"id": 1, "name": "no fields"}
    with pytest.raises(KeyError):
        standin.handle("GET", "/api/dashboard/1", {"X-API-Key": KEY}, b"")
    standin.handle("PUT", "/api/collection/1", {"X-API-Key": KEY}, b'{"archived": "yes"}')
    assert [fault.partition(":")[0] for fault in standin.faults] == [
        "GET /api/card?f",
        "GET /api/card",
        "PUT /api/collection/1 body",
    ]


# The first push and the second


@pytest.mark.parametrize(("version", "tag_list"), VERSIONS)
def test_a_second_push_writes_nothing(version: int, tag_list: bool, project: Project) -> None:
    with a_metabase(version, tag_list).running() as standin:
        report = push(standin, project)
        assert report.version == version
        assert standin.writes() == {"POST": 1 + CARDS + DASHBOARDS, "PUT": DASHBOARDS}
        assert len(standin.cards) == CARDS
        before = standin.state()
        standin.calls.clear()
        assert str(push(standin, project)) == "nothing to do"
        assert standin.writes() == {}
        assert standin.state() == before


@pytest.mark.parametrize(("version", "tag_list"), VERSIONS)
def test_the_plan_is_what_the_push_then_does(version: int, tag_list: bool, project: Project) -> None:
    with a_metabase(version, tag_list).running() as standin:
        for old, new in [("Week", "Week"), ('title = "Week"', 'title = "Month"'), ("[cards.total]", "[cards.total]")]:
            edit(project, "dashboards/week/dashboard.toml", old, new)
            planned = plan(standin, again(project))
            assert standin.writes() == {}
            pushed = push(standin, again(project))
            assert pushed.steps == planned.steps
            assert sum(standin.writes().values()) == len(planned.steps)
            standin.calls.clear()


@pytest.mark.parametrize(("version", "form"), [(50, "native"), (56, "native"), (57, "stages"), (63, "stages")])
def test_queries_are_written_in_the_form_that_the_server_answers(version: int, form: str, project: Project) -> None:
    with a_metabase(version).running() as standin:
        push(standin, project)
        bodies = [body for (method, path), body in zip(standin.calls, standin.bodies, strict=True) if method == "POST"]
        queries = [body["dataset_query"] for body in bodies if "dataset_query" in body]
        assert len(queries) == CARDS
        assert all(form in query for query in queries)


def test_filters_are_wired_to_the_variables_of_each_card(standin: StandIn, project: Project) -> None:
    push(standin, project)
    week = standin.dashboard("Week")
    by_id = {parameter["id"]: parameter for parameter in week["parameters"]}
    assert [(row["slug"], row["name"], row["type"]) for row in week["parameters"]] == [
        ("from", "From", "date/single"),
        ("source", "Source", "string/="),
        ("least", "At least", "number/="),
    ]
    names = {card["id"]: card["name"] for card in standin.cards.values()}
    wired = {
        names[dashcard["card_id"]]: [
            (by_id[mapping["parameter_id"]]["slug"], mapping["card_id"] == dashcard["card_id"], mapping["target"])
            for mapping in dashcard["parameter_mappings"]
        ]
        for dashcard in week["dashcards"]
        if dashcard["card_id"]
    }
    assert wired["Продажи по часам"] == [
        (name, True, ["variable", ["template-tag", name]]) for name in ("from", "source", "least")
    ]
    assert wired["Sources"] == [("source", True, ["variable", ["template-tag", "source"]])]
    assert wired["Visits"] == []
    tags = {
        tag["name"]: (tag["type"], tag["display-name"])
        for tag in standin.card("Продажи по часам")["dataset_query"]["tags"]
    }
    assert tags == {"from": ("date", "From"), "source": ("text", "Source"), "least": ("number", "At least")}
    source = week["parameters"][1]
    assert (source["values_source_type"], source["values_query_type"]) == ("card", "list")
    assert source["values_source_config"]["card_id"] == standin.card("Sources")["id"]
    assert source["values_source_config"]["value_field"][:2] == ["field", "source"]


def test_the_sql_has_metabases_brackets_and_the_cards_their_places(standin: StandIn, project: Project) -> None:
    push(standin, project)
    sales = standin.card("Продажи по часам")
    assert "\n    [[ and 'a' = {{source}} ]]\n" in sales["dataset_query"]["sql"]
    assert "-- [[" not in sales["dataset_query"]["sql"]
    week = standin.dashboard("Week")
    tabs = {tab["id"]: tab["name"] for tab in week["tabs"]}
    (placed,) = [row for row in week["dashcards"] if row["card_id"] == sales["id"]]
    assert [placed[name] for name in ("col", "row", "size_x", "size_y")] == [0, 2, 24, 8]
    assert tabs[placed["dashboard_tab_id"]] == "Sales"
    texts = [row["visualization_settings"] for row in week["dashcards"] if row["card_id"] is None]
    assert [(text["virtual_card"]["display"], text["text"]) for text in texts] == [
        ("heading", "Sales"),
        ("text", "All times are **UTC**."),
    ]


# Cut off


@pytest.mark.parametrize("version", [50, 60])
@pytest.mark.parametrize("answered", ["before", "after"], ids=["not done", "done, not answered"])
def test_a_push_that_is_cut_off_anywhere_is_finished_by_the_next(version: int, answered: str, project: Project) -> None:
    """Law: whichever write is the last, the end is that of one push that nothing disturbed."""
    expected = done(a_metabase(version), project)
    total = 1 + CARDS + 2 * DASHBOARDS
    for last in range(1, total + 1):

        def cut(method: str, path: str, write: int, last: int = last) -> None:
            if method != "GET" and write == last:
                raise DroppedError

        with a_metabase(version).running() as standin:
            setattr(standin, answered, cut)
            with suppress(MetabaseError):  # a card that was made and not answered is found, and the push goes on
                push(standin, project)
            assert standin.writes().total() >= last
            setattr(standin, answered, lambda *_: None)
            push(standin, project)
            assert standin.content() == expected
            assert len(standin.cards) == CARDS
            assert len(standin.dashboards) == DASHBOARDS
            assert len(standin.collections) == 1


def test_an_update_that_is_cut_off_anywhere_is_finished_by_the_next(project: Project, tmp_path: Path) -> None:
    changed = a_project(tmp_path / "changed")
    for old, new in [('tabs = ["Sales", "Visits"]', 'tabs = ["Money", "Visits"]')]:
        edit(changed, "dashboards/week/dashboard.toml", old, new)
    text = (changed.folder / "dashboards/week/dashboard.toml").read_text(encoding="utf-8")
    text = text.replace('tab = "Sales"', 'tab = "Money"').replace("[cards.parts]", "[cards.pieces]")
    (changed.folder / "dashboards/week/dashboard.toml").write_text(text, encoding="utf-8")
    (changed.folder / "dashboards/week/parts.sql").rename(changed.folder / "dashboards/week/pieces.sql")
    expected = done(a_metabase(), changed)
    for last in range(1, 4):

        def cut(method: str, path: str, write: int, last: int = last) -> None:
            if method != "GET" and write == last:
                raise DroppedError

        with a_metabase().running() as standin:
            push(standin, project)
            standin.calls.clear()
            standin.before = cut
            with pytest.raises(MetabaseError):
                push(standin, changed)
            standin.before = lambda *_: None
            push(standin, changed)
            assert standin.content() == expected


@pytest.mark.parametrize("version", [50, 60])
def test_two_pushes_at_once_end_as_one(version: int, project: Project) -> None:
    expected = done(a_metabase(version), project)
    for seed in range(4):
        pauses = random.Random(seed)
        with a_metabase(version).running() as standin:
            standin.before = lambda *_, pauses=pauses: time.sleep(pauses.random() / 100)
            errors: list[BaseException] = []

            def one(standin: StandIn = standin, errors: list[BaseException] = errors) -> None:
                try:
                    push(standin, project)
                except ClickmartError as error:
                    errors.append(error)

            threads = [threading.Thread(target=one) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert errors == []
            assert standin.content() == expected
            assert str(plan(standin, project)) == "nothing to do"


# What isn't clickmart's


def test_things_of_the_same_names_without_the_mark_stay_byte_for_byte(standin: StandIn, project: Project) -> None:
    home = standin.add_collection("clickmart", "ours")
    for name in ("Week", "plain"):
        standin._make_dashboard(body={"name": name, "description": "by hand", "collection_id": home})
    standin.add_card("Sources", "select 1", collection_id=home)
    standin.add_card("Visits", "select 1", description="clickmart: other/week/visits")
    before = standin.state()
    report = push(standin, project)
    assert "a collection 'clickmart' is there without clickmart's mark; it is left alone" in report.notes
    edit(project, "dashboards/week/dashboard.toml", 'title = "Week"', 'title = "Month"')
    push(standin, again(project))
    after = standin.state()
    for kind, rows in before.items():
        assert {number: after[kind][number] for number in rows} == rows


def test_nothing_is_ever_deleted_and_what_left_the_project_goes_to_the_trash(
    standin: StandIn, project: Project
) -> None:
    push(standin, project)
    text = (project.folder / "dashboards/week/dashboard.toml").read_text(encoding="utf-8")
    start, end = text.index("[cards.parts]"), text.index("[[texts]]")
    (project.folder / "dashboards/week/dashboard.toml").write_text(text[:start] + text[end:], encoding="utf-8")
    (project.folder / "dashboards/week/parts.sql").unlink()
    for name in ("dashboard.toml", "one.sql"):
        (project.folder / "dashboards/plain" / name).unlink()
    standin.calls.clear()
    report = push(standin, again(project))
    steps = [(step.action, step.kind, step.name) for step in report.steps]
    assert steps == [
        ("update", "dashboard", "week"),
        ("archive", "dashboard", "plain"),
        ("archive", "card", "plain/one"),
        ("archive", "card", "week/parts"),
    ]
    assert set(standin.writes()) == {"PUT"}
    assert sorted(row["name"] for row in standin.cards.values() if row["archived"]) == ["Parts", "one"]
    assert str(push(standin, again(project))) == "nothing to do"


def test_what_the_project_has_no_words_for_stays_on_the_dashboard(standin: StandIn, project: Project) -> None:
    push(standin, project)
    week = standin.dashboard("Week")
    link = {"virtual_card": {"display": "link"}, "link": {"url": "https://example.com"}}
    kept = [standin.place(week, None, link), standin.place(week, standin.add_clicked_card("Clicked"))]
    week["parameters"].append({"id": "range", "name": "Range", "slug": "range", "type": "date/range"})
    week["parameters"][0]["default"] = "2026-03-02"
    aligned = next(row for row in week["dashcards"] if row["visualization_settings"].get("text") == "Sales")
    aligned["visualization_settings"]["text.align_horizontal"] = "center"
    tag = standin.card("Sources")["dataset_query"]["tags"][0]
    tag["default"] = "a"
    before = standin.state()
    assert str(plan(standin, project)) == "nothing to do"
    edit(project, "dashboards/week/dashboard.toml", "width = 24, height = 8", "width = 20, height = 8")
    edit(project, "dashboards/week/dashboard.toml", 'title = "From"', 'title = "Since"')
    edit(project, "dashboards/week/sources.sql", "0.5", "0.25")
    push(standin, again(project))
    week = standin.dashboard("Week")
    assert [row for row in week["dashcards"] if row["id"] in [one["id"] for one in kept]] == kept
    assert week["parameters"][3] == before["dashboards"][week["id"]]["parameters"][3]
    assert (week["parameters"][0]["name"], week["parameters"][0]["default"]) == ("Since", "2026-03-02")
    aligned = next(row for row in week["dashcards"] if row["visualization_settings"].get("text") == "Sales")
    assert aligned["visualization_settings"]["text.align_horizontal"] == "center"
    assert standin.card("Sources")["dataset_query"]["tags"][0]["default"] == "a"


def test_a_copy_made_in_the_browser_is_nobodys(standin: StandIn, project: Project) -> None:
    push(standin, project)
    week, sources = standin.dashboard("Week"), standin.card("Sources")
    copy = standin._make_dashboard(
        body={name: week[name] for name in ("description", "collection_id")} | {"name": "Copy"}
    )
    other = standin.add_card(
        "Copy of it", "select 2", description=sources["description"], collection_id=sources["collection_id"]
    )
    before = (dict(copy), dict(other))
    edit(project, "dashboards/week/dashboard.toml", 'title = "Week"', 'title = "Month"')
    report = push(standin, again(project))
    assert len([note for note in report.notes if "with the same mark is a copy" in note]) == 2
    assert (standin.dashboards[copy["id"]], standin.cards[other["id"]]) == before
    assert standin.dashboards[week["id"]]["name"] == "Month"


# What people do in the browser


def test_what_was_renamed_or_moved_is_found(standin: StandIn, project: Project) -> None:
    push(standin, project)
    elsewhere = standin.add_collection("Elsewhere")
    next(iter(standin.collections.values()))["name"] = "Renamed"
    standin.card("Sources")["collection_id"] = elsewhere
    standin.dashboard("plain")["collection_id"] = elsewhere
    assert str(plan(standin, project)) == "nothing to do"
    standin.card("Visits")["name"] = "Guests"
    report = push(standin, project)
    assert [(step.action, step.name) for step in report.steps] == [("update", "week/visits")]
    assert standin.card("Sources")["collection_id"] == elsewhere


@pytest.mark.parametrize("version", [50, 60])
@pytest.mark.parametrize("what", ["card", "dashboard", "collection", "all"])
def test_what_was_thrown_away_is_brought_back(version: int, what: str, project: Project) -> None:
    with a_metabase(version).running() as standin:
        push(standin, project)
        expected = standin.content()
        home = min(standin.collections)
        if what in ("card", "all"):
            standin._put_card(standin.card("Sources")["id"], body={"archived": True})
        if what in ("dashboard", "all"):
            standin._put_dashboard(standin.dashboard("Week")["id"], body={"archived": True})
        if what in ("collection", "all"):
            standin._put_collection(home, body={"archived": True})
        report = push(standin, project)
        assert {step.action for step in report.steps} <= {"restore", "update"}
        assert standin.content() == expected
        assert str(push(standin, project)) == "nothing to do"


def test_a_changed_card_is_said_line_by_line_and_written_back(standin: StandIn, project: Project) -> None:
    push(standin, project)
    card = standin.card("Sources")
    card["dataset_query"]["sql"] = card["dataset_query"]["sql"].replace("0.5", "0.7")
    card["visualization_settings"]["table.row_index"] = True
    lines = str(plan(standin, project)).splitlines()
    assert lines == [
        "~ update card week/sources",
        "    table.row_index: True -> none",
        "    sql:",
        "      @@ -1 +1 @@",
        *lines[4:6],
        "1 step to do",
    ]
    assert lines[4].lstrip().startswith("-select")
    assert "0.7" in lines[4]
    assert "0.5" in lines[5]
    push(standin, project)
    assert "0.5" in standin.card("Sources")["dataset_query"]["sql"]
    assert "table.row_index" not in standin.card("Sources")["visualization_settings"]


# The database


def test_the_database_is_found_by_name_or_as_the_only_one_of_postgresql(project: Project) -> None:
    with StandIn().running() as standin:
        standin.add_database("Sample Database", "h2")
        with pytest.raises(UsageError, match=r"none of its databases is the one; .*there are Sample Database$"):
            plan(standin, project)
        only = standin.add_database("Warehouse")
        assert plan(standin, project).steps[1].body["dataset_query"]["database"] == only
        named = standin.add_database("Other")
        with pytest.raises(UsageError, match="there are Sample Database, Warehouse, Other"):
            plan(standin, project)
        with pytest.raises(UsageError, match="no database 'Nothing'"):
            plan(standin, project, database="Nothing")
        assert plan(standin, project, database="Other").steps[1].body["dataset_query"]["database"] == named
        push(standin, project, database="Other")
        report = push(standin, project, database="Warehouse")
        assert {change.what for step in report.steps for change in step.changes} == {"database"}


DSN = "postgresql://clickmart_reader:pass%40word@db.example:5433/shop?sslmode=require"


def test_the_database_is_made_once_and_its_sync_is_waited_for(project: Project) -> None:
    with StandIn(sync_polls=3).running() as standin:
        report = push(standin, project, create_database=True, dsn=DSN)
        (row,) = standin.databases.values()
        assert (row["name"], row["engine"], row["initial_sync_status"]) == ("clickmart", "postgres", "complete")
        assert row["details"] == {
            "host": "db.example",
            "port": 5433,
            "dbname": "shop",
            "user": "clickmart_reader",
            "password": "pass@word",
            "ssl": True,
            "ssl-mode": "require",
        }
        assert [path for method, path in standin.calls if method == "POST"][:2] == [
            "/api/database",
            f"/api/database/{row['id']}/sync_schema",
        ]
        assert "pass@word" not in str(report) + repr(report) + str(report.as_dict())
        before = standin.state()
        standin.calls.clear()
        assert str(push(standin, project, create_database=True, dsn=DSN)) == "nothing to do"
        assert (standin.writes(), standin.state()) == ({}, before)


def test_a_database_that_is_there_is_never_changed(project: Project) -> None:
    with StandIn().running() as standin:
        number = standin.add_database("clickmart", details={"host": "elsewhere"})
        before = dict(standin.databases[number])
        push(standin, project, create_database=True, dsn=DSN)
        assert standin.databases == {number: before}


def test_a_sync_that_takes_too_long_or_is_given_up_is_said(project: Project) -> None:
    with StandIn(sync_polls=10**6).running() as standin:
        with pytest.raises(MetabaseError, match=r"database 'clickmart': not synced after 0 s; push again"):
            push(standin, project, create_database=True, dsn=DSN, timeout=0)
        (row,) = standin.databases.values()
        row["initial_sync_status"] = "complete"
        push(standin, project, create_database=True, dsn=DSN)
        assert len(standin.databases) == 1
        row["initial_sync_status"] = "incomplete"
        standin.before = lambda method, path, write: (
            row.update(initial_sync_status="aborted") if path[-1].isdigit() else None
        )
        with pytest.raises(MetabaseError, match="gave up its sync"):
            push(standin, project)


@pytest.mark.parametrize(
    ("dsn", "message"),
    [
        (None, "Metabase needs a server that it can reach; name it by METABASE_DATABASE_DSN, --dsn or CLICKMART_DSN"),
        ("host=/tmp dbname=shop user=a", "connects over TCP to one host, and the DSN has /tmp"),
        ("host=a,b dbname=shop user=a", "the DSN has a,b"),
        ("dbname=shop user=a", "the DSN has none"),
        ("host=a user=u", "the DSN for Metabase has no dbname"),
        ("nonsense", "is no connection string"),
    ],
)
def test_a_dsn_that_metabase_could_not_use_is_refused(
    standin: StandIn, project: Project, dsn: str | None, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message.replace(".", r"\.")):
        plan(standin, project, create_database=True, dsn=dsn)


def test_metabase_may_see_the_server_by_a_dsn_of_its_own(
    standin: StandIn, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METABASE_DATABASE_DSN", "host=inner dbname=shop user=reader")
    push(standin, project, create_database=True, database="Shop", dsn=DSN)
    (row,) = [row for row in standin.databases.values() if row["name"] == "Shop"]
    details = row["details"]
    assert (details["host"], details["port"], details["password"], details["ssl"]) == ("inner", 5432, "", False)


# Versions and refusals


def test_an_old_metabase_and_one_not_set_up_are_refused(
    standin: StandIn, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin.version = 49
    with pytest.raises(MetabaseError, match=r"Metabase v0\.49\.1; clickmart needs 0\.50 or newer"):
        plan(standin, project)
    monkeypatch.setattr(
        StandIn, "_properties", lambda *_, **__: {"version": {"tag": "v0.60.1"}, "has-user-setup": False}
    )
    from metabase_standin import _ROUTES

    monkeypatch.setitem(_ROUTES, "GET /api/session/properties", StandIn._properties)
    with pytest.raises(MetabaseError, match="isn't set up yet"):
        plan(standin, project)


def test_a_write_that_is_refused_ends_the_push_and_says_why(standin: StandIn, project: Project) -> None:
    standin.readonly_group = True
    with pytest.raises(MetabaseError, match=r"^POST http://\S+/api/collection: 403 You don't have permissions"):
        push(standin, project)
    standin.readonly_group = False

    def refuse(method: str, path: str, write: int) -> None:
        if method == "PUT":
            raise RefusedError(400, {"errors": {"dashcards": "value must be seq of maps"}})

    standin.before = refuse
    with pytest.raises(
        MetabaseError, match=r'^PUT \S+/api/dashboard/\d+: 400 \{"dashcards":"value must be seq of maps"\}$'
    ):
        push(standin, project)


def test_a_metabase_that_keeps_something_else_is_said(
    standin: StandIn, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin.after = lambda method, path, write: (
        [card.update(display="table") for card in standin.cards.values()] and None
    )
    with pytest.raises(
        MetabaseError,
        match=r"took all writes, and still differs:\n~ update card week/sales\n    chart: 'table' -> 'bar'",
    ):
        push(standin, project)


@pytest.mark.parametrize("name", ["", " ", "a/b", "a\nb"])
def test_a_collection_needs_a_name_of_one_line(name: str) -> None:
    with pytest.raises(UsageError, match="is no name for a collection"):
        MetabaseOptions(collection=name)


def test_two_collections_of_one_project_stand_side_by_side(standin: StandIn, project: Project) -> None:
    push(standin, project)
    before = standin.state()
    push(standin, project, collection="Test shop")
    after = standin.state()
    assert len(standin.cards) == 2 * CARDS
    assert {number: after["cards"][number] for number in before["cards"]} == before["cards"]
    marks = {mark_of(row["description"]) for row in standin.collections.values()}
    assert marks == {"clickmart", "Test shop"}


def test_plan_reads_and_never_writes(standin: StandIn, project: Project) -> None:
    with client(standin) as server:
        pushing.plan(project, server, MetabaseOptions())
    assert {method for method, _ in standin.calls} == {"GET"}
