"""Makes the clickstream of a small web shop, in the shape of the real feed and of any size.

    python bench/generate.py big.jsonl --events 10000000 --users 200000 --days 30
    python bench/generate.py week/events.jsonl.gz --days 7 --files 7 --late 0.01 --doubled 0.01 --broken 0.001
    python bench/generate.py week --format csv
    python bench/generate.py --sample runner/sample

OUT is a file, whose suffix names the format (.jsonl, .csv, .parquet, each also .gz), or a folder (no such suffix). With
several files the folder or the name takes the day (events-2026-03-02.jsonl) where there is a file a day, else a number.
Files cut the time span into equal parts. --late, --doubled, --broken and --odd-times are shares (0.01 is one in a
hundred) of the records, and no record has two of these faults:

- late: written to the next file, not to that of its time; so it needs two files, and the last file's are never late;
- doubled: delivered a second time, later in the same file or in the next; these come on top of --events;
- broken: cannot be stored (in turn, JSON lines: cut, port, latitude, nul, surrogate, array; CSV: port, latitude,
  fields; Parquet: none);
- odd times: in turn T and Z, the same instant at +03:00, T and whole seconds, and a text that is no timestamp.

The counts by kind are printed as JSON on stdout. The same options give the same text on every machine with Python 3.11
or later (compressed bytes depend on the zlib at hand), and the same events whatever the format and the faults. Memory
does not grow with --events: visits are made for a short slice of time, sorted roughly and written, and users are worked
out of their number again when they return. Only Parquet needs more than the standard library (pyarrow).
"""

import argparse
import bisect
import contextlib
import csv
import functools
import gzip
import hashlib
import itertools
import json
import random
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import IO, Any, cast

SITE = "http://shop.example.com"
DAY = 86_400_000_000  # microseconds, as all times here
LINGER = 1 << 25  # an event arrives up to 33 s after its time, so that neighbours stand in no strict order
SLICE_EVENTS = 10_000  # as many are made, sorted and written at once
KEPT_USERS = 50_000  # as many are kept at hand
SLOTS = 64  # weights add up to this, so that six random bits choose by them

PAGE_COLUMNS = ("event_type", "page_url", "page_url_path")
SOURCE_COLUMNS = (
    "referer_url",
    "referer_url_scheme",
    "referer_url_port",
    "referer_medium",
    "utm_medium",
    "utm_source",
    "utm_content",
    "utm_campaign",
)
USER_COLUMNS = (
    "click_id",
    "geo_latitude",
    "geo_longitude",
    "geo_country",
    "geo_timezone",
    "geo_region_name",
    "ip_address",
    "browser_name",
    "browser_user_agent",
    "browser_language",
    "os",
    "os_name",
    "os_timezone",
    "device_type",
    "device_is_mobile",
    "user_custom_id",
    "user_domain_id",
)
COLUMNS = ("event_id", "event_timestamp", *PAGE_COLUMNS, *SOURCE_COLUMNS, *USER_COLUMNS)

#: where a visit goes from a section, in 64ths; where it enters and leaves the site
WAYS = {
    "enter": {"home": 34, "product": 15, "blog": 5, "help": 2, "search": 3, "cart": 3, "payment": 1, "account": 1},
    "home": {"product": 40, "search": 5, "blog": 4, "home": 3, "help": 1, "cart": 2, "account": 1, "leave": 8},
    "product": {"product": 19, "cart": 15, "home": 7, "help": 2, "search": 3, "leave": 18},
    "cart": {"payment": 30, "product": 15, "cart": 2, "home": 3, "account": 1, "leave": 13},
    "payment": {"confirmation": 42, "payment": 5, "cart": 4, "help": 2, "leave": 11},
    "confirmation": {"home": 8, "product": 8, "account": 4, "confirmation": 1, "payment": 1, "leave": 42},
    "blog": {"product": 13, "blog": 16, "home": 9, "leave": 26},
    "help": {"help": 16, "home": 8, "product": 6, "cart": 6, "leave": 28},
    "search": {"product": 34, "search": 12, "home": 4, "leave": 14},
    "account": {"account": 16, "home": 14, "product": 6, "cart": 4, "leave": 24},
}

PAGES = {
    "home": {"/home": 50, "/home?utm=spring": 5, "/home?utm=newsletter": 4, "/": 5},
    "product": {
        "/product_a": 15,
        "/product_b": 11,
        "/product_c": 9,
        "/product_d": 7,
        "/product_e": 6,
        "/product_f": 5,
        "/product_a/reviews": 2,
        "/product_b/sizes": 2,
        "/product_a?utm=newsletter": 2,
        "/product_c?utm=spring": 2,
        "/product_d?color=red&size=m": 1,
        "/product_e#reviews": 1,
        "/product_f/details?utm=spring": 1,
    },
    "cart": {"/cart": 60, "/cart/": 2, "/cart?utm=reminder": 2},
    "payment": {"/payment": 42, "/payment/card": 14, "/payment/invoice": 8},
    "confirmation": {"/confirmation": 62, "/confirmation?utm=mail": 2},
    "blog": {"/blog/spring-2026": 24, "/blog/how-to-choose": 22, "/blog/behind-the-scenes": 12, "/blog/?utm=digest": 6},
    "help": {"/help": 30, "/help/delivery": 18, "/help/returns": 10, "/help#contacts": 6},
    "search": {"/search": 16, "/search?q=gift": 20, "/search?q=product_a": 14, "/search?q=red%20bag": 14},
    "account": {"/account": 40, "/account/orders": 24},
}

#: host, its medium, utm_medium, utm_source, utm_campaign -> weight; missing, empty and "(direct)" are all direct visits
SOURCES = {
    ("www.google.com", "search", "organic", "google", None): 10,
    ("www.google.com", "search", "cpc", "google", "campaign_1"): 9,
    ("www.google.com", "search", "cpc", "google", "campaign_2"): 4,
    ("www.bing.com", "search", "organic", "bing", None): 3,
    ("www.bing.com", "search", "cpc", "bing", "campaign_1"): 2,
    ("www.facebook.com", "internal", "social", "facebook", "campaign_1"): 6,
    ("www.facebook.com", "internal", "social", "facebook", "campaign_2"): 4,
    ("www.instagram.com", "internal", "social", "instagram", "campaign_2"): 6,
    ("www.mailchimp.com", "internal", "affiliate", "mailchimp", "campaign_3"): 5,
    (None, None, None, None, None): 10,
    (None, None, "email", "newsletter", "campaign_3"): 3,
    ("", None, None, None, ""): 1,
    ("(direct)", None, None, None, "(none)"): 1,
}

#: latitude, longitude, country (NA is Namibia, no gap), time zone, region, language
CITIES = (
    ("40.71427", "-74.00597", "US", "America/New_York", "New York", "en_US"),
    ("41.85003", "-87.65005", "US", "America/Chicago", "Chicago", "en_US"),
    ("19.42847", "-99.12766", "MX", "America/Mexico_City", "Mexico City", "es_MX"),
    ("-23.5475", "-46.63611", "BR", "America/Sao_Paulo", "São Paulo", "pt_BR"),
    ("51.50853", "-0.12574", "GB", "Europe/London", "London", "en_GB"),
    ("52.52437", "13.41053", "DE", "Europe/Berlin", "Berlin", "de_DE"),
    ("47.36667", "8.55", "CH", "Europe/Zurich", "Zürich", "de_CH"),
    ("41.89193", "12.51133", "IT", "Europe/Rome", "Rome", "it_IT"),
    ("55.75222", "37.61556", "RU", "Europe/Moscow", "Moscow", "ru_RU"),
    ("-22.55941", "17.08323", "NA", "Africa/Windhoek", "Windhoek", "en_NA"),
    ("19.07283", "72.88261", "IN", "Asia/Kolkata", "Mumbai", "hi_IN"),
    ("35.6895", "139.69171", "JP", "Asia/Tokyo", "Tokyo", "ja_JP"),
)

WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
#: browser, user agent, os, os_name, device
DEVICES = (
    ("Chrome", f"Mozilla/5.0 (Windows NT 10.0) {WEBKIT} Chrome/141.0.0.0", "Windows NT 10.0", "Windows", "Computer"),
    ("Chrome", f"Mozilla/5.0 (Windows NT 10.0) {WEBKIT} Chrome/144.0.0.0", "Windows NT 10.0", "Windows", "Computer"),
    ("Chrome", f"Mozilla/5.0 (X11; Linux x86_64) {WEBKIT} Chrome/144.0.0.0", "X11; Linux x86_64", "Linux", "Computer"),
    ("Firefox", "Mozilla/5.0 (Windows NT 10.0; rv:147.0) Firefox/147.0", "Windows NT 10.0", "Windows", "Computer"),
    ("Firefox", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0", "X11; Linux x86_64", "Linux", "Computer"),
    ("Safari", "Mozilla/5.0 (Macintosh) Version/18.6 Safari/605.1.15", "Mac OS X 10_15_7", "MacOS", "Computer"),
    ("Opera", f"Mozilla/5.0 (Macintosh) {WEBKIT} OPR/125.0", "Mac OS X 10_15_7", "MacOS", "Computer"),
    ("Safari", "Mozilla/5.0 (iPhone) Version/18.6 Mobile/15E148 Safari/604.1", "iPhone; CPU 18_6", "iOS", "Mobile"),
    ("Safari", "Mozilla/5.0 (iPad) Version/17.7 Mobile/15E148 Safari/604.1", "iPad; CPU 17_7", "iOS", "Mobile"),
    ("Chrome", f"Mozilla/5.0 (Android 15) {WEBKIT} Chrome/144.0.0.0 Mobile", "Android 15", "Android", "Mobile"),
    ("Chrome", f"Mozilla/5.0 (Android 13) {WEBKIT} Chrome/138.0.0.0 Mobile", "Android 13", "Android", "Mobile"),
    ("Firefox", "Mozilla/5.0 (Android 14; Mobile; rv:147.0) Firefox/147.0", "Android 14", "Android", "Mobile"),
)
FIRST_NAMES = ("ada", "ben", "clara", "dan", "eva", "finn", "hugo", "ida", "jan", "kira", "leo", "mia", "nils", "olga")
LAST_NAMES = ("alder", "birch", "cedar", "elm", "hazel", "larch", "linden", "maple", "oak", "pine", "rowan", "willow")

#: visits by hour of the day (UTC) and by weekday from Monday
HOUR_WEIGHTS = (3, 2, 1, 1, 1, 2, 3, 5, 7, 8, 9, 9, 10, 9, 8, 8, 9, 10, 12, 14, 14, 12, 8, 5)
WEEKDAY_WEIGHTS = (10, 9, 9, 10, 11, 14, 13)

NO_TIMESTAMPS = ("yesterday", "2026-02-30 10:15:00", "02.03.2026 12:00", "2026-03-02 25:00:00", "1772445600")

#: how --odd-times writes an instant in turn; the last turn is one of NO_TIMESTAMPS
ODD_TIMES = ("t_and_z", "offset", "t_no_fraction", "no_timestamp")
Row = Any  # a line of text without its end, or the tuple of the 30 values
Piece = Any  # the part of a row that a page, a source or a user gives to it
Event = tuple[int, str, str, Piece, Piece]  # when it arrives, event_id, event_timestamp, page, source and user


@dataclass(frozen=True, slots=True)
class Settings:
    """What to make; the shares are those of the module's docstring."""

    events: int = 100_000
    users: int = 5_000
    days: int = 7
    seed: int = 1
    start: date = date(2026, 3, 2)
    files: int = 1
    late: float = 0.0
    doubled: float = 0.0
    broken: float = 0.0
    odd_times: float = 0.0

    def __post_init__(self) -> None:
        for name in ("events", "users", "days", "files"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is less than 1")
        shares = (self.late, self.doubled, self.broken, self.odd_times)
        if min(shares) < 0 or sum(shares) > 1:
            raise ValueError("late, doubled, broken and odd times are shares: each from 0 up, 1 at most in all")
        if self.late and self.files == 1:
            raise ValueError("late events go to the next file: late needs 2 files or more")
        if self.days > (date.max - self.start).days:
            raise ValueError(f"days: {self.days} days from {self.start} go beyond the year 9999")

    @property
    def slices_per_file(self) -> int:
        """Into how many slices a file's time is cut: an hour at most, and not too many events each."""
        return max(-(-24 * self.days // self.files), -(-self.events // (self.files * SLICE_EVENTS)))


SAMPLE = Settings(events=8_800, users=400, days=7, files=7, late=0.003, doubled=0.003, broken=0.0034, odd_times=0.003)


# What a row looks like


class Lines:
    """Rows of text: the parts that pages, sources and users give are ready text, and a row only joins them."""

    opening: str
    between: str
    head = ""
    faults: tuple[str, ...]

    def rows(self, events: Sequence[Event]) -> list[Row]:
        opening, between = self.opening, self.between
        return [f"{opening}{event_id}{between}{timestamp}{page}{rest}" for _, event_id, timestamp, page, rest in events]

    def retimed(self, row: Row, write: Callable[[str], str]) -> Row:
        """The row with another timestamp: `write` gets the one it has."""
        begin = len(self.opening) + 36 + len(self.between)
        return row[:begin] + write(row[begin : begin + 26]) + row[begin + 26 :]

    def open(self, path: Path) -> "TextFile":
        return TextFile(path, self.head)


class JsonLines(Lines):
    opening, between = '{"event_id": "', '", "event_timestamp": "'
    faults = ("cut", "port", "latitude", "nul", "surrogate", "array")

    def page(self, values: Sequence[Any]) -> Piece:
        return '", ' + self.members(PAGE_COLUMNS, values)

    def source(self, values: Sequence[Any]) -> Piece:
        return ", " + self.members(SOURCE_COLUMNS, values)

    def user(self, values: Sequence[Any]) -> Piece:
        return f", {self.members(USER_COLUMNS, values)}}}"

    @staticmethod
    def members(names: Sequence[str], values: Sequence[Any]) -> str:
        return json.dumps(dict(zip(names, values, strict=True)))[1:-1]

    def broken(self, row: Row, fault: str) -> Row:
        if fault == "cut":
            return row[: len(row) // 2]
        record = json.loads(row)
        if fault == "array":
            return json.dumps(list(record.values()))
        if fault == "nul":
            record["page_url"] += "\0"
        elif fault == "surrogate":
            record["browser_user_agent"] += " \ud83d"
        else:
            record |= {"port": {"referer_url_port": "abc"}, "latitude": {"geo_latitude": "1e999"}}[fault]
        return json.dumps(record)


class Csv(Lines):
    """As pandas writes it (True and False, quotes where needed), but a missing value bare and an empty text quoted."""

    opening, between = "", ","
    head = ",".join(COLUMNS) + "\n"
    faults = ("port", "latitude", "fields")

    def page(self, values: Sequence[Any]) -> Piece:
        return "".join(f",{self.field(value)}" for value in values)

    source = user = page

    @staticmethod
    def field(value: str | bool | None) -> str:
        text = "" if value is None else str(value)
        return '"' + text.replace('"', '""') + '"' if value == "" or re.search('[,"\r\n]', text) else text

    def broken(self, row: Row, fault: str) -> Row:
        if fault == "fields":
            return row + ",one too many"
        (values,) = csv.reader([row])
        name, value = {"port": ("referer_url_port", "abc"), "latitude": ("geo_latitude", "1e999")}[fault]
        values[COLUMNS.index(name)] = value
        return ",".join(self.field(value or None) for value in values)


class Parquet:
    """As pandas writes it: the port a whole number, latitude and longitude doubles, the rest as in JSON."""

    faults: tuple[str, ...] = ()

    def page(self, values: Sequence[Any]) -> Piece:
        return tuple(values)

    def source(self, values: Sequence[Any]) -> Piece:
        port = SOURCE_COLUMNS.index("referer_url_port")
        return (*values[:port], values[port] and int(values[port]), *values[port + 1 :])

    def user(self, values: Sequence[Any]) -> Piece:
        click_id, latitude, longitude, *others = values
        return (click_id, float(latitude), float(longitude), *others)

    def rows(self, events: Sequence[Event]) -> list[Row]:
        return [(event_id, timestamp, *page, *rest) for _, event_id, timestamp, page, rest in events]

    def retimed(self, row: Row, write: Callable[[str], str]) -> Row:
        return (row[0], write(row[1]), *row[2:])

    def broken(self, row: Row, fault: str) -> Row:
        raise NotImplementedError

    def open(self, path: Path) -> "ParquetFile":
        return ParquetFile(path)


Form = JsonLines | Csv | Parquet
FORMS: dict[str, type[Form]] = {"jsonl": JsonLines, "csv": Csv, "parquet": Parquet}


# What a file is


class GzipFile(gzip.GzipFile):
    """Without a name and a time in its head, so that nothing but the content decides the bytes."""

    def __init__(self, path: Path) -> None:
        self.below = path.open("wb")
        super().__init__("", "wb", compresslevel=9, fileobj=self.below, mtime=0)

    def close(self) -> None:
        super().close()
        self.below.close()


def open_binary(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        return cast("IO[bytes]", GzipFile(path))
    return path.open("wb")


class TextFile:
    def __init__(self, path: Path, head: str) -> None:
        self.file = open_binary(path)
        self.file.write(head.encode())

    def write(self, rows: Sequence[Row]) -> None:
        if rows:
            self.file.write("\n".join([*rows, ""]).encode())

    def close(self) -> None:
        self.file.close()


class ParquetFile:
    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {
            "referer_url_port": pa.int64(),
            "geo_latitude": pa.float64(),
            "geo_longitude": pa.float64(),
            "device_is_mobile": pa.bool_(),
        }
        self.schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
        self.record_batch = pa.record_batch
        self.file = open_binary(path)
        self.writer = pq.ParquetWriter(self.file, self.schema)
        self.waiting: list[Row] = []

    def write(self, rows: Sequence[Row]) -> None:
        self.waiting += rows
        if len(self.waiting) >= SLICE_EVENTS:
            self.flush()

    def flush(self) -> None:
        if self.waiting:
            columns = zip(*self.waiting, strict=True)
            self.writer.write_batch(self.record_batch([list(column) for column in columns], schema=self.schema))
            self.waiting.clear()

    def close(self) -> None:
        self.flush()
        self.writer.close()
        self.file.close()


# What happens in the shop


def uuid_text(digits: str) -> str:
    """32 hexadecimal digits written as a uuid of version 4."""
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def user_values(seed: int, number: int) -> tuple[Any, ...]:
    """USER_COLUMNS of a user: the same for the same number, so that nobody need remember them."""
    digest = hashlib.blake2b(f"{seed} {number}".encode(), digest_size=48).digest()
    city, device, network, host, first, last, year, domain, identity, *_ = digest[32:]
    latitude, longitude, country, timezone, region, language = CITIES[city % len(CITIES)]
    browser, agent, system, system_name, device_type = DEVICES[device % len(DEVICES)]
    name = f"{FIRST_NAMES[first % len(FIRST_NAMES)]}.{LAST_NAMES[last % len(LAST_NAMES)]}{year % 100}"
    custom_id: str | None = f"{name}@example.{'org' if domain % 2 else 'com'}"
    domain_id: str | None = uuid_text(digest[:16].hex())
    if identity < 6:  # of 256: neither id
        custom_id = domain_id = None
    elif identity < 24:  # known by e-mail only
        domain_id = "" if identity % 2 else None
    elif identity < 56:  # never logged in
        custom_id = None
    return (
        uuid_text(digest[16:32].hex()),
        latitude,
        longitude,
        country,
        timezone,
        region,
        f"{('192.0.2', '198.51.100', '203.0.113')[network % 3]}.{host % 254 + 1}",
        browser,
        agent,
        language,
        system,
        system_name,
        timezone,
        device_type,
        device_type == "Mobile",
        custom_id,
        domain_id,
    )


def source_values(ad: int) -> Iterator[tuple[Any, ...]]:
    """SOURCE_COLUMNS of the 64 sources, for one of the advertisements."""
    for host, medium, utm_medium, utm_source, campaign in slots(SOURCES):
        scheme, port = ("http", "80") if medium else (None, None)
        yield host, scheme, port, medium, utm_medium, utm_source, f"ad_{ad}" if campaign else None, campaign


def page_values(path: str) -> tuple[str, str, str]:
    """PAGE_COLUMNS of a page; the tracker leaves its own ?utm= in page_url_path and cuts other queries."""
    return "pageview", SITE + path, path if "?utm=" in path else re.split("[?#]", path)[0]


def slots(weights: dict[Any, int]) -> list[Any]:
    chosen = [value for value, weight in weights.items() for _ in range(weight)]
    if len(chosen) != SLOTS:
        raise ValueError(f"weights add up to {len(chosen)}, not to {SLOTS}: {weights}")
    return chosen


def visits(settings: Settings, form: Form) -> Iterator[list[Event]]:
    """The events that arrive in each slice of time, in the order of their arrival."""
    ways = {section: slots(weights) for section, weights in WAYS.items()}
    pages = {section: [form.page(page_values(path)) for path in slots(weights)] for section, weights in PAGES.items()}
    sources = [form.source(values) for ad in range(1, 6) for values in source_values(ad)]
    user = functools.lru_cache(maxsize=KEPT_USERS)(lambda number: form.user(user_values(settings.seed, number)))
    days = [str(settings.start + timedelta(days=day)) for day in range(settings.days)]
    clock = [f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}" for s in range(86_400)]

    slices = settings.files * settings.slices_per_file
    span = settings.days * DAY
    bounds = [span * number // slices for number in range(slices + 1)]
    weights = [
        HOUR_WEIGHTS[begin % DAY * 24 // DAY] * WEEKDAY_WEIGHTS[(settings.start.weekday() + begin // DAY) % 7]
        for begin in bounds[:-1]
    ]
    generator = random.Random(settings.seed)
    draw, bits = generator.random, generator.getrandbits
    whole = sum(weights)
    events, users, made, waiting = settings.events, settings.users, 0, []
    for number, weight in enumerate(itertools.accumulate(weights)):
        begin, end = bounds[number : number + 2]
        # The last half minute of a file arrives at once: only --late events come after their file.
        calm = bounds[(number // settings.slices_per_file + 1) * settings.slices_per_file] - LINGER
        due = events * weight // whole
        while made < due:
            at = begin + int(draw() * (end - begin))
            luck = draw()  # squared: some come often, many once
            rest = sources[int(draw() * len(sources))] + user(int(luck * luck * users))
            section = ways["enter"][bits(6)]
            while section != "leave" and at < span and made < events:
                id_bits = bits(128)
                slot = bits(12)
                day, time_of_day = divmod(at, DAY)
                second, fraction = divmod(time_of_day, 1_000_000)
                waiting.append(
                    (
                        at + id_bits % LINGER if at < calm else at,
                        uuid_text(f"{id_bits:032x}"),
                        f"{days[day]} {clock[second]}.{fraction:06d}",
                        pages[section][slot % SLOTS],
                        rest,
                    )
                )
                made += 1
                section = ways[section][slot // SLOTS]
                pause = draw()
                at += 3_000_000 + int(pause * pause * 120_000_000)
        waiting.sort()
        arrived = bisect.bisect_left(waiting, (end,))
        yield waiting[:arrived]
        del waiting[:arrived]


# What goes wrong with it


def odd_time(kind: str, text: str, turn: int) -> str:
    """The timestamp written in another way, or no timestamp at all."""
    if kind == "no_timestamp":
        return NO_TIMESTAMPS[turn % len(NO_TIMESTAMPS)]
    if kind == "offset":
        return f"{datetime.fromisoformat(text) + timedelta(hours=3)}+03:00"
    return text.replace(" ", "T") + "Z" if kind == "t_and_z" else text[:19].replace(" ", "T")


def deliveries(settings: Settings, form: Form, counts: dict[str, Any]) -> Iterator[list[Row]]:
    """The rows of each slice with the faults asked for, counted in `counts`."""
    share = settings.late + settings.doubled + settings.broken + settings.odd_times
    draw = random.Random(f"{settings.seed} faults").random
    faults, times = itertools.cycle(form.faults), itertools.cycle(ODD_TIMES)
    per_file = settings.slices_per_file
    held: defaultdict[int, list[Row]] = defaultdict(list)
    for number, events in enumerate(visits(settings, form)):
        rows = form.rows(events)
        next_file = (number // per_file + 1) * per_file
        is_last = next_file == per_file * settings.files
        gone = []
        for place in [place for place in range(len(rows)) if share and draw() < share]:
            row, luck, delay = rows[place], draw() * share, draw()
            to_next_file = next_file + int(delay * delay * per_file)
            if luck < settings.late:
                if not is_last:
                    held[to_next_file].append(row)
                    gone.append(place)
                    counts["late"] += 1
            elif luck < settings.late + settings.doubled:
                soon = min(number + int(delay * 4), next_file - 1)
                held[soon if is_last or draw() < 0.5 else to_next_file].append(row)
                counts["doubled"] += 1
            elif luck < settings.late + settings.doubled + settings.broken:
                fault = next(faults)
                rows[place] = form.broken(row, fault)
                counts["broken"][fault] += 1
            else:
                kind, turn = next(times), counts["odd_times"]["no_timestamp"]
                rows[place] = form.retimed(row, functools.partial(odd_time, kind, turn=turn))
                counts["odd_times"][kind] += 1
        for place in reversed(gone):
            del rows[place]
        for row in held.pop(number, ()):
            rows.insert(int(draw() * (len(rows) + 1)), row)
        counts["records"] += len(rows)
        yield rows


def generate(settings: Settings, form_name: str, paths: Sequence[Path]) -> dict[str, Any]:
    """Writes the files and returns how many events, records and faults of each kind are in them."""
    form = FORMS[form_name]()
    if settings.broken and not form.faults:
        raise ValueError(f"{form_name}: its values have types, so no record in it can be broken")
    counts = {
        "files": len(paths),
        "events": settings.events,
        "records": 0,
        "late": 0,
        "doubled": 0,
        "broken": dict.fromkeys(form.faults, 0),
        "odd_times": dict.fromkeys(ODD_TIMES, 0),
    }
    slices = deliveries(settings, form, counts)
    for path in paths:
        with contextlib.closing(form.open(path)) as file:
            for rows in itertools.islice(slices, settings.slices_per_file):
                file.write(rows)
    return counts


# The command


def targets(out: Path, form_name: str | None, settings: Settings) -> tuple[str, list[Path]]:
    """The format and the files that OUT stands for."""
    suffix = re.search(rf"\.({'|'.join(FORMS)})(\.gz)?$", out.name)
    if suffix and form_name not in (None, suffix[1]):
        raise ValueError(f"{out}: the suffix says {suffix[1]}, the option --format {form_name}")
    if not suffix and out.suffix and not out.is_dir():
        raise ValueError(f"{out}: no such format; {', '.join(FORMS)}, each also .gz")
    if suffix and settings.files == 1:
        return suffix[1], [out]
    form_name = suffix[1] if suffix else form_name or "jsonl"
    stem = out.with_name(out.name.removesuffix(suffix[0])) if suffix else out / "events"
    if settings.files == settings.days:
        labels = [str(settings.start + timedelta(days=day)) for day in range(settings.days)]
    else:
        labels = [f"{number:0{len(str(settings.files))}d}" for number in range(1, settings.files + 1)]
    return form_name, [Path(f"{stem}-{label}{suffix[0] if suffix else '.' + form_name}") for label in labels]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Makes the clickstream of a small web shop (see the head of this file)."
    )
    parser.add_argument("out", metavar="OUT", nargs="?", type=Path, help="file, its suffix the format, or folder")
    parser.add_argument("--sample", metavar="DIR", type=Path, help="write the bundled sample; no other option then")
    parser.add_argument("--format", choices=FORMS, help="default by OUT's suffix, else jsonl")
    parser.argument_default = argparse.SUPPRESS
    for name, unit, text in (
        ("events", int, "how many; doubled ones come on top"),
        ("users", int, "among how many users"),
        ("days", int, "over how many days"),
        ("seed", int, "another seed, other events"),
        ("start", date.fromisoformat, "first day"),
        ("files", int, "how many files of equal time"),
        ("late", float, "share written to the next file"),
        ("doubled", float, "share delivered twice"),
        ("broken", float, "share that cannot be stored"),
        ("odd-times", float, "share with unusual timestamps or none"),
    ):
        default = Settings.__dataclass_fields__[name.replace("-", "_")].default
        metavar = {"start": "YYYY-MM-DD"}.get(name, "P" if unit is float else name[0].upper())
        parser.add_argument(f"--{name}", type=unit, metavar=metavar, help=f"{text} ({default})")
    given = vars(parser.parse_args(argv))
    out, sample, form_name = (given.pop(name) for name in ("out", "sample", "format"))
    if (out is None) == (sample is None):
        parser.error("either OUT or --sample DIR")
    if sample and (given or form_name):
        parser.error("--sample takes no other option")
    started = time.monotonic()
    try:
        settings = SAMPLE if sample else Settings(**given)
        counts = generate(settings, *targets(sample / "events.jsonl.gz" if sample else out, form_name, settings))
    except (ValueError, OSError) as problem:
        parser.error(str(problem))
    seconds = time.monotonic() - started
    print(f"{settings.events:,} events in {seconds:.1f} s, {settings.events / seconds:,.0f}/s", file=sys.stderr)
    print(json.dumps(counts, indent=1))


if __name__ == "__main__":
    main()
