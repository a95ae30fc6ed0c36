"""The oracle against the specification, each rule by an example worked out by hand, and against known marts."""

import gzip
import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import Marts, Settings, events_of, in_order, marts, page_views, parse_timestamp
from strategies import Event, cuts, events, said, with_equal_deliveries

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"

A_PURCHASE = """
    user | at    | page
    u1   | 10:00 | /product_a
    u1   | 10:01 | /cart
    u1   | 10:02 | /payment
    u1   | 10:03 | /confirmation"""


def bought(table: str, **settings: object) -> list[tuple[str, str, int]]:
    """The purchases of the events: user, time of day, number of products."""
    return [(user, f"{at:%H:%M}", products) for user, at, products, *_ in of(table, **settings).purchases]


def of(table: str, **settings: object) -> Marts:
    return marts(events_of(table), Settings(**settings))


def page_types(table: str) -> list[str]:
    return [view.page_type for view in page_views(events_of(table))]


def steps(*paths: str | None, **settings: object) -> list[str]:
    """The step of a view of each page_url_path."""
    rows = [{"event_timestamp": "2022-09-30 10:00:00", "page_url_path": path} for path in paths]
    return [view.step for view in page_views(rows, Settings(**settings))]


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
def test_a_timestamp_is_a_date_t_or_one_space_and_a_time(text, instant):
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
def test_a_fraction_has_one_digit_or_more(text, microsecond):
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
def test_fraction_digits_past_the_sixth_are_cut_not_rounded(text, microsecond):
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
def test_an_offset_is_taken_off_and_without_one_it_is_utc(zone, instant):
    assert parse_timestamp(f"2022-09-30 21:34:05{zone}") == datetime.fromisoformat(instant)


@pytest.mark.parametrize("around", [" ", "   ", "\t", "\n", "\r\n", "\r", " \t\r\n "])
def test_blanks_tabs_and_line_ends_around_a_timestamp_are_ignored(around):
    assert parse_timestamp(f"{around}2022-09-30 10:00:00{around}") == at_ten()
    assert parse_timestamp(f"{around}2022-09-30 10:00:00 Z{around}") == at_ten()


@pytest.mark.parametrize("around", ["\f", "\v", "\0", "\x1c", "\x85", "\xa0", "\u2028", "\u3000", "\ufeff", "'"])
def test_nothing_else_around_a_timestamp_is_ignored(around):
    assert parse_timestamp(f"{around}2022-09-30 10:00:00") is None
    assert parse_timestamp(f"2022-09-30 10:00:00{around}") is None


@pytest.mark.parametrize("text", [None, "", " ", "\n"])
def test_a_missing_timestamp_is_none(text):
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
def test_other_shapes_are_no_timestamps(text):
    assert parse_timestamp(text) is None


@pytest.mark.parametrize("fraction", [".", ",5", ". 5", ".5.5", ".5e1", ".-5", ":5", " .5", ".+03", "._5"])
def test_a_fraction_is_a_point_and_digits(fraction):
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
def test_a_zone_is_z_or_an_offset_after_at_most_one_space(zone):
    assert parse_timestamp(f"2022-09-30 21:34:05{zone}") is None


@pytest.mark.parametrize(
    "offset", ["+15:00", "-15:00", "+15", "-1500", "+14:60", "+03:60", "-0075", "+24:00", "+99:99"]
)
def test_an_offset_is_at_most_fourteen_hours_and_fifty_nine_minutes_either_way(offset):
    assert parse_timestamp(f"2022-09-30 21:34:05{offset}") is None


@pytest.mark.parametrize(
    "date",
    ["2022-00-01", "2022-13-01", "2022-09-00", "2022-09-31", "2022-02-29", "1900-02-29", "2022-01-32", "0000-01-01"],
)
def test_a_date_is_a_real_one(date):
    assert parse_timestamp(f"{date} 21:34:05") is None


@pytest.mark.parametrize("time", ["24:00:00", "25:00:00", "23:60:00", "23:59:60", "23:59:61", "99:99:99"])
def test_a_time_of_day_has_no_hour_24_and_no_leap_second(time):
    assert parse_timestamp(f"2022-06-30 {time}") is None


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
def test_the_year_is_one_of_0001_to_9999_as_written_and_in_utc(text, instant):
    assert parse_timestamp(text) == (instant and datetime.fromisoformat(instant))


@pytest.mark.parametrize(
    "zero", ["\N{ARABIC-INDIC DIGIT ZERO}", "\N{FULLWIDTH DIGIT ZERO}", "\N{DEVANAGARI DIGIT ZERO}", "O"]
)
def test_digits_are_ascii_digits_everywhere(zero):
    text = "2020-10-20 20:10:20.0+10:00"
    assert parse_timestamp(text) is not None
    for position in (i for i, character in enumerate(text) if character == "0"):
        assert parse_timestamp(text[:position] + zero + text[position + 1 :]) is None


# Page views


def test_a_row_whose_event_timestamp_is_no_timestamp_is_no_page_view():
    views = page_views(
        events_of("""
            user | at                  | page
            u1   | 10:00               | /home
            u1   | yesterday           | /home
            u1   |                     | /home
            u1   | null                | /home
            u1   | ''                  | /home
            u1   | 2022-09-31 10:00:00 | /home""")
    )
    assert [view.at for view in views] == [at_ten()]


def test_the_user_is_the_domain_id_else_the_custom_id():
    views = page_views(
        events_of("""
            at    | user_domain_id | user_custom_id
            10:00 | d              | c
            10:00 | d              |
            10:00 |                | c
            10:00 | null           | c
            10:00 | ''             | c
            10:00 | ''             | ''
            10:00 |                |""")
    )
    assert [view.user for view in views] == ["d", "d", "c", "c", "c", None, None]


def test_a_domain_id_and_a_custom_id_of_the_same_text_are_one_user():
    table = """
        user_domain_id | user_custom_id | at    | page
        u1             |                | 10:00 | /product_a
                       | u1             | 10:01 | /cart
        u1             | other          | 10:02 | /payment
        ''             | u1             | 10:03 | /confirmation"""
    assert bought(table) == [("u1", "10:03", 1)]
    assert of(table).sources == [("(direct)", "(none)", 1, 1, 1.0)]


def test_a_blank_text_is_not_missing():
    (view,) = page_views(
        [{"event_timestamp": "2022-09-30 10:00:00", "user_domain_id": " ", "user_custom_id": "c", "referer_url": " "}]
    )
    assert (view.user, view.referer_url) == (" ", " ")


def test_a_view_without_a_user_counts_in_events_hours_and_nowhere_else():
    found = of("""
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
    )


def test_a_view_without_a_user_does_not_end_the_path_of_another():
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
def test_the_page_type_is_the_first_segment_of_the_page_path_as_written(path, kind):
    (view,) = page_views([{"event_timestamp": "2022-09-30 10:00:00", "page_url_path": path}])
    assert view.page_type == kind


@pytest.mark.parametrize("path", [None, "", "/", "//", "?", "#", "/?home", "/#home", "?/home", "#/home", "//?x"])
def test_the_page_type_is_none_in_brackets_where_the_page_path_has_no_segment(path):
    (view,) = page_views([{"event_timestamp": "2022-09-30 10:00:00", "page_url_path": path}])
    assert view.page_type == "(none)"


def test_the_page_path_is_the_columns_and_not_taken_from_page_url():
    assert page_types("at | page | url\n 10:00 | | http://shop/cart \n 10:00 | /home | http://shop/cart") == [
        "(none)",
        "home",
    ]


def test_a_step_is_what_its_default_pattern_says():
    assert steps("/product_a", "product_", "//product_b/x", "/product_?x") == ["product"] * 4
    assert steps("/cart", "cart", "/cart/", "/cart/x", "/cart?x", "/cart#x", "//cart") == ["cart"] * 7
    assert steps("/payment", "/payment/x", "/payment?/cart") == ["payment"] * 3
    assert steps("/confirmation", "/confirmation/x") == ["confirmation"] * 2


def test_a_page_that_is_only_like_a_step_is_none():
    assert steps("/product", "/products_a", "/Product_a", "/x/product_a", " /product_a", "/?/product_a") == ["none"] * 6
    assert steps("/cartoon", "/carts", "/Cart", "/shop/cart", "/c%61rt", "/cart ", "/cart\n", "/\ncart") == ["none"] * 8
    assert steps("/payments", "/payment-x", "/confirmations", "/confirmation.html") == ["none"] * 4
    assert steps("/home", "/", "", None, "#cart", "/#/cart") == ["none"] * 6


def test_a_step_is_the_first_whose_setting_matches():
    assert steps("/x", product="x", cart="x", payment="x", confirmation="x") == ["product"]
    assert steps("/x", cart="x", payment="x", confirmation="x") == ["cart"]
    assert steps("/x", payment="x", confirmation="x") == ["payment"]
    assert steps("/x", confirmation="x") == ["confirmation"]


def test_a_setting_is_a_regular_expression_matched_anywhere_in_the_page_path():
    assert steps("/shop/item/7", "/shop/items", "/item/", product="item/[0-9]") == ["product", "none", "none"]
    assert steps("/a", "/b", "/ab", cart="^(a|b)$") == ["cart", "cart", "none"]
    assert steps("/x?paid", "/paid?x", payment="paid") == ["none", "payment"]
    # As in PostgreSQL a point is any character, line ends too.
    assert steps("/a\nb", "/ab", product="^a.b$") == ["product", "none"]
    # The dollar is the very end, before which no line end is overlooked, unless it is an escaped one.
    assert steps("/thanks", "/thanks\n", confirmation="thanks$") == ["confirmation", "none"]
    assert steps("/a$b", "/a", product=r"a\$") == ["product", "none"]
    assert steps("/a$b", "/a", product="a[$]") == ["product", "none"]


def test_the_settings_of_steps_decide_what_is_bought():
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


def test_rows_of_one_user_instant_and_event_id_are_one_page_view():
    assert of("""
        user | at    | id | page
        u1   | 10:00 | e1 | /home
        u1   | 10:00 | e1 | /home
        u1   | 10:00 | e1 | /home""").events_hours == [(at_ten(), "home", 1)]


def test_the_row_loaded_first_stands_for_a_view_delivered_twice():
    found = of("""
        user | at    | id | page     | url | referer | campaign
        u1   | 10:00 | e1 | /payment | x   | r2      | c2
        u1   | 10:00 | e1 | /cart    | a   | r1      | c1""")
    assert found.events_hours == [(at_ten(), "payment", 1)]
    # The other's source is nowhere.
    assert found.sources == [("r2", "c2", 1, 0, 1.0)]


def test_an_instant_spelled_differently_is_the_same_instant():
    assert page_types("""
        user | at                                  | id | page
        u1   | 2022-09-30 10:00:00.123456          | e1 | /a
        u1   | 2022-09-30T13:00:00.1234567+03:00   | e1 | /b
        u1   | 2022-09-30 10:00:00.123456999 Z     | e1 | /c
        u1   | 2022-09-30 10:00:00.123457          | e1 | /d""") == ["a", "d"]


def test_a_user_named_by_another_column_is_the_same_user():
    assert page_types("""
        user_domain_id | user_custom_id | at    | id | page
        u1             | c              | 10:00 | e1 | /a
                       | u1             | 10:00 | e1 | /b
                       | c              | 10:00 | e1 | /c""") == ["a", "c"]


def test_rows_without_a_user_are_delivered_twice_too():
    assert page_types("""
        user | at    | id | page
             | 10:00 | e1 | /a
        ''   | 10:00 | e1 | /b
        null | 10:00 | e1 | /c
        u1   | 10:00 | e1 | /d""") == ["a", "d"]


def test_rows_that_differ_in_user_instant_or_event_id_are_views_of_their_own():
    assert page_types("""
        user | at           | id | page
        u1   | 10:00        | e1 | /a
        u2   | 10:00        | e1 | /b
        u1   | 10:00:00.001 | e1 | /c
        u1   | 10:00        | e2 | /d
        u1   | 10:00        | E1 | /e
        U1   | 10:00        | e1 | /f""") == ["a", "b", "c", "d", "e", "f"]


def test_without_an_event_id_every_row_is_its_own():
    assert of("""
        user | at    | id   | page
        u1   | 10:00 |      | /home
        u1   | 10:00 |      | /home
        u1   | 10:00 | ''   | /home
        u1   | 10:00 | ''   | /home
        u1   | 10:00 | null | /home""").events_hours == [(at_ten(), "home", 5)]


def test_a_row_that_is_no_page_view_stands_for_none():
    assert page_types("""
        user | at        | id | page
        u1   | yesterday | e1 | /a
        u1   | yesterday | e1 | /b
        u1   | 10:00     | e1 | /c""") == ["c"]


def test_a_cart_view_delivered_twice_is_no_second_cart_view():
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


def urls_in_order(table: str) -> list[str | None]:
    return [view.page_url for view in in_order(page_views(events_of(table)))]


def test_views_are_ordered_by_instant_first():
    assert urls_in_order("""
        user | at              | page          | url
        u1   | 10:00:00.000002 | /home         | 2
        u1   | 10:00:00.000001 | /confirmation | 1
        u1   | 09:59           | /confirmation | 0""") == ["0", "1", "2"]


def test_views_of_one_instant_are_ordered_by_step():
    assert urls_in_order("""
        user | at    | page          | url | id
        u1   | 10:00 | /confirmation | 5   | a
        u1   | 10:00 | /payment      | 4   | b
        u1   | 10:00 | /cart         | 3   | c
        u1   | 10:00 | /product_a    | 2   | d
        u1   | 10:00 | /home         | 1   | e""") == ["1", "2", "3", "4", "5"]


def test_views_of_one_step_are_ordered_by_event_id_then_page_url_then_referer_then_campaign():
    views = page_views(
        events_of("""
            user | at    | id | url | referer | campaign
            u1   | 10:00 | b  | a   | a       | a
            u1   | 10:00 | a  | b   | a       | a
            u1   | 10:00 |    | a   | a       | b
            u1   | 10:00 |    | a   | b       | a
            u1   | 10:00 |    | b   | a       | a
            u1   | 10:00 |    | a   | a       | a""")
    )
    texts = [(view.event_id, view.page_url, view.referer_url, view.utm_campaign) for view in in_order(views)]
    assert texts == [
        ("a", "b", "a", "a"),
        ("b", "a", "a", "a"),
        (None, "a", "a", "a"),
        (None, "a", "a", "b"),
        (None, "a", "b", "a"),
        (None, "b", "a", "a"),
    ]


@pytest.mark.parametrize("column", ["event_id", "page_url", "referer_url", "utm_campaign"])
def test_texts_are_ordered_byte_by_byte_with_missing_ones_last(column):
    in_bytes = [" ", "A", "B", "a", "a b", "aB", "ab", "b", "~", "ä", "я", "～", "😀", "", None]
    rows = [{"event_timestamp": "2022-09-30 10:00:00", column: text} for text in in_bytes]
    for given_in in (rows, rows[::-1]):
        ordered = [getattr(view, column) for view in in_order(page_views(given_in))]
        assert ordered == [*in_bytes[:-2], None, None]


def test_views_of_one_instant_make_a_purchase_in_the_order_of_their_steps():
    assert bought("""
        user | at    | page
        u1   | 10:00 | /confirmation
        u1   | 10:00 | /payment
        u1   | 10:00 | /cart
        u1   | 10:00 | /product_a""") == [("u1", "10:00", 1)]


def test_of_two_confirmations_at_one_instant_the_first_in_order_takes_the_path():
    found = of("""
        user | at    | page          | id | referer
        u1   | 10:00 | /confirmation | e2 | second
        u1   | 10:00 | /product_a    |    |
        u1   | 10:00 | /cart         |    |
        u1   | 10:00 | /payment      |    |
        u1   | 10:00 | /confirmation |    | third
        u1   | 10:00 | /confirmation | e1 | first""")
    assert found.purchases == [("u1", at_ten(), 1, "first", "(none)")]


def test_of_two_products_at_one_instant_the_last_in_order_goes_into_the_cart():
    table = """
        user | at    | page       | id | url
        u1   | 10:00 | /product_b |    | last
        u1   | 10:00 | /product_b | e1 | first
        u1   | 10:01 | /cart      |    |
        u1   | 10:02 | /payment   |    |
        u1   | 10:03 | /confirmation | |"""
    assert of(table).top_pages == [(1, "last", 1)]


# The path


def test_a_product_in_the_cart_paid_and_confirmed_is_a_purchase():
    assert bought(A_PURCHASE) == [("u1", "10:03", 1)]


def test_events_may_be_loaded_in_any_order():
    head, *lines = A_PURCHASE.strip().splitlines()
    assert bought("\n".join([head, *lines[::-1]])) == [("u1", "10:03", 1)]


def test_a_path_begins_after_the_previous_confirmation_be_it_a_purchase_or_not():
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


def test_a_second_confirmation_buys_nothing_again():
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


def test_a_cart_add_needs_its_product_in_the_same_path():
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


def test_each_path_of_a_user_may_be_a_purchase():
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


def test_paths_of_two_users_are_apart():
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


def test_views_after_the_confirmation_are_not_in_its_path():
    assert (
        bought("""
        user | at    | page
        u1   | 10:00 | /product_a
        u1   | 10:01 | /cart
        u1   | 10:02 | /confirmation
        u1   | 10:03 | /payment""")
        == []
    )


def test_views_of_no_step_change_nothing():
    assert bought("""
        user | at    | page
        u1   | 10:00 | /product_a
        u1   | 10:00 | /home
        u1   | 10:01 | /cart
        u1   | 10:01 | /cartoon
        u1   | 10:02 | /payment
        u1   | 10:02 | /
        u1   | 10:03 | /confirmation""") == [("u1", "10:03", 1)]


def test_the_purchase_window_is_inclusive():
    table = """
        user | at                         | page
        u1   | {at}                       | /product_a
        u1   | 2022-10-01 09:00:00        | /cart
        u1   | 2022-10-01 09:30:00        | /payment
        u1   | 2022-10-01 10:00:00        | /confirmation"""
    assert bought(table.format(at="2022-09-30 10:00:00.000001")) == [("u1", "10:00", 1)]
    assert bought(table.format(at="2022-09-30 10:00:00")) == [("u1", "10:00", 1)]
    assert bought(table.format(at="2022-09-30 09:59:59.999999")) == []


def test_the_purchase_window_is_a_setting():
    assert bought(A_PURCHASE, purchase_window=timedelta(minutes=3)) == [("u1", "10:03", 1)]
    assert bought(A_PURCHASE, purchase_window=timedelta(minutes=3) - timedelta(microseconds=1)) == []


def test_a_cart_view_whose_product_is_older_than_the_window_is_no_cart_add():
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
    assert of(table).top_pages == [(1, "http://shop/product_b", 1)]


def test_a_payment_older_than_the_window_pays_nothing():
    table = """
        user | at                  | page
        u1   | 2022-09-30 09:57:00 | /product_a
        u1   | 2022-09-30 09:58:00 | /cart
        u1   | 2022-09-30 09:59:00 | /payment
        u1   | 2022-10-01 10:00:00 | /confirmation"""
    assert bought(table) == []
    assert bought(table, purchase_window=timedelta(days=1, minutes=3)) == [("u1", "10:00", 1)]


def test_a_wide_window_does_not_reach_over_the_previous_confirmation():
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


def test_the_window_reaches_before_the_first_year():
    assert bought("""
        user | at                  | page
        u1   | 0001-01-01 00:00:00 | /product_a
        u1   | 0001-01-01 00:00:00 | /cart
        u1   | 0001-01-01 00:00:00 | /payment
        u1   | 0001-01-01 00:00:00 | /confirmation""") == [("u1", "00:00", 1)]


# Cart adds


def test_a_cart_view_without_a_product_before_it_is_no_cart_add():
    assert (
        bought("""
        user | at    | page
        u1   | 10:00 | /cart
        u1   | 10:01 | /product_a
        u1   | 10:02 | /payment
        u1   | 10:03 | /confirmation""")
        == []
    )


def test_a_second_cart_view_without_a_product_after_the_first_is_no_cart_add():
    assert bought("""
        user | at    | page
        u1   | 10:00 | /product_a
        u1   | 10:01 | /cart
        u1   | 10:02 | /cart
        u1   | 10:03 | /payment
        u1   | 10:04 | /confirmation""") == [("u1", "10:04", 1)]


def test_each_cart_view_after_a_new_product_view_is_a_cart_add():
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


def test_a_cart_view_that_is_no_add_is_still_the_previous_cart_view():
    # The product is after the first cart view, so only the second can add it.
    assert bought("""
        user | at    | page
        u1   | 10:00 | /cart
        u1   | 10:01 | /product_a
        u1   | 10:02 | /cart
        u1   | 10:03 | /cart
        u1   | 10:04 | /payment
        u1   | 10:05 | /confirmation""") == [("u1", "10:05", 1)]


def test_the_product_of_a_cart_add_is_the_last_one_before_it():
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
    assert of(table).top_pages == [(1, "http://shop/product_b", 1)]


def test_a_payment_between_a_product_and_its_cart_view_does_not_part_them():
    assert bought("""
        user | at    | page
        u1   | 10:00 | /product_a
        u1   | 10:01 | /payment
        u1   | 10:02 | /cart
        u1   | 10:03 | /payment
        u1   | 10:04 | /confirmation""") == [("u1", "10:04", 1)]


# What is bought


def test_a_path_without_a_payment_is_no_purchase():
    assert (
        bought("""
        user | at    | page
        u1   | 10:00 | /product_a
        u1   | 10:01 | /cart
        u1   | 10:02 | /confirmation""")
        == []
    )


def test_a_path_without_a_cart_add_is_no_purchase():
    assert (
        bought("""
        user | at    | page
        u1   | 10:00 | /product_a
        u1   | 10:01 | /payment
        u1   | 10:02 | /confirmation""")
        == []
    )


def test_a_confirmation_alone_is_no_purchase():
    assert bought("user | at | page\n u1 | 10:00 | /confirmation") == []


def test_a_cart_add_after_the_last_payment_is_not_bought():
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
    assert of(table).top_pages == [(1, "http://shop/product_a", 1)]


def test_cart_adds_after_the_last_payment_are_gone():
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


def test_it_is_the_last_payment_of_the_path_that_counts():
    assert bought("""
        user | at    | page
        u1   | 10:00 | /product_a
        u1   | 10:01 | /cart
        u1   | 10:02 | /payment
        u1   | 10:03 | /product_b
        u1   | 10:04 | /cart
        u1   | 10:05 | /payment
        u1   | 10:06 | /confirmation""") == [("u1", "10:06", 2)]


def test_a_purchase_carries_the_source_of_its_confirmation():
    found = of("""
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


def test_events_hours_are_page_views_by_hour_and_page_type():
    found = of("""
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


def test_an_hour_is_one_of_utc():
    found = of("at | page\n 2022-10-01 01:15:00+05:30 | /home")
    assert found.events_hours == [(datetime(2022, 9, 30, 19), "home", 1)]


def test_products_hours_are_products_bought_by_the_hour_of_the_confirmation():
    found = of("""
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


def test_top_pages_count_purchases_and_not_products():
    # u1 puts a in the cart twice and b once, in one purchase; u2 a in another.
    found = of("""
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


def test_top_pages_are_ranked_by_count_then_page_url_byte_by_byte():
    found = marts(purchases_from(["b", "ä", "B", "a b", "ab", "😀", "～", "z", "z"]))
    ranked = [
        (1, "z", 2),
        *((rank, url, 1) for rank, url in enumerate(["B", "a b", "ab", "b", "ä", "～", "😀"], start=2)),
    ]
    assert found.top_pages == ranked


def test_a_missing_page_url_is_none_in_brackets_and_one_with_the_text():
    # As a text it stands before http://a, having the count of all three.
    found = marts(purchases_from([None, "", "(none)", "http://a", "http://a", "http://a", "http://b"]))
    assert found.top_pages == [(1, "(none)", 3), (2, "http://a", 3), (3, "http://b", 1)]


def test_page_urls_are_compared_whole_and_as_written():
    found = marts(purchases_from(["http://a?x", "http://a", "http://A", "http://a/"]))
    assert found.top_pages == [(1, "http://A", 1), (2, "http://a", 1), (3, "http://a/", 1), (4, "http://a?x", 1)]


def test_top_pages_are_the_first_ten_or_as_many_as_set():
    rows = purchases_from([f"page {n:02}" for n in range(12)])
    assert [url for _, url, _ in marts(rows).top_pages] == [f"page {n:02}" for n in range(10)]
    assert marts(rows, Settings(top_pages=2)).top_pages == [(1, "page 00", 1), (2, "page 01", 1)]
    assert len(marts(rows, Settings(top_pages=99)).top_pages) == 12


def test_sources_are_the_distinct_users_of_all_their_page_views():
    found = of("""
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


def test_a_missing_referer_is_direct_and_a_missing_campaign_none_in_brackets():
    found = of("""
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


def test_none_as_a_referer_and_direct_as_a_campaign_are_texts_as_any():
    found = of("""
        user | at    | referer | campaign
        u1   | 10:00 | (none)  | (direct)
        u1   | 10:00 |         |""")
    assert found.sources == [("(direct)", "(none)", 1, 0, 0.5), ("(none)", "(direct)", 1, 0, 0.5)]


def test_a_source_has_the_purchases_whose_confirmation_carries_it():
    found = of("""
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


def test_sources_differ_by_case_and_are_sorted_by_bytes():
    found = of("""
        user | at    | referer | campaign
        u1   | 10:00 | ä       | c
        u1   | 10:00 | a       | c
        u1   | 10:00 | A       | c
        u1   | 10:00 | a       | C
        u1   | 10:00 | 😀      | c
        u1   | 10:00 | ～      | c""")
    pairs = [(referer, campaign) for referer, campaign, *_ in found.sources]
    assert pairs == [("A", "c"), ("a", "C"), ("a", "c"), ("ä", "c"), ("～", "c"), ("😀", "c")]


def test_no_events_make_empty_marts():
    assert marts([]) == Marts([], [], [], [], [])


# Laws, over the events that are drawn for the others


@given(st.data())
def test_the_order_of_loading_is_free_where_deliveries_are_equal(data):
    rows = data.draw(events())
    assert marts(data.draw(st.permutations(rows))) == marts(rows)


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
    deliveries = [[(view.user, view.at, view.event_id) for view in page_views(part)] for part in (rows, equal)]
    assert deliveries[0] == deliveries[1]
    # What stands for a view is what stood for it; only its later deliveries changed.
    assert marts(equal) == marts(rows)


@given(events())
def test_marts_agree_with_one_another(rows):
    found = marts(rows)
    assert sum(count for *_, count in found.events_hours) == len(page_views(rows))
    assert sum(count for _, count in found.products_hours) == sum(products for _, _, products, *_ in found.purchases)
    assert sum(purchases for _, _, _, purchases, _ in found.sources) == len(found.purchases)
    assert sum(share for *_, share in found.sources) == pytest.approx(1 if found.sources else 0)
    assert bool(found.top_pages) == bool(found.purchases)


# Real data


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the real data is not ours to publish: no ../shared/data")
@pytest.mark.parametrize("name", ["newprolab_sample.jsonl", "events-2022-Sep-30-mini.jsonl.gz"])
def test_real_data_has_its_known_marts(name):
    content = (SHARED_DATA / name).read_bytes()
    text = gzip.decompress(content) if name.endswith(".gz") else content
    rows = [json.loads(line) for line in text.splitlines()]
    expected = json.loads((SHARED_DATA / f"{name.partition('.')[0]}.marts.json").read_bytes())

    found = marts(rows)
    assert {
        "events_hours": [[str(hour), kind, count] for hour, kind, count in found.events_hours],
        "products_hours": [[str(hour), count] for hour, count in found.products_hours],
        "top_pages": [[page_url, count] for _, page_url, count in found.top_pages],
        "sources": [[*row] for *row, _ in found.sources],
        "totals": {
            "events": len(rows),
            "purchases": len(found.purchases),
            "products": sum(products for _, _, products, *_ in found.purchases),
        },
    } == expected
