"""The report's page in a real browser: what its charts draw, how it reads, and that it asks nobody for anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import clickmart
import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import needs_chromium, opened, picture, run_browser, wait_until
from clickmart.project import read_project
from clickmart.reporting.files import write_report
from clickmart.reporting.looks import DARK, LIGHT
from clickmart.warehouse import Warehouse
from conftest import Server
from pages import HOSTILE, dashboards
from playwright.sync_api import Browser, Locator, Page
from projects import query

pytestmark = needs_chromium

HOUR = 3_600_000
#: What the marks of a chart stand for: each item of its scenegraph that is no axis.
MARKS = """(chart) => {
    const found = [];
    const plain = ([, value]) => !(value instanceof Object);
    const walk = (item) => {
        for (const mark of item.items ?? []) {
            if (mark.role === 'mark' && mark.marktype !== 'group') found.push(...mark.items.map((one) => one.datum));
            (mark.items ?? []).forEach(walk);
        }
    };
    chart.view.scenegraph().root.items.forEach(walk);
    return found.map((datum) => Object.fromEntries(Object.entries(datum).filter(plain)));
}"""


#: Charts that are not drawn for the width that they have.
UNDRAWN = """
    [...document.querySelectorAll('.chart')]
        .map((chart) => [chart.clientWidth, chart.querySelector('svg')?.clientWidth])
        .filter(([wanted, drawn]) => !(Math.abs(wanted - drawn) <= 24))
"""
#: Cards and charts that are wider than what they stand in.
WIDER = """
    [...document.querySelectorAll('.card, .both, .drawn, .chart')].filter((box) => box.scrollWidth > box.clientWidth)
        .map((box) => `${box.closest('.card').id} ${box.className}`)
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with run_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def shop(embedded_server: Server) -> Iterator[str]:
    """A warehouse with the sample in it."""
    with embedded_server.database(template=False) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def demo(shop: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page that the demo writes."""
    folder = tmp_path_factory.mktemp("demo")
    with chdir(folder):
        return clickmart.demo(dsn=shop).report


def card(name: str, query: str, **said: object) -> dict[str, tuple[str | bytes, dict[str, object]]]:
    return {name: (query, said)}


HOURS = "select timestamp '2026-01-01' + n * interval '1 hour' as t, n % 24 as n from generate_series(0, {}) as n"
SERIES = (
    "select i as x, 'series ' || s as s, case when s = 3 then -i else i * s end as y from generate_series(1, 4) i, "
)
SERIES += "generate_series(1, {}) s order by i, s"
XYS: dict[str, object] = {"x": "x", "y": "y", "series": "s"}
CARDS = {
    **card("names", f"{SERIES.format(3)}", chart="bar", **XYS),
    **card("many", f"{SERIES.format(14)}", chart="bar", stacked=True, **XYS),
    **card("numbers", f"{SERIES.format(2)}", chart="line", **XYS),
    **card("areas", f"{SERIES.format(2)}", chart="area", stacked=True, **XYS),
    **card("rows", "select 'n' || i as x, 5 - i * 3 as y from generate_series(1, 4) i", chart="row", x="x", y="y"),
    **card("groups", f"{SERIES.format(3)}", chart="row", **XYS),
    **card("pie", "select 'n' || i as x, i as y from generate_series(1, 14) i", chart="pie", x="x", y="y"),
    **card(
        "funnel", "select * from (values ('see', 1000), ('cart', 250), ('buy', 300)) as t (x, y)",
        chart="funnel", x="x", y="y",
    ),
    **card("figures", "select 1234567.5 as n, 0.25 as p, 3720 as s", chart="number",
           columns={"p": {"format": "percent"}, "s": {"format": "duration"}}),
    **card("long", HOURS.format(4999) + " where n not between 4900 and 4950 order by 1", chart="bar", x="t", y="n"),
    **card(
        "gaps", "select d::date as d, extract(day from d) as n from generate_series(timestamp '2026-03-01', "
        "'2026-03-20', '1 day') d where extract(day from d) not in (5, 6, 10, 12) order by 1",
        chart="line", x="d", y="n",
    ),
    **card("one", "select timestamp '2026-03-02 10:00' as t, 5 as n", chart="bar", x="t", y="n"),
    **card("nulls", "select null::date as t, 5 as n union all select '2026-03-02', null", chart="bar", x="t", y="n"),
    **card("empty", "select 1 as x, 2 as y where false", chart="line", x="x", y="y"),
    **card("sizes", "select 86400 * i as x, 10 as y from generate_series(1, 3) i", chart="bar", x="x", y="y",
           columns={"x": {"format": "duration"}}),
    **card("gauge", "select 5 as n, 'مرحبا بالعالم' as rtl, repeat('W', 400) as word", chart="gauge"),
    **card(
        "hostile", f"select $x${HOSTILE}$x$ || i as \"<u>\", i as \"datum['x']\", $x${HOSTILE}$x$ as \"s\" "
        "from generate_series(1, 3) i",
        title=HOSTILE, description=HOSTILE, chart="bar", x="<u>", y="datum['x']", series="s",
        columns={"<u>": {"title": HOSTILE}, "datum['x']": {"title": HOSTILE}},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def kinds(shop: str, demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with every kind of chart, and with data that is hard to draw."""
    folder = tmp_path_factory.mktemp("kinds")
    with Warehouse(shop).connect() as connection:
        write_report(connection, dashboards(folder, CARDS), folder / "kinds.html")
    return folder / "kinds.html"


@pytest.fixture(scope="module")
def demo_page(browser: Browser, demo: Path) -> Iterator[Page]:
    """The demo's page, open for tests that only look at it."""
    with opened(browser, demo) as page:
        yield page


@pytest.fixture(scope="module")
def kinds_page(browser: Browser, kinds: Path) -> Iterator[Page]:
    with opened(browser, kinds) as page:
        yield page


def chart(page: Page, name: str) -> Locator:
    return page.locator(f"[id='{name}'] .chart")


def marks(page: Page, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = chart(page, name).evaluate(MARKS)
    return found


def cells(page: Page, name: str, row: int) -> list[str]:
    return page.locator(f"[id='{name}'] tbody tr").nth(row).locator("td").all_text_contents()


# What the charts draw


def test_the_bars_of_the_hours_are_the_mart(shop: str, demo_page: Page) -> None:
    mart = query(
        shop, "select extract(epoch from hour_timestamp)::bigint * 1000, event_type, count_events from cdm.events_hours"
    )
    assert len(mart) > 1500
    drawn = marks(demo_page, "de_student.events_hours")
    assert chart(demo_page, "de_student.events_hours").locator(".mark-rect path").count() == len(mart)
    names = demo_page.locator("[id='de_student.events_hours'] .legend button").all_text_contents()
    assert Counter(mark["x"] for mark in drawn) == Counter(hour for hour, _, _ in mart)
    assert {mark["x1"] - mark["x0"] for mark in drawn} == {HOUR}
    # What is painted, from its lower to its upper end.
    by_colour: Counter[int] = Counter()
    for mark in drawn:
        assert abs(mark["y_end"] - mark["y_start"]) == mark["y"]
        by_colour[mark["c"]] += mark["y"]
    totals: Counter[str] = Counter()
    for _, name, count in mart:
        totals[name] += count
    largest = [count for _, count in totals.most_common(9)]
    assert [by_colour[place] for place in range(9)] == largest
    assert by_colour[9] == sum(totals.values()) - sum(largest)
    assert names == [*(name for name, _ in totals.most_common(9)), f"{len(totals) - 9} others"]
    # Each hour's bar is as high as all of its page views.
    tops: Counter[int] = Counter()
    for mark in drawn:
        tops[mark["x"]] = max(tops[mark["x"]], mark["y_end"], mark["y_start"])
    hours: Counter[int] = Counter()
    for hour, _, count in mart:
        hours[hour] += count
    assert tops == hours


def test_an_hour_without_a_row_has_no_bar(shop: str, demo_page: Page) -> None:
    mart = query(
        shop, "select extract(epoch from hour_timestamp)::bigint * 1000, count_products from cdm.products_hours"
    )
    drawn = marks(demo_page, "de_student.products_hours")
    assert sorted((mark["x"], mark["y"], mark["x1"]) for mark in drawn) == sorted(
        (hour, count, hour + HOUR) for hour, count in mart
    )


def test_rows_stand_as_the_query_sorts_them_with_their_values(shop: str, demo_page: Page) -> None:
    mart = query(shop, "select page_url, count_purchases from cdm.top_pages order by id")
    drawn = chart(demo_page, "de_student.top_pages")
    bars = [mark for mark in marks(demo_page, "de_student.top_pages") if "label" not in mark]
    heights = drawn.locator(".mark-rect path").evaluate_all("all => all.map(bar => bar.getBoundingClientRect().y)")
    labels = drawn.locator(".role-axis-label text").all_text_contents()
    values = drawn.locator(".mark-text.role-mark text").all_text_contents()
    assert [mark["y"] for mark in bars] == [count for _, count in mart]
    assert heights == sorted(heights)
    assert values == [str(count) for _, count in mart]
    assert labels[0] == mart[0][0].removeprefix("http://")
    assert len(labels) == len(mart)
    assert any("…" in label for label in labels)


def test_every_kind_of_chart_draws_its_numbers(kinds_page: Page) -> None:
    assert sorted(mark["y"] for mark in marks(kinds_page, "one.names")) == sorted(
        i * f for i in range(1, 5) for f in (1, 2, -1)
    )
    assert {mark["c"] for mark in marks(kinds_page, "one.many")} == set(range(10))
    assert len(marks(kinds_page, "one.many")) == 4 * 14
    assert [(mark["x"], mark["y"]) for mark in marks(kinds_page, "one.numbers") if mark.get("s") == 0] == [
        (i, 2 * i) for i in range(1, 5)
    ]
    assert {mark["y_end"] for mark in marks(kinds_page, "one.areas") if mark.get("s") == 1} == {3, 6, 9, 12}
    assert [mark["y"] for mark in marks(kinds_page, "one.rows") if "label" not in mark] == [2, -1, -4, -7]
    assert sum(mark["y"] for mark in marks(kinds_page, "one.pie")) == 14 * 15 / 2
    assert chart(kinds_page, "one.funnel").locator(".mark-text.role-mark text").all_text_contents() == [
        "1,000", "250", "300", "100%", "25%   ↓ 75%", "30%   ↑ 20%",
    ]  # fmt: skip
    assert chart(kinds_page, "one.sizes").locator(".role-axis-label text").all_text_contents()[:3] == [
        "1 day", "2 days", "3 days",
    ]  # fmt: skip
    assert kinds_page.locator("[id='one.figures'] dd").all_text_contents() == ["1,234,567.5", "25.0%", "1 hr 2 min"]
    assert cells(kinds_page, "one.funnel", 1) == ["cart", "250", "25.0%", "-75.0%"]
    assert cells(kinds_page, "one.empty", 0) == ["No rows."]
    assert marks(kinds_page, "one.one")[0]["x1"] - marks(kinds_page, "one.one")[0]["x0"] == HOUR
    for name in ("nulls", "empty", "gauge"):
        assert chart(kinds_page, f"one.{name}").count() == 0
        assert kinds_page.locator(f"[id='one.{name}'] table").is_visible()


def test_a_line_breaks_where_a_step_is_missing_and_a_lone_value_is_a_dot(kinds_page: Page) -> None:
    line = chart(kinds_page, "one.gaps").locator(".mark-line path")
    path = line.get_attribute("d") or ""
    assert line.get_attribute("stroke-linecap") == "round"
    # Days 1 to 4, 7 to 9, 11 alone, 13 to 20.
    assert [part.count("L") for part in path.split("M")[1:]] == [3, 2, 0, 7]


def test_a_long_course_begins_with_its_newest_part_and_a_strip_chooses_others(kinds_page: Page) -> None:
    span = "chart => Object.values(chart.view.signal('span'))[0].map(Number)"
    last = 1_767_225_600_000 + 5000 * HOUR
    before = chart(kinds_page, "one.long").evaluate(span)
    assert before == [last - 336 * HOUR, last]
    drawn = [mark for mark in marks(kinds_page, "one.long") if "x0" in mark]
    assert len(drawn) == 5000 - 51
    assert not {mark["x"] for mark in drawn} & {1_767_225_600_000 + n * HOUR for n in range(4900, 4951)}
    chart(kinds_page, "one.long").scroll_into_view_if_needed()
    box = chart(kinds_page, "one.long").locator("svg").bounding_box()
    assert box is not None
    y = box["y"] + box["height"] - 45
    kinds_page.mouse.move(box["x"] + 100, y)
    kinds_page.mouse.down()
    kinds_page.mouse.move(box["x"] + 200, y, steps=4)
    kinds_page.mouse.up()
    after = chart(kinds_page, "one.long").evaluate(span)
    assert after[1] < before[0]


def test_an_empty_warehouse_is_a_page_too(browser: Browser, embedded_server: Server, tmp_path: Path) -> None:
    with embedded_server.database() as dsn, Warehouse(dsn).connect() as connection:
        write_report(connection, read_project(), tmp_path / "empty.html")
    with opened(browser, tmp_path / "empty.html") as page:
        assert cells(page, "de_student.events_hours", 0) == ["No rows."]
        assert chart(page, "clickstream.funnel").locator(".mark-rect path").count() == 4


# How it reads


@pytest.mark.parametrize(
    ("locale", "figures", "time", "day"),
    [
        ("de-DE", ["1.234.567,5", "25,0\u00a0%", "1 Std. 2 Min."], "02.03.2026, 10:00:00", "8. März"),
        ("en-US", ["1,234,567.5", "25.0%", "1 hr 2 min"], "Mar 2, 2026, 10:00:00 AM", "Mar 8"),
        ("ru-RU", ["1\u00a0234\u00a0567,5", "25,0\u00a0%", "1 ч 2 мин"], "2 мар. 2026 г., 10:00:00", "8 мар."),
    ],
)
def test_numbers_and_times_are_in_the_readers_format_and_of_no_zone_but_utc(
    browser: Browser, kinds: Path, locale: str, figures: list[str], time: str, day: str
) -> None:
    with opened(browser, kinds, locale=locale, timezone_id="Asia/Tokyo") as page:
        assert page.locator("[id='one.figures'] dd").all_text_contents() == figures
        assert (
            chart(page, "one.funnel").locator(".mark-text.role-mark text").first.text_content()
            == figures[0][:2] + "000"
        )
        assert cells(page, "one.one", 0)[0] == time
        assert day in chart(page, "one.gaps").locator(".role-axis-label text").all_text_contents()


def test_dark_mode_is_dark_and_follows_a_change_at_once(browser: Browser, demo: Path) -> None:
    def colours(page: Page) -> tuple[str, str, str]:
        bar = page.locator("[id='de_student.products_hours'] .mark-rect path").first
        fill: str = bar.evaluate("bar => getComputedStyle(bar).fill")
        back: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
        text: str = page.locator("[id='de_student.products_hours'] .role-axis-label text").first.evaluate(
            "text => getComputedStyle(text).fill"
        )
        return fill, back, text

    with opened(browser, demo, color_scheme="dark") as page:
        fill, back, text = colours(page)
        assert fill == rgb(DARK[0])
        assert luminance(back) < 0.05 < 0.3 < luminance(text)
        page.emulate_media(color_scheme="light")
        fill, back, text = colours(page)
        assert fill == rgb(LIGHT[0])
        assert luminance(back) > 0.8 > 0.3 > luminance(text)


def rgb(colour: str) -> str:
    return f"rgb({int(colour[1:3], 16)}, {int(colour[3:5], 16)}, {int(colour[5:], 16)})"


def luminance(said: str) -> float:
    """The relative luminance, from 0 to 1, of a colour as rgb(...)."""
    parts = [int(part) / 255 for part in said[said.index("(") + 1 : -1].split(",")[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize(("palette", "back"), [(LIGHT, "#ffffff"), (DARK, "#1a1e25")], ids=["light", "dark"])
def test_each_colour_stands_out_from_its_background(palette: tuple[str, ...], back: str) -> None:
    assert len(set(palette)) == len(palette) == 10
    for colour in palette:
        lighter, darker = sorted((luminance(rgb(colour)), luminance(rgb(back))), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 3, colour


def test_nothing_is_wider_than_the_screen(browser: Browser, kinds: Path) -> None:
    with opened(browser, kinds, width=360) as page:
        for width in (360, 768, 1280, 2200):
            page.set_viewport_size({"width": width, "height": 900})
            wait_until(page, lambda: page.evaluate(UNDRAWN) == [])
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert page.evaluate(WIDER) == []


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("light", {"width": 1600}),
        ("dark", {"width": 1600, "color_scheme": "dark"}),
        ("phone", {"width": 360, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}),
    ],
)
def test_a_screenshot_shows_the_page(
    browser: Browser, demo: Path, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    with opened(browser, demo, **options) as page:
        image = page.screenshot(path=tmp_path / f"{name}.png", full_page=True)
    width, height, colours = picture(browser, image)
    assert width == options["width"] * options.get("device_scale_factor", 1)
    assert height > 1500
    assert colours > 100


def test_images_of_cards_show_something(browser: Browser, shop: str, demo: Path, tmp_path: Path) -> None:
    kinds = ("names", "areas", "gaps", "rows", "pie", "funnel", "figures", "gauge", "hostile", "empty")
    cards = {name: CARDS[name] for name in kinds}
    with Warehouse(shop).connect() as connection:
        written = write_report(connection, dashboards(tmp_path, cards), tmp_path / "images", format="png")
    assert len(written.files) == len(cards)
    for file, _ in written.files:
        width, height, colours = picture(browser, file.read_bytes())
        assert width > 800, file
        assert height > 150, file
        assert colours > 10, file


def test_paper_has_the_charts_without_what_is_for_a_screen(browser: Browser, demo: Path) -> None:
    with opened(browser, demo, color_scheme="dark") as page:
        page.emulate_media(media="print")
        assert not page.locator("nav").is_visible()
        assert page.locator("[id='de_student.sources'] table").is_visible()
        # Drawn again for the paper's width.
        bar = page.locator("[id='de_student.products_hours'] .mark-rect path").first
        wait_until(page, lambda: bar.evaluate("bar => getComputedStyle(bar).fill") == rgb(LIGHT[0]))


# By keyboard, by ear, without JavaScript


def test_the_keyboard_reaches_and_works_everything(browser: Browser, demo: Path) -> None:
    with opened(browser, demo, width=700) as page:
        reached = []
        for _ in range(150):
            page.keyboard.press("Tab")
            reached.append(
                page.evaluate("document.activeElement.matches(':focus-visible') && document.activeElement.textContent")
            )
        assert reached[0] == "Skip to the dashboards"
        assert "Распределение событий по часам" in reached
        assert {"Table", "cart", "Users"} <= set(reached)

        table = page.locator("[id='de_student.sources']")
        page.locator("[id='de_student.sources'] th button", has_text="Users").first.focus()
        page.keyboard.press("Enter")
        assert table.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
        users = [int(cells(page, "de_student.sources", row)[2]) for row in range(5)]
        assert users == sorted(users)
        page.keyboard.press("Enter")
        assert table.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"

        details = page.locator("[id='de_student.events_hours'] details")
        assert details.get_attribute("open") is None
        details.locator("summary").focus()
        page.keyboard.press("Enter")
        assert page.locator("[id='de_student.events_hours'] table").is_visible()

        before = len(marks(page, "de_student.events_hours"))
        page.locator("[id='de_student.events_hours'] .legend button").first.focus()
        page.keyboard.press("Space")
        assert page.evaluate("document.activeElement.ariaPressed") == "false"
        wait_until(page, lambda: len(marks(page, "de_student.events_hours")) < before)
        assert {mark["c"] for mark in marks(page, "de_student.events_hours")} == set(range(1, 10))
        for _ in range(9):
            page.keyboard.press("Tab")
            page.keyboard.press("Space")
        wait_until(page, lambda: len(marks(page, "de_student.events_hours")) == before)


def test_sorting_knows_numbers_times_and_empty_values(browser: Browser, shop: str, demo: Path, tmp_path: Path) -> None:
    values = "(values (10, date '2026-03-02', 'b'), (9, '2026-01-10', null), (null, '2026-10-01', 'a')) as t (n, d, s)"
    with Warehouse(shop).connect() as connection:
        write_report(connection, dashboards(tmp_path, card("a", f"select * from {values}")), tmp_path / "p.html")
    with opened(browser, tmp_path / "p.html") as page:
        for column, place, upwards in (
            ("n", 0, ["9", "10", ""]),
            ("d", 1, ["Jan 10, 2026", "Mar 2, 2026", "Oct 1, 2026"]),
            ("s", 2, ["a", "b", ""]),
        ):
            button = page.locator("th button").nth(place)
            assert button.text_content() == column
            button.click()
            assert [cells(page, "one.a", row)[place] for row in range(3)] == upwards
            button.click()
            filled = [text for text in upwards if text]
            assert [cells(page, "one.a", row)[place] for row in range(3)] == filled[::-1] + [""] * (3 - len(filled))


@pytest.mark.parametrize(("name", "scheme"), [("demo", "dark"), ("kinds", "light")])
def test_the_rules_of_accessibility_hold(
    browser: Browser, name: str, scheme: str, request: pytest.FixtureRequest
) -> None:
    # axe is a script of its own, which the page's policy would refuse.
    with opened(browser, request.getfixturevalue(name), color_scheme=scheme, bypass_csp=True) as page:
        found = Axe().run(page, context={"exclude": ["[aria-hidden]"]})
    assert found.generate_report() == "Found 0 accessibility violations:\n"


def test_a_screen_reader_hears_each_chart_as_an_image_with_its_table(demo_page: Page) -> None:
    image = demo_page.get_by_role("img", name="Bar chart of Page views by Hour and Page type, 2026-03-02 00:00 to")
    assert image.count() == 1
    article = demo_page.get_by_role("article", name="Распределение событий по часам")
    assert article.get_by_role("table").count() == 1
    for role in ("banner", "navigation", "main"):
        assert demo_page.get_by_role(role).count() == 1, role  # type: ignore[arg-type]
    assert demo_page.locator("h3[lang=ru]").text_content() == "Распределение событий по часам"


def test_without_javascript_all_tables_are_there(browser: Browser, demo: Path) -> None:
    with opened(browser, demo, java_script_enabled=False) as page:
        assert cells(page, "de_student.products_hours", 0) == ["2026-03-02 01:00", "1"]
        for table in page.locator("table").all():
            assert table.is_visible()
        for part in page.locator(".chart, .legend").all():
            assert not part.is_visible()


# Data is data


def test_a_text_of_the_data_is_shown_and_never_run(kinds_page: Page) -> None:
    assert kinds_page.evaluate("window.ran") is None
    assert kinds_page.locator("[id='one.hostile'] h3").text_content() == HOSTILE
    assert cells(kinds_page, "one.hostile", 0)[0] == HOSTILE.replace("\u2028", "\\u2028") + "1"
    assert (
        kinds_page.locator("main img, main u, main [onerror], article script:not([type='application/json'])").count()
        == 0
    )
    bar = chart(kinds_page, "one.hostile").locator(".mark-rect path").first
    bar.scroll_into_view_if_needed()
    bar.hover()
    tip = kinds_page.locator(".tip")
    assert (tip.locator("strong").text_content() or "").startswith("<script>window.ran=1</script>")
    assert tip.locator("script, img").count() == 0
    assert kinds_page.evaluate("window.ran") is None


def test_a_tip_says_what_is_under_the_pointer(browser: Browser, demo: Path) -> None:
    with opened(browser, demo, locale="en-GB") as page:
        bar = page.locator("[id='de_student.products_hours'] .mark-rect path").nth(20)
        datum = marks(page, "de_student.products_hours")[20]
        bar.scroll_into_view_if_needed()
        bar.hover()
        texts = page.locator(".tip").all_text_contents()[0]
        assert texts.endswith(f"Products{datum['y']}")
        page.keyboard.press("Escape")
        assert not page.locator(".tip").is_visible()


def test_a_script_that_is_not_the_pages_own_does_not_run(browser: Browser, demo: Path, tmp_path: Path) -> None:
    changed = demo.read_text(encoding="utf-8").replace("</main>", "<script>window.ran=1</script></main>")
    (tmp_path / "changed.html").write_text(changed, encoding="utf-8")
    with (
        pytest.raises(AssertionError, match="Content Security Policy"),
        opened(browser, tmp_path / "changed.html") as page,
    ):
        assert page.evaluate("window.ran") is None
