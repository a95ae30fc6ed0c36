"""JSON: lines, arrays, and the text of every value."""

from __future__ import annotations

import json

import pytest
from clickmart.columns import NAMES
from clickmart.json_reader import JsonReader
from clickmart.json_values import MAX_DEPTH
from clickmart.records import UnknownFields
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from reading import exact, read_bytes

BLOCK_SIZES = [1, 2, 3, 5, 7, 2**20]


@pytest.fixture
def lines(tmp_path):
    return lambda content, block_size=2**20: read_bytes(tmp_path, "events.jsonl", content, block_size)


@pytest.fixture
def array(tmp_path):
    return lambda content, block_size=2**20: read_bytes(tmp_path, "events.json", content, block_size)


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


# The text of a value


@pytest.mark.parametrize(
    ("literal", "text"),
    [
        ('"as it is"', "as it is"),
        ('""', ""),
        (r'"\u0416 \n \" \/ \ud83d\ude00"', 'Ж \n " / 😀'),
        ('" Ж 😀 \x7f"', " Ж 😀 \x7f"),
        ("null", None),
        ("true", "true"),
        ("false", "false"),
        ("0", "0"),
        ("-0", "-0"),
        ("-17", "-17"),
        ("9223372036854775807", "9223372036854775807"),
        ("18446744073709551615", "18446744073709551615"),
        ("18446744073709551616", "18446744073709551616"),
        ("-9223372036854775809", "-9223372036854775809"),
        ("1" * 5000, "1" * 5000),
        ("-" + "9" * 400, "-" + "9" * 400),
        ("34.50", "34.5"),
        ("80.0", "80.0"),
        ("1e5", "100000.0"),
        ("1E+22", "1e+22"),
        ("0.1e-6", "1e-07"),
        ("12345678901234567890.5", "1.2345678901234567e+19"),
        ("-0.0", "-0.0"),
        ("0e999", "0.0"),
        ("5e-324", "5e-324"),
        ("1e400", "1e400"),
        ("-1E400", "-1E400"),
        ("1e-400", "1e-400"),
        ("-0.10e-400", "-0.10e-400"),
        ("{}", "{}"),
        ("[ ]", "[]"),
        ('{ "a" : [ 1 , -0, 2.50, 1e400, "x" , null, true ] }', '{"a":[1,-0,2.5,1e400,"x",null,true]}'),
        ("[" + "1" * 5000 + "]", "[" + "1" * 5000 + "]"),
        (r'["\u0416\/\"\\\u0000\u001f\n\u007f"]', '["Ж/\\"\\\\\\u0000\\u001f\\n\x7f"]'),
        ('{"a": 1, "b": 2, "a": 3}', '{"a":3,"b":2}'),
        (nested(MAX_DEPTH - 1), nested(MAX_DEPTH - 1)),
    ],
)
def test_a_json_value_becomes_text(lines, literal, text):
    assert [record.values for record in lines(f'{{"page_url": {literal}}}').records] == [
        [text if name == "page_url" else None for name in NAMES]
    ]


def test_every_column_gets_its_own_value(lines):
    assert lines(json.dumps({name: f"<{name}>" for name in reversed(NAMES)})).records[0].values == [
        f"<{name}>" for name in NAMES
    ]


def test_of_a_key_given_twice_the_last_counts(lines):
    assert lines('{"os": "a", "page_url": "b", "os": "c"}').fields == [{"os": "c", "page_url": "b"}]


def test_a_key_may_be_written_with_escapes(lines):
    assert lines(r'{"\u006fs": "a"}').fields == [{"os": "a"}]


def test_an_object_without_known_keys_is_a_record(lines):
    assert lines("{}\n").fields == [{}]


# What can't be stored


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ('{"os": NaN}', "not JSON: NaN"),
        ('{"os": -Infinity}', "not JSON: -Infinity"),
        ('{"colour": Infinity}', "not JSON: Infinity"),
        ('{"os": "a\tb"}', "not JSON: Invalid control character at after 9 characters"),
        ('{"colour": "a\x00b"}', "not JSON: Invalid control character at after 13 characters"),
        ('{"os": }', "not JSON: Expecting value after 7 characters"),
        ('{"os": 01}', "not JSON: Expecting ',' delimiter after 8 characters"),
        ('{"os": "a"} {"os": "b"}', "not JSON: Extra data after 12 characters"),
        ("[1]", "an array, not a JSON object"),
        ("5", "a number, not a JSON object"),
        ("1e400", "a number, not a JSON object"),
        ('"x"', "a string, not a JSON object"),
        ("null", "null, not a JSON object"),
        ("true", "true, not a JSON object"),
        (r'{"page_url": "a\u0000b"}', "a NUL character in page_url"),
        (r'{"page_url": "a\ud800b"}', "a lone surrogate in page_url"),
        (r'{"page_url": "\ude00\ud83d"}', "a lone surrogate in page_url"),
        (r'{"page_url": ["\ud800"]}', "a lone surrogate in page_url"),
        (r'{"page_url": {"\udc00": 1}}', "a lone surrogate in page_url"),
        ('{"page_url": ' + nested(MAX_DEPTH) + "}", f"nested deeper than {MAX_DEPTH} levels"),
        ('{"colour": ' + nested(MAX_DEPTH) + "}", f"nested deeper than {MAX_DEPTH} levels"),
        ('{"colour": ' + nested(100_000) + "}", f"nested deeper than {MAX_DEPTH} levels"),
        ('{"os":' * 100_000, f"nested deeper than {MAX_DEPTH} levels"),
    ],
    ids=lambda text: text[:40],
)
def test_a_record_that_cannot_be_stored_is_a_reject_and_the_next_one_is_read(lines, record, reason):
    reading = lines(f'{record}\n{{"os": "next"}}')
    assert reading.rejects == [(1, reason, record.replace("\0", "\\x00"))]
    assert reading.fields == [None, {"os": "next"}]


@pytest.mark.parametrize(
    "record", ['{"os": 1,}', '{"os": [1,]}', '{"os": .5}', "{'os': 1}", '{"os": +1}', '{"os": 1.}']
)
def test_json_is_strict(lines, record):
    ((line, reason, raw),) = lines(record).rejects
    assert (line, raw) == (1, record)
    assert reason.startswith("not JSON: ")


@pytest.mark.parametrize(
    ("record", "raw", "reason"),
    [
        (b'{"os": "\xff"}', r'{"os": "\xff"}', "not UTF-8: the byte 0xff after 8 others"),
        (b'{"colour": "\xed\xa0\x80"}', r'{"colour": "\xed\xa0\x80"}', "not UTF-8: the byte 0xed after 12 others"),
        (b'{"os": "\xd0\x96\xd0"}', 'Ж\\xd0"}', "not UTF-8: the byte 0xd0 after 10 others"),
    ],
)
def test_bytes_that_are_not_utf8_are_a_reject_wherever_they_stand(lines, record, raw, reason):
    ((line, found_reason, found_raw),) = lines(record).rejects
    assert (line, found_reason) == (1, reason)
    assert found_raw.endswith(raw)


def test_a_lone_surrogate_in_a_field_that_is_not_stored_does_no_harm(lines):
    assert lines(r'{"colour": "\ud800", "\udc00": 1, "os": "a"}').fields == [{"os": "a"}]


def test_a_nul_character_in_a_field_that_is_not_stored_does_no_harm(lines):
    assert lines(r'{"colour": "\u0000", "\u0000": 1, "os": "a"}').fields == [{"os": "a"}]


def test_a_lone_surrogate_that_a_later_value_of_the_key_replaces_does_no_harm(lines):
    assert lines(r'{"os": "\ud800", "os": "a"}').fields == [{"os": "a"}]


def test_the_raw_text_of_a_reject_is_the_record_as_it_stood(lines):
    assert lines(b'  {"a": "\\ud800 \xff\x00 \\\\ \xd0\x96"\t \r\n').rejects[0][2] == (
        '  {"a": "\\ud800 \\xff\\x00 \\\\ Ж"\t '
    )


# Fields that stage.events lacks


def test_unknown_fields_are_named_once_in_order_of_appearance(lines):
    assert lines('{"b": 1, "os": 2, "a": 3}\n{"c": 1, "a": 2}\n{"b": 1}').unknown == ["b", "a", "c"]


def test_a_reject_names_its_unknown_fields_too(lines):
    assert lines(r'{"b": 1, "os": "\u0000"}').unknown == ["b"]


def test_unknown_fields_are_kept_up_to_a_thousand(lines):
    reading = lines("\n".join(f'{{"field{number}": 1, "os": 1}}' for number in range(3000)))
    assert reading.unknown == [f"field{number}" for number in range(1000)]
    assert len(reading.records) == 3000


def test_the_name_of_an_unknown_field_can_always_be_printed(lines):
    assert lines(r'{"\ud800\u0000": 1}').unknown == [r"\ud800\x00"]


# Lines


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_a_bom_crlf_and_blank_lines_are_no_error(lines, block_size):
    reading = lines(b'\xef\xbb\xbf{"os": "a"}\r\n\r\n \t\n{"os": "b"}\n\n\n{"os": "c"}\r\n', block_size)
    assert reading.fields == [{"os": "a"}, {"os": "b"}, {"os": "c"}]
    assert reading.lines == [1, 4, 7]


def test_a_bom_in_the_middle_is_a_reject(lines):
    assert lines(b"{}\n\xef\xbb\xbf{}\n").rejects[0][0] == 2


@pytest.mark.parametrize(
    ("content", "rejected"),
    [
        ('{"os": "a"}\n{"os": "b"}{"os": "c"}\n', [2]),
        ('{"os": "a"}\n{"os": "b"} {"os": "c"}', [2]),
        ('{"os": "a"}{"os": "b"}\n\n{"os": "c"}\n', [1]),
        ('{"os":\n"a"}\n{"os": "b"}{"os": "c"}\n', [1, 2, 3]),
        ('{"os": "a"}\n{"os": {"b":\n{}}}\n', [2, 3]),
        ('{"os": "a"}\n{"os": "b"},\n', [2]),
        ('{"os": "a"}\n[{"os": "b"}]\n', [2]),
    ],
)
def test_a_line_is_one_record_whatever_is_on_the_next(lines, content, rejected):
    assert [line for line, _, _ in lines(content).rejects] == rejected


def test_the_last_line_needs_no_end(lines):
    assert lines('{"os": "a"}\n{"os": "b"}').fields == [{"os": "a"}, {"os": "b"}]


@pytest.mark.parametrize("content", ["", "\n", " \r\n\t\n", "\ufeff", "\ufeff\n"])
def test_a_file_without_a_record_has_none(lines, array, content):
    assert lines(content).records == []
    assert array(content).records == []


# Arrays


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_an_array_is_its_objects_with_the_lines_on_which_they_start(array, block_size):
    reading = array('\ufeff\n [{"os": "a"},\r\n{"os":\n"b"}\n,{"os": "c"} , {"os": "d"}\n]\n', block_size)
    assert reading.fields == [{"os": "a"}, {"os": "b"}, {"os": "c"}, {"os": "d"}]
    assert reading.lines == [2, 3, 5, 5]


def test_a_json_file_may_hold_an_object_a_line(array):
    reading = array('\n\n  {"os": "a"}\n{"os": }\n[1]\n')
    assert reading.fields == [{"os": "a"}, None, None]
    assert reading.lines == [3, 4, 5]


def test_what_is_no_object_keeps_its_place_among_those_that_are_read_fast(array):
    reading = array('[1, {"os": "a"}, 2, {"os": "b"}]')
    assert reading.fields == [None, {"os": "a"}, None, {"os": "b"}]


def test_an_empty_array_has_no_records(array):
    assert array(" [ \n ] \n").records == []


def test_an_element_may_hold_what_looks_like_its_end(array):
    record = {"page_url": '}, {"os": "x"}]', "os": "\\\"},{'", "extra": [{"a": {}}, {"b": [{}]}, {}, {}, {}, {}, {}]}
    assert array(json.dumps([record, {"os": "next"}])).fields == [
        {"page_url": record["page_url"], "os": record["os"]},
        {"os": "next"},
    ]


BROKEN_ELEMENTS = [
    '{"a": }',
    "{'a': 1}",
    '{"a": [1, 2}',
    '{"a": ]}',
    '{"a": {"b": [}}',
    '{"os": NaN}',
    '{"os": "\\u0000"}',
    '{"os": "a\nb"}',
    "{}}",
    "5",
    "nul",
    "}",
    '"a, ] text"',
    '[1, [{"os": "inner"}]]',
    '"a" "b"',
]


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
@pytest.mark.parametrize("broken", BROKEN_ELEMENTS)
def test_a_broken_element_is_a_reject_and_the_following_ones_are_read(array, broken, block_size):
    reading = array(f'[{{"os": "a"}},\n {broken}, {{"os": "b"}}]', block_size)
    assert [fields for fields in reading.fields if fields] == [{"os": "a"}, {"os": "b"}]
    assert "".join(raw for _, _, raw in reading.rejects) == broken.removeprefix("{}" if broken == "{}}" else "")
    assert len(reading.rejects) == 1


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
@pytest.mark.parametrize(
    "rest", ['{"os": "b"', '{"os": "b}, {"os": "c"}]', '[{"os": "b"}', "nul", '"text', '{"os": "b\\', "{"]
)
def test_an_element_that_does_not_end_is_one_reject_with_all_the_rest(array, rest, block_size):
    reading = array(f'[{{"os": "a"}},\n {rest}\n', block_size)
    assert reading.fields == [{"os": "a"}, None]
    assert reading.rejects == [(2, "not JSON: the file ends inside of this element", rest)]


@pytest.mark.parametrize("content", ["[", '[{"os": "a"}', '[{"os": "a"},', '[{"os": "a"}\n, '])
def test_an_array_that_is_not_closed_is_one_reject(array, content):
    ((line, reason, raw),) = array(content).rejects
    assert (line, reason, raw) == (1 + content.count("\n"), "not JSON: the file ends before the array is closed", "")


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_text_behind_the_end_of_an_array_is_one_reject(array, block_size):
    reading = array('[{"os": "a"}]\n\n {"os": "b"}\n]\n', block_size)
    assert reading.fields == [{"os": "a"}, None]
    assert reading.rejects == [(3, "not JSON: text behind the end of the array", '{"os": "b"}\n]')]


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ('[{"os": "a"},\n,{"os": "b"}]', [1]),
        ('[,{"os": "a"},{"os": "b"}]', [1]),
        ('[{"os": "a"},{"os": "b"},\n]', [1]),
        ('[,\n,{"os": "a"},{"os": "b"},\n,\n]', [1, 2, 2, 3]),
        ("[,]", [1]),
    ],
)
def test_a_comma_without_an_element_is_a_reject(array, content, lines):
    assert [(line, raw) for line, _, raw in array(content).rejects] == [(line, ",") for line in lines]


def test_a_comma_that_is_missing_loses_nothing(array):
    reading = array('[{"os": "a"} {"os": "b"}\n{"os": "c"}]')
    assert reading.fields == [{"os": "a"}, {"os": "b"}, {"os": "c"}]


# Laws

LITERALS = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=True).map(json.dumps),
    st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
    st.sampled_from(["null", "true", "false", "NaN", "-0", "-0.0", "1e400", "1e-400", "tru", "01", "[", "]", "{", ""]),
)
STRINGS = st.one_of(
    st.sampled_from([*NAMES[:4], "os", "colour"]).map(json.dumps),
    st.text().map(json.dumps),
    st.text().map(lambda text: f'"{text}"'),
    st.lists(st.sampled_from([r"\u0000", r"\ud800", r"\udc00", r"\n", "\\", "\t", "Ж", '"', "}, {", "a"])).map(
        lambda parts: f'"{"".join(parts)}"'
    ),
)
BLANKS = st.sampled_from(["", " ", "\t", "\r"])


def _objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    fields = st.tuples(BLANKS, STRINGS, BLANKS, values).map(lambda parts: "{}{}{}:{}".format(*parts))
    return st.lists(fields, max_size=5).map(lambda parts: f"{{{','.join(parts)}}}")


VALUES = st.recursive(
    LITERALS | STRINGS,
    lambda values: _objects(values) | st.lists(values, max_size=4).map(lambda parts: f"[{', '.join(parts)}]"),
    max_leaves=8,
)


@st.composite
def json_like_lines(draw) -> bytes:
    """A line of mostly valid JSON, sometimes with a few bytes changed."""
    line = bytearray(draw(st.one_of(_objects(VALUES), _objects(VALUES), VALUES)).encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(line)))
        line[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(line)


@settings(max_examples=500)
@given(json_like_lines())
@example(b'{"os": -0, "page_url": "-0"}')
@example(b'{"os":\t-0}')
@example(b'{"os": -9223372036854775809}')
@example(b'{"os": 9223372036854775808.0}')
@example(b'{"colour": ' + nested(MAX_DEPTH).encode() + b"}")
@example(b'{"colour": ' + nested(MAX_DEPTH - 1).encode() + b"}")
@example(b'{"os": "a"}\x00')
@example(b'\xef\xbb\xbf{"os": "a"}')
def test_the_fast_way_and_the_exact_way_never_differ(line):
    """Also where a record of another kind came before: the reader learns what kinds of records there are."""
    assume(b"\n" not in line)
    for before in (b"", b'{"colour": {}}\n', b'{"os": 1}\n', b'{"colour": [], "os": true, "event_id": 2}\n'):
        found, alone = UnknownFields(), UnknownFields()
        records = exact(JsonReader(found).lines(iter([before, line])))
        number = before.count(b"\n") + 1
        expected = [] if line.isspace() or not line else [JsonReader(alone).record(number, line)]
        assert records[number - 1 :] == expected
        assert found.names == list(dict.fromkeys((["colour"] if b"colour" in before else []) + alone.names))


def _blocks(content: bytes, size: int):
    return (content[start : start + size] for start in range(0, len(content), size))


@given(st.lists(json_like_lines() | st.sampled_from([b"", b" ", b"\r", b'{"os": "a"}\r'])), st.integers(1, 7))
def test_every_line_that_is_not_blank_is_a_record_or_a_reject_wherever_blocks_end(lines, block_size):
    content = b"\n".join(lines)
    expected = [(number, line) for number, line in enumerate(content.split(b"\n"), 1) if line and not line.isspace()]
    records = exact(JsonReader(UnknownFields()).lines(_blocks(content, block_size)))
    assert [(record.line, record.raw) for record in records] == expected
    assert records == exact(JsonReader(UnknownFields()).lines(iter([content])))


@settings(max_examples=120)
@given(st.lists(json_like_lines()), st.sampled_from([b",", b",\n", b" "]), st.sampled_from([b"]", b" ]\n", b""]))
def test_an_array_reads_the_same_wherever_blocks_end_and_no_character_is_lost(lines, comma, end):
    content = b"[" + comma.join(lines) + end
    whole = exact(JsonReader(UnknownFields()).lines_or_array(iter([content])))
    for block_size in (1, 3, 7):
        blocks = _blocks(content, block_size)
        assert exact(JsonReader(UnknownFields()).lines_or_array(blocks)) == whole
    at = 1
    for record in whole:
        found = content.index(record.raw, at)
        assert not content[at:found].strip(b" \t\n\r\x0b\x0c,]")
        at = found + len(record.raw)
    assert not content[at:].strip(b" \t\n\r\x0b\x0c,]")


@given(st.lists(st.dictionaries(st.sampled_from(["os", "page_url", "colour"]), st.text() | st.floats() | st.none())))
def test_a_valid_array_reads_like_its_objects_a_line_each(records):
    texts = [json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") for record in records]
    array = JsonReader(UnknownFields()).lines_or_array(iter([b"[" + b", ".join(texts) + b"]"]))
    lines = JsonReader(UnknownFields()).lines(iter([b"\n".join(texts)]))
    assert [record[1:] for record in exact(array)] == [record[1:] for record in exact(lines)]
