"""The marts in naive Python: docs/meaning.md 2 to 4, sentence by sentence, for the SQL to be compared with.

Plain loops over lists and nothing fast: a user's views are walked again for every confirmation. The quoted lines are
the specification's own words, each above the code that says the same.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

Event = Mapping[str, str | None]

# In the order in which views of one instant come.
STEPS = ("none", "product", "cart", "payment", "confirmation")


@dataclass(frozen=True)
class Settings:
    product: str = r"^product_"
    cart: str = r"^cart(/|$)"
    payment: str = r"^payment(/|$)"
    confirmation: str = r"^confirmation(/|$)"
    purchase_window: timedelta = timedelta(days=1)
    top_pages: int = 10
    session_gap: timedelta = timedelta(minutes=30)


DEFAULTS = Settings()


@dataclass(frozen=True)
class PageView:
    """A page view; its texts are None where missing."""

    at: datetime  # naive, in UTC
    user: str | None
    page_type: str
    step: str
    event_id: str | None
    page_url: str | None
    referer_url: str | None
    utm_campaign: str | None


@dataclass(frozen=True)
class Purchase:
    """A confirmation that is a purchase, its path, and the product view of each bought cart add, in order."""

    user: str
    confirmation: PageView
    path: list[PageView]
    products: list[PageView]

    @property
    def instants(self) -> tuple[datetime, datetime, datetime]:
        """The first product view of the path, the first cart add, the last payment."""
        products = [view.at for view in self.path if view.step == "product"]
        payments = [view.at for view in self.path if view.step == "payment"]
        return products[0], self.path[cart_adds(self.path)[0][0]].at, payments[-1]


@dataclass(frozen=True)
class Marts:
    """The marts as rows without ids, but for top_pages, whose id is the rank. Times are naive, in UTC."""

    events_hours: list[tuple[datetime, str, int]]  # hour, page type, page views; sorted
    products_hours: list[tuple[datetime, int]]  # hour, products; sorted
    top_pages: list[tuple[int, str, int]]  # rank, page_url, purchases; by rank
    sources: list[tuple[str, str, int, int, float]]  # referer, campaign, users, purchases, share; by the texts' bytes
    purchases: list[tuple[str, datetime, int, str, str]]  # user, instant, products, referer, campaign; sorted
    paths: list[tuple[object, ...]]  # of each purchase the first product, the first cart add, the payment, page_urls
    sessions: list[tuple[object, ...]]  # user, start, end, views, entry, exit, referer, campaign; by user and start
    user_days: list[tuple[object, ...]]  # day, user, referer, campaign, views, views of each step; by day and bytes


def marts(events: Sequence[Event], settings: Settings = DEFAULTS) -> Marts:
    """All marts of the rows of stage.events, given in the order in which they were loaded."""
    views = page_views(events, settings)
    bought = purchases(views, settings)
    return Marts(
        events_hours=events_hours(views),
        products_hours=products_hours(bought),
        top_pages=top_pages(bought, settings),
        sources=sources(views, bought),
        purchases=sorted((p.user, p.confirmation.at, len(p.products), *source(p.confirmation)) for p in bought),
        paths=[
            (*p.instants, [product.page_url or "(none)" for product in p.products])
            for p in sorted(bought, key=lambda p: (p.user, p.confirmation.at))
        ],
        sessions=sessions(views, settings),
        user_days=user_days(views),
    )


# Section 2: page views


# "`YYYY-MM-DD`, `T` or one space, `HH:MM:SS`, optionally a fraction of one digit or more, optionally (after at most one
# space) `Z` or an offset (`+03:00`, `+0300`, `+03`...). ASCII digits": so not \d, which knows all the world's digits.
TIMESTAMP = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"[T ]"
    r"([0-9]{2}):([0-9]{2}):([0-9]{2})"
    r"(?:\.([0-9]+))?"
    r"(?: ?(?:Z|([+-])([0-9]{2})(?::?([0-9]{2}))?))?"
)


def parse_timestamp(text: str | None) -> datetime | None:
    """The instant that the text names, naive and in UTC; None where the text is no timestamp."""
    # "Blanks, tabs and line ends around it are ignored"
    found = TIMESTAMP.fullmatch((text or "").strip(" \t\r\n"))
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(digits) for digits in found.groups()[:6])
    fraction, sign, offset_hours, offset_minutes = found.groups()[6:]
    # "fraction digits past the sixth are cut"
    microsecond = int((fraction or "")[:6].ljust(6, "0"))
    # "at most 14:59 either way"; "Without an offset it is UTC."
    if int(offset_hours or 0) > 14 or int(offset_minutes or 0) > 59:
        return None
    offset = timedelta(hours=int(offset_hours or 0), minutes=int(offset_minutes or 0))
    if sign == "-":
        offset = -offset
    # "a real date of the years 0001 to 9999, in UTC too; hour 00-23, minute and second 00-59": datetime has no others.
    try:
        return datetime(year, month, day, hour, minute, second, microsecond) - offset
    except (ValueError, OverflowError):
        return None


def page_views(events: Sequence[Event], settings: Settings = DEFAULTS) -> list[PageView]:
    """The page views of the events, in the order in which they were loaded."""
    views: list[PageView] = []
    delivered = set()
    for event in events:
        view = page_view(event, settings)
        # "A page view is a row of stage.events whose event_timestamp is a timestamp"
        if view is None:
            continue
        # "rows with the same user (or both without), the same instant and the same event_id that is not missing are
        # one page view; the row loaded first stands for it. Without an event_id every row is its own."
        if view.event_id is not None:
            delivery = (view.user, view.at, view.event_id)
            if delivery in delivered:
                continue
            delivered.add(delivery)
        views.append(view)
    return views


def page_view(event: Event, settings: Settings) -> PageView | None:
    """The view that the row is if it was delivered once; None where its timestamp is none."""
    at = parse_timestamp(event.get("event_timestamp"))
    if at is None:
        return None
    path = page_path(value(event, "page_url_path"))
    return PageView(
        at=at,
        user=user_of(event),
        page_type=page_type(path),
        step=step(path, settings),
        event_id=value(event, "event_id"),
        page_url=value(event, "page_url"),
        referer_url=value(event, "referer_url"),
        utm_campaign=value(event, "utm_campaign"),
    )


def value(event: Event, column: str) -> str | None:
    """ "Missing" means NULL, absent or the empty text: None for all three."""
    return event.get(column) or None


def user_of(event: Event) -> str | None:
    """The user: `user_domain_id`, else `user_custom_id`."""
    return value(event, "user_domain_id") or value(event, "user_custom_id")


def page_path(page_url_path: str | None) -> str:
    """The page path: `page_url_path` up to the first `?` or `#`, without leading slashes."""
    return re.split(r"[?#]", page_url_path or "")[0].lstrip("/")


def page_type(path: str) -> str:
    """The page path's first segment, `(none)` where there is none."""
    return path.split("/")[0] or "(none)"


def step(path: str, settings: Settings) -> str:
    """The first step whose setting, a regular expression, the page path matches; else none."""
    for name in ("product", "cart", "payment", "confirmation"):
        if matches(getattr(settings, name), path):
            return name
    return "none"


def matches(pattern: str, text: str) -> bool:
    """Whether the text matches the regular expression as in PostgreSQL.

    There `$` is the very end and `.` any character, line ends too. That is all that is translated: settings of tests
    keep to what both languages read alike.
    """
    # An escaped dollar, or one in brackets, is a dollar.
    pattern = re.sub(r"(\\.|\[\^?\]?[^\]]*\])|\$", lambda found: found[1] or r"\Z", pattern)
    return re.search(pattern, text, re.DOTALL) is not None


def in_order(views: Sequence[PageView]) -> list[PageView]:
    """A user's views in their order: by instant, then step, then texts byte by byte with missing ones last."""

    def place(view: PageView) -> tuple[object, ...]:
        return (
            view.at,
            STEPS.index(view.step),
            missing_last(view.event_id),
            missing_last(view.page_url),
            missing_last(view.referer_url),
            missing_last(view.utm_campaign),
        )

    return sorted(views, key=place)


def missing_last(text: str | None) -> tuple[bool, bytes]:
    return (text is None, (text or "").encode())


# Section 3: purchases


def purchases(views: Sequence[PageView], settings: Settings = DEFAULTS) -> list[Purchase]:
    """The purchases of every user. A view without a user counts in none."""
    bought = []
    for user in sorted({view.user for view in views if view.user is not None}):
        of_user = in_order([view for view in views if view.user == user])
        for position, view in enumerate(of_user):
            if view.step == "confirmation":
                path = path_of(position, of_user, settings)
                products = products_bought(path)
                # "C is a purchase if its path has a payment, and at least one cart add before the last payment"
                if products:
                    bought.append(Purchase(user, view, path, products))
    return bought


def path_of(position: int, of_user: Sequence[PageView], settings: Settings) -> list[PageView]:
    """The path of the confirmation at that position of a user's views in order."""
    confirmation = of_user[position]
    # "that user's views after the previous confirmation (any), before C in the order above"
    path: list[PageView] = []
    for view in of_user[:position]:
        if view.step == "confirmation":
            path = []
        else:
            path.append(view)
    # "and not older than the purchase window (a setting, 1 day, inclusive) before C's instant"
    return [view for view in path if confirmation.at - view.at <= settings.purchase_window]


def cart_adds(path: Sequence[PageView]) -> list[tuple[int, PageView]]:
    """The cart adds of a path, each as the position of its cart view and its product view.

    "A cart add is a cart view of the path with a product view in the path before it and after the previous cart view of
    the path. Its product is the last such product view."
    """
    adds = []
    after_previous_cart = 0
    for position, view in enumerate(path):
        if view.step == "cart":
            products = [v for v in path[after_previous_cart:position] if v.step == "product"]
            if products:
                adds.append((position, products[-1]))
            after_previous_cart = position + 1
    return adds


def products_bought(path: Sequence[PageView]) -> list[PageView]:
    """The product views that a confirmation with this path buys: the cart adds before the last payment of the path.

    "Adds after it are not bought, and are gone."
    """
    payments = [position for position, view in enumerate(path) if view.step == "payment"]
    if not payments:
        return []
    return [product for position, product in cart_adds(path) if position < payments[-1]]


def verdicts(of_user: Sequence[PageView], settings: Settings = DEFAULTS) -> list[str]:
    """What became of each of a user's views in order, as docs/explain.md has it."""
    said = []
    for position, view in enumerate(of_user):
        following = [p for p in range(position, len(of_user)) if of_user[p].step == "confirmation"]
        if view.step == "none":
            said.append("no step")
        elif not following:
            said.append(f"{view.step} ignored: no confirmation after it")
        elif of_user[following[0]].at - view.at > settings.purchase_window:
            said.append(f"{view.step} ignored: before the purchase window")
        else:
            path = path_of(following[0], of_user, settings)
            said.append(verdict(path, len(path) - (following[0] - position)))
    return said


def verdict(path: Sequence[PageView], position: int) -> str:
    """What became of the step at that position of a path, or of the confirmation behind its end."""
    step = "confirmation" if position == len(path) else path[position].step
    # A cart add's product is the last one before it.
    adds = {cart: max(p for p in range(cart) if path[p].step == "product") for cart, _ in cart_adds(path)}
    payments = [p for p, view in enumerate(path) if view.step == "payment"]
    bought = {cart: product for cart, product in adds.items() if payments and cart < payments[-1]}
    later = [view.step for view in path[position + 1 :] if view.step in ("product", "cart")]
    earlier = [view.step for view in path[:position] if view.step in ("product", "cart")]
    if step == "product":
        if position in bought.values():
            return "product bought"
        if position in adds.values():
            return "product not bought: no payment after its cart"
        return (
            "product ignored: another one before the next cart"
            if "cart" in later
            else "product ignored: no cart after it"
        )
    if step == "cart":
        if position in bought:
            return "cart add, bought"
        if position in adds:
            return "cart add, not bought: no payment after it"
        return f"cart ignored: no product {'since the last cart' if 'cart' in earlier else 'before it'}"
    if step == "payment":
        if position != payments[-1]:
            return "payment ignored: another one after it"
        return "last payment, of a purchase" if bought else "payment ignored: no cart add before it"
    if bought:
        return "purchase"
    return f"no purchase: no {'cart add before the last payment' if payments else 'payment in its path'}"


# Section 4: marts


def hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def source(view: PageView) -> tuple[str, str]:
    """The referer, `(direct)` if missing, and the campaign, `(none)` if missing.

    "A value that is itself written `(direct)` or `(none)` counts with the missing ones."
    """
    return (view.referer_url or "(direct)", view.utm_campaign or "(none)")


def events_hours(views: Sequence[PageView]) -> list[tuple[datetime, str, int]]:
    """Page views by hour and page type, those without a user too."""
    counts: dict[tuple[datetime, str], int] = {}
    for view in views:
        key = (hour(view.at), view.page_type)
        counts[key] = counts.get(key, 0) + 1
    return sorted((at, kind, count) for (at, kind), count in counts.items())


def products_hours(bought: Sequence[Purchase]) -> list[tuple[datetime, int]]:
    """Products bought, by the hour of the confirmation. No row for an hour without one."""
    counts: dict[datetime, int] = {}
    for purchase in bought:
        at = hour(purchase.confirmation.at)
        counts[at] = counts.get(at, 0) + len(purchase.products)
    return sorted(counts.items())


def top_pages(bought: Sequence[Purchase], settings: Settings = DEFAULTS) -> list[tuple[int, str, int]]:
    """For each page_url of the product of a bought cart add, the number of purchases with such an add; the first."""
    counts: dict[str, int] = {}
    for purchase in bought:
        # One purchase counts once for a page, however many of its adds come from there.
        for page_url in {product.page_url or "(none)" for product in purchase.products}:
            counts[page_url] = counts.get(page_url, 0) + 1
    # "by count descending, then page_url byte by byte; id is the rank"
    ranked = sorted(counts.items(), key=lambda row: (-row[1], row[0].encode()))
    return [(rank, page_url, count) for rank, (page_url, count) in enumerate(ranked[: settings.top_pages], start=1)]


def sources(views: Sequence[PageView], bought: Sequence[Purchase]) -> list[tuple[str, str, int, int, float]]:
    """Users and purchases by referer and campaign over all page views with a user, and its share of the users."""
    users: dict[tuple[str, str], set[str]] = {}
    for view in views:
        if view.user is not None:
            users.setdefault(source(view), set()).add(view.user)
    # "the pair's count_users over the sum of all count_users, as a fraction": a user of two pairs is in the sum twice.
    total = sum(len(of_pair) for of_pair in users.values())
    rows = []
    for pair in sorted(users, key=lambda pair: (pair[0].encode(), pair[1].encode())):
        # "the purchases whose confirmation carries that pair"
        count_purchases = sum(source(purchase.confirmation) == pair for purchase in bought)
        rows.append((*pair, len(users[pair]), count_purchases, len(users[pair]) / total))
    return rows


def sessions(views: Sequence[PageView], settings: Settings = DEFAULTS) -> list[tuple[object, ...]]:
    """Each user's views, parted where one comes later than the one before by more than the gap."""
    rows: list[tuple[object, ...]] = []
    for user in sorted({view.user for view in views if view.user is not None}, key=str.encode):
        parts: list[list[PageView]] = []
        for view in in_order([view for view in views if view.user == user]):
            if parts and view.at - parts[-1][-1].at <= settings.session_gap:
                parts[-1].append(view)
            else:
                parts.append([view])
        for part in parts:
            pages = [view.page_url or "(none)" for view in (part[0], part[-1])]
            rows.append((user, part[0].at, part[-1].at, len(part), *pages, *source(part[0])))
    return rows


def user_days(views: Sequence[PageView]) -> list[tuple[object, ...]]:
    """How many views of a user carry a source on a day in UTC: all, and those of each step."""
    counts: dict[tuple[date, str, str, str], list[int]] = {}
    for view in views:
        if view.user is not None:
            row = counts.setdefault((view.at.date(), view.user, *source(view)), [0, 0, 0, 0, 0])
            row[0] += 1
            if view.step != "none":
                row[STEPS.index(view.step)] += 1
    keys = sorted(counts, key=lambda key: (key[0], *(text.encode() for text in key[1:])))
    return [(*key, *counts[key]) for key in keys]


# Events as a table of text, for tests


def events_of(table: str) -> list[dict[str, str | None]]:
    """Rows of stage.events from a table: a line of names, then a line an event, its cells parted by `|`.

    The names are columns of stage.events, or short ones: `user` is user_domain_id, `at` event_timestamp, `page`
    page_url_path, `url` page_url, `referer` referer_url, `campaign` utm_campaign, `id` event_id. A time of day alone is
    on 2022-09-30. An empty cell is absent, `''` the empty text, `null` None. Without a `url` column page_url is
    `http://shop` and the page.
    """
    short = {
        "user": "user_domain_id",
        "at": "event_timestamp",
        "page": "page_url_path",
        "url": "page_url",
        "referer": "referer_url",
        "campaign": "utm_campaign",
        "id": "event_id",
    }
    written = {"''": "", "null": None}
    head, *lines = [[cell.strip() for cell in line.split("|")] for line in table.splitlines() if line.strip()]
    names = [short.get(name, name) for name in head]
    events = []
    for cells in lines:
        event = {name: written.get(cell, cell) for name, cell in zip(names, cells, strict=True) if cell}
        at = event.get("event_timestamp") or ""
        if re.fullmatch(r"[0-9]{2}:[0-9]{2}", at):
            event["event_timestamp"] = f"2022-09-30 {at}:00"
        elif re.fullmatch(r"[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?", at):
            event["event_timestamp"] = f"2022-09-30 {at}"
        if "page_url" not in names and event.get("page_url_path"):
            event["page_url"] = f"http://shop{event['page_url_path']}"
        events.append(event)
    return events
