"""What a chart draws of a card's rows, without a database and without a browser."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from clickmart.card_rows import CardRows
from clickmart.dashboards import Card, Place
from clickmart.reporting.looks import legend_names, short
from clickmart.reporting.markdown import html_of
from clickmart.reporting.points import CATEGORIES, Points, milliseconds, points_of
from clickmart.reporting.shown_values import number_text

HOUR = 3_600_000
START = datetime(2026, 3, 2, 10)


def card(chart: str, y: Sequence[str] = ("y",), series: str | None = None, x: str | None = "x") -> Card:
    return Card(
        name="a", path="a.sql", title="A", description="", chart=chart, x=x, y=tuple(y), series=series, stacked=False,
        columns={}, place=Place(0, 0, 12, 8), tab=None, metabase={}, sql="", variables=(),
    )  # fmt: skip


def points(chart: str, columns: str, *rows: tuple[object, ...], y: Sequence[str] = ("y",)) -> Points | None:
    names = tuple(columns.split())
    series = "s" if "s" in names else None
    return points_of(card(chart, y, series), CardRows(names, rows, len(rows)))


def hours(*numbers: int) -> list[tuple[object, ...]]:
    return [(START + timedelta(hours=number), number) for number in numbers]


def test_a_missing_step_breaks_the_line_and_has_no_value() -> None:
    found = points("line", "x y", *hours(0, 1, 4, 5))
    assert found is not None
    first = milliseconds(START)
    assert [(x - first) // HOUR for x in found.x] == [0, 1, 2, 4, 5]
    assert found.y == (0, 1, None, 4, 5)
    assert found.drawn_y == (0, 1, 4, 5)


def test_each_series_breaks_where_its_own_values_miss() -> None:
    rows = [(at, name, value) for at, value in hours(0, 1, 2, 3) for name in "ab" if (name, value) != ("b", 2)]
    found = points("line", "x s y", *rows)
    assert found is not None
    assert [y for y, series in zip(found.y, found.series, strict=True) if series == 0] == [0, 1, 2, 3]
    assert [y for y, series in zip(found.y, found.series, strict=True) if series == 1] == [0, 1, None, 3]


def test_months_are_steps_of_unequal_length_and_none_is_missing() -> None:
    found = points("line", "x y", *((date(2026, month, 1), month) for month in range(1, 13)))
    assert found is not None
    assert found.y == tuple(range(1, 13))


def test_bars_have_no_value_where_no_row_is() -> None:
    found = points("bar", "x y", *hours(0, 1, 4))
    assert found is not None
    assert (found.y, found.step) == ((0, 1, 4), HOUR)


@pytest.mark.parametrize(("at", "step"), [(datetime(2026, 3, 2, 10), HOUR), (date(2026, 3, 2), 24 * HOUR)])
def test_a_single_instant_is_an_hour_or_a_day(at: date, step: int) -> None:
    found = points("bar", "x y", (at, 1))
    assert found is not None
    assert found.step == step


def test_times_are_of_utc_whatever_their_zone() -> None:
    tokyo = datetime(2026, 3, 2, 19, tzinfo=timezone(timedelta(hours=9)))
    assert milliseconds(START) == milliseconds(tokyo) == milliseconds(START.replace(tzinfo=UTC))
    assert milliseconds(date(1970, 1, 2)) == 24 * HOUR
    assert milliseconds(date(1969, 12, 31)) == -24 * HOUR


def test_the_largest_series_come_first() -> None:
    found = points("bar", "x s y", (1, "small", 1), (1, "negative", -9), (1, "middle", 3), (2, "middle", 3))
    assert found is not None
    assert found.series_names == ("negative", "middle", "small")


def test_several_values_are_series_of_their_own() -> None:
    found = points("bar", "x y z", ("a", 1, 2), ("b", 3, None), y=("y", "z"))
    assert found is not None
    assert found.series_names == ("y", "z")
    assert found.drawn == ((0, 1, 0), (0, 2, 1), (1, 3, 0))
    both = points("bar", "x s y z", ("a", "k", 1, 2), y=("y", "z"))
    assert both is not None
    assert both.series_names == ("k · z", "k · y")


@pytest.mark.parametrize("value", [None, "text", True, float("nan"), float("inf"), Decimal("NaN"), [1]])
def test_what_is_no_number_is_not_drawn(value: object) -> None:
    found = points("bar", "x y", ("a", value), ("b", Decimal("2.50")), ("c", timedelta(minutes=1)))
    assert found is not None
    assert (found.drawn_y, found.names, found.count_left_out) == ((2.5, 60), ("b", "c"), 0)
    assert points("bar", "x y", ("a", value)) is None


def test_a_value_without_a_time_has_no_place() -> None:
    found = points("line", "x y", (None, 1), *hours(0, 1))
    assert found is not None
    assert (found.drawn_y, found.count_left_out) == ((0, 1), 1)
    assert points("bar", "x y", (None, 1), (START, None)) is None


def test_missing_names_are_a_dash() -> None:
    found = points("row", "x s y", (None, None, 1))
    assert found is not None
    assert (found.names, found.series_names) == (("—",), ("—",))


def test_of_many_names_the_first_are_drawn() -> None:
    found = points("row", "x y", *((f"n{n}", n) for n in range(CATEGORIES + 7)))
    assert found is not None
    assert (len(found.names), len(found.drawn), found.count_left_out) == (CATEGORIES, CATEGORIES, 7)


def test_without_an_axis_or_rows_nothing_is_drawn() -> None:
    assert points("line", "x y") is None
    assert points_of(card("line", x=None), CardRows(("y",), ((1,),), 1)) is None
    assert points_of(card("line", y=()), CardRows(("x",), ((1,),), 1)) is None


def test_numbers_of_a_line_stand_at_their_places_and_those_of_bars_in_order() -> None:
    line, bars = points("line", "x y", (10, 1), (30, 2)), points("bar", "x y", (10, 1), (30, 2))
    assert line is not None
    assert bars is not None
    assert (line.scale, line.x, bars.scale, bars.x, bars.names) == ("number", (10, 30), "names", (0, 1), ("10", "30"))


# Names and numbers as texts


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("http://shop.example.com/product_a", "shop.example.com/product_a"),
        ("https://shop.example.com/", "shop.example.com"),
        ("https://shop.example.com/%D0%96", "shop.example.com/Ж"),
        ("https://", "https://"),
        ("x" * 34, "x" * 34),
        ("https://shop.example.com/a/very/long/way/to/product_a", "shop.example.com…/way/to/product_a"),
        ("javascript:alert(1)", "javascript:alert(1)"),
    ],
)
def test_a_label_keeps_what_tells_names_apart(text: str, label: str) -> None:
    assert short(text) == label
    assert len(short(text)) <= 34


def test_more_series_than_colours_share_the_last_one() -> None:
    names = [f"n{n}" for n in range(12)]
    assert legend_names(names[:9]) == names[:9]
    assert legend_names(names[:10]) == names[:10]
    assert legend_names(names) == [*names[:9], "3 others"]


@pytest.mark.parametrize(
    ("number", "kind", "text"),
    [
        (0.5, "duration", "0.5 s"),
        (59.96, "duration", "60 s"),
        (60, "duration", "1 min"),
        (3725, "duration", "1 h 2 min"),
        (7200.4, "duration", "2 h"),
        (90061, "duration", "1 d 1 h"),
        (-90, "duration", "−1 min 30 s"),
        (999, "bytes", "999 B"),
        (1000, "bytes", "1 kB"),
        (999_960, "bytes", "1 MB"),
        (1_234_567, "bytes", "1.2 MB"),
        (0.00001, "number", "1e-05"),
        (0, "number", "0"),
    ],
)
def test_numbers_are_written_by_their_kind(number: float, kind: str, text: str) -> None:
    assert number_text(number, kind) == text


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a\nb\n\nc", "<p>a b</p>\n<p>c</p>"),
        ("- a\n* **b**", "<ul><li>a</li><li><strong>b</strong></li></ul>"),
        ("# Head", "<p><strong>Head</strong></p>"),
        ("*a* `<b>` 2*3*4", "<p><em>a</em> <code>&lt;b&gt;</code> 2*3*4</p>"),
        ("[a*b](https://x/*y*?\"q)", '<p><a rel="noopener noreferrer" href="https://x/*y*?&#34;q">a*b</a></p>'),
        ("[a](javascript:alert(1))", "<p>[a](javascript:alert(1))</p>"),
        ("<script>", "<p>&lt;script&gt;</p>"),
        ("", ""),
    ],
)  # fmt: skip
def test_markdown_becomes_its_html_and_html_stays_text(text: str, html: str) -> None:
    assert html_of(text) == html
