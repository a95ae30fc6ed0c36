"""Events for Hypothesis: few users, instants, pages and texts, so that ties, repeats and purchases are common."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from hypothesis import strategies as st
from oracle import parse_timestamp, user_of

Event = dict[str, str | None]

START = datetime(2022, 9, 30, 10)
DAY = timedelta(days=1)  # the default purchase window
LAST = timedelta(microseconds=1)

# From START to START + DAY is exactly a window; from the instant before, or to the one after, it is one step too much.
# An hour begins at START, and it ends just before START + an hour.
INSTANTS = [
    START,
    START + timedelta(minutes=30),
    START + timedelta(hours=1) - LAST,
    START + timedelta(hours=1),
    START + DAY,
    START + DAY + LAST,
    START - LAST,
    START + 2 * DAY,
]

# The instants of a journey: at once, within an hour, over exactly a window, over one step more, or over two windows; or
# mostly each its own, a minute or some hours apart.
SPANS = [
    *([START + timedelta(minutes=minute) for minute in range(20)],) * 3,
    [START + timedelta(hours=5 * number) for number in range(10)],
    INSTANTS[:1],
    INSTANTS[:2],
    INSTANTS[:4],
    [START, START + DAY],
    [START - LAST, START, START + DAY],
    [START, START + LAST, START + DAY + LAST],
    [START, START + DAY, START + 2 * DAY],
]

NO_TIMESTAMPS = [
    None,
    "",
    " ",
    "yesterday",
    "now",
    "infinity",
    "1664532000",
    "2022-09-30",
    "2022-09-30 10:00",
    "2022-09-30  10:00:00",
    "2022-09-30t10:00:00",
    "2022-09-30 10:00:00z",
    "2022-09-30 10:00:00.",
    "2022-09-30 10:00:00  Z",
    "2022-09-30 10:00:00 UTC",
    "2022-09-30 10:00:60",
    "2022-09-30 24:00:00",
    "2022-09-31 10:00:00",
    "2022-02-29 10:00:00",
    "2022-09-30 10:00:00+15:00",
    "2022-09-30 10:00:00+14:60",
    "0000-12-31 23:59:59",
    "0001-01-01 00:00:00+00:01",
    "9999-12-31 23:59:59-00:01",
    "\f2022-09-30 10:00:00",
    "2022-09-30 10:00:00\N{NO-BREAK SPACE}",
    "2022-09-30 10:00:0\N{ARABIC-INDIC DIGIT ZERO}",
]
FAR_TIMESTAMPS = ["0001-01-01 00:00:00", "9999-12-31 23:59:59.9999999", "9999-12-31T23:59:59+14:59"]

# user_domain_id and user_custom_id of the users u1, u2 and m1, and of none. A custom id is shared, and may be another's
# domain id.
USERS: dict[str, list[tuple[str | None, str | None]]] = {
    "u1": [("u1", None), ("u1", "m1"), ("u1", ""), (None, "u1"), ("", "u1")],
    "u2": [("u2", None), ("u2", "m1"), ("u2", "u1")],
    "m1": [(None, "m1"), ("", "m1")],
    "nobody": [(None, None), ("", ""), ("", None)],
}

# page_url_path by the step that it is with the default settings.
PAGES: dict[str, list[str | None]] = {
    "product": ["/product_a", "/product_b", "product_a", "//product_b/x?y=1", "/product_a#/cart", "/product_?q=é"],
    "cart": ["/cart", "cart", "///cart/", "/cart/step?1", "cart#top"],
    "payment": ["/payment", "/payment/", "payment?/cart"],
    "confirmation": ["/confirmation", "confirmation/ok", "//confirmation#1"],
    "none": [
        "/home",
        None,
        "",
        "/",
        "?/cart",
        "/#/product_a",
        "/Cart",
        "/cartoon",
        "/cart\n",
        "/payments",
        "/shop/cart",
        "/%63art",
        " /cart",
        "/(none)",
        "/страница/😀",
    ],
}

# Byte by byte, capitals come first, a blank before letters, and 😀 after ～: no language's order, nor that of UTF-16.
PAGE_URLS = [
    "http://a",
    "http://A",
    "http://a b",
    "http://ab",
    "http://ä",
    "http://～",
    "http://😀",
    "(none)",
    "",
    None,
]
REFERERS = ["www.google.com", "www.Google.com", "яндекс.рф", "(direct)", "(none)", "", None]
CAMPAIGNS = ["campaign_1", "Campaign_1", "акция", "(none)", "(direct)", "", None]
EVENT_IDS = [None, "e1", "e2", "E1", "é", ""]
EVENT_ID = st.fixed_dictionaries({}, optional={"event_id": st.sampled_from(EVENT_IDS)})

# What the marts see of an event besides its delivery: its user, instant and event_id.
CONTENT = ("page_url_path", "page_url", "referer_url", "utm_campaign")

# The steps of a user on the way to a confirmation: some buy one or two products, some none.
JOURNEYS = [
    ("product", "cart", "payment", "confirmation"),
    ("none", "product", "product", "cart", "payment", "confirmation"),
    ("product", "cart", "product", "cart", "payment", "confirmation"),
    ("product", "cart", "payment", "product", "cart", "confirmation"),
    ("product", "cart", "payment", "product", "cart", "payment", "confirmation"),
    ("product", "cart", "payment", "confirmation", "product", "cart", "payment", "confirmation"),
    ("product", "cart", "payment", "confirmation", "confirmation", "product", "cart", "payment", "confirmation"),
    ("product", "cart", "confirmation", "payment", "confirmation"),
    ("product", "payment", "cart", "confirmation"),
    ("cart", "product", "payment", "cart", "payment", "confirmation"),
    ("product", "cart", "cart", "payment", "confirmation", "confirmation"),
]


@st.composite
def events(draw: st.DrawFn, equal_deliveries: bool = True, max_parts: int = 6) -> list[Event]:
    """Rows of stage.events in the order of loading: single events, journeys to a confirmation, some rows again.

    Where one user's event_id comes twice at one instant, the marts depend on which came first. With
    `equal_deliveries` all such rows are equal in what the marts see, so any order gives the same marts; without, only
    the order drawn does.
    """
    parts = draw(st.lists(st.one_of(journeys(), journeys(), st.lists(single_events(), max_size=2)), max_size=max_parts))
    rows = [event for part in parts for event in part]
    if rows:
        for again in draw(st.lists(st.sampled_from(rows), max_size=3)):
            rows.append(again if draw(st.booleans()) else {**again, **draw(contents())})
    rows = draw(st.permutations(rows)) if draw(st.booleans()) else in_time(rows)
    return with_equal_deliveries(rows) if equal_deliveries else rows


@st.composite
def single_events(draw: st.DrawFn) -> Event:
    """One event of anybody, anywhere, at any time; a few of them are no page views."""
    return event(draw, draw(any_timestamps()), draw(st.sampled_from(list(USERS))), draw(st.sampled_from(list(PAGES))))


@st.composite
def journeys(draw: st.DrawFn) -> list[Event]:
    """A user's way to a confirmation, its instants in order but often the same ones."""
    user = draw(st.sampled_from(["u1", "u1", "u1", "u2", "m1", "nobody"]))
    steps = draw(st.sampled_from(JOURNEYS))
    span = draw(st.sampled_from(SPANS))
    instants = sorted(draw(st.sampled_from(span)) for _ in steps)
    return [event(draw, draw(timestamps(at)), user, step) for at, step in zip(instants, steps, strict=True)]


def event(draw: st.DrawFn, timestamp: str | None, user: str, step: str) -> Event:
    """An event with that event_timestamp by one of USERS on one of the PAGES of a step."""
    domain_id, custom_id = draw(st.sampled_from(USERS[user]))
    return {
        "event_timestamp": timestamp,
        "user_domain_id": domain_id,
        "user_custom_id": custom_id,
        **draw(EVENT_ID),
        **draw(contents(step)),
    }


@cache  # as the other strategies that are drawn from again and again: to build one takes longer than to draw
def contents(*steps: str) -> st.SearchStrategy[Event]:
    """The columns of CONTENT, some absent, with a page of one of the steps, or of any where none is named."""
    return st.fixed_dictionaries(
        {"page_url_path": st.sampled_from([page for step in steps or PAGES for page in PAGES[step]])},
        optional={
            "page_url": st.sampled_from(PAGE_URLS),
            "referer_url": st.sampled_from(REFERERS),
            "utm_campaign": st.sampled_from(CAMPAIGNS),
        },
    )


@cache
def any_timestamps() -> st.SearchStrategy[str | None]:
    """Mostly spellings of INSTANTS, else a timestamp far from them or none."""
    near = st.sampled_from(INSTANTS).flatmap(timestamps)
    return st.one_of(near, near, near, near, st.sampled_from([*NO_TIMESTAMPS, *FAR_TIMESTAMPS]))


@cache
def timestamps(at: datetime) -> st.SearchStrategy[str]:
    """Spellings of the instant, the source's own one in half of the cases."""
    return st.one_of(st.just(spellings(at)[0]), st.sampled_from(spellings(at)))


def spellings(at: datetime) -> list[str]:
    """One instant, in UTC, as event_timestamp may have it."""

    def there(**offset: int) -> str:
        return (at + timedelta(**offset)).isoformat(" ", "microseconds")

    return [
        there(),
        at.isoformat("T"),
        f"{there()}Z",
        f"{at.isoformat('T')} Z",
        f"{there(hours=3)}+03:00",
        f"{there(hours=3)} +03",
        f"{there(hours=-5, minutes=-30)}-0530",
        f"{there(hours=14, minutes=59)}+14:59",
        f"{there(hours=-14, minutes=-59)}-14:59",
        f"{there()}9999",
        f"\t {there()}000 +00 \r\n",
    ]


def in_time(rows: Iterable[Event]) -> list[Event]:
    """The rows as they come where nothing is late, those without an instant last."""
    return sorted(rows, key=lambda row: parse_timestamp(row.get("event_timestamp")) or datetime.max)


def with_equal_deliveries(rows: Iterable[Event]) -> list[Event]:
    """The same rows, but every delivery of a view with the content of the first one."""
    first: dict[tuple[str | None, datetime, str], Event] = {}
    equal = []
    for row in rows:
        at, event_id = parse_timestamp(row.get("event_timestamp")), row.get("event_id")
        if at is not None and event_id:
            like = first.setdefault((user_of(row), at, event_id), row)
            row = {name: text for name, text in row.items() if name not in CONTENT}
            row |= {name: text for name, text in like.items() if name in CONTENT}
        equal.append(row)
    return equal


@dataclass(frozen=True)
class Cut:
    """Events as files to load one after the other, none empty, and the files by index after which an apply comes.

    An apply after the last file is among these by chance only: who wants the marts adds it.
    """

    files: list[list[Event]]
    applies: frozenset[int]


@st.composite
def cuts(draw: st.DrawFn, rows: list[Event], shuffled: bool = True) -> Cut:
    """The events in two to six files, now and then shuffled over and within them unless their order is to stay.

    There are fewer files where there are too few events, or where two would have been the same.
    """
    rows = draw(st.permutations(rows)) if shuffled and draw(st.booleans()) else list(rows)
    inner = range(1, len(rows))
    ends = [*sorted(draw(st.sets(st.sampled_from(inner), min_size=1, max_size=5)) if inner else ()), len(rows)]
    files = [rows[start:end] for start, end in zip([0, *ends], ends, strict=False) if rows]
    # A file with the content of an earlier one would not be loaded: it is joined to the one before it.
    while (twin := next((i for i, file in enumerate(files) if said(file) in map(said, files[:i])), None)) is not None:
        files[twin - 1 : twin + 1] = [files[twin - 1] + files[twin]]
    return Cut(files, frozenset(i for i in range(len(files)) if draw(st.booleans())))


def said(file: Iterable[Event]) -> list[Event]:
    """The file's rows without missing values, which a format may not tell apart."""
    return [{name: text for name, text in row.items() if text} for row in file]
