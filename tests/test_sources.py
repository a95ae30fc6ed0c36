"""`load --source`: another tool's files by a mapping, with the same marts, rejects and counts as files of our own."""

from __future__ import annotations

import gzip
import io
import json
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import clickmart
import pyarrow
import pytest
from clickmart.columns import NAMES
from clickmart.csv_reader import read_csv
from clickmart.errors import ClickmartError, LoadError, ProjectError
from clickmart.field_paths import lookup, parse_path
from clickmart.json_reader import JsonReader
from clickmart.json_values import parse_object
from clickmart.loading import load_file
from clickmart.mapped_reader import MappedReader
from clickmart.mapped_values import RowMaker
from clickmart.mappings import Filter, Rule, SourceMapping, read_mapping, source_files
from clickmart.project import builtin_folder, init_project, read_project
from clickmart.readers import Source
from clickmart.records import Record, UnknownFields
from clickmart.settings import DEFAULT_FILE
from conftest import Shop
from hypothesis import given
from hypothesis import strategies as st
from projects import outcome, query, run, run_json, value, write_files
from pyarrow import parquet
from reading import exact, reading_of
from test_json_reader import json_like_lines

IDENTITY = SourceMapping("own", "sources/own.toml", columns={name: Rule((name,)) for name in NAMES})
START = datetime(2022, 9, 30, 21, 34, 5, 627000)
#: A journey that ends in a purchase of one product, and a visitor who only looks; one more step a minute.
JOURNEY = (
    ("anna", "/product_a"),
    ("anna", "/cart"),
    ("ben", "/home"),
    ("anna", "/payment"),
    ("anna", "/confirmation"),
)  # fmt: skip
REFERER = "https://www.google.com/search?q=shoes"
AGENT = "Mozilla/5.0 (iPhone) Mobile"


def at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


def url(path: str) -> str:
    return f"https://shop.example{path}?utm_campaign=autumn#top"


def snowplow(minute: int, user: str, path: str) -> dict[str, Any]:
    return {
        "event": "page_view",
        "event_id": f"e{minute}",
        "collector_tstamp": f"{at(minute) + timedelta(seconds=2)}",
        "derived_tstamp": at(minute).isoformat(" ", "milliseconds"),
        "domain_userid": user,
        "user_id": None,
        "page_url": url(path),
        "page_urlpath": path,
        "refr_urlhost": "www.google.com",
        "refr_urlscheme": "https",
        "refr_urlport": 443,
        "mkt_campaign": "autumn",
        "geo_latitude": 52.5,
        "br_name": "Chrome 31",
        "br_family": "Chrome",
        "dvce_ismobile": True,
    }


def tsv(event: dict[str, Any]) -> str:
    """The line of a Snowplow event as Enrich writes it."""
    fields = builtin("snowplow").fields
    texts = (
        "" if value is None else str(int(value)) if value is True else str(value) for value in map(event.get, fields)
    )
    return "\t".join(texts)


def segment(minute: int, user: str, path: str) -> dict[str, Any]:
    page = {"url": url(path), "path": path, "referrer": REFERER, "search": "?utm_campaign=autumn&gclid=c1"}
    context = {"page": page, "campaign": {"name": "autumn"}, "userAgentData": {"mobile": True}, "ip": "203.0.113.7"}
    return {
        "type": "page",
        "messageId": f"e{minute}",
        "timestamp": f"{at(minute).isoformat(timespec='milliseconds')}Z",
        "anonymousId": user,
        "context": context,
    }


def ga4(minute: int, user: str, path: str) -> dict[str, Any]:
    parameters = [("ga_session_id", None, 42), ("page_location", url(path), None), ("page_referrer", REFERER, None)]
    return {
        "event_name": "page_view",
        "event_timestamp": round(at(minute).replace(tzinfo=UTC).timestamp() * 1e6),
        "user_pseudo_id": user,
        "event_params": [
            {"key": key, "value": {"string_value": text, "int_value": number}} for key, text, number in parameters
        ],
        "collected_traffic_source": {"manual_campaign_name": "autumn"},
        "device": {"category": "mobile", "operating_system": "iOS", "operating_system_version": "16.1"},
        "event_bundle_sequence_id": minute,
    }


def posthog(minute: int, user: str, path: str) -> dict[str, Any]:
    properties = {
        "$current_url": url(path),
        "$pathname": path,
        "$referrer": REFERER,
        "$referring_domain": "www.google.com",
        "utm_campaign": "autumn",
        "$device_type": "Mobile",
        "$geoip_latitude": 52.5,
    }
    return {
        "event": "$pageview",
        "uuid": f"e{minute}",
        "timestamp": f"{at(minute).isoformat()}Z",
        "distinct_id": f"{user}@example.com",
        "person_id": user,
        "properties": properties,
    }


def matomo(minute: int, user: str, path: str) -> dict[str, Any]:
    seconds = int((at(minute) - datetime(1970, 1, 1)).total_seconds())
    action = {"type": "action", "url": url(path), "pageId": minute + 1, "timestamp": seconds}
    search = {"type": "search", "url": url("/find"), "pageId": 100 + minute, "timestamp": seconds}
    return {
        "idVisit": minute,
        "visitorId": user,
        "referrerUrl": REFERER,
        "campaignName": "autumn",
        "deviceType": "Smartphone",
        "actionDetails": [search, action],
    }


def access_log(minute: int, user: str, path: str) -> str:
    addresses = {"anna": "203.0.113.7", "ben": "2001:db8::1"}
    time = (at(minute) + timedelta(hours=3)).strftime("%d/%b/%Y:%H:%M:%S +0300")
    target = f"{path}?utm_campaign=autumn"
    return f'{addresses[user]} - - [{time}] "GET {target} HTTP/1.1" 200 5316 "{REFERER}" "{AGENT}"'


def lines(records: list[Any]) -> bytes:
    texts = (record if isinstance(record, str) else json.dumps(record) for record in records)
    return "".join(f"{text}\n" for text in texts).encode()


def as_parquet(records: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(records), file)
    return file.getvalue()


def journey(of: Callable[[int, str, str], Any]) -> list[Any]:
    return [of(minute, user, path) for minute, (user, path) in enumerate(JOURNEY)]


#: By the source: the name of a file and what it holds, and how many of its events are passed over.
FILES: dict[str, tuple[str, str, Callable[[], bytes], int]] = {
    "snowplow TSV": (
        "snowplow",
        "part-00000.gz",
        lambda: gzip.compress(lines([*map(tsv, journey(snowplow)), tsv({"event": "page_ping", "event_id": "e9"})])),
        1,
    ),
    "snowplow JSON": ("snowplow", "a.jsonl", lambda: lines(journey(snowplow)), 0),
    "segment": (
        "segment",
        "a.json",
        lambda: lines([{"type": "identify", "userId": "anna"}, *journey(segment)]),
        1,
    ),
    "ga4 JSON": ("ga4", "events_20220930", lambda: lines([{"event_name": "scroll"}, *journey(ga4)]), 1),
    "ga4 Parquet": ("ga4", "a.parquet", lambda: as_parquet(journey(ga4)), 0),
    "posthog JSON": ("posthog", "a.jsonl", lambda: lines([*journey(posthog), {"event": "$autocapture"}]), 1),
    "posthog Parquet": (
        "posthog",
        "a.parquet",
        lambda: as_parquet([{**event, "properties": json.dumps(event["properties"])} for event in journey(posthog)]),
        0,
    ),
    "matomo": ("matomo", "visits.json", lambda: json.dumps(journey(matomo)).encode(), len(JOURNEY)),
    "access log": (
        "access_log",
        "access.log.1",
        lambda: lines(
            [
                *journey(access_log),
                '203.0.113.7 - - [30/Sep/2022:21:34:05 +0300] "GET /a.css?v=1 HTTP/1.1" 200 1 "-" "Mozilla/5.0"',
                '203.0.113.7 - - [30/Sep/2022:21:34:05 +0300] "POST /cart HTTP/1.1" 200 1 "-" "Mozilla/5.0"',
                '203.0.113.7 - - [30/Sep/2022:21:34:05 +0300] "GET /cart HTTP/1.1" 404 1 "-" "Mozilla/5.0"',
                '203.0.113.8 - - [30/Sep/2022:21:34:05 +0300] "GET / HTTP/1.1" 200 1 "-" "Googlebot/2.1"',
                r'203.0.113.8 - - [30/Sep/2022:21:34:05 +0300] "\x16\x03\"" 400 0 "-" "-"',
            ]
        ),
        5,
    ),
}


def records_of(reader: MappedReader, content: str, blocks: Iterator[bytes]) -> Iterator[list[Record]]:
    return reader.records(reader.fields(content, blocks))


def builtin(name: str) -> SourceMapping:
    return read_mapping(name, source_files([builtin_folder()]))


def mapping_of(folder: Path, text: str, name: str = "own") -> SourceMapping:
    write_files(folder, {f"sources/{name}.toml": text})
    return read_mapping(name, source_files([folder, builtin_folder()]))


def project_with_source(folder: Path, text: str, name: str = "own") -> Path:
    """A project folder, as init makes it, with this source."""
    if not folder.exists():
        init_project(folder)
    return write_files(folder, {f"sources/{name}.toml": text})


#: The start of a file that needs a field for the instant.
AT = "[columns]\nevent_timestamp = "
SMALL = '[columns]\nevent_id = "id"\nevent_timestamp = "at"\nuser_domain_id = "who"\npage_url_path = "path"\n'


def small(number: int, path: str = "/home", **more: object) -> dict[str, object]:
    return {"id": f"e{number}", "at": f"2022-09-30 10:00:{number:02}", "who": "u", "path": path, **more}


# The sources that come with clickmart


@pytest.mark.parametrize("form", FILES)
def test_a_journey_makes_the_same_marts_from_every_source(shop: Shop, form: str) -> None:
    source, name, content, passed = FILES[form]
    write_files(shop.folder, {name: content()})
    report = clickmart.load(shop.folder / name, source=source, dsn=shop.dsn)
    (file,) = report.files
    assert (file.status, file.rows_loaded, file.rows_rejected) == ("loaded", len(JOURNEY), 0), file
    assert file.events_passed == report.events_passed == passed
    shop.refresh()
    marts = shop.marts()
    hour = datetime(2022, 9, 30, 21)
    pages = [f"{path[1:]}" for _, path in JOURNEY]
    assert marts.events_hours == sorted((hour, page, 1) for page in pages)
    assert marts.products_hours == [(hour, 1)]
    (purchase,) = marts.purchases
    assert purchase[2:] == (1, "www.google.com", "autumn")
    second = at(4).replace(microsecond=0)
    assert purchase[1] in (at(4), second)
    assert marts.sources == [("www.google.com", "autumn", 2, 1, 1.0)]
    assert shop.query("select count(distinct device_is_mobile), bool_and(device_is_mobile) from stage.events") == [
        (1, True)
    ]
    assert shop.query("select source, events_passed, rows_loaded from stage.loads") == [(source, passed, len(JOURNEY))]
    assert shop.failures() == []


def test_track_calls_are_the_steps_of_a_purchase_and_only_of_their_source(shop: Shop) -> None:
    steps = ("Product Viewed", "Product Added", "Checkout Started", "Order Completed")
    calls = [
        segment(minute, "anna", f"/p/{minute}") | {"type": "track", "event": name} for minute, name in enumerate(steps)
    ]
    own = [
        {"user_domain_id": "ben", "event_timestamp": f"2022-09-30 10:00:0{second}", "page_url_path": name}
        for second, name in enumerate(steps)
    ]
    write_files(shop.folder, {"calls.jsonl": lines(calls), "own.jsonl": lines(own)})
    clickmart.load(shop.folder / "calls.jsonl", source="segment", dsn=shop.dsn)
    clickmart.load(shop.folder / "own.jsonl", dsn=shop.dsn)
    shop.refresh()
    assert shop.query("select user_id, count_products, page_urls from cdm.purchases") == [("anna", 1, [url("/p/0")])]
    assert shop.query("select count(*) from stage.page_views where step is null") == [(4,)]
    assert {kind for _, kind, _ in shop.marts().events_hours} == set(steps)


def test_every_source_that_comes_along_feeds_what_a_purchase_needs() -> None:
    files = source_files([builtin_folder()])
    assert {"access_log", "ga4", "matomo", "posthog", "segment", "snowplow"} <= files.keys()
    for name in files:
        mapping = read_mapping(name, files)
        assert {"event_timestamp", "page_url", "page_url_path", "user_domain_id", "referer_url", "utm_campaign"} <= (
            mapping.columns.keys()
        ), name
        assert mapping.format
    assert len(builtin("snowplow").fields) == 131


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        (
            '203.0.113.7 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.html HTTP/1.0" 200 2326',
            {
                "event_timestamp": "2000-10-10 20:55:36.000000",
                "page_url_path": "/apache_pb.html",
                "user_custom_id": "frank",
            },
        ),
        (
            r'::1 - - [10/Oct/2000:13:55:36 +0000] "GET /a%20b/?utm_campaign=a%26b+c&x HTTP/2.0" 304 - "-" "a \"b\" c"',
            {"page_url_path": "/a%20b/", "utm_campaign": "a&b c", "browser_user_agent": r"a \"b\" c"},
        ),
        (
            '::1 - - [x] "GET / HTTP/1.1" 200 1 "https://user@[::1]:81/q" "m"',
            {"event_timestamp": "x", "referer_url": "[::1]"},
        ),
    ],
)
def test_lines_of_a_log(tmp_path: Path, line: str, fields: dict[str, str]) -> None:
    path = tmp_path / "access.log"
    path.write_text(f"{line}\n")
    with Source.open(str(path), mapping=builtin("access_log")) as source:
        (found,) = reading_of(source).fields
    assert found is not None
    assert found.items() >= fields.items()
    assert (found.get("browser_user_agent") is None) == line.endswith("2326")


# What a column gets


RECORD = {
    "a": "x",
    "empty": "",
    "null": None,
    "number": 1664573645,
    "fraction": 1664573645.25,
    "deep": {"b": [{"k": "one", "v": 1}, {"k": "two", "v": {"c": "found"}}], "with.dot": "dotted"},
    "text": '{"b": [1, {"c": "nested"}]}',
    "broken": '{"b": ',
    "url": "HTTPS://me:pw@Shop.example:8080/a/b?x=1&utm_campaign=a%20b#frag",
}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ('"a"', "x"),
        ('"none"', None),
        ('"empty"', ""),
        ('["none", "null", "empty", "a"]', "x"),
        ('{ from = ["none", "empty"], default = "d" }', "d"),
        ('{ from = "a", default = "d" }', "x"),
        ('{ value = "v" }', "v"),
        ('{ join = ["a", "none", "number"], with = "-" }', "x-1664573645"),
        ('{ join = ["none", "empty"] }', None),
        ('"deep.b[0].v"', "1"),
        ('"deep.b[7].v"', None),
        ('"deep.b[k=two].v.c"', "found"),
        ('"deep.b[k=three].v.c"', None),
        ('"deep.b"', '[{"k":"one","v":1},{"k":"two","v":{"c":"found"}}]'),
        ("'deep.\"with.dot\"'", "dotted"),
        ('"a.b"', None),
        ('"text.b[1].c"', "nested"),
        ('"broken.b"', None),
        ('{ from = "number", unit = "seconds" }', "2022-09-30 21:34:05.000000"),
        ('{ from = "fraction", unit = "seconds" }', "2022-09-30 21:34:05.250000"),
        ('{ from = "number", unit = "milliseconds" }', "1970-01-20 06:22:53.645000"),
        ('{ from = "number", unit = "microseconds" }', "1970-01-01 00:27:44.573645"),
        ('{ from = "a", unit = "seconds" }', "x"),
        ('{ value = "1e999999999", unit = "seconds" }', "1e999999999"),
        ('{ value = "NaN", unit = "seconds" }', "NaN"),
        ('{ value = "99999999999999999", unit = "seconds" }', "99999999999999999"),
        ('{ value = "-62135596800", unit = "seconds" }', "0001-01-01 00:00:00.000000"),
        ('{ value = "-62135596801", unit = "seconds" }', "-62135596801"),
        ('{ value = "30.09.2022 21", time = "%d.%m.%Y %H" }', "2022-09-30 21:00:00.000000"),
        ('{ value = "30.09.2022 +0300", time = "%d.%m.%Y %z" }', "2022-09-29 21:00:00.000000"),
        ('{ value = "30.13.2022", time = "%d.%m.%Y" }', "30.13.2022"),
        ('{ from = "url", part = "scheme" }', "HTTPS"),
        ('{ from = "url", part = "host" }', "Shop.example"),
        ('{ from = "url", part = "port" }', "8080"),
        ('{ from = "url", part = "path" }', "/a/b"),
        ('{ from = "a", part = "host" }', None),
        ('{ from = "url", parameter = "utm_campaign" }', "a b"),
        ('{ from = "url", parameter = "frag" }', None),
        ('{ from = "a", parameter = "x" }', None),
        ('{ from = "url", pattern = "/([0-9]+)/" }', None),
        ('{ from = "url", pattern = "e/([a-z]+)|0/([a-z]+)" }', "two groups"),
        ('{ from = "url", pattern = "0/([a-z]+)" }', "a"),
        ('{ from = "a", matches = "^x$" }', "true"),
        ('{ from = "a", matches = "y" }', "false"),
        ('{ from = "none", matches = "y" }', None),
        ('{ from = "a", values = { x = "y" } }', "y"),
        ('{ from = "a", values = { z = "y" }, default = "d" }', "d"),
    ],
)
def test_what_a_rule_makes_of_a_record(tmp_path: Path, rule: str, expected: str | None) -> None:
    text = f'[columns]\nevent_timestamp = "at"\nos = {rule}\n'
    if expected == "two groups":
        with pytest.raises(ProjectError, match=r"sources/own.toml:3: pattern must have one group"):
            mapping_of(tmp_path, text)
        return
    maker = RowMaker(mapping_of(tmp_path, text))
    fields = parse_object(json.dumps(RECORD).encode())
    assert maker.row(fields)[NAMES.index("os")] == expected


def test_texts_that_mean_nothing_are_passed_to_the_next_field(tmp_path: Path) -> None:
    mapping = mapping_of(tmp_path, f'missing = ["-", "(not set)"]\n{SMALL}os = "a"\nos_name = ["a", "b"]\n')
    row = dict(zip(NAMES, RowMaker(mapping).row({"a": "-", "b": "c", "id": ""}), strict=True))
    assert (row["os"], row["os_name"], row["event_id"]) == (None, "c", None)


@pytest.mark.parametrize("path", ["", ".", "a.", ".a", "a..b", "a[", "a[]", "a[-1]", "[0]", "a[b=c", 'a."b', "a]"])
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        parse_path(path)


@given(st.text(), st.text())
def test_every_name_can_be_asked_for(name: str, other: str) -> None:
    if '"' not in name and name:
        assert lookup(f'"{name}"')({name: "v", other: None} if name != other else {name: "v"}) == "v"
        assert lookup(f'a."{name}"')({"a": {name: "v"}}) == "v"


# The file


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "1: unknown name 'x'; there are like, format, "),
        (AT + "'a'\ncolour = 'b'", "3: stage.events has no column 'colour'; it has event_id,"),
        ("[columns]\nevent_id = 'a'", "1: nothing feeds event_timestamp, without which there is no page view"),
        ("format = 'xml'", "1: unknown format 'xml'; there are jsonl, json, csv, parquet, tsv, log"),
        ("format = 3", "1: format must be a text in quotes, found 3"),
        (
            "format = 'log'\n[columns]\nevent_timestamp = 'a'",
            "1: a log needs a pattern, whose named groups are the fields",
        ),
        ("pattern = '('", "1: pattern is no regular expression of Python: "),
        ("columns = 3", "1: columns is no table; write [columns]"),
        (AT + "3", "2: event_timestamp must be a text in quotes, or a list of such, found 3"),
        (AT + "[]", "2: event_timestamp must be a text in quotes, or a list of such, found []"),
        (AT + "'a..b'", "2: 'a..b' is no path to a field, as context.page.url or items[0].id"),
        (AT + "{}", "2: event_timestamp says nothing; there are from, join, "),
        (AT + "{ form = 'a' }", "2: unknown name 'form'; there are from, join, "),
        (AT + "{ default = 'a' }", "2: event_timestamp needs one of from, join, value, found none"),
        (AT + "{ from = 'a', value = 'a' }", "2: event_timestamp needs one of from, join, value, found from and value"),
        (AT + "{ from = 'a', with = '-' }", "2: event_timestamp has `with` and nothing to join"),
        (
            AT + "{ from = 'a', unit = 'hours' }",
            "2: unknown unit 'hours'; there are seconds, milliseconds, microseconds",
        ),
        (AT + "{ from = 'a', part = 'top' }", "2: unknown part 'top'; there are scheme, host, port, path"),
        (
            AT + "{ from = 'a', part = 'host', unit = 'seconds' }",
            "2: event_timestamp has unit and part; one of them is all there can be",
        ),
        (AT + "{ from = 'a', values = 3 }", "2: values must be a table of texts, as { a = 'x', b = 'y' }"),
        (AT + "'a'\n[only]\n'x..' = 'a'", "4: 'x..' is no path"),
        (AT + "'a'\n[only]\na = { like = 'b' }", "4: unknown name 'like'; there are matches, not"),
        (AT + "'a'\n[steps]\nbasket = 'a'", "4: unknown step 'basket'; there are product, cart, payment, confirmation"),
        ("like = 'nobody'", "1: no source 'nobody' to be like; there are access_log, "),
        ("like = 'own'", "1: like leads back to 'own'"),
        ("x =", "1"),
        (AT + "'a'\nos = \"\\u0000\"", "3: os holds a NUL character"),
    ],
)
def test_what_is_amiss_in_a_sources_file_is_said_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ProjectError) as error:
        mapping_of(tmp_path, text)
    assert str(error.value).startswith(f"sources/own.toml:{message}")


def test_a_source_that_is_like_another_changes_what_it_says(tmp_path: Path) -> None:
    text = "like = 'segment'\n[columns]\nuser_domain_id = 'userId'\n[steps]\ncart = '^basket'\n[only]\ntype = 'page'\n"
    own, like = mapping_of(tmp_path, text), builtin("segment")
    assert own.columns == {**like.columns, "user_domain_id": Rule(("userId",))}
    assert own.steps == {**like.steps, "cart": "^basket"}
    assert (own.name, own.place, own.format) == ("own", "sources/own.toml", like.format)
    assert [filter.values for filter in own.only] == [("page",)]


def test_a_projects_own_source_stands_before_the_one_that_comes_along(tmp_path: Path) -> None:
    project = project_with_source(tmp_path / "shop", SMALL, "segment")
    assert read_project(project).mapping("segment").columns["event_id"] == Rule(("id",))
    assert read_project(project).mapping("ga4") == builtin("ga4")
    (project / "sources/segment.toml").unlink()
    assert read_project(project).mapping("segment") == builtin("segment")


def test_a_source_that_is_not_there_is_said_before_anything_is_done(tmp_path: Path, empty_dsn: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines([small(1)]))
    code, stdout, stderr = outcome(run("load", "--source", "nobody", str(path), dsn=empty_dsn))
    assert (code, stdout) == (1, "")
    assert stderr == (
        "clickmart: no source 'nobody'; there are access_log, four_files, ga4, matomo, posthog, segment, snowplow; one "
        "of your own is sources/NAME.toml of the project folder\n"
    )
    assert value(empty_dsn, "select to_regnamespace('stage')") is None


# Whether it is the right source


@pytest.fixture
def own(tmp_path: Path) -> SourceMapping:
    return mapping_of(tmp_path, SMALL)


def load_own(shop: Shop, mapping: SourceMapping, content: bytes, name: str = "a.jsonl", **options: Any) -> Any:
    write_files(shop.folder, {name: content})
    return load_file(shop.connection, str(shop.folder / name), mapping=mapping, **options)


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_file_of_another_source_fails_before_any_row_is_loaded(shop: Shop, dry_run: bool) -> None:
    report = load_own(shop, builtin("segment"), lines(journey(posthog)), dry_run=dry_run)
    assert report.status == "failed"
    assert report.problem == (
        "source segment (sources/segment.toml) takes events by type, which the first 5 events lack; found event, uuid, "
        "timestamp, distinct_id, person_id, properties: is it this source?"
    )
    assert shop.query("select from stage.loads union all select from stage.events") == []


def test_a_file_without_the_instants_fails_before_any_row_is_loaded(shop: Shop, own: SourceMapping) -> None:
    report = load_own(shop, own, lines([{"id": "1", "time": "2022-09-30 10:00:00"}]))
    assert (report.status, report.problem) == (
        "failed",
        "source own (sources/own.toml) feeds event_timestamp from at, which the first event lacks; found id, time: is "
        "it this source?",
    )


def test_what_nothing_feeds_is_said_before_any_row_is_loaded(
    shop: Shop, own: SourceMapping, caplog: pytest.LogCaptureFixture
) -> None:
    records = [{"id": str(number), "at": "2022-09-30 10:00:00", "path": "/"} for number in range(1500)]
    report = load_own(shop, own, lines(records))
    assert (report.status, report.rows_loaded) == ("loaded", 1500)
    where = f"{shop.folder}/a.jsonl"
    assert caplog.messages == [
        f"{where}: nothing in the first 1,000 events feeds user_domain_id or user_custom_id (who)"
    ]


def test_the_columns_that_a_source_leaves_out_are_said_to_whoever_watches(
    dsn: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    project = project_with_source(tmp_path / "shop", SMALL)
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines([small(1)]))
    with caplog.at_level("INFO", "clickmart"):
        clickmart.load(path, source="own", dsn=dsn, project=project)
    unfed = [name for name in NAMES if name not in ("event_id", "event_timestamp", "user_domain_id", "page_url_path")]
    assert caplog.messages[0] == f"source own (sources/own.toml): nothing feeds {', '.join(unfed)}"


def test_an_event_whose_field_to_choose_by_is_no_text_is_a_reject(shop: Shop) -> None:
    broken = b'{"type": ["\\ud800"]}\n'
    report = load_own(shop, builtin("segment"), broken + lines(journey(segment)))
    assert (report.status, report.rows_loaded, report.first_rejects) == (
        "loaded", len(JOURNEY), ((1, "a lone surrogate in a field"),),
    )  # fmt: skip


def test_a_file_of_which_no_event_is_asked_for_is_loaded_without_a_row(shop: Shop) -> None:
    report = load_own(shop, builtin("segment"), lines([{"type": "identify"}] * 3))
    assert (report.status, report.rows_loaded, report.events_passed) == ("loaded", 0, 3)
    assert re.fullmatch(r"0 rows, 3 passed over in \d\.\d s", str(report))


# The same as without a mapping


@given(json_like_lines())
def test_a_source_with_the_columns_own_names_reads_json_as_no_source_does(line: bytes) -> None:
    if b"\n" in line or not line.strip(b" \t\r\x0b\x0c"):
        return
    expected = [JsonReader(UnknownFields()).record(1, line)]
    try:
        found = [record for batch in records_of(MappedReader(IDENTITY), "jsonl", iter([line])) for record in batch]
    except LoadError:  # of the event's fields none is its instant
        found = [MappedReader(IDENTITY).record("jsonl", 1, line, b"")]
    assert found == expected
    assert MappedReader(IDENTITY).record("jsonl", 1, line, b"") == expected[0]


CELLS = st.sampled_from(["", '""', "a", '"a ""b"" c"', '"x\ny"', "1", "Ж", "\0", "t", "x,y", '"'])


@given(st.lists(st.lists(CELLS, min_size=2, max_size=4).map(",".join)), st.integers(1, 40))
def test_a_source_with_the_columns_own_names_reads_csv_as_no_source_does(rows: list[str], block_size: int) -> None:
    content = "\n".join(["event_timestamp,os,colour", "2022-09-30,a,b", *rows]).encode()
    blocks = [content[start : start + block_size] for start in range(0, len(content), block_size)]
    expected = exact(read_csv(iter(blocks), UnknownFields()))
    found = [record for batch in records_of(MappedReader(IDENTITY), "csv", iter(blocks)) for record in batch]
    # A field that is empty in quotes is missing to a source.
    plain = [record._replace(values=record.values and [text or None for text in record.values]) for record in expected]
    assert found == plain


def test_a_source_with_the_columns_own_names_reads_parquet_as_no_source_does(tmp_path: Path) -> None:
    columns = {
        "event_timestamp": [datetime(2022, 9, 30, 21), None],
        "os": [1.5, float("nan")],
        "os_name": ["a\0b", "c"],
        "device_is_mobile": [True, None],
        "referer_url_port": [80.0, None],
        "browser_name": [{"a": [1, None]}, {"a": []}],
    }
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    with Source.open(str(path)) as plain, Source.open(str(path), mapping=IDENTITY) as mapped:
        expected, found = reading_of(plain), reading_of(mapped)
    assert found.rejects == expected.rejects
    assert found.lines == expected.lines
    port = {"80": "80.0"}  # as the value is written; the column takes both for 80
    texts = [fields and {name: port.get(text, text) for name, text in fields.items()} for fields in expected.fields]
    assert found.fields == texts


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.tsv", "a.unknown", "a.csv.gz", "a.zip", "-"])
def test_files_of_every_form_are_read(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mapping = mapping_of(tmp_path, f'format = "tsv"\n{SMALL}')
    rows = [{name: str(value) for name, value in small(number).items()} for number in range(3)]

    def table(between: str) -> str:
        return "\n".join(between.join(row) for row in [list(rows[0]), *(list(row.values()) for row in rows)])

    contents = {".csv": table(","), ".json": json.dumps(rows)}
    content = contents.get(Path(name.removesuffix(".gz")).suffix, table("\t")).encode()
    if name.endswith(".zip"):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("events", content)
        content = packed.getvalue()
    if name == "-":
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    else:
        name = str(tmp_path / name)
        Path(name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with Source.open(name, mapping=mapping) as source:
        found = reading_of(source)
    assert [fields and fields["event_id"] for fields in found.fields] == ["e0", "e1", "e2"]
    assert [fields and fields["page_url_path"] for fields in found.fields] == ["/home"] * 3


def test_below_a_folder_all_files_count_where_the_source_says_what_they_are(dsn: str, tmp_path: Path) -> None:
    files = {f"logs/access.log{end}": lines([access_log(minute, "anna", "/")]) for minute, end in enumerate(["", ".1"])}
    files |= {
        "logs/deep/old.gz": gzip.compress(lines([access_log(7, "anna", "/")])),
        "logs/.hidden": b"x",
        "logs/_SUCCESS": b"",
    }
    write_files(tmp_path, files)
    report = clickmart.load(tmp_path / "logs", source="access_log", dsn=dsn)
    assert [Path(file.file).name for file in report.files] == ["access.log", "access.log.1", "old.gz"]
    assert report.rows_loaded == 3
    with pytest.raises(LoadError, match="no file in this folder has a known extension"):
        clickmart.load(tmp_path / "logs", dsn=dsn)


def test_several_processes_load_a_sources_files(dsn: str, tmp_path: Path) -> None:
    write_files(tmp_path, {f"in/{number}": lines([access_log(number, "anna", "/")]) for number in range(4)})
    report = clickmart.load(tmp_path / "in", source="access_log", jobs=2, dsn=dsn)
    assert (report.rows_loaded, report.failed) == (4, False)


# Rejects


BROKEN = [b'{"id": "\xff"}', b"[1]", b'{"id": "e8", "at": "x", "port": "abc"}', b'{"at": "a\\u0000b"}', b"{"]
PING = lines([small(2, kind="ping")])
PORTS = f'{SMALL}referer_url_port = "port"\n'


def test_what_cannot_be_stored_is_kept_as_it_stood_and_comes_back_once_the_mapping_is_mended(
    dsn: str, tmp_path: Path
) -> None:
    project = project_with_source(tmp_path / "shop", PORTS)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join([*lines([small(1), small(2, "/cart")]).splitlines(), *BROKEN]) + b"\n")
    (report,) = clickmart.load(path, source="own", dsn=dsn, project=project).files
    assert (report.status, report.rows_loaded, report.rows_rejected) == ("loaded", 2, len(BROKEN))
    reasons = [reason for _, reason in report.first_rejects]
    assert reasons[0] == "not UTF-8: the byte 0xff after 8 others"
    assert reasons[2].startswith("referer_url_port: ")
    assert reasons[3] == "a NUL character in event_timestamp"
    clickmart.rejects_export(tmp_path / "out.jsonl", dsn=dsn)
    assert (tmp_path / "out.jsonl").read_bytes() == b"\n".join(BROKEN) + b"\n"

    assert clickmart.rejects_replay(dsn=dsn, project=project).rows_loaded == 0
    project_with_source(project, SMALL)
    replay = clickmart.rejects_replay(dsn=dsn, project=project)
    assert (replay.rows_loaded, replay.rows_left) == (1, len(BROKEN) - 1)
    assert clickmart.rejects_replay(dsn=dsn, project=project).rows_loaded == 0
    assert query(dsn, "select event_id, event_timestamp, source from stage.events join stage.loads "
                      "on batch_id = loads.id order by event_id") == [
        ("e1", "2022-09-30 10:00:01", "own"), ("e2", "2022-09-30 10:00:02", "own"), ("e8", "x", "own"),
    ]  # fmt: skip
    clickmart.apply(dsn=dsn)
    assert not clickmart.check(dsn=dsn).failed


def test_a_replay_is_a_load_for_each_source_and_leaves_out_those_that_the_project_lacks(
    dsn: str, tmp_path: Path
) -> None:
    project = project_with_source(tmp_path / "shop", PORTS)
    project_with_source(project, PORTS, "other")
    for name in ("own", "other"):
        path = tmp_path / f"{name}.jsonl"
        path.write_bytes(lines([small(1, file=name), small(2, port=f"{name}?")]))
        clickmart.load(path, source=name, dsn=dsn, project=project)
    plain = tmp_path / "plain.jsonl"
    plain.write_bytes(lines([{"event_id": "1"}, {"event_id": "2", "referer_url_port": 2**40}]))
    clickmart.load(plain, dsn=dsn)
    query(dsn, "alter table stage.events alter column referer_url_port type int8")
    query(dsn, "create or replace function stage.input_error(value text, type_name text) returns text language sql "
               "begin atomic select null::text; end")  # fmt: skip
    project_with_source(project, SMALL)
    (project / "sources/other.toml").unlink()
    replay = clickmart.rejects_replay(dsn=dsn, project=project)
    assert replay.as_dict()["replays"] == list(replay.replays) == [4, 5]
    assert (replay.rows_loaded, [left.load for left in replay.left_out]) == (2, [2])
    assert "the project has no source 'other': name one that has by --project" in str(replay)
    assert str(replay).splitlines()[-1].startswith("2 rows as loads 4 and 5, 0 still rejected in ")
    assert query(dsn, "select id, source, rows_loaded from stage.loads where format = 'rejects' order by id") == [
        (4, None, 1), (5, "own", 1),
    ]  # fmt: skip


def test_one_action_of_a_visit_may_be_a_reject_and_comes_back_alone(dsn: str, tmp_path: Path) -> None:
    project = project_with_source(
        tmp_path / "shop", "like = 'matomo'\n[columns]\nreferer_url_port = 'actionDetails.port'\n"
    )
    visit = matomo(1, "anna", "/cart")
    visit["actionDetails"] += [{**visit["actionDetails"][1], "pageId": 3, "port": "x"}, {"type": "action"}]
    empty, none = {**visit, "actionDetails": []}, {"idVisit": 9, "actionDetails": None}
    path = tmp_path / "visits.json"
    path.write_text(json.dumps([visit, empty, none]))
    (report,) = clickmart.load(path, source="own", dsn=dsn, project=project).files
    assert (report.rows_loaded, report.rows_rejected, report.events_passed) == (2, 2, 1)
    assert [reason for _, reason in report.first_rejects] == [
        'referer_url_port: invalid input syntax for type integer: "x"', "no array actionDetails",
    ]  # fmt: skip
    raw = value(dsn, "select raw from stage.events_rejected order by id limit 1")
    assert json.loads(raw) == {**visit, "actionDetails": [visit["actionDetails"][2]]}
    project_with_source(project, "like = 'matomo'\n")
    assert clickmart.rejects_replay(dsn=dsn, project=project).rows_loaded == 1
    assert query(dsn, "select event_id from stage.events order by event_id") == [("2",), ("3",), (None,)]


@pytest.mark.parametrize(
    ("source", "name", "good", "bad", "expected"),
    [
        ("access_log", "a.log", access_log(1, "anna", "/"), "no line", ("a.log", b"no line\n")),
        ("snowplow", "b", tsv(snowplow(1, "anna", "/")), "\t" * 131, ("b.tsv", b"\t" * 131 + b"\n")),
        ("own", "c.tsv", "id\tat\n1\t2022-09-30", "1\t2\t3", ("c.tsv", b"id\tat\n1\t2\t3\n")),
        ("own", "d.csv", "id,at\n1,2022-09-30", "1,2,3", ("d.csv", b"id,at\n1,2,3\n")),
    ],
)
def test_rejects_of_every_form_are_exported_and_can_be_replayed(
    dsn: str, tmp_path: Path, source: str, name: str, good: str, bad: str, expected: tuple[str, bytes]
) -> None:
    project = project_with_source(tmp_path / "shop", f'format = "tsv"\n{SMALL}')
    path = write_files(tmp_path, {name: f"{good}\n{bad}\n"}) / name
    (report,) = clickmart.load(path, source=source, dsn=dsn, project=project).files
    assert (report.rows_loaded, report.rows_rejected) == (1, 1), report
    clickmart.rejects_export(f"{tmp_path}/out/", dsn=dsn)
    (file,) = (tmp_path / "out").iterdir()
    assert (file.name, file.read_bytes()) == (f"1-{expected[0]}", expected[1])
    assert clickmart.rejects_replay(dsn=dsn, project=project).rows_left == 1
    query(dsn, "update stage.events_rejected set raw = %s, raw_bytes = null", good.split("\n")[-1])
    assert clickmart.rejects_replay(dsn=dsn, project=project).rows_loaded == 1


def test_rejects_of_two_sources_do_not_come_into_one_file(dsn: str, tmp_path: Path) -> None:
    project = project_with_source(tmp_path / "shop", PORTS)
    for name, source in (("a.jsonl", "own"), ("b.jsonl", None)):
        path = tmp_path / name
        path.write_bytes(lines([small(1, event_id="1", file=name), {"at": "1", "port": "x", "referer_url_port": "x"}]))
        clickmart.load(path, source=source, dsn=dsn, project=project)
    with pytest.raises(LoadError, match=r"load 1, .*: JSON lines of source own; load 2, .*: JSON lines"):
        clickmart.rejects_export(tmp_path / "out.jsonl", dsn=dsn)


@given(st.lists(st.sampled_from([lines([small(1)]), PING, b"\n", *(text + b"\n" for text in BROKEN)])))
def test_every_record_is_a_row_or_a_reject_or_passed_over(content: list[bytes]) -> None:
    columns = {"event_id": Rule(("id",)), "event_timestamp": Rule(("at",))}
    mapping = SourceMapping("own", "own", only=(Filter("kind", excludes="ping"),), columns=columns)
    reader = MappedReader(mapping)
    file = io.BytesIO(b"".join([lines([small(0)]), *content]))
    records = [record for batch in records_of(reader, "jsonl", iter(lambda: file.read(7), b"")) for record in batch]
    assert len(records) + reader.passed == 1 + sum(line != b"\n" for line in content)
    taken = [number for number, line in enumerate(content, 2) if line not in (b"\n", PING)]
    assert [record.line for record in records] == [1, *taken]
    assert reader.passed == content.count(PING)


# Steps


def test_a_sources_own_steps_are_those_of_its_loads_alone_and_a_change_of_them_rebuilds(
    dsn: str, tmp_path: Path
) -> None:
    steps = "[steps]\nproduct = '^p/'\ncart = '^basket$'\npayment = '^pay$'\nconfirmation = '^thanks$'\n"
    project = project_with_source(tmp_path / "shop", SMALL + steps)
    paths = ("/p/1", "/basket", "/pay", "/thanks")
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines([small(number, path) for number, path in enumerate(paths)]))
    clickmart.load(path, source="own", dsn=dsn, project=project)
    plain = [
        {"user_domain_id": "v", "event_timestamp": f"2022-09-30 10:00:0{second}", "page_url_path": path}
        for second, path in enumerate((*paths, "/product_1", "/cart", "/payment", "/confirmation"))
    ]
    (tmp_path / "b.jsonl").write_bytes(lines(plain))
    clickmart.load(tmp_path / "b.jsonl", dsn=dsn)
    clickmart.apply(dsn=dsn, project=project)
    users = "select array_agg(user_id order by user_id) from cdm.purchases"
    assert value(dsn, users) == ["u", "v"]
    assert not clickmart.apply(dsn=dsn, project=project).rebuilt

    project_with_source(project, SMALL + steps.replace("^thanks", "^end"))
    assert clickmart.status(dsn=dsn, project=project).pending
    (reason,) = [
        line for line in str(clickmart.apply(dsn=dsn, project=project, plan=True)).splitlines() if "parsed" in line
    ]
    assert reason.endswith("a template or source that it uses changed")
    assert clickmart.apply(dsn=dsn, project=project).rebuilt
    assert value(dsn, users) == ["v"]
    assert not clickmart.prove(dsn=dsn, project=project).failed


def test_a_setting_is_the_step_of_a_source_that_has_no_pattern_of_its_own_for_it(tmp_path: Path) -> None:
    project = project_with_source(tmp_path / "shop", f"{SMALL}[steps]\ncart = '^basket'\n")
    write_files(project, {"clickmart.toml": DEFAULT_FILE.replace("'^payment(/|$)'", "'^pay'")})
    assert read_project(project).source_steps["own"] == {
        "product": "^product_", "cart": "^basket", "payment": "^pay", "confirmation": "^confirmation(/|$)",
    }  # fmt: skip


def test_a_pattern_that_postgresql_does_not_take_is_said_with_its_line(dsn: str, tmp_path: Path) -> None:
    project = project_with_source(tmp_path / "shop", f"{SMALL}[steps]\ncart = '('\n")
    with pytest.raises(ClickmartError) as error:
        clickmart.apply(dsn=dsn, project=project)
    assert str(error.value) == (
        "sources/own.toml:7: cart = '(' is no regular expression that PostgreSQL takes: invalid regular expression: "
        "parentheses () not balanced"
    )


@pytest.mark.parametrize("name", ["it's", "a b", "x" * 64, "$1"])
def test_a_source_has_a_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ProjectError, match="a source's name has letters, digits, - and _, 63 at the most"):
        mapping_of(tmp_path, SMALL, name)


# The command


def test_a_content_counts_once_whatever_its_source(dsn: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(journey(posthog)))
    assert clickmart.load(path, source="posthog", dsn=dsn).rows_loaded == len(JOURNEY)
    (again,) = clickmart.load(path, dsn=dsn).files
    assert again.status == "skipped"


def test_the_command_says_what_was_passed_over(dsn: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines([{"event": "$autocapture"}, *journey(posthog)]))
    report = run_json("load", "--dry-run", "--source", "posthog", str(path), dsn=dsn)
    assert (report["rows_loaded"], report["events_passed"], report["files"][0]["events_passed"]) == (5, 1, 1)
    code, stdout, stderr = outcome(run("load", "--source", "posthog", str(path), dsn=dsn))
    assert (code, stderr) == (0, "")
    assert re.search(r"  5 rows, 1 passed over in \d", stdout)
    assert query(dsn, "select source, events_passed from cdm.loads") == [("posthog", 1)]


# Events in several files

PARTS = {
    "browser_events": ("event_id", "event_timestamp", "event_type", "click_id", "browser_name"),
    "location_events": ("event_id", "page_url", "page_url_path", "referer_url", "utm_campaign"),
    "device_events": ("click_id", "os", "device_is_mobile", "user_custom_id", "user_domain_id"),
    "geo_events": ("click_id", "geo_latitude", "geo_country", "ip_address"),
}


def whole_event(number: int) -> dict[str, object]:
    page = ("product_a", "cart", "payment", "confirmation")[number % 4]
    click = f"c{number // 4}"
    return {
        "event_id": f"e{number}", "event_timestamp": f"{at(number)}", "event_type": "pageview", "click_id": click,
        "browser_name": "Firefox", "page_url": f"http://shop.example/{page}", "page_url_path": f"/{page}",
        "referer_url": "www.bing.com", "utm_campaign": "campaign_1", "os": "Linux", "device_is_mobile": False,
        "user_custom_id": "a@example.com", "user_domain_id": f"u{click}", "geo_latitude": "50.82709",
        "geo_country": "DE", "ip_address": "203.0.113.9",
    }  # fmt: skip


def in_parts(folder: Path, events: list[dict[str, Any]], end: str = ".jsonl", **more: list[Any]) -> Path:
    """The four files of these events, in another order each; `more` are lines to be added to a part."""
    files = {}
    for number, (part, names) in enumerate(PARTS.items()):
        rows = [{name: event.get(name) for name in names} for event in events]
        content = lines([*(rows[number:] + rows[:number]), *more.get(part, [])])
        files[part + end] = gzip.compress(content, mtime=0) if end.endswith("gz") else content
    return write_files(folder, files)


def test_four_files_make_the_marts_of_the_one_that_they_are_parts_of(shop: Shop) -> None:
    events = [whole_event(number) for number in range(12)]
    write_files(shop.folder, {"whole.jsonl": lines(events)})
    clickmart.load(shop.folder / "whole.jsonl", dsn=shop.dsn)
    shop.refresh()
    names = ", ".join(NAMES)
    expected = shop.marts(), shop.query(f"select {names} from stage.events order by event_id")
    assert len(expected[0].purchases) == 3
    shop.reset()
    for end, some in (("-1.jsonl.gz", events[:5]), ("-2.jsonl.gz", events[5:])):
        in_parts(shop.folder / "in/hour", some, end)
    report = clickmart.load(shop.folder / "in", source="four_files", dsn=shop.dsn)
    assert [Path(file.file).name for file in report.files] == ["browser_events-1.jsonl.gz", "browser_events-2.jsonl.gz"]
    assert (report.rows_loaded, report.rows_rejected, report.events_passed) == (12, 0, 0)
    shop.refresh()
    assert (shop.marts(), shop.query(f"select {names} from stage.events order by event_id")) == expected
    again = clickmart.load(shop.folder / "in", source="four_files", jobs=2, dsn=shop.dsn)
    assert [file.status for file in again.files] == ["skipped", "skipped"]


def test_real_events_in_four_files_make_the_marts_of_the_one(shop: Shop, shared_data: Callable[[str], Path]) -> None:
    path = shared_data("newprolab_sample.jsonl")
    events = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    clickmart.load(path, dsn=shop.dsn)
    shop.refresh()
    expected = shop.marts()
    shop.reset()
    geo = [name for name in NAMES if name.startswith(("geo_", "ip_"))]
    device = [name for name in NAMES if name.startswith(("os", "device_", "user_"))]
    location = [name for name in NAMES if name.startswith(("page_", "referer_", "utm_"))]
    parts = {
        "browser_events": [name for name in NAMES if name not in (*geo, *device, *location)],
        "location_events": ["event_id", *location],
        "device_events": ["click_id", *device],
        "geo_events": ["click_id", *geo],
    }
    for part, names in parts.items():
        rows = [{name: event[name] for name in names if name in event} for event in events]
        write_files(shop.folder, {f"in/{part}.jsonl": lines(rows)})
    report = clickmart.load(shop.folder / "in", source="four_files", dsn=shop.dsn)
    assert (report.rows_loaded, report.rows_rejected) == (len(events), 0)
    shop.refresh()
    assert shop.marts() == expected


def test_what_lacks_a_part_is_a_reject_and_what_no_event_asks_for_is_passed_over(shop: Shop) -> None:
    events = [whole_event(number) for number in range(8)]
    lacking = [{"event_id": "x", "click_id": "c0"}, {"event_id": "e0", "click_id": "no"}, {"event_id": "e0"}, "{"]
    more = {"browser_events": lacking, "location_events": ["[", {"page_url": "?"}], "geo_events": [{"click_id": "c99"}]}
    folder = in_parts(shop.folder / "in", events, **more)
    (report,) = clickmart.load(folder, source="four_files", dsn=shop.dsn).files
    assert (report.status, report.rows_loaded, report.rows_rejected, report.events_passed) == ("loaded", 8, 6, 1)
    assert shop.query("select line_number, reason, raw from stage.events_rejected order by id") == [
        (9, "location_events: not JSON: Expecting value after 1 characters", "["),
        (10, "location_events: no event_id to find its location_events by", '{"page_url": "?"}'),
        (9, "no location_events with its event_id", '{"event_id": "x", "click_id": "c0"}'),
        (10, "no device_events with its click_id", '{"event_id": "e0", "click_id": "no"}'),
        (11, "no click_id to find its device_events by", '{"event_id": "e0"}'),
        (12, "not JSON: Expecting property name enclosed in double quotes after 1 characters", "{"),
    ]
    assert clickmart.rejects_replay(dsn=shop.dsn).rows_loaded == 0
    shop.refresh()
    assert shop.failures() == []


def test_a_joined_event_that_cannot_be_stored_is_kept_with_all_its_parts(dsn: str, tmp_path: Path) -> None:
    event = {**whole_event(0), "geo_latitude": "north"}
    folder = in_parts(tmp_path / "in", [event, whole_event(4)])
    (report,) = clickmart.load(folder, source="four_files", dsn=dsn).files
    assert (report.rows_loaded, report.rows_rejected) == (1, 1)
    assert json.loads(value(dsn, "select raw from stage.events_rejected")) == event


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("browser_events.jsonl", "location_events.jsonl: No such file or directory"),
        ("other.jsonl", "the files of source four_files are named browser_events..., location_events..., "),
    ],
)
def test_files_that_lack_those_beside_them_fail(dsn: str, tmp_path: Path, name: str, message: str) -> None:
    write_files(tmp_path, {name: lines([whole_event(1)])})
    (report,) = clickmart.load(tmp_path / name, source="four_files", dsn=dsn).files
    assert report.status == "failed"
    assert message in report.problem


def test_a_part_alone_is_nothing_to_load(dsn: str, tmp_path: Path) -> None:
    folder = in_parts(tmp_path / "in", [whole_event(1)])
    with pytest.raises(LoadError, match=r"none of these files is one of browser_events\.\.\., which brings the others"):
        clickmart.load(folder / "geo_events.jsonl", source="four_files", dsn=dsn)


def test_a_record_of_a_million_events_does_not_hold_them_all(tmp_path: Path) -> None:
    actions = [{"type": "action", "pageId": number, "timestamp": 1664573645} for number in range(30_000)]
    text = json.dumps([{"visitorId": "v", "filler": "x" * 1000, "actionDetails": actions}])
    reader = MappedReader(builtin("matomo"))
    most = max(len(batch) for batch in records_of(reader, "json", iter([text.encode()])))
    assert most <= 1001  # all that are looked at before the first is handed on


def test_a_change_in_any_of_the_four_files_is_another_content(dsn: str, tmp_path: Path) -> None:
    folder = in_parts(tmp_path / "in", [whole_event(1)])
    assert clickmart.load(folder, source="four_files", dsn=dsn).rows_loaded == 1
    in_parts(folder, [{**whole_event(1), "geo_country": "FR"}])
    assert clickmart.load(folder, source="four_files", dsn=dsn).rows_loaded == 1
    assert query(dsn, "select count(distinct size), count(distinct checksum) from stage.loads") == [(1, 2)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("main = 'a'\n", "1: main and [parts] go together: what is joined to it"),
        ("[parts]\na = 'b'\n", "1: main and [parts] go together: what is joined to it"),
        ("main = 'a'\neach = 'b'\n[parts]\na = 'b'\n", "2: the events of `each` can't have parts in other files"),
    ],
)
def test_what_is_amiss_of_parts_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ProjectError) as error:
        mapping_of(tmp_path, text + SMALL)
    assert str(error.value) == f"sources/own.toml:{message}"
