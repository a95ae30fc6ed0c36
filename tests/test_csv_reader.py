"""CSV: RFC 4180 with a header line."""

from __future__ import annotations

import csv
import io

import pytest
from clickmart.columns import NAMES, TYPED
from clickmart.csv_reader import read_csv
from clickmart.errors import LoadError
from clickmart.records import UnknownFields
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reading import exact, read_bytes

BLOCK_SIZES = [1, 2, 3, 5, 7, 2**20]


@pytest.fixture
def csv_file(tmp_path):
    return lambda content, block_size=2**20: read_bytes(tmp_path, "events.csv", content, block_size)


# Fields


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("plain", "plain"),
        (" blanks stay ", " blanks stay "),
        ('"a,b"', "a,b"),
        ('"say ""hi"""', 'say "hi"'),
        ('"two\r\nlines\n"', "two\r\nlines\n"),
        ('"lone \r return"', "lone \r return"),
        ('a "quote" inside', 'a "quote" inside'),
        (' "a"', ' "a"'),
        ("Ж 😀", "Ж 😀"),
        ("", None),
        ('""', ""),
        ('""""', '"'),
        ('","', ","),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", ""])
def test_a_field_becomes_text(csv_file, field, text, line_end):
    for row in (f"{field},x", f"x,{field}"):
        (record,) = csv_file(f"os,page_url\n{row}{line_end}").records
        assert {record.values[NAMES.index("os")], record.values[NAMES.index("page_url")]} == {text, "x"}


@pytest.mark.parametrize("column", [NAMES[index] for index, _ in TYPED])
def test_a_quoted_empty_field_is_missing_outside_of_text_columns(csv_file, column):
    assert csv_file(f'{column},os\n"",""\n').fields == [{"os": ""}]


def test_quoted_and_unquoted_empty_fields_are_told_apart_within_a_row(csv_file):
    reading = csv_file('event_id,os,page_url,utm_source,click_id\n"",,"a""b","",\n,"",,"x,""",""\r\n')
    assert reading.fields == [
        {"event_id": "", "page_url": 'a"b', "utm_source": ""},
        {"os": "", "utm_source": 'x,"', "click_id": ""},
    ]


def test_fields_that_a_row_lacks_at_its_end_are_missing(csv_file):
    assert csv_file("os,page_url,event_id\na\nb,c\n").fields == [{"os": "a"}, {"os": "b", "page_url": "c"}]


def test_a_field_may_be_longer_than_the_parsers_own_limit(csv_file):
    assert csv_file(f"os\n{'a' * 200_000}\n").fields == [{"os": "a" * 200_000}]


# Header


def test_every_column_gets_its_own_value_in_whatever_order(csv_file):
    names = tuple(reversed(NAMES))
    content = f"{','.join(names)}\n{','.join(f'<{name}>' for name in names)}\n"
    assert csv_file(content).records[0].values == [f"<{name}>" for name in NAMES]


@pytest.mark.parametrize("header", ["os,page_url", '"os","page_url"', "\ufeffos,page_url", '\ufeff"os",page_url\r'])
def test_a_header_may_have_quotes_and_a_bom(csv_file, header):
    assert csv_file(f"{header}\na,b\n").fields == [{"os": "a", "page_url": "b"}]


def test_of_a_name_given_twice_the_last_counts(csv_file):
    assert csv_file("os,page_url,os\na,b,c\nd,e\n").fields == [{"os": "c", "page_url": "b"}, {"page_url": "e"}]


def test_unknown_names_are_named_once_and_their_fields_ignored(csv_file):
    reading = csv_file(b"colour,os,OS, os,colour,,\xff\nred,a,b,c,d,e,\0\n")
    assert reading.unknown == ["colour", "OS", " os", "", r"\xff"]
    assert reading.fields == [{"os": "a"}]


@pytest.mark.parametrize("content", ["", "\n \r\n", "\ufeff", "\ufeff\n", "os,page_url", "os\n", "os\n\n \t\n"])
def test_a_file_without_a_row_has_no_records(csv_file, content):
    assert csv_file(content).records == []


def test_a_header_without_a_known_name_is_an_error_that_says_what_was_found(csv_file):
    with pytest.raises(
        LoadError, match=r"events\.csv: line 2: the header names no column of stage\.events: found 'a;b',"
    ):
        csv_file("\na;b\n1;2\n")


def test_a_header_that_cannot_be_read_is_an_error(csv_file):
    with pytest.raises(LoadError, match="line 1: the header can't be read: a quote that is never closed"):
        csv_file('os,"page_url\na,b\n')


# Rejects


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a,b,c", "3 fields, where the header has 2"),
        ("a,b,", "3 fields, where the header has 2"),
        ('"a" x,b', "text behind a closing quote"),
        ('"a"b"', "text behind a closing quote"),
        ('"a"x"b",c', "text behind a closing quote"),
        ("a\rb,c", "a carriage return outside of quotes"),
        ('"two\nlines" x,b', "text behind a closing quote"),
        ('"two\n\nlines",b,c', "3 fields, where the header has 2"),
        ("a\0b,c", "a NUL character in os"),
        (b"a,\xff\xd0", "bytes that are not UTF-8"),
    ],
)
@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_a_row_that_cannot_be_stored_is_a_reject_and_the_next_one_is_read(csv_file, row, reason, block_size):
    row = row if isinstance(row, bytes) else row.encode()
    reading = csv_file(b"os,page_url\r\nfirst,\r\n" + row + b"\r\nlast,\r\n", block_size)
    raw = row.replace(b"\0", rb"\x00").replace(b"\xff\xd0", rb"\xff\xd0").decode("utf-8", "backslashreplace")
    assert reading.rejects == [(3, reason, raw)]
    assert reading.fields == [{"os": "first"}, None, {"os": "last"}]
    assert reading.lines == [2, 3, 4 + row.count(b"\n")]


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
@pytest.mark.parametrize("rest", ['b,"never closed\nc,d\n', 'b,"', '"\n'])
def test_a_quote_that_is_never_closed_makes_one_reject_of_all_the_rest(csv_file, rest, block_size):
    reading = csv_file(f"os,page_url\na,\n{rest}", block_size)
    assert reading.rejects == [(3, "a quote that is never closed", rest.removesuffix("\n"))]
    assert reading.fields == [{"os": "a"}, None]


def test_a_nul_character_in_a_field_that_is_not_stored_does_no_harm(csv_file):
    assert csv_file("os,colour\na,\0\n").fields == [{"os": "a"}]


def test_a_bad_byte_in_a_field_that_is_not_stored_is_a_reject_as_in_json(csv_file):
    assert csv_file(b"os,colour\na,\xff\n").rejects == [(2, "bytes that are not UTF-8", r"a,\xff")]


# Lines


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_a_record_has_the_line_on_which_it_starts_and_blank_lines_are_no_error(csv_file, block_size):
    reading = csv_file('os,page_url\r\n\r\na,"1\r\n2\n\n"\r\n \t\r\n\nb,\n"\n"', block_size)
    assert reading.fields == [{"os": "a", "page_url": "1\r\n2\n\n"}, {"os": "b"}, {"os": "\n"}]
    assert reading.lines == [3, 9, 10]


def test_a_line_with_an_empty_quoted_field_is_no_blank_one(csv_file):
    assert csv_file('os\n""\n\n""').fields == [{"os": ""}, {"os": ""}]


def test_the_return_of_doubled_line_ends_is_no_text(csv_file):
    assert csv_file("os,page_url\r\r\na,b\r\r\n").fields == [{"os": "a", "page_url": "b"}]


# Laws

FIELDS = st.text(st.sampled_from('a,"\n\r Ж\0'), max_size=6)


def _blocks(content: bytes, size: int):
    return (content[start : start + size] for start in range(0, len(content), size))


@given(st.lists(st.lists(FIELDS, min_size=2, max_size=2)), st.integers(1, 7))
def test_what_a_writer_quotes_comes_back_as_it_was(rows, block_size):
    file = io.StringIO(newline="")
    writer = csv.writer(file, quoting=csv.QUOTE_ALL)
    writer.writerow(["os", "page_url"])
    writer.writerows(rows)
    records = exact(read_csv(_blocks(file.getvalue().encode(), block_size), UnknownFields()))
    for row, record in zip(rows, records, strict=True):
        if any("\0" in field for field in row):
            assert record.reason is not None
        else:
            assert [record.values[NAMES.index("os")], record.values[NAMES.index("page_url")]] == row


@given(st.binary() | st.text(st.sampled_from('a,"\n\r Ж')).map(str.encode), st.integers(1, 7))
@example(b'"",', 1)
def test_every_row_is_a_record_or_a_reject_wherever_blocks_end_and_no_text_is_lost(content, block_size):
    content = b"os,page_url\n" + content
    whole = exact(read_csv(iter([content]), UnknownFields()))
    assert exact(read_csv(_blocks(content, block_size), UnknownFields())) == whole
    text = content.decode("utf-8", "surrogateescape")
    at = text.index("\n") + 1
    for record in whole:
        found = text.index(record.raw, at)
        assert not text[at:found].strip(" \t\n\r\v\f")
        assert record.line == 1 + text.count("\n", 0, found)
        at = found + len(record.raw)
    assert not text[at:].strip(" \t\n\r\v\f")


# fmt: off
WRITTEN_FIELDS = st.sampled_from([
    "", '""', "a", "80", '"80"', "80.0", '"80.0"', " 80 ", "x", " a ", '"a,b"', '"a""b"', '""""', '"x\ny"', '"x\r\ny"',
    '"\\"', "\\", "\\.", "null", '"null"', "Ж", "\ufeffa", '"\n"', '","',
    # And what no writer would write:
    'a"b', '"a"b', '"a', "\r", "\0", '"\0"', "\x1c", "\u2028",
])
# fmt: on
WRITTEN_ROWS = st.lists(WRITTEN_FIELDS, min_size=3, max_size=3) | st.lists(WRITTEN_FIELDS, max_size=4)


@settings(max_examples=500)
@given(
    st.lists(st.tuples(WRITTEN_ROWS.map(",".join), st.sampled_from(["\n", "\n", "\n", "\r\n", "\n\n"])), max_size=8),
    st.sampled_from([5, 30, 2**18]),
    st.booleans(),
)
def test_the_fast_way_and_the_exact_way_never_differ(rows, block_size, ends_in_line_end):
    content = "os,referer_url_port,colour\n" + "".join(map("".join, rows))
    encoded = (content if ends_in_line_end else content.rstrip("\r\n")).encode()
    records = exact(read_csv(_blocks(encoded, block_size), UnknownFields()))
    assert records == exact(read_csv(iter([encoded]), UnknownFields()))
