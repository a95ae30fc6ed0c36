"""clickmart metabase pull: what was changed in the browser, as a readable difference of the project's files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clickmart.dashboards import read_dashboards
from clickmart.errors import MetabaseError
from clickmart.metabase import pulling
from clickmart.metabase.pulling import MetabasePull
from clickmart.metabase.pushing import MetabaseOptions
from clickmart.project import Project
from metabase_project import a_project, again, client, edit, plan, push
from metabase_standin import StandIn
from projects import clean_environment

VERSIONS = [(50, False), (57, False), (63, True)]
SALES = "Продажи по часам"


@pytest.fixture(autouse=True)
def _no_warehouse_named(monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)


@pytest.fixture(params=VERSIONS)
def standin(request: pytest.FixtureRequest) -> Iterator[StandIn]:
    version, tag_list = request.param
    standin = StandIn(version=version, tag_list=tag_list)
    standin.add_database()
    with standin.running():
        yield standin


@pytest.fixture
def project(standin: StandIn, tmp_path: Path) -> Project:
    """The project, pushed."""
    project = a_project(tmp_path / "shop")
    push(standin, project)
    return project


def pull(standin: StandIn, project: Project) -> MetabasePull:
    before = standin.state()
    with client(standin) as server:
        report = pulling.pull(again(project), server, MetabaseOptions())
    assert standin.state() == before  # Metabase is only read
    return report


def texts(project: Project) -> dict[str, bytes]:
    files = (path for path in (project.folder / "dashboards").rglob("*") if path.is_file())
    return {path.relative_to(project.folder).as_posix(): path.read_bytes() for path in files}


def changed_lines(report: MetabasePull) -> list[str]:
    """The lines of the differences, without heads and context."""
    lines = [line for change in report.changes for line in change.diff.splitlines()]
    return [line for line in lines if line[:1] in "+-" and not line.startswith(("+++", "---"))]


def test_right_after_a_push_no_byte_changes(standin: StandIn, project: Project) -> None:
    before = texts(project)
    assert str(pull(standin, project)) == "nothing to pull"
    assert texts(project) == before


def week(standin: StandIn) -> Any:
    return standin.dashboard("Week")


def dashcard(standin: StandIn, name: str) -> Any:
    number = standin.card(name)["id"]
    return next(row for row in week(standin)["dashcards"] if row["card_id"] == number)


def settings(standin: StandIn, name: str) -> Any:
    return standin.card(name)["visualization_settings"]


def text(standin: StandIn, start: str) -> Any:
    rows = week(standin)["dashcards"]
    return next(row for row in rows if str(row["visualization_settings"].get("text", "")).startswith(start))


def replace_sql(standin: StandIn, name: str, old: str, new: str) -> None:
    query = standin.card(name)["dataset_query"]
    assert old in query["sql"]
    query["sql"] = query["sql"].replace(old, new)


def new_mark(row: Any, new: str) -> None:
    """A new description, as a person writes it who leaves the mark where it is."""
    row["description"] = f"{new}\n\n{row['description'].rpartition(chr(10))[2]}"


CHANGES: dict[str, tuple[Callable[[StandIn], Any], list[str]]] = {
    "title of the dashboard": (
        lambda standin: week(standin).update(name="Month"),
        ['-title = "Week"', '+title = "Month"'],
    ),
    "description of the dashboard": (
        lambda standin: new_mark(week(standin), "More."),
        ['-description = "What a week brings."', '+description = "More."'],
    ),
    "title of a card, and its comment stays": (
        lambda standin: standin.card("Sources").update(name="From where"),
        ['-title = "Sources" # with shares', '+title = "From where" # with shares'],
    ),
    "title that a card didn't have": (
        lambda standin: standin.card("total").update(name="All"),
        ['+title = "All"'],
    ),
    "description of a card": (
        lambda standin: new_mark(standin.card(SALES), "By hour."),
        ['-description = "Per hour."', '+description = "By hour."'],
    ),
    "place": (
        lambda standin: dashcard(standin, "total").update(size_x=5),
        [
            "-place = { column = 0, row = 10, width = 6, height = 3 }",
            "+place = { column = 0, row = 10, width = 5, height = 3 }",
        ],
    ),
    "tab of a card": (
        lambda standin: dashcard(standin, "Steps").update(dashboard_tab_id=week(standin)["tabs"][0]["id"]),
        ['-tab = "Visits"', '+tab = "Sales"'],
    ),
    "chart": (
        lambda standin: standin.card("Visits").update(display="line"),
        ['-chart = "area"', '+chart = "line"'],
    ),
    "a chart without a name of its own": (
        lambda standin: standin.card("total").update(display="progress", visualization_settings={"progress.goal": 9}),
        ['-chart = "number"', '-y = "sold"', '+chart = "progress"', '+metabase = { "progress.goal" = 9 }'],
    ),
    "axes": (
        lambda standin: settings(standin, SALES).update({"graph.metrics": ["sold", "n"], "graph.dimensions": ["hour"]}),
        ['-y = "sold"', '-series = "source"', '+y = ["sold", "n"]'],
    ),
    "stacked": (lambda standin: settings(standin, SALES).pop("stackable.stack_type"), ["-stacked = true"]),
    "format of a column": (
        lambda standin: settings(standin, SALES)["column_settings"].update(
            {'["name","sold"]': {"column_title": "Sold", "number_style": "percent"}}
        ),
        ['-sold = { title = "Sold", format = "number" }', '+sold = { title = "Sold", format = "percent" }'],
    ),
    "a column more": (
        lambda standin: settings(standin, "Sources")["column_settings"].update({'["name","n"]': {"column_title": "N"}}),
        ['+n = { title = "N" }'],
    ),
    "the first column of a card": (
        lambda standin: settings(standin, "Steps").update(column_settings={'["name","users"]': {"column_title": "U"}}),
        ["+[cards.steps.columns]", '+users = { title = "U" }', "+"],
    ),
    "a setting that was raw": (
        lambda standin: settings(standin, "Visits").update({"graph.goal_value": 7}),
        [
            '-metabase = { "graph.show_goal" = true, "graph.goal_value" = 100 }',
            '+metabase = { "graph.show_goal" = true, "graph.goal_value" = 7 }',
        ],
    ),
    "a raw setting more": (
        lambda standin: settings(standin, "Parts").update({"pie.show_legend": False}),
        ['+metabase = { "pie.show_legend" = false }'],
    ),
    "a setting made on the dashboard alone": (
        lambda standin: dashcard(standin, "Parts").update(
            visualization_settings={"card.title": "Shares", "pie.show_total": False}
        ),
        ['-title = "Parts"', '+title = "Shares"', '+metabase = { "pie.show_total" = false }'],
    ),
    "sql": (
        lambda standin: replace_sql(standin, SALES, "    3 as sold", "    4 as sold"),
        ["-    3 as sold", "+    4 as sold"],
    ),
    "a clause": (
        lambda standin: replace_sql(standin, SALES, "[[ and 3 >= {{least}} ]]", "[[ and 4 >= {{least}} ]]"),
        ["-    -- [[ and 3 >= {{least}} ]]", "+    -- [[ and 4 >= {{least}} ]]"],
    ),
    "title of a filter": (
        lambda standin: week(standin)["parameters"][0].update(name="Since"),
        ['-title = "From"', '+title = "Since"'],
    ),
    "values of a filter": (
        lambda standin: week(standin)["parameters"][1].update(values_source_type=None, values_source_config={}),
        ['-values = "sources.source"'],
    ),
    "a filter more": (
        lambda standin: week(standin)["parameters"].append(
            {"id": "abc", "name": "Page", "slug": "page", "type": "string/="}
        ),
        ["+[filters.page]", '+title = "Page"', '+type = "text"', "+"],
    ),
    "a text": (
        lambda standin: text(standin, "All")["visualization_settings"].update(text="In UTC."),
        ['-text = "All times are **UTC**."', '+text = "In UTC."'],
    ),
    "a text that moved": (
        lambda standin: text(standin, "All").update(row=20),
        [
            "-place = { column = 0, row = 1, width = 24, height = 1 }",
            "+place = { column = 0, row = 20, width = 24, height = 1 }",
        ],
    ),
    "a text less": (
        lambda standin: week(standin)["dashcards"].remove(text(standin, "All")),
        [
            "-",
            "-[[texts]]",
            '-text = "All times are **UTC**."',
            '-tab = "Sales"',
            "-place = { column = 0, row = 1, width = 24, height = 1 }",
        ],
    ),
    "a text more": (
        lambda standin: standin.place(week(standin), None, {"virtual_card": {"display": "text"}, "text": "More"}),
        [
            "+",
            "+[[texts]]",
            '+text = "More"',
            "+place = { column = 0, row = 30, width = 12, height = 6 }",
            '+tab = "Sales"',
        ],
    ),
    "a tab": (
        lambda standin: week(standin)["tabs"][1].update(name="Guests"),
        [
            '-tabs = ["Sales", "Visits"]',
            '+tabs = ["Sales", "Guests"]',
            *(['-tab = "Visits"', '+tab = "Guests"'] * 3),
        ],
    ),
}


#: After these the next push writes: from the dashboard to the card, to the titles of variables, what a chart leaves.
FOLLOWED_UP = ("a setting made on the dashboard alone", "title of a filter", "chart", "a filter more")


@pytest.mark.parametrize(
    ("standin", "what"),
    [*(((63, True), what) for what in CHANGES), ((50, False), "sql"), ((50, False), "a clause")],
    indirect=["standin"],
)
def test_one_change_in_the_browser_is_that_change_in_the_file(standin: StandIn, project: Project, what: str) -> None:
    """Law: the difference has the change and nothing else; then there is nothing to pull, and push agrees."""
    change, lines = CHANGES[what]
    change(standin)
    before = texts(project)
    report = pull(standin, project)
    assert sorted(changed_lines(report)) == sorted(lines)
    assert [changed.path for changed in report.changes] == [
        path for path, content in texts(project).items() if before.get(path) != content
    ]
    assert str(pull(standin, project)) == "nothing to pull"
    pushed = push(standin, again(project))
    if what not in FOLLOWED_UP:
        assert str(pushed) == "nothing to do"
    assert str(pull(standin, project)) == "nothing to pull"


def test_a_card_made_in_the_browser_becomes_a_card_of_the_project(standin: StandIn, project: Project) -> None:
    tags = {
        name: {"id": name, "name": name, "display-name": title, "type": type_}
        for name, title, type_ in (("least", "L", "number"), ("page", "Page", "text"))
    }
    sql = "select 1 as h, 2 as n\nwhere true\n  [[ and 1 > {{least}} ]]\n  [[ and 'a' = {{page}} ]]"
    home = week(standin)["collection_id"]
    drawn = {
        "graph.dimensions": ["h"],
        "graph.metrics": ["n"],
        "column_settings": {'["name","n"]': {"column_title": "N"}},
    }
    card = standin.add_card("A new one!", sql, tags, collection_id=home, display="line", visualization_settings=drawn)
    standin.place(week(standin), card)
    report = pull(standin, project)
    assert "week/a_new_one: new, from card #" in "".join(report.notes)
    assert texts(project)["dashboards/week/a_new_one.sql"].decode() == (
        "select 1 as h, 2 as n\nwhere true\n  -- [[ and 1 > {{least}} ]]\n  -- [[ and 'a' = {{page}} ]]\n"
    )
    assert changed_lines(report)[:4] == ["+", "+[filters.page]", '+title = "Page"', '+type = "text"']
    (dashboard,) = [one for one in read_dashboards(again(project)) if one.name == "week"]
    (new,) = [one for one in dashboard.cards if one.name == "a_new_one"]
    assert (new.title, new.chart, new.x, new.y, new.tab) == ("A new one!", "line", "h", ("n",), "Sales")
    assert (new.columns["n"].title, new.variables) == ("N", ("least", "page"))
    assert str(pull(standin, project)).startswith("nothing to pull")
    cards = len(standin.cards)
    steps = [(step.action, step.kind, step.name) for step in push(standin, again(project)).steps]
    assert steps == [("adopt", "card", "week/a_new_one"), ("update", "dashboard", "week")]
    assert len(standin.cards) == cards
    assert str(plan(standin, again(project))) == "nothing to do"
    assert str(pull(standin, project)) == "nothing to pull"


def test_a_card_of_another_collection_is_copied_and_stays_what_it_is(standin: StandIn, project: Project) -> None:
    elsewhere = standin.add_collection("Elsewhere")
    card = standin.add_card("Theirs", "select 1 as n", collection_id=elsewhere)
    standin.place(week(standin), card)
    before = dict(card)
    pull(standin, project)
    assert str(pull(standin, project)).startswith("nothing to pull")
    push(standin, again(project))
    assert standin.cards[card["id"]] == before
    assert [row["id"] for row in standin.cards.values() if row["name"] == "Theirs"] != [card["id"]]
    assert card["id"] not in [row["card_id"] for row in week(standin)["dashcards"]]


def test_a_question_that_belongs_to_the_dashboard_is_adopted(standin: StandIn, project: Project) -> None:
    card = standin.add_card(
        "Own", "select 1 as n", dashboard_id=week(standin)["id"], collection_id=week(standin)["collection_id"]
    )
    standin.place(week(standin), card)
    pull(standin, project)
    push(standin, again(project))
    assert str(plan(standin, again(project))) == "nothing to do"
    assert len([row for row in standin.cards.values() if row["name"] == "Own"]) == 1


def test_a_card_taken_off_the_dashboard_leaves_the_project(standin: StandIn, project: Project) -> None:
    week(standin)["dashcards"].remove(dashcard(standin, "Sources"))
    report = pull(standin, project)
    assert report.notes == ("week/sources: taken off the dashboard, and so out of the project",)
    assert not (project.folder / "dashboards/week/sources.sql").exists()
    (dashboard,) = [one for one in read_dashboards(again(project)) if one.name == "week"]
    assert "sources" not in [card.name for card in dashboard.cards]
    assert dashboard.filters["source"].values is None  # they came from that card
    push(standin, again(project))
    assert str(pull(standin, project)) == "nothing to pull"


def test_what_is_not_pushed_yet_is_not_taken_away(standin: StandIn, project: Project) -> None:
    toml = project.folder / "dashboards/week/dashboard.toml"
    with toml.open("a", encoding="utf-8") as file:
        file.write('\n[cards.later]\ntab = "Sales"\nplace = { column = 0, row = 40, width = 4, height = 4 }\n')
        file.write('\n[filters.soon]\ntitle = "Soon"\ntype = "text"\nvalues = "later.n"\n')
    sql = "select 1 as n where 'a' = {{soon}}\n"
    (project.folder / "dashboards/week/later.sql").write_text(sql, encoding="utf-8")
    (project.folder / "dashboards/new").mkdir()
    (project.folder / "dashboards/new/dashboard.toml").write_text("", encoding="utf-8")
    report = pull(standin, project)
    assert report.changes == ()
    assert set(report.notes) == {
        "new: not at Metabase yet; push makes it",
        "week/later: not at Metabase yet; push makes it",
    }


def test_after_a_push_that_was_cut_off_nothing_is_pulled(standin: StandIn, project: Project) -> None:
    week(standin)["dashcards"].clear()
    before = texts(project)
    report = pull(standin, project)
    assert "has nothing on it at Metabase, as after a push that was cut off; push first" in report.notes[0]
    assert texts(project) == before


def test_a_dashboard_in_the_trash_is_left_to_the_push(standin: StandIn, project: Project) -> None:
    standin._put_dashboard(week(standin)["id"], body={"archived": True})
    report = pull(standin, project)
    assert report.changes == ()
    assert "week: in Metabase's trash; push brings it back" in report.notes


def test_what_no_file_can_say_is_named_and_left_alone(standin: StandIn, project: Project) -> None:
    dashboard = week(standin)
    standin.place(dashboard, standin.add_clicked_card("Clicked"))
    standin.place(dashboard, None, {"virtual_card": {"display": "link"}, "link": {"url": "https://example.com"}})
    field = {"id": "f", "name": "f", "display-name": "F", "type": "dimension", "dimension": ["field", 1, None]}
    standin.place(dashboard, standin.add_card("By field", "select 1 where {{f}}", {"f": field}))
    odd = {"id": "g", "name": "Ж", "display-name": "G", "type": "text"}
    standin.place(dashboard, standin.add_card("Odd", "select {{Ж}}", {"Ж": odd}))
    standin.place(dashboard, standin.card("Sources"))
    dashboard["parameters"].append({"id": "r", "name": "Range", "slug": "range", "type": "date/range"})
    before = texts(project)
    report = pull(standin, project)
    assert texts(project) == before
    assert str(push(standin, project)).startswith("nothing to do")  # and it stays where it is
    shown = "\n".join(report.notes)
    for words in (
        "'Clicked' is not SQL that a file can have; left alone",
        "a link of its own kind, which no file can say; left alone",
        "'By field' is not SQL that a file can have; left alone",
        "'Odd' is not SQL that a file can have; left alone",
        "stands there twice; left alone",
        "filter 'Range' is of a type that the project has none for; left alone",
    ):
        assert words in shown


def test_a_card_that_is_no_longer_sql_keeps_its_query(standin: StandIn, project: Project) -> None:
    standin.card("Parts")["dataset_query"] = {"database": 1, "mbql": True, "tags": []}
    report = pull(standin, project)
    assert report.changes == ()
    assert report.notes == ("week/parts: no longer SQL that a file can have; its query stays as the project has it",)
    push(standin, project)
    assert standin.card("Parts")["dataset_query"]["sql"].startswith("select 'cart'")


def test_files_that_could_not_be_read_are_not_written(standin: StandIn, project: Project) -> None:
    replace_sql(standin, SALES, "select", "select 1; select")
    standin.card("Visits")["name"] = "Guests"
    before = texts(project)
    with pytest.raises(MetabaseError, match=r"makes no project, and no file was changed: dashboards/week/sales\.sql"):
        pull(standin, project)
    assert texts(project) == before


def test_two_tabs_of_one_name_are_for_a_person_to_tell_apart(standin: StandIn, project: Project) -> None:
    week(standin)["tabs"][1]["name"] = "Sales"
    before = texts(project)
    with pytest.raises(MetabaseError, match=r"dashboard\.toml:4: tabs must have names of their own"):
        pull(standin, project)
    assert texts(project) == before


def test_line_ends_and_other_layouts_of_the_file_stay(standin: StandIn, tmp_path: Path) -> None:
    project = a_project(tmp_path / "other")
    toml = project.folder / "dashboards/plain/dashboard.toml"
    toml.write_text(
        'title="Plain"  # short\n[cards]\none = { place = {column=0,row=0,width=4,height=4}, title="One" }\n',
        encoding="utf-8",
    )
    sql = project.folder / "dashboards/plain/one.sql"
    sql.write_bytes(b"--  one\r\nselect 1 as one\r\n--[[ where {{from}} is null ]]\r\n")
    toml.write_text(toml.read_text() + '[filters]\nfrom = {title="F", type="date"}\n', encoding="utf-8")
    push(standin, again(project))
    assert str(pull(standin, project)) == "nothing to pull"
    standin.card("One")["name"] = "Two"
    standin.dashboard("Plain")["dashcards"][0]["size_y"] = 9
    lines = changed_lines(pull(standin, project))
    assert lines == [
        '-one = { place = {column=0,row=0,width=4,height=4}, title="One" }',
        '+one = { place = {column=0,row=0,width=4,height=9}, title="Two" }',
    ]


def test_a_description_of_several_lines_stays(standin: StandIn, project: Project) -> None:
    edit(project, "dashboards/week/dashboard.toml", '"What a week brings."', '"""\nOne.\n\nclickmart: two\n"""')
    push(standin, again(project))
    assert str(push(standin, again(project))) == "nothing to do"
    before = texts(project)
    assert str(pull(standin, project)) == "nothing to pull"
    assert texts(project) == before


def test_each_file_is_replaced_at_once_and_keeps_its_mode(
    standin: StandIn, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = project.folder / "dashboards/week/dashboard.toml"
    toml.chmod(0o640)
    before = toml.stat().st_ino
    week(standin)["name"] = "Month"
    pull(standin, project)
    assert (toml.stat().st_mode & 0o777, toml.stat().st_ino != before) == (0o640, True)
    assert sorted(path.name for path in toml.parent.iterdir()) == sorted(
        ["dashboard.toml", *(f"{name}.sql" for name in ("sales", "total", "sources", "visits", "steps", "parts"))]
    )


def test_what_the_project_changed_since_is_overwritten_only_where_metabase_differs(
    standin: StandIn, project: Project
) -> None:
    edit(project, "dashboards/week/dashboard.toml", "# The shop's week.", "# Another comment.")
    week(standin)["name"] = "Month"
    report = pull(standin, project)
    assert changed_lines(report) == ['-title = "Week"', '+title = "Month"']
    assert (project.folder / "dashboards/week/dashboard.toml").read_text().startswith("# Another comment.")
