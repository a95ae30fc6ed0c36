"""What the marts mean (docs/meaning.md 1 to 4): a test a rule, its name the rule, asked of three witnesses.

They are the oracle, and the SQL on the embedded server and on the machine's own. What the rules say was worked out by
hand, so neither the oracle nor the SQL is right because the other says the same.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from typing import Protocol

import oracle
import pytest
from clickmart import applying
from clickmart.columns import COLUMNS
from clickmart.project import read_project
from clickmart.warehouse import Warehouse
from conftest import Shop, open_shop, project_with
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment, FileSystemLoader
from oracle import DEFAULTS, Event, Marts, PageView, Settings, events_of
from strategies import cuts, events, said, with_equal_deliveries

A_PURCHASE = """
    user | at    | page
    u1   | 10:00 | /product_a
    u1   | 10:01 | /cart
    u1   | 10:02 | /payment
    u1   | 10:03 | /confirmation"""

Given = str | Sequence[Event]  # a table for events_of, or the events


class Witness(Protocol):
    """Whoever is asked what events mean, given in the order in which they were loaded."""

    def parse_timestamp(self, text: str | None) -> datetime | None: ...

    def page_views(self, rows: Sequence[Event], settings: Settings) -> list[PageView]:
        """The page views in the order of loading."""

    def in_order(self, rows: Sequence[Event]) -> list[PageView]:
        """One user's page views in their order."""

    def marts(self, rows: Sequence[Event], settings: Settings) -> Marts: ...


class Oracle:
    """The witness in Python."""

    def parse_timestamp(self, text: str | None) -> datetime | None:
        return oracle.parse_timestamp(text)

    def page_views(self, rows: Sequence[Event], settings: Settings) -> list[PageView]:
        return oracle.page_views(rows, settings)

    def in_order(self, rows: Sequence[Event]) -> list[PageView]:
        return oracle.in_order(oracle.page_views(rows))

    def marts(self, rows: Sequence[Event], settings: Settings) -> Marts:
        return oracle.marts(rows, settings)


@dataclass
class Sql:
    """The witness in a warehouse, emptied for each question; its settings stay until others are asked for."""

    shop: Shop
    settings: Settings = DEFAULTS

    def parse_timestamp(self, text: str | None) -> datetime | None:
        query = "select stage.parse_timestamp(%s), stage.parse_any_timestamp(%s)"
        ((instant, exact),) = self.shop.query(query, text, text)
        assert instant == exact, "the fast way is no part of the exact one"
        return instant

    def page_views(self, rows: Sequence[Event], settings: Settings) -> list[PageView]:
        return self.views_by("batch_id, row_id", rows, settings)

    def in_order(self, rows: Sequence[Event]) -> list[PageView]:
        return self.views_by(view_order(), rows, DEFAULTS)

    def marts(self, rows: Sequence[Event], settings: Settings) -> Marts:
        self.load(rows, settings)
        assert self.shop.failures() == []
        return self.shop.marts()

    def views_by(self, order: str, rows: Sequence[Event], settings: Settings) -> list[PageView]:
        self.load(rows, settings)
        found = self.shop.query(
            "select viewed_at, user_id, page_type, coalesce(step::text, 'none'), event_id, page_url, referer_url, "
            f"utm_campaign from stage.page_views order by {order}"
        )
        return [PageView(*row) for row in found]

    def load(self, rows: Sequence[Event], settings: Settings) -> None:
        self.shop.reset()
        if settings != self.settings:
            self.shop.apply(project_with(settings))
            self.settings = settings
        if rows:
            self.shop.load(*rows)
        self.shop.refresh()


@cache
def view_order() -> str:
    """The order of a user's views, as all SQL has it."""
    macros = Environment(loader=FileSystemLoader(read_project().folder / "sql")).get_template("macros.jinja")
    return str(macros.module.view_order())  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def find_witness(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Witness]]:
    """A witness by its name; each is made once."""
    with ExitStack() as stack:

        @cache
        def find(name: str) -> Witness:
            if name == "oracle":
                return Oracle()
            server = request.getfixturevalue(f"{name}_server")
            return Sql(stack.enter_context(open_shop(server, tmp_path_factory.mktemp("shop"))))

        yield find


@pytest.fixture(params=["oracle", "embedded", "machine"])
def witness(request: pytest.FixtureRequest, find_witness: Callable[[str], Witness]) -> Witness:
    return find_witness(request.param)


@pytest.fixture(params=["embedded", "machine"])
def sql(request: pytest.FixtureRequest, find_witness: Callable[[str], Sql]) -> Sql:
    """A witness for what only a database has."""
    return find_witness(request.param)


@pytest.fixture
def parse_timestamp(witness: Witness) -> Callable[[str | None], datetime | None]:
    return witness.parse_timestamp


@pytest.fixture
def marts_of(witness: Witness) -> Callable[..., Marts]:
    """The marts of the events, with settings other than the defaults where they are named."""
    return lambda given, **settings: witness.marts(rows_of(given), Settings(**settings))


@pytest.fixture
def bought(marts_of: Callable[..., Marts]) -> Callable[..., list[tuple[str, str, int]]]:
    """The purchases of the events: user, time of day, number of products."""
    return lambda given, **settings: [
        (user, f"{at:%H:%M}", products) for user, at, products, *_ in marts_of(given, **settings).purchases
    ]


@pytest.fixture
def page_views(witness: Witness) -> Callable[[Given], list[PageView]]:
    return lambda given: witness.page_views(rows_of(given), DEFAULTS)


@pytest.fixture
def page_types(page_views: Callable[[Given], list[PageView]]) -> Callable[[Given], list[str]]:
    return lambda given: [view.page_type for view in page_views(given)]


@pytest.fixture
def in_order(witness: Witness) -> Callable[[Given], list[PageView]]:
    return lambda given: witness.in_order(rows_of(given))


@pytest.fixture
def steps(witness: Witness) -> Callable[..., list[str]]:
    """The step of a view of each page_url_path."""

    def find(*paths: str | None, **settings: str) -> list[str]:
        rows = [{"event_timestamp": "2022-09-30 10:00:00", "page_url_path": path} for path in paths]
        return [view.step for view in witness.page_views(rows, Settings(**settings))]

    return find


def rows_of(given: Given) -> Sequence[Event]:
    return events_of(given) if isinstance(given, str) else given


def at_ten(time: str = "10:00:00") -> datetime:
    return datetime.fromisoformat(f"2022-09-30T{time}")


# Timestamps


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2022-09-30 21:34:05", "2022-09-30 21:34:05"),
        ("2022-09-30T21:34:05", "2022-09-30 21:34:05"),
        ("2022-09-30 00:00:00", "2022-09-30 00:00:00"),
        ("2022-09-30 23:59:59", "2022-09-30 23:59:59"),
        ("2024-02-29 12:00:00", "2024-02-29 12:00:00"),
        ("2000-02-29 12:00:00", "2000-02-29 12:00:00"),
        ("0001-01-01 00:00:00", "0001-01-01 00:00:00"),
        ("9999-12-31 23:59:59", "9999-12-31 23:59:59"),
    ],
)
def test_a_timestamp_is_a_date_t_or_one_space_and_a_time(parse_timestamp, text, instant):
    assert parse_timestamp(text) == datetime.fromisoformat(instant)


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [
        ("2022-09-30 21:34:05.6", 600000),
        ("2022-09-30 21:34:05.06", 60000),
        ("2022-09-30 21:34:05.000001", 1),
        ("2022-09-30 21:34:05.627882", 627882),
        ("2022-09-30 21:34:05.0", 0),
        ("2022-09-30 21:34:05.5Z", 500000),
        ("2022-09-30T21:34:05.5 -00", 500000),
    ],
)
def test_a_fraction_has_one_digit_or_more(parse_timestamp, text, microsecond):
    assert parse_timestamp(text) == datetime(2022, 9, 30, 21, 34, 5, microsecond)


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [
        ("2022-09-30 21:34:05.6278829", 627882),
        ("2022-09-30 21:34:05.0000009", 0),
        ("2022-09-30 21:34:05.9999999", 999999),
        ("2022-09-30 21:34:05." + "9" * 100 + "Z", 999999),
    ],
)
def test_fraction_digits_past_the_sixth_are_cut_not_rounded(parse_timestamp, text, microsecond):
    assert parse_timestamp(text) == datetime(2022, 9, 30, 21, 34, 5, microsecond)


@pytest.mark.parametrize(
    ("zone", "instant"),
    [
        ("", "2022-09-30 21:34:05"),
        ("Z", "2022-09-30 21:34:05"),
        (" Z", "2022-09-30 21:34:05"),
        ("+00", "2022-09-30 21:34:05"),
        ("-00:00", "2022-09-30 21:34:05"),
        ("+03:00", "2022-09-30 18:34:05"),
        ("+0300", "2022-09-30 18:34:05"),
        ("+03", "2022-09-30 18:34:05"),
        (" +03:00", "2022-09-30 18:34:05"),
        (" +0300", "2022-09-30 18:34:05"),
        (" +03", "2022-09-30 18:34:05"),
        ("-03", "2022-10-01 00:34:05"),
        ("+05:45", "2022-09-30 15:49:05"),
        ("-0330", "2022-10-01 01:04:05"),
        ("+14:59", "2022-09-30 06:35:05"),
        ("-14:59", "2022-10-01 12:33:05"),
        ("+1459", "2022-09-30 06:35:05"),
        ("-14", "2022-10-01 11:34:05"),
    ],
)
def test_an_offset_is_taken_off_and_without_one_it_is_utc(parse_timestamp, zone, instant):
    assert parse_timestamp(f"2022-09-30 21:34:05{zone}") == datetime.fromisoformat(instant)


@pytest.mark.parametrize("around", [" ", "   ", "\t", "\n", "\r\n", "\r", " \t\r\n "])
def test_blanks_tabs_and_line_ends_around_a_timestamp_are_ignored(parse_timestamp, around):
    assert parse_timestamp(f"{around}2022-09-30 10:00:00{around}") == at_ten()
    assert parse_timestamp(f"{around}2022-09-30 10:00:00 Z{around}") == at_ten()


@pytest.mark.parametrize("around", ["\f", "\v", "\x1c", "\x85", "\xa0", "\u2028", "\u3000", "\ufeff", "'"])
def test_nothing_else_around_a_timestamp_is_ignored(parse_timestamp, around):
    assert parse_timestamp(f"{around}2022-09-30 10:00:00") is None
    assert parse_timestamp(f"2022-09-30 10:00:00{around}") is None


def test_a_nul_around_a_timestamp_is_not_ignored():
    # Asked of the oracle alone: no text of PostgreSQL holds one.
    assert oracle.parse_timestamp("\0" + "2022-09-30 10:00:00") is None
    assert oracle.parse_timestamp("2022-09-30 10:00:00\0") is None


@pytest.mark.parametrize("text", [None, "", " ", "\n"])
def test_a_missing_timestamp_is_none(parse_timestamp, text):
    assert parse_timestamp(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "yesterday",
        "now",
        "infinity",
        "1664532000",
        "2022-09-30",
        "21:34:05",
        "2022-09-30 21",
        "2022-09-30 21:34",
        "2022-09-3021:34:05",
        "2022-09-30  21:34:05",
        "2022-09-30\t21:34:05",
        "2022-09-30\n21:34:05",
        "2022-09-30T 21:34:05",
        "2022-09-30t21:34:05",
        "2022-09-30_21:34:05",
        "2022-9-30 21:34:05",
        "2022-09-3 21:34:05",
        "2022-09-30 1:34:05",
        "22-09-30 21:34:05",
        "12022-09-30 21:34:05",
        "+2022-09-30 21:34:05",
        "-2022-09-30 21:34:05",
        "2022/09/30 21:34:05",
        "30-09-2022 21:34:05",
        "20220930T213405",
        "2022-273 21:34:05",
        "2022-09-30 21-34-05",
        "2022- 9-30 21:34:05",
        "2022-09-30 21:34: 5",
        "2022-09-30 21:34:+5",
        "2022-09-30 21:34:05 AD",
        "2022-09-30 09:34:05 PM",
        "Fri 2022-09-30 21:34:05",
        "2022-09-30 21:34:05 x",
        "2022-09-30 21:34:05, 2022-09-30 21:34:05",
    ],
)
def test_other_shapes_are_no_timestamps(parse_timestamp, text):
    assert parse_timestamp(text) is None


@pytest.mark.parametrize("fraction", [".", ",5", ". 5", ".5.5", ".5e1", ".-5", ":5", " .5", ".+03", "._5"])
def test_a_fraction_is_a_point_and_digits(parse_timestamp, fraction):
    assert parse_timestamp(f"2022-09-30 21:34:05{fraction}") is None


@pytest.mark.parametrize(
    "zone",
    [
        "  Z",
        "\tZ",
        "\nZ",
        "z",
        "ZZ",
        "Z+03",
        " UTC",
        " Europe/Moscow",
        "+",
        "+3",
        "+3:00",
        "+03:0",
        "+03:",
        "+030",
        "03:00",
        "+ 03",
        "+03 00",
        "+03.5",
        "+03:00:00",
        "+030000",
        "  +03",
        "\t+03",
        "+-03",
        "\N{MINUS SIGN}03",
        "+03Z",
        "+003:00",
    ],
)
def test_a_zone_is_z_or_an_offset_after_at_most_one_space(parse_timestamp, zone):
    assert parse_timestamp(f"2022-09-30 21:34:05{zone}") is None


@pytest.mark.parametrize(
    "offset", ["+15:00", "-15:00", "+15", "-1500", "+14:60", "+03:60", "-0075", "+24:00", "+99:99"]
)
def test_an_offset_is_at_most_fourteen_hours_and_fifty_nine_minutes_either_way(parse_timestamp, offset):
    assert parse_timestamp(f"2022-09-30 21:34:05{offset}") is None


@pytest.mark.parametrize(
    "date",
    ["2022-00-01", "2022-13-01", "2022-09-00", "2022-09-31", "2022-02-29", "1900-02-29", "2022-01-32", "0000-01-01"],
)
def test_a_date_is_a_real_one(parse_timestamp, date):
    for time in ("21:34:05", "21:34:05.123456"):
        assert parse_timestamp(f"{date} {time}") is None


@pytest.mark.parametrize("time", ["24:00:00", "25:00:00", "23:60:00", "23:59:60", "23:59:61", "99:99:99"])
def test_a_time_of_day_has_no_hour_24_and_no_leap_second(parse_timestamp, time):
    for fraction in ("", ".123456"):
        assert parse_timestamp(f"2022-06-30 {time}{fraction}") is None


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("0001-01-01 03:00:00+03:00", "0001-01-01 00:00:00"),
        ("0001-01-01 02:59:59.999999+03:00", None),
        ("0001-01-01 00:00:00+00:01", None),
        ("0001-01-01 00:00:00-01:00", "0001-01-01 01:00:00"),
        ("0000-12-31 23:59:59-01:00", None),
        ("9999-12-31 23:59:59.9999999", "9999-12-31 23:59:59.999999"),
        ("9999-12-31 22:59:59-01:00", "9999-12-31 23:59:59"),
        ("9999-12-31 23:00:00-01:00", None),
        ("9999-12-31 23:59:59+14:59", "9999-12-31 09:00:59"),
        ("10000-01-01 00:00:00+01:00", None),
    ],
)
def test_the_year_is_one_of_0001_to_9999_as_written_and_in_utc(parse_timestamp, text, instant):
    assert parse_timestamp(text) == (instant and datetime.fromisoformat(instant))


@pytest.mark.parametrize(
    "zero", ["\N{ARABIC-INDIC DIGIT ZERO}", "\N{FULLWIDTH DIGIT ZERO}", "\N{DEVANAGARI DIGIT ZERO}", "O"]
)
def test_digits_are_ascii_digits_everywhere(parse_timestamp, zero):
    text = "2020-10-20 20:10:20.0+10:00"
    assert parse_timestamp(text) is not None
    for position in (i for i, character in enumerate(text) if character == "0"):
        assert parse_timestamp(text[:position] + zero + text[position + 1 :]) is None


# Page views


def test_a_row_whose_event_timestamp_is_no_timestamp_is_no_page_view(page_views):
    views = page_views("""
            user | at                  | page
            u1   | 10:00               | /home
            u1   | yesterday           | /home
            u1   |                     | /home
            u1   | null                | /home
            u1   | ''                  | /home
            u1   | 2022-09-31 10:00:00 | /home""")
    assert [view.at for view in views] == [at_ten()]


def test_the_user_is_the_domain_id_else_the_custom_id(page_views):
    views = page_views("""
            at    | user_domain_id | user_custom_id
            10:00 | d              | c
            10:00 | d              |
            10:00 |                | c
            10:00 | null           | c
            10:00 | ''             | c
            10:00 | ''             | ''
            10:00 |                |""")
    assert [view.user for view in views] == ["d", "d", "c", "c", "c", None, None]


def test_a_domain_id_and_a_custom_id_of_the_same_text_are_one_user(bought, marts_of):
    table = """
        user_domain_id | user_custom_id | at    | page
        u1             |                | 10:00 | /product_a
                       | u1             | 10:01 | /cart
        u1             | other          | 10:02 | /payment
        ''             | u1             | 10:03 | /confirmation"""
    assert bought(table) == [("u1", "10:03", 1)]
    assert marts_of(table).sources == [("(direct)", "(none)", 1, 1, 1.0)]


def test_a_blank_text_is_not_missing(page_views):
    (view,) = page_views(
        [{"event_timestamp": "2022-09-30 10:00:00", "user_domain_id": " ", "user_custom_id": "c", "referer_url": " "}]
    )
    assert (view.user, view.referer_url) == (" ", " ")


def test_a_view_without_a_user_counts_in_events_hours_and_nowhere_else(marts_of):
    found = marts_of("""
        user | at    | page
        ''   | 10:00 | /product_a
        null | 10:01 | /cart
             | 10:02 | /payment
             | 10:03 | /confirmation""")
    assert found == Marts(
        events_hours=[(at_ten(), kind, 1) for kind in ("cart", "confirmation", "payment", "product_a")],
        products_hours=[],
        top_pages=[],
        sources=[],
        purchases=[],
        paths=[],
        sessions=[],
        user_days=[],
    )


def test_a_users_views_are_counted_by_day_and_source_and_by_step(marts_of):
    """The day is that in UTC; an instant with an offset counts in the day that it is there."""
    found = marts_of("""
        user | at                        | page          | referer | campaign
        u1   | 23:59                     | /product_a    | g       | c1
        u1   | 2022-10-01 01:00:00+02:00 | /home         | g       | c1
        u1   | 2022-10-01 00:00:00       | /cart         | g       | c1
        u1   | 10:00                     | /payment      | g       |
        u1   | 10:01                     | /confirmation | g       |
        u2   | 10:01                     | /product_b    | (direct) | (none)
        u2   | 10:02                     | /product_b    |         |
             | 10:03                     | /product_b    |         |""")
    september, october = date(2022, 9, 30), date(2022, 10, 1)
    assert found.user_days == [
        (september, "u1", "g", "(none)", 2, 0, 0, 1, 1),
        (september, "u1", "g", "c1", 2, 1, 0, 0, 0),
        (september, "u2", "(direct)", "(none)", 2, 2, 0, 0, 0),
        (october, "u1", "g", "c1", 1, 0, 1, 0, 0),
    ]


def test_a_view_without_a_user_does_not_end_the_path_of_another(bought):
    table = """
        user | at    | page
        u1   | 10:00 | /product_a
        u1   | 10:01 | /cart
             | 10:01 | /confirmation
        u1   | 10:02 | /payment
        u1   | 10:03 | /confirmation"""
    assert bought(table) == [("u1", "10:03", 1)]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home", "home"),
        ("home", "home"),
        ("///home", "home"),
        ("/home/", "home"),
        ("/product_a/x?y=1", "product_a"),
        ("/home?x=1", "home"),
        ("/home#x", "home"),
        ("/home?x#y", "home"),
        ("/home#x?y", "home"),
        ("/a//b", "a"),
        ("/Home", "Home"),
        ("/h%6Fme%3Fx", "h%6Fme%3Fx"),
        ("/страница/1", "страница"),
        (r"\home", r"\home"),
        (" /home", " "),
        ("/ home", " home"),
        ("/home\n", "home\n"),
        ("http://shop/home", "http:"),
        ("/(none)", "(none)"),
    ],
)
def test_the_page_type_is_the_first_segment_of_the_page_path_as_written(page_views, path, kind):
    (view,) = page_views([{"event_timestamp": "2022-09-30 10:00:00", "page_url_path": path}])
    assert view.page_type == kind


@pytest.mark.parametrize("path", [None, "", "/", "//", "?", "#", "/?home", "/#home", "?/home", "#/home", "//?x"])
def test_the_page_type_is_none_in_brackets_where_the_page_path_has_no_segment(page_views, path):
    (view,) = page_views([{"event_timestamp": "2022-09-30 10:00:00", "page_url_path": path}])
    assert view.page_type == "(none)"


def test_the_page_path_is_the_columns_and_not_taken_from_page_url(page_types):
    assert page_types("at | page | url\n 10:00 | | http://shop/cart \n 10:00 | /home | http://shop/cart") == [
        "(none)",
        "home",
    ]


def test_a_step_is_what_its_default_pattern_says(steps):
    assert steps("/product_a", "product_", "//product_b/x", "/product_?x") == ["product"] * 4
    assert steps("/cart", "cart", "/cart/", "/cart/x", "/cart?x", "/cart#x", "//cart") == ["cart"] * 7
    assert steps("/payment", "/payment/x", "/payment?/cart") == ["payment"] * 3
    assert steps("/confirmation", "/confirmation/x") == ["confirmation"] * 2


def test_a_page_that_is_only_like_a_step_is_none(steps):
    assert steps("/product", "/products_a", "/Product_a", "/x/product_a", " /product_a", "/?/product_a") == ["none"] * 6
    assert steps("/cartoon", "/carts", "/Cart", "/shop/cart", "/c%61rt", "/cart ", "/cart\n", "/\ncart") == ["none"] * 8
    assert steps("/payments", "/payment-x", "/confirmations", "/confirmation.html") == ["none"] * 4
    assert steps("/home", "/", "", None, "#cart", "/#/cart") == ["none"] * 6


def test_a_step_is_the_first_whose_setting_matches(steps):
    assert steps("/x", product="x", cart="x", payment="x", confirmation="x") == ["product"]
    assert steps("/x", cart="x", payment="x", confirmation="x") == ["cart"]
    assert steps("/x", payment="x", confirmation="x") == ["payment"]
    assert steps("/x", confirmation="x") == ["confirmation"]


def test_a_setting_is_a_regular_expression_matched_anywhere_in_the_page_path(steps):
    assert steps("/shop/item/7", "/shop/items", "/item/", product="item/[0-9]") == ["product", "none", "none"]
    assert steps("/a", "/b", "/ab", cart="^(a|b)$") == ["cart", "cart", "none"]
    assert steps("/x?paid", "/paid?x", payment="paid") == ["none", "payment"]
    # As in PostgreSQL a point is any character, line ends too.
    assert steps("/a\nb", "/ab", product="^a.b$") == ["product", "none"]
    # The dollar is the very end, before which no line end is overlooked, unless it is an escaped one.
    assert steps("/thanks", "/thanks\n", confirmation="thanks$") == ["confirmation", "none"]
    assert steps("/a$b", "/a", product=r"a\$") == ["product", "none"]
    assert steps("/a$b", "/a", product="a[$]") == ["product", "none"]


def test_the_settings_of_steps_decide_what_is_bought(bought):
    table = """
        user | at    | page
        u1   | 10:00 | /item/1
        u1   | 10:01 | /basket
        u1   | 10:02 | /pay
        u1   | 10:03 | /thanks"""
    assert bought(table) == []
    renamed = {"product": "^item/", "cart": "^basket$", "payment": "^pay$", "confirmation": "^thanks$"}
    assert bought(table, **renamed) == [("u1", "10:03", 1)]


# Delivered twice


def test_rows_of_one_user_instant_and_event_id_are_one_page_view(marts_of):
    assert marts_of("""
        user | at    | id | page
        u1   | 10:00 | e1 | /home
        u1   | 10:00 | e1 | /home
        u1   | 10:00 | e1 | /home""").events_hours == [(at_ten(), "home", 1)]


def test_the_row_loaded_first_stands_for_a_view_delivered_twice(marts_of):
    found = marts_of("""
        user | at    | id | page     | url | referer | campaign
        u1   | 10:00 | e1 | /payment | x   | r2      | c2
        u1   | 10:00 | e1 | /cart    | a   | r1      | c1""")
    assert found.events_hours == [(at_ten(), "payment", 1)]
    # The other's source is nowhere.
    assert found.sources == [("r2", "c2", 1, 0, 1.0)]


def test_an_instant_spelled_differently_is_the_same_instant(page_types):
    assert page_types("""
        user | at                                  | id | page
        u1   | 2022-09-30 10:00:00.123456          | e1 | /a
        u1   | 2022-09-30T13:00:00.1234567+03:00   | e1 | /b
        u1   | 2022-09-30 10:00:00.123456999 Z     | e1 | /c
        u1   | 2022-09-30 10:00:00.123457          | e1 | /d""") == ["a", "d"]


def test_a_user_named_by_another_column_is_the_same_user(page_types):
    assert page_types("""
        user_domain_id | user_custom_id | at    | id | page
        u1             | c              | 10:00 | e1 | /a
                       | u1             | 10:00 | e1 | /b
                       | c              | 10:00 | e1 | /c""") == ["a", "c"]


def test_rows_without_a_user_are_delivered_twice_too(page_types):
    assert page_types("""
        user | at    | id | page
             | 10:00 | e1 | /a
        ''   | 10:00 | e1 | /b
        null | 10:00 | e1 | /c
        u1   | 10:00 | e1 | /d""") == ["a", "d"]


def test_rows_that_differ_in_user_instant_or_event_id_are_views_of_their_own(page_types):
    assert page_types("""
        user | at           | id | page
        u1   | 10:00        | e1 | /a
        u2   | 10:00        | e1 | /b
        u1   | 10:00:00.001 | e1 | /c
        u1   | 10:00        | e2 | /d
        u1   | 10:00        | E1 | /e
        U1   | 10:00        | e1 | /f""") == ["a", "b", "c", "d", "e", "f"]


def test_without_an_event_id_every_row_is_its_own(marts_of):
    assert marts_of("""
        user | at    | id   | page
        u1   | 10:00 |      | /home
        u1   | 10:00 |      | /home
        u1   | 10:00 | ''   | /home
        u1   | 10:00 | ''   | /home
        u1   | 10:00 | null | /home""").events_hours == [(at_ten(), "home", 5)]


def test_a_row_that_is_no_page_view_stands_for_none(page_types):
    assert page_types("""
        user | at        | id | page
        u1   | yesterday | e1 | /a
        u1   | yesterday | e1 | /b
        u1   | 10:00     | e1 | /c""") == ["c"]


def test_a_cart_view_delivered_twice_is_no_second_cart_view(bought):
    # Were the second delivery a cart view, the product between the two would be a second add.
    table = """
        user | at    | id | page
        u1   | 10:00 |    | /product_a
        u1   | 10:01 | e1 | /cart
        u1   | 10:01 | e1 | /cart
        u1   | 10:02 |    | /payment
        u1   | 10:03 | e2 | /confirmation
        u1   | 10:03 | e2 | /confirmation"""
    assert bought(table) == [("u1", "10:03", 1)]


# Order


def test_views_are_ordered_by_instant_first(in_order):
    views = in_order("""
        user | at              | page          | url
        u1   | 10:00:00.000002 | /home         | 2
        u1   | 10:00:00.000001 | /confirmation | 1
        u1   | 09:59           | /confirmation | 0""")
    assert [view.page_url for view in views] == ["0", "1", "2"]


def test_views_of_one_instant_are_ordered_by_step(in_order):
    views = in_order("""
        user | at    | page          | url | id
        u1   | 10:00 | /confirmation | 5   | a
        u1   | 10:00 | /payment      | 4   | b
        u1   | 10:00 | /cart         | 3   | c
        u1   | 10:00 | /product_a    | 2   | d
        u1   | 10:00 | /home         | 1   | e""")
    assert [view.page_url for view in views] == ["1", "2", "3", "4", "5"]


def test_views_of_one_step_are_ordered_by_event_id_then_page_url_then_referer_then_campaign(in_order):
    views = in_order("""
            user | at    | id | url | referer | campaign
            u1   | 10:00 | b  | a   | a       | a
            u1   | 10:00 | a  | b   | a       | a
            u1   | 10:00 |    | a   | a       | b
            u1   | 10:00 |    | a   | b       | a
            u1   | 10:00 |    | b   | a       | a
            u1   | 10:00 |    | a   | a       | a""")
    texts = [(view.event_id, view.page_url, view.referer_url, view.utm_campaign) for view in views]
    assert texts == [
        ("a", "b", "a", "a"),
        ("b", "a", "a", "a"),
        (None, "a", "a", "a"),
        (None, "a", "a", "b"),
        (None, "a", "b", "a"),
        (None, "b", "a", "a"),
    ]


@pytest.mark.parametrize("column", ["event_id", "page_url", "referer_url", "utm_campaign"])
def test_texts_are_ordered_byte_by_byte_with_missing_ones_last(in_order, column):
    in_bytes = [" ", "A", "B", "a", "a b", "aB", "ab", "b", "~", "ä", "я", "～", "😀", "", None]
    rows = [{"event_timestamp": "2022-09-30 10:00:00", column: text} for text in in_bytes]
    for given_in in (rows, rows[::-1]):
        ordered = [getattr(view, column) for view in in_order(given_in)]
        assert ordered == [*in_bytes[:-2], None, None]


def test_views_of_one_instant_make_a_purchase_in_the_order_of_their_steps(bought):
    assert bought("""
        user | at    | page
        u1   | 10:00 | /confirmation
        u1   | 10:00 | /payment
        u1   | 10:00 | /cart
        u1   | 10:00 | /product_a""") == [("u1", "10:00", 1)]


def test_of_two_confirmations_at_one_instant_the_first_in_order_takes_the_path(marts_of):
    found = marts_of("""
        user | at    | page          | id | referer
        u1   | 10:00 | /confirmation | e2 | second
        u1   | 10:00 | /product_a    |    |
        u1   | 10:00 | /cart         |    |
        u1   | 10:00 | /payment      |    |
        u1   | 10:00 | /confirmation |    | third
        u1   | 10:00 | /confirmation | e1 | first""")
    assert found.purchases == [("u1", at_ten(), 1, "first", "(none)")]


def test_of_two_products_at_one_instant_the_last_in_order_goes_into_the_cart(marts_of):
    table = """
        user | at    | page       | id | url
        u1   | 10:00 | /product_b |    | last
        u1   | 10:00 | /product_b | e1 | first
        u1   | 10:01 | /cart      |    |
        u1   | 10:02 | /payment   |    |
        u1   | 10:03 | /confirmation | |"""
    assert marts_of(table).top_pages == [(1, "last", 1)]


# The path


def test_a_product_in_the_cart_paid_and_confirmed_is_a_purchase(bought):
    assert bought(A_PURCHASE) == [("u1", "10:03", 1)]


def test_events_may_be_loaded_in_any_order(bought):
    head, *lines = A_PURCHASE.strip().splitlines()
    assert bought("\n".join([head, *lines[::-1]])) == [("u1", "10:03", 1)]


def test_a_path_begins_after_the_previous_confirmation_be_it_a_purchase_or_not(bought):
    assert (
        bought("""
        user | at    | page
        u1   | 10:00 | /product_a
        u1   | 10:01 | /cart
        u1   | 10:02 | /confirmation
        u1   | 10:03 | /payment
        u1   | 10:04 | /confirmation""")
        == []
    )


def test_a_second_confirmation_buys_nothing_again(bought):
    table = """
        user | at    | page
        u1   | 10:00 | /product_a
        u1   | 10:01 | /cart
        u1   | 10:02 | /payment
        u1   | 10:03 | /confirmation
        u1   | 10:04 | /confirmation
        u1   | 10:05 | /payment
        u1   | 10:06 | /confirmation"""
    assert bought(table) == [("u1", "10:03", 1)]


def test_a_cart_add_needs_its_product_in_the_same_path(bought):
    assert (
        bought("""
        user | at    | page
        u1   | 10:00 | /product_a
        u1   | 10:01 | /confirmation
        u1   | 10:02 | /cart
        u1   | 10:03 | /payment
        u1   | 10:04 | /confirmation""")
        == []
    )


def test_each_path_of_a_user_may_be_a_purchase(bought):
    assert bought("""
        user | at    | page
        u1   | 10:00 | /product_a
        u1   | 10:01 | /cart
        u1   | 10:02 | /payment
        u1   | 10:03 | /confirmation
        u1   | 10:04 | /product_b
        u1   | 10:05 | /cart
        u1   | 10:06 | /payment
        u1   | 10:07 | /confirmation""") == [("u1", "10:03", 1), ("u1", "10:07", 1)]


def test_paths_of_two_users_are_apart(bought):
    assert (
        bought("""
        user | at    | page
        u1   | 10:00 | /product_a
        u2   | 10:01 | /cart
        u1   | 10:02 | /payment
        u2   | 10:03 | /confirmation
        u1   | 10:04 | /confirmation""")
        == []
    )
    assert bought("""
        user | at    | page
        u1   | 10:00 | /product_a
        u2   | 10:00 | /product_a
        u2   | 10:01 | /cart
        u1   | 10:01 | /cart
        u1   | 10:02 | /payment
        u2   | 10:02 | /payment
        u2   | 10:03 | /confirmation
        u1   | 10:04 | /confirmation""") == [("u1", "10:04", 1), ("u2", "10:03", 1)]


def test_views_after_the_confirmation_are_not_in_its_path(bought):
    assert (
        bought("""
        user | at    | page
        u1   | 10:00 | /product_a
        u1   | 10:01 | /cart
        u1   | 10:02 | /confirmation
        u1   | 10:03 | /payment""")
        == []
    )


def test_views_of_no_step_change_nothing(bought):
    assert bought("""
        user | at    | page
        u1   | 10:00 | /product_a
        u1   | 10:00 | /home
        u1   | 10:01 | /cart
        u1   | 10:01 | /cartoon
        u1   | 10:02 | /payment
        u1   | 10:02 | /
        u1   | 10:03 | /confirmation""") == [("u1", "10:03", 1)]


def test_the_purchase_window_is_inclusive(bought):
    table = """
        user | at                         | page
        u1   | {at}                       | /product_a
        u1   | 2022-10-01 09:00:00        | /cart
        u1   | 2022-10-01 09:30:00        | /payment
        u1   | 2022-10-01 10:00:00        | /confirmation"""
    assert bought(table.format(at="2022-09-30 10:00:00.000001")) == [("u1", "10:00", 1)]
    assert bought(table.format(at="2022-09-30 10:00:00")) == [("u1", "10:00", 1)]
    assert bought(table.format(at="2022-09-30 09:59:59.999999")) == []


def test_the_purchase_window_is_a_setting(bought):
    assert bought(A_PURCHASE, purchase_window=timedelta(minutes=3)) == [("u1", "10:03", 1)]
    assert bought(A_PURCHASE, purchase_window=timedelta(minutes=3) - timedelta(microseconds=1)) == []


def test_a_cart_view_whose_product_is_older_than_the_window_is_no_cart_add(bought, marts_of):
    # The path begins with the first /cart, a day before the confirmation; its product is older.
    table = """
        user | at                  | page
        u1   | 2022-09-30 09:00:00 | /product_a
        u1   | 2022-09-30 10:00:00 | /cart
        u1   | 2022-10-01 09:00:00 | /product_b
        u1   | 2022-10-01 09:10:00 | /cart
        u1   | 2022-10-01 09:20:00 | /payment
        u1   | 2022-10-01 10:00:00 | /confirmation"""
    assert bought(table) == [("u1", "10:00", 1)]
    assert marts_of(table).top_pages == [(1, "http://shop/product_b", 1)]


def test_a_payment_older_than_the_window_pays_nothing(bought):
    table = """
        user | at                  | page
        u1   | 2022-09-30 09:57:00 | /product_a
        u1   | 2022-09-30 09:58:00 | /cart
        u1   | 2022-09-30 09:59:00 | /payment
        u1   | 2022-10-01 10:00:00 | /confirmation"""
    assert bought(table) == []
    assert bought(table, purchase_window=timedelta(days=1, minutes=3)) == [("u1", "10:00", 1)]


def test_a_wide_window_does_not_reach_over_the_previous_confirmation(bought):
    assert (
        bought(
            """
        user | at                  | page
        u1   | 2022-09-29 10:00:00 | /product_a
        u1   | 2022-09-29 10:01:00 | /confirmation
        u1   | 2022-10-01 09:00:00 | /cart
        u1   | 2022-10-01 09:01:00 | /payment
        u1   | 2022-10-01 10:00:00 | /confirmation""",
            purchase_window=timedelta(days=9),
        )
        == []
    )


def test_the_window_reaches_before_the_first_year(bought):
    assert bought("""
        user | at                  | page
        u1   | 0001-01-01 00:00:00 | /product_a
        u1   | 0001-01-01 00:00:00 | /cart
        u1   | 0001-01-01 00:00:00 | /payment
        u1   | 0001-01-01 00:00:00 | /confirmation""") == [("u1", "00:00", 1)]


# Cart adds


def test_a_cart_view_without_a_product_before_it_is_no_cart_add(bought):
    assert (
        bought("""
        user | at    | page
        u1   | 10:00 | /cart
        u1   | 10:01 | /product_a
        u1   | 10:02 | /payment
        u1   | 10:03 | /confirmation""")
        == []
    )


def test_a_second_cart_view_without_a_product_after_the_first_is_no_cart_add(bought):
    assert bought("""
        user | at    | page
        u1   | 10:00 | /product_a
        u1   | 10:01 | /cart
        u1   | 10:02 | /cart
        u1   | 10:03 | /payment
        u1   | 10:04 | /confirmation""") == [("u1", "10:04", 1)]


def test_each_cart_view_after_a_new_product_view_is_a_cart_add(bought):
    table = """
        user | at    | page
        u1   | 10:00 | /product_a
        u1   | 10:01 | /cart
        u1   | 10:02 | /product_b
        u1   | 10:03 | /cart
        u1   | 10:04 | /product_a
        u1   | 10:05 | /cart
        u1   | 10:06 | /payment
        u1   | 10:07 | /confirmation"""
    assert bought(table) == [("u1", "10:07", 3)]


def test_a_cart_view_that_is_no_add_is_still_the_previous_cart_view(bought):
    # The product is after the first cart view, so only the second can add it.
    assert bought("""
        user | at    | page
        u1   | 10:00 | /cart
        u1   | 10:01 | /product_a
        u1   | 10:02 | /cart
        u1   | 10:03 | /cart
        u1   | 10:04 | /payment
        u1   | 10:05 | /confirmation""") == [("u1", "10:05", 1)]


def test_the_product_of_a_cart_add_is_the_last_one_before_it(bought, marts_of):
    table = """
        user | at    | page
        u1   | 10:00 | /product_a
        u1   | 10:01 | /product_b
        u1   | 10:02 | /home
        u1   | 10:03 | /cart
        u1   | 10:04 | /product_c
        u1   | 10:05 | /payment
        u1   | 10:06 | /confirmation"""
    assert bought(table) == [("u1", "10:06", 1)]
    assert marts_of(table).top_pages == [(1, "http://shop/product_b", 1)]


def test_a_payment_between_a_product_and_its_cart_view_does_not_part_them(bought):
    assert bought("""
        user | at    | page
        u1   | 10:00 | /product_a
        u1   | 10:01 | /payment
        u1   | 10:02 | /cart
        u1   | 10:03 | /payment
        u1   | 10:04 | /confirmation""") == [("u1", "10:04", 1)]


# What is bought


def test_a_path_without_a_payment_is_no_purchase(bought):
    assert (
        bought("""
        user | at    | page
        u1   | 10:00 | /product_a
        u1   | 10:01 | /cart
        u1   | 10:02 | /confirmation""")
        == []
    )


def test_a_path_without_a_cart_add_is_no_purchase(bought):
    assert (
        bought("""
        user | at    | page
        u1   | 10:00 | /product_a
        u1   | 10:01 | /payment
        u1   | 10:02 | /confirmation""")
        == []
    )


def test_a_confirmation_alone_is_no_purchase(bought):
    assert bought("user | at | page\n u1 | 10:00 | /confirmation") == []


def test_a_cart_add_after_the_last_payment_is_not_bought(bought, marts_of):
    assert (
        bought("""
        user | at    | page
        u1   | 10:00 | /product_a
        u1   | 10:01 | /payment
        u1   | 10:02 | /cart
        u1   | 10:03 | /confirmation""")
        == []
    )
    table = """
        user | at    | page
        u1   | 10:00 | /product_a
        u1   | 10:01 | /cart
        u1   | 10:02 | /payment
        u1   | 10:03 | /product_b
        u1   | 10:04 | /cart
        u1   | 10:05 | /confirmation"""
    assert bought(table) == [("u1", "10:05", 1)]
    assert marts_of(table).top_pages == [(1, "http://shop/product_a", 1)]


def test_cart_adds_after_the_last_payment_are_gone(bought):
    assert (
        bought("""
        user | at    | page
        u1   | 10:00 | /product_a
        u1   | 10:01 | /payment
        u1   | 10:02 | /cart
        u1   | 10:03 | /confirmation
        u1   | 10:04 | /payment
        u1   | 10:05 | /confirmation""")
        == []
    )


def test_it_is_the_last_payment_of_the_path_that_counts(bought):
    assert bought("""
        user | at    | page
        u1   | 10:00 | /product_a
        u1   | 10:01 | /cart
        u1   | 10:02 | /payment
        u1   | 10:03 | /product_b
        u1   | 10:04 | /cart
        u1   | 10:05 | /payment
        u1   | 10:06 | /confirmation""") == [("u1", "10:06", 2)]


def test_a_purchase_carries_the_source_of_its_confirmation(marts_of):
    found = marts_of("""
        user | at    | page          | referer | campaign
        u1   | 10:00 | /product_a    | r1      | c1
        u1   | 10:01 | /cart         | r1      | c1
        u1   | 10:02 | /payment      | r2      | c2
        u1   | 10:03 | /confirmation | r3      |
        u2   | 10:00 | /product_a    | r1      | c1
        u2   | 10:01 | /cart         | r1      | c1
        u2   | 10:02 | /payment      | r1      | c1
        u2   | 10:04 | /confirmation | ''      | c2""")
    assert found.purchases == [
        ("u1", at_ten("10:03:00"), 1, "r3", "(none)"),
        ("u2", at_ten("10:04:00"), 1, "(direct)", "c2"),
    ]


# Marts


def test_events_hours_are_page_views_by_hour_and_page_type(marts_of):
    found = marts_of("""
        user | at              | page
        u1   | 10:00           | /home
        u1   | 10:59:59.999999 | /home/x
             | 10:30           | //home?y
        u1   | 11:00           | /home
        u1   | 10:30           | /cart
        u1   | 10:30           | /Cart
        u1   | 10:30           |
        u1   | 10:31           | /""")
    assert found.events_hours == [
        (at_ten(), "(none)", 2),
        (at_ten(), "Cart", 1),
        (at_ten(), "cart", 1),
        (at_ten(), "home", 3),
        (at_ten("11:00:00"), "home", 1),
    ]


def test_an_hour_is_one_of_utc(marts_of):
    found = marts_of("at | page\n 2022-10-01 01:15:00+05:30 | /home")
    assert found.events_hours == [(datetime(2022, 9, 30, 19), "home", 1)]


def test_products_hours_are_products_bought_by_the_hour_of_the_confirmation(marts_of):
    found = marts_of("""
        user | at    | page
        u1   | 09:00 | /product_a
        u1   | 09:01 | /cart
        u1   | 09:02 | /product_a
        u1   | 09:03 | /cart
        u1   | 09:59 | /payment
        u1   | 10:00 | /confirmation
        u2   | 10:00 | /product_a
        u2   | 10:01 | /cart
        u2   | 10:02 | /payment
        u2   | 10:59 | /confirmation
        u3   | 11:00 | /confirmation
        u2   | 12:00 | /product_a
        u2   | 12:00 | /cart
        u2   | 12:00 | /payment
        u2   | 12:00 | /confirmation""")
    # 2 of u1 and 1 of u2 in the hour of 10; the hours of 9 and 11 have none and no row.
    assert found.products_hours == [(at_ten(), 3), (at_ten("12:00:00"), 1)]


def test_top_pages_count_purchases_and_not_products(marts_of):
    # u1 puts a in the cart twice and b once, in one purchase; u2 a in another.
    found = marts_of("""
        user | at    | page       | url
        u1   | 10:00 | /product_a | a
        u1   | 10:01 | /cart      | x
        u1   | 10:02 | /product_b | b
        u1   | 10:03 | /cart      | x
        u1   | 10:04 | /product_a | a
        u1   | 10:05 | /cart      | x
        u1   | 10:06 | /payment   | x
        u1   | 10:07 | /confirmation | x
        u2   | 10:00 | /product_b | a
        u2   | 10:01 | /cart      | x
        u2   | 10:02 | /payment   | x
        u2   | 10:03 | /confirmation | x""")
    assert found.top_pages == [(1, "a", 2), (2, "b", 1)]
    assert found.purchases == [
        ("u1", at_ten("10:07:00"), 3, "(direct)", "(none)"),
        ("u2", at_ten("10:03:00"), 1, "(direct)", "(none)"),
    ]


def purchases_from(page_urls: list[str | None]) -> list[Event]:
    """One purchase of one product a page_url, each by a user of its own."""
    return [
        {
            "event_timestamp": f"2022-09-30 10:0{minute}:00",
            "user_domain_id": f"u{n}",
            "page_url_path": path,
            "page_url": url,
        }
        for n, url in enumerate(page_urls)
        for minute, path in enumerate(["/product_a", "/cart", "/payment", "/confirmation"])
    ]


def test_top_pages_are_ranked_by_count_then_page_url_byte_by_byte(marts_of):
    found = marts_of(purchases_from(["b", "ä", "B", "a b", "ab", "😀", "～", "z", "z"]))
    ranked = [
        (1, "z", 2),
        *((rank, url, 1) for rank, url in enumerate(["B", "a b", "ab", "b", "ä", "～", "😀"], start=2)),
    ]
    assert found.top_pages == ranked


def test_a_missing_page_url_is_none_in_brackets_and_one_with_the_text(marts_of):
    # As a text it stands before http://a, having the count of all three.
    found = marts_of(purchases_from([None, "", "(none)", "http://a", "http://a", "http://a", "http://b"]))
    assert found.top_pages == [(1, "(none)", 3), (2, "http://a", 3), (3, "http://b", 1)]


def test_page_urls_are_compared_whole_and_as_written(marts_of):
    found = marts_of(purchases_from(["http://a?x", "http://a", "http://A", "http://a/"]))
    assert found.top_pages == [(1, "http://A", 1), (2, "http://a", 1), (3, "http://a/", 1), (4, "http://a?x", 1)]


def test_top_pages_are_the_first_ten_or_as_many_as_set(marts_of):
    rows = purchases_from([f"page {n:02}" for n in range(12)])
    assert [url for _, url, _ in marts_of(rows).top_pages] == [f"page {n:02}" for n in range(10)]
    assert marts_of(rows, top_pages=2).top_pages == [(1, "page 00", 1), (2, "page 01", 1)]
    assert len(marts_of(rows, top_pages=99).top_pages) == 12


def test_sources_are_the_distinct_users_of_all_their_page_views(marts_of):
    found = marts_of("""
        user | at    | page   | referer | campaign
        u1   | 10:00 | /home  | r1      | c1
        u1   | 10:01 | /cart  | r1      | c1
        u2   | 10:00 | /home  | r1      | c1
        u1   | 10:00 | /home  | r1      | c2
        u1   | 10:00 | /home  | r2      | c1
             | 10:00 | /home  | r3      | c3
        u3   | never | /home  | r4      | c4""")
    # u1 is in three pairs and u2 in one: four in sum.
    assert found.sources == [("r1", "c1", 2, 0, 0.5), ("r1", "c2", 1, 0, 0.25), ("r2", "c1", 1, 0, 0.25)]


def test_a_missing_referer_is_direct_and_a_missing_campaign_none_in_brackets(marts_of):
    found = marts_of("""
        user | at    | referer  | campaign
        u1   | 10:00 |          |
        u2   | 10:00 | ''       | ''
        u3   | 10:00 | null     | null
        u4   | 10:00 | (direct) | (none)
        u1   | 10:00 | (direct) |
        u5   | 10:00 | r        | ''
        u5   | 10:00 |          | c""")
    assert found.sources == [
        ("(direct)", "(none)", 4, 0, 4 / 6),
        ("(direct)", "c", 1, 0, 1 / 6),
        ("r", "(none)", 1, 0, 1 / 6),
    ]


def test_none_as_a_referer_and_direct_as_a_campaign_are_texts_as_any(marts_of):
    found = marts_of("""
        user | at    | referer | campaign
        u1   | 10:00 | (none)  | (direct)
        u1   | 10:00 |         |""")
    assert found.sources == [("(direct)", "(none)", 1, 0, 0.5), ("(none)", "(direct)", 1, 0, 0.5)]


def test_a_source_has_the_purchases_whose_confirmation_carries_it(marts_of):
    found = marts_of("""
        user | at    | page          | referer  | campaign
        u1   | 10:00 | /product_a    | r1       | c1
        u1   | 10:01 | /cart         | r1       | c1
        u1   | 10:02 | /payment      | r1       | c1
        u1   | 10:03 | /confirmation | r2       | c1
        u1   | 10:04 | /product_a    | r1       | c1
        u1   | 10:05 | /cart         | r1       | c1
        u1   | 10:06 | /payment      | r1       | c1
        u1   | 10:07 | /confirmation | r2       | c1
        u2   | 10:00 | /product_a    | (direct) |
        u2   | 10:01 | /cart         | (direct) |
        u2   | 10:02 | /payment      | (direct) |
        u2   | 10:03 | /confirmation |          | (none)""")
    third = 1 / 3
    assert found.sources == [
        ("(direct)", "(none)", 1, 1, third),
        ("r1", "c1", 1, 0, third),
        ("r2", "c1", 1, 2, third),
    ]


def test_sources_differ_by_case_and_are_sorted_by_bytes(marts_of):
    found = marts_of("""
        user | at    | referer | campaign
        u1   | 10:00 | ä       | c
        u1   | 10:00 | a       | c
        u1   | 10:00 | A       | c
        u1   | 10:00 | a       | C
        u1   | 10:00 | 😀      | c
        u1   | 10:00 | ～      | c""")
    pairs = [(referer, campaign) for referer, campaign, *_ in found.sources]
    assert pairs == [("A", "c"), ("a", "C"), ("a", "c"), ("ä", "c"), ("～", "c"), ("😀", "c")]


def test_no_events_make_empty_marts(marts_of):
    assert marts_of([]) == Marts([], [], [], [], [], [], [], [])


# What only a database has


def columns_of(sql: Sql, schema: str, table: str) -> list[tuple[str, str]]:
    """Names and types of the columns, in order."""
    return sql.shop.query(
        "select column_name::text, data_type::text from information_schema.columns "
        "where table_schema = %s and table_name = %s order by ordinal_position",
        schema,
        table,
    )


def test_stage_events_has_the_columns_of_the_source_between_id_and_batch_id(sql):
    spelled = {"varchar": "character varying", "int4": "integer", "float8": "double precision", "boolean": "boolean"}
    columns = columns_of(sql, "stage", "events")
    assert columns[1:-1] == [(name, spelled[kind]) for name, kind in COLUMNS.items()]
    assert (columns[0][0], columns[-1][0]) == ("id", "batch_id")


def test_the_list_of_columns_is_the_specifications():
    texts = """
        event_id event_timestamp event_type page_url page_url_path referer_url referer_url_scheme referer_medium
        utm_medium utm_source utm_content utm_campaign click_id geo_country geo_timezone geo_region_name ip_address
        browser_name browser_user_agent browser_language os os_name os_timezone device_type user_custom_id
        user_domain_id"""
    kinds = dict.fromkeys(texts.split(), "varchar")
    kinds |= {"referer_url_port": "int4", "geo_latitude": "float8", "geo_longitude": "float8"}
    assert kinds | {"device_is_mobile": "boolean"} == COLUMNS
    ordered = list(COLUMNS)
    assert ordered[6:9] == ["referer_url_scheme", "referer_url_port", "referer_medium"]
    assert ordered[13:19] == [
        "click_id",
        "geo_latitude",
        "geo_longitude",
        "geo_country",
        "geo_timezone",
        "geo_region_name",
    ]
    assert ordered[26:] == ["device_type", "device_is_mobile", "user_custom_id", "user_domain_id"]


def test_the_id_of_an_event_is_given_by_the_database_and_part_of_the_primary_key(sql):
    assert sql.shop.query(
        "select 'id' = any (array(select attname::text from pg_attribute where attrelid = indrelid "
        "and attnum = any (indkey))) from pg_index where indrelid = 'stage.events'::regclass and indisprimary"
    ) == [(True,)]
    assert sql.shop.query("select pg_get_serial_sequence('stage.events', 'id') is not null") == [(True,)]


def test_stage_events_holds_each_row_as_is(sql):
    """Also one that is no page view, and each delivery of one; what is empty is not null."""
    sql.load(
        events_of("""
            id | user | at        | page  | referer
            e1 | u1   | yesterday | /a    | ''
            e1 | u1   | 10:00     | /b    | null
            e1 | u1   | 10:00     | /b    |"""),
        DEFAULTS,
    )
    assert sql.shop.query(
        "select event_id, user_domain_id, event_timestamp, page_url_path, referer_url, user_custom_id, "
        "batch_id = loads.id from stage.events, stage.loads order by events.id"
    ) == [
        ("e1", "u1", "yesterday", "/a", "", None, True),
        ("e1", "u1", "2022-09-30 10:00:00", "/b", None, None, True),
        ("e1", "u1", "2022-09-30 10:00:00", "/b", None, None, True),
    ]


@pytest.mark.parametrize(
    ("mart", "columns"),
    [
        ("events_hours", "id, hour_timestamp timestamp, count_events bigint, event_type text"),
        ("products_hours", "id, hour_timestamp timestamp, count_products bigint"),
        ("top_pages", "id, page_url text, count_purchases bigint"),
        (
            "sources",
            "id, referer_url text, utm_campaign text, count_users bigint, count_purchases bigint, share_users float8",
        ),
    ],
)
def test_the_named_columns_of_a_mart_come_first_and_in_order(sql, mart, columns):
    spelled = {"timestamp": "timestamp without time zone", "float8": "double precision"}
    named = [tuple(column.split(" ")) for column in columns.split(", ")]
    found = columns_of(sql, "cdm", mart)
    assert found[0][0] == "id"
    assert found[1 : len(named)] == [(name, spelled.get(kind, kind)) for name, kind in named[1:]]


def test_products_hours_knows_no_null(sql):
    assert sql.shop.query(
        "select column_name::text from information_schema.columns where is_nullable = 'NO' "
        "and table_schema = 'cdm' and table_name = 'products_hours' order by ordinal_position"
    ) == [("id",), ("hour_timestamp",), ("count_products",)]


@pytest.mark.parametrize("mart", ["events_hours", "products_hours", "top_pages", "sources", "purchases"])
def test_no_two_rows_of_a_mart_have_one_id_and_none_has_none(sql, mart):
    sql.load(purchases_from(["a", "b", "b", "c"]), DEFAULTS)
    ids = [number for (number,) in sql.shop.query(f"select id from cdm.{mart}")]
    assert ids
    assert len(set(ids)) == len(ids)
    assert None not in ids


def test_the_id_of_a_top_page_is_its_rank_from_one_without_a_gap(sql):
    sql.load(purchases_from([f"page {n}" for n in range(15) for _ in range(n % 4 + 1)]), DEFAULTS)
    assert [number for (number,) in sql.shop.query("select id from cdm.top_pages")] == list(range(1, 11))


@given(data=st.data())
def test_a_text_that_is_nearly_a_timestamp_is_what_the_oracle_says(sql, data):
    texts = data.draw(st.lists(nearly_timestamps(), min_size=30, max_size=60))
    found = sql.shop.query(
        "select stage.parse_timestamp(text), stage.parse_any_timestamp(text) "
        "from unnest(%s::text[]) with ordinality as texts (text, number) order by number",
        texts,
    )
    expected = [oracle.parse_timestamp(text) for text in texts]
    assert found == [(instant, instant) for instant in expected]


# Any two characters of a timestamp replaced by any two of these.
TWO_CHANGES = """
with recursive changes (text, number) as (
    select text, 0
    from unnest(array['2022-02-28 10:20:30.123456', '2024-02-29 23:59:59.999999', '1999-12-31 00:00:00']) as text
    union
    select overlay(changes.text placing character from place for 1), changes.number + 1
    from changes, generate_series(1, length(changes.text)) as place, unnest(%s::text[]) as character
    where changes.number < 2
)
select text from changes where stage.parse_timestamp(text) is distinct from stage.parse_any_timestamp(text)"""


def test_the_quick_way_to_an_instant_says_the_same_as_the_exact_one(sql):
    assert sql.shop.query(TWO_CHANGES, list("0139-+ :.T٠")) == []


@st.composite
def nearly_timestamps(draw: st.DrawFn) -> str:
    """A timestamp in one of all its spellings, sometimes with a date that is none, or a character wrong."""
    text = "".join(draw(part) for part in _TIMESTAMP_PARTS)
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(["", *"0123456789 -+:.TZtz\t\n\r\f\xa0٠"])) + text[at + 1 :]
    return text


_TIMESTAMP_PARTS = [
    st.sampled_from(["", "", "", " ", "\t\r\n"]),
    st.one_of(
        st.from_regex(r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])", fullmatch=True, alphabet="0123456789-"),
        st.sampled_from(["2022", "2024", "2000", "1900", "0001", "0000", "9999"]).flatmap(
            lambda year: st.sampled_from(["01-01", "02-28", "02-29", "02-30", "12-31", "04-31", "00-10", "13-10"]).map(
                lambda day: f"{year}-{day}"
            )
        ),
    ),
    st.sampled_from(["T", " ", " ", "  "]),
    st.one_of(
        st.from_regex(r"[0-2][0-9]:[0-5][0-9]:[0-5][0-9]", fullmatch=True, alphabet="0123456789:"),
        st.sampled_from(["00:00:00", "23:59:59", "24:00:00", "23:59:60"]),
    ),
    st.one_of(st.just(""), st.from_regex(r"\.[0-9]{0,9}", fullmatch=True, alphabet=".0123456789")),
    st.one_of(
        st.sampled_from(["", "", "Z", " Z"]),
        st.from_regex(r" ?[+-](0[0-9]|1[0-5])(:?[0-6][0-9])?", fullmatch=True, alphabet=" +-:0123456789"),
    ),
    st.sampled_from(["", "", "", " ", "\r\n"]),
]


def test_texts_of_any_length_are_no_problem_in_any_refresh(sql):
    """Longer than any entry of an index may be, and such as can't be compressed below that."""
    letters = random.Random(1)

    def long_text(prefix: str) -> str:
        return prefix + "".join(letters.choices(string.ascii_letters + string.digits, k=100_000))

    names = ("user_domain_id", "event_id", "page_url", "referer_url", "utm_campaign")
    own = [{name: long_text("") for name in names} for _ in range(2)]
    pages = [long_text("/product_"), "/cart/" + long_text(""), "/payment/" + long_text(""), "/confirmation"]
    rows: list[Event] = [
        {**texts, "event_timestamp": f"2022-09-30 10:0{minute}:00", "page_url_path": page}
        for texts in own
        for minute, page in enumerate(pages)
    ]
    # Texts that differ in their last character alone are others.
    other = own[0]["user_domain_id"] + "x"
    rows += [{**row, "user_domain_id": other, "page_url": row["page_url"] + "x"} for row in rows[:4]]
    expected = oracle.marts(rows)
    assert [products for *_, products in expected.products_hours] == [3]
    assert sql.marts(rows, DEFAULTS) == expected
    sql.shop.reset()
    for row in rows[::-1]:
        sql.shop.load(row)
        sql.shop.refresh()
    sql.shop.load(*rows)  # each delivered again
    sql.shop.refresh()
    assert sql.shop.marts() == expected
    assert sql.shop.failures() == []


OF_MANY_SETTINGS = """
    user | at                  | page       | url
    u1   | 2022-09-30 10:00:00 | /product_a | a
    u1   | 2022-09-30 10:01:00 | /cart      |
    u1   | 2022-09-30 10:02:00 | /payment   |
    u1   | 2022-09-30 10:03:00 | /confirmation |
    u2   | 2022-09-30 10:00:00 | /product_b | b
    u2   | 2022-09-30 10:00:01 | /item/1    | i
    u2   | 2022-09-30 10:00:02 | /cart      |
    u2   | 2022-09-30 10:00:03 | /pay       |
    u2   | 2022-09-30 10:00:04 | /payment   |
    u2   | 2022-09-30 10:00:05 | /thanks    |
    u2   | 2022-09-30 10:00:06 | /confirmation |
    u3   | 2022-09-28 10:00:00 | /product_c | c
    u3   | 2022-09-28 11:00:00 | /basket    |
    u3   | 2022-09-29 11:00:00 | /cart      |
    u3   | 2022-09-30 10:02:00 | /payment   |
    u3   | 2022-09-30 10:03:00 | /pay       |
    u3   | 2022-09-30 11:00:00 | /confirmation |"""


@pytest.mark.parametrize(
    "changed",
    [
        {"product": "^(product_|item/)"},
        {"cart": "^(cart|basket)$", "purchase_window": timedelta(days=3)},
        {"payment": "^pay$"},
        {"confirmation": "^(confirmation|thanks)$"},
        {"purchase_window": timedelta(days=3)},
        {"purchase_window": timedelta(seconds=6)},
        {"purchase_window": timedelta(0)},
        {"top_pages": 1},
        {"product": "b$", "cart": "^item/", "payment": "^cart$", "confirmation": "^(pay|confirmation)$"},
    ],
    ids=" and ".join,
)
def test_a_setting_that_changed_rebuilds_what_it_touches(server, tmp_path, changed):
    """The marts are then those of a warehouse that never had another setting, and so they stay."""
    rows = events_of(OF_MANY_SETTINGS)
    project, expected = project_with(Settings(**changed)), oracle.marts(rows, Settings(**changed))
    before = oracle.marts(rows)
    assert expected != before
    with open_shop(server, tmp_path) as shop:
        shop.load(*rows[::2])
        shop.apply()
        shop.load(*rows[1::2])
        shop.apply()
        assert shop.marts() == before
        report = shop.apply(project)
        assert (bool(report.files), report.new_loads) == (True, 0)
        assert shop.marts() == expected
        assert shop.failures() == []
        again = shop.apply(project)
        assert (again.files, again.rebuilt) == ((), False)
        shop.apply(read_project())
        assert shop.marts() == before
    with server.database(template=False) as conninfo:
        applying.apply(Warehouse(conninfo), project)
        with Warehouse(conninfo).connect() as connection:
            fresh = Shop(conninfo, connection, tmp_path)
            fresh.load(*rows)
            fresh.refresh()
            assert fresh.marts() == expected


def test_a_setting_and_new_events_are_taken_in_by_one_apply(sql):
    rows = events_of(OF_MANY_SETTINGS)
    changed = Settings(purchase_window=timedelta(days=3), top_pages=2, payment="^pay$")
    sql.load(rows[::2], DEFAULTS)
    sql.shop.load(*rows[1::2])
    sql.settings = changed
    report = sql.shop.apply(project_with(changed))
    assert (report.new_loads, report.new_rows) == (1, len(rows[1::2]))
    assert sql.shop.marts() == oracle.marts(rows, changed)


# The oracle by itself, and the events that are drawn for the laws


@given(st.data())
def test_the_order_of_loading_is_free_where_deliveries_are_equal(data):
    rows = data.draw(events())
    assert oracle.marts(data.draw(st.permutations(rows))) == oracle.marts(rows)


@given(st.data())
def test_a_cut_loses_no_event_and_no_two_of_its_files_are_the_same(data):
    rows = data.draw(events(equal_deliveries=False))
    shuffled = data.draw(st.booleans())
    cut = data.draw(cuts(rows, shuffled=shuffled))
    loaded = [row for file in cut.files for row in file]
    if shuffled:
        assert sorted(map(repr, loaded)) == sorted(map(repr, rows))
    else:
        assert loaded == rows
    assert all(cut.files)
    assert all(said(file) != said(other) for i, file in enumerate(cut.files) for other in cut.files[:i])
    assert cut.applies <= set(range(len(cut.files)))


@given(events(equal_deliveries=False))
def test_events_made_equal_keep_their_deliveries(rows):
    equal = with_equal_deliveries(rows)
    deliveries = [[(view.user, view.at, view.event_id) for view in oracle.page_views(part)] for part in (rows, equal)]
    assert deliveries[0] == deliveries[1]
    # What stands for a view is what stood for it; only its later deliveries changed.
    assert oracle.marts(equal) == oracle.marts(rows)


@given(events())
def test_marts_agree_with_one_another(rows):
    found = oracle.marts(rows)
    assert sum(count for *_, count in found.events_hours) == len(oracle.page_views(rows))
    assert sum(count for _, count in found.products_hours) == sum(products for _, _, products, *_ in found.purchases)
    assert sum(purchases for _, _, _, purchases, _ in found.sources) == len(found.purchases)
    assert sum(share for *_, share in found.sources) == pytest.approx(1 if found.sources else 0)
    assert bool(found.top_pages) == bool(found.purchases)
