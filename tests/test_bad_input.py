"""Input that is broken, odd or made to do harm: all of a file is rows and rejects, or it is one clear message. No file
fills the memory or takes for ever, and what can't be stored is kept as it stood."""

from __future__ import annotations

import gzip
import io
import json
import os
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from clickmart import compression
from clickmart.columns import NAMES
from clickmart.errors import LoadError
from clickmart.loading import load_file, load_files
from clickmart.paths import find_files
from clickmart.readers import Source
from clickmart.warehouse import Warehouse
from conftest import Shop
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from reading import read_bytes
from test_readers import LINES, zipped, zstd

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
has_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say what was used")

Row = tuple[str | None, str | None, str | None]
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
NO_RECORDS = st.one_of(
    st.binary(min_size=1, max_size=20).map(lambda line: line.replace(b"\n", b" ").removesuffix(b"\r")),
    st.sampled_from([b"{", b"null", b"[]", b'{"os": "\\u0000"}', b'{"os": "\\ud800"}', b'{"referer_url_port": "x"}']),
).filter(lambda line: not line.isspace() and not line.startswith(b"\xef\xbb\xbf"))


def stored_raw(line: bytes) -> str:
    """A record as the table keeps it: bytes that text can't hold are written."""
    return line.decode("utf-8", "backslashreplace").replace("\0", "\\x00")


# All of a file is stored, byte for byte


@settings(max_examples=max(25, settings.default.max_examples // 4))
@given(
    records=st.lists(st.one_of(st.dictionaries(st.sampled_from(["os", "page_url", "x"]), TEXTS), NO_RECORDS)),
    pack=st.sampled_from([("", bytes), (".gz", gzip.compress), (".zst", zstd), (".zip", lambda c: zipped(("a", c)))]),
)
def test_rows_and_rejects_are_the_records_of_a_file_and_read_back_as_they_stood(
    shop: Shop, records: list[dict[str, str] | bytes], pack: tuple[str, Callable[[bytes], bytes]]
) -> None:
    shop.reset()
    lines = [
        record if isinstance(record, bytes) else json.dumps(record, ensure_ascii=False).encode() for record in records
    ]
    # An object that the fuzzer came upon is a row like any other.
    rows = [fields for line in lines if (fields := storable(line)) is not None]
    file = shop.folder / f"a.jsonl{pack[0]}"
    file.write_bytes(pack[1](b"".join(line + b"\n" for line in lines)))
    report = load_file(shop.connection, str(file))
    assert (report.rows_loaded + report.rows_rejected, report.rows_rejected) == (len(lines), len(lines) - len(rows))
    rejects = shop.query("select line_number, raw from stage.events_rejected order by 1")
    assert rejects == [(number, stored_raw(line)) for number, line in enumerate(lines, 1) if storable(line) is None]
    kept = rows if report.status == "loaded" else []
    names = ", ".join(NAMES)
    assert shop.query(f"select {names} from stage.events order by id") == [
        tuple(fields.get(name) for name in NAMES) for fields in kept
    ]


def storable(line: bytes) -> dict[str, str] | None:
    """The object of texts that a line is; None for what can't be stored."""
    try:
        fields = json.loads(line.decode())
        return fields if isinstance(fields, dict) and "\0" not in json_texts(fields) else None
    except (ValueError, UnicodeError):
        return None


def json_texts(fields: dict[str, str]) -> str:
    text = "".join(fields.values())
    text.encode()  # no lone surrogate
    int(fields.get("referer_url_port", "1"))
    return text


FIELDS = ("os", "page_url", "referer_url_port")
PORTS = st.sampled_from([None, "80", "0", "x", "2147483648", "\0", "8 0"])
ROWS = st.lists(st.tuples(st.none() | TEXTS, st.none() | TEXTS | st.just("\0"), PORTS), min_size=1, max_size=12)


def as_csv(rows: Sequence[Row]) -> tuple[bytes, list[str], list[int]]:
    def field(text: str | None) -> str:
        return "" if text is None else '"' + text.replace('"', '""') + '"'

    records = [",".join(map(field, row)) for row in rows]
    # A line ends at a line feed, also within quotes.
    starts = [2 + sum(record.count("\n") + 1 for record in records[:number]) for number in range(len(records))]
    return "\n".join([",".join(FIELDS), *records, ""]).encode(), records, starts


def as_array(rows: Sequence[Row]) -> tuple[bytes, list[str], list[int]]:
    records = [json.dumps(dict(zip(FIELDS, row, strict=True)), ensure_ascii=False) for row in rows]
    return f"[\n{(',' + chr(10)).join(records)}\n]\n".encode(), records, list(range(2, len(rows) + 2))


def as_parquet(rows: Sequence[Row]) -> tuple[bytes, list[str], list[int]]:
    columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    records = [
        json.dumps(dict(zip(FIELDS, row, strict=True)), ensure_ascii=False, separators=(",", ":")) for row in rows
    ]
    return parquet_bytes(pa.table(dict(zip(FIELDS, columns, strict=True)))), records, list(range(1, len(rows) + 1))


@settings(max_examples=max(25, settings.default.max_examples // 4))
@given(rows=ROWS)
@pytest.mark.parametrize(("name", "written"), [("a.csv", as_csv), ("a.json", as_array), ("a.parquet", as_parquet)])
def test_any_texts_read_back_as_they_stood_in_each_format(
    shop: Shop, name: str, written: Callable[[Sequence[Row]], tuple[bytes, list[str], list[int]]], rows: list[Row]
) -> None:
    shop.reset()
    content, records, lines = written(rows)
    file = shop.folder / name
    file.write_bytes(content)
    report = load_file(shop.connection, str(file))
    is_row = [row[2] in (None, "80", "0") and "\0" not in (row[1] or "") for row in rows]
    assert report.rows_loaded + report.rows_rejected == len(rows)
    rejects = shop.query("select line_number, raw from stage.events_rejected order by 1")
    assert rejects == [
        (line, stored_raw(record.encode()))
        for line, record, is_stored in zip(lines, records, is_row, strict=True)
        if not is_stored
    ]
    kept = [(*row[:2], row[2] and int(row[2])) for row, is_stored in zip(rows, is_row, strict=True) if is_stored]
    assert report.status == ("loaded" if kept else "failed")
    assert shop.query(f"select {', '.join(FIELDS)} from stage.events order by id") == kept


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1251"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_of_another_encoding_nothing_is_taken_for_something_else(tmp_path: Path, name: str, encoding: str) -> None:
    texts = {"a.jsonl": '{"os": "я"}\n', "a.json": '[{"os": "я"}]', "a.csv": "os,page_url\nя,\n"}
    content = texts[name].encode(encoding)
    if name == "a.csv" and encoding != "cp1251":
        with pytest.raises(LoadError, match=r"a\.csv: line 1: the header names no column of stage\.events: found "):
            read_bytes(tmp_path, name, content)
        return
    reading = read_bytes(tmp_path, name, content)
    assert reading.fields == [None] * len(reading.records) != []
    if name == "a.jsonl":
        assert [raw for _, _, raw in reading.rejects] == [
            stored_raw(line) for line in content.split(b"\n") if line.strip()
        ]


# Archives and packed files


def in_zip(method: int, name: str = "a.jsonl") -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        archive.writestr(name, LINES)
    return target.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_zip_that_can_not_be_unpacked_bit_by_bit_is_refused_damaged_or_not(tmp_path: Path, method: int) -> None:
    content = in_zip(method)
    for packed in (content, content[:70] + b"\xff" + content[71:]):
        with pytest.raises(LoadError, match=r"a\.jsonl in the zip archive is packed by another way than deflate"):
            read_bytes(tmp_path, "a.zip", packed)


def test_a_zip_whose_file_has_no_name_is_read_or_refused(tmp_path: Path) -> None:
    content = in_zip(zipfile.ZIP_DEFLATED, "x")
    central = content.index(b"PK\x01\x02")
    # The name's length, and where the end of the archive says that the directory is.
    nameless = content[: central + 28] + b"\0\0" + content[central + 30 : central + 46] + content[central + 47 :]
    size = int.from_bytes(nameless[-10:-6], "little")
    nameless = nameless[:-10] + (size - 1).to_bytes(4, "little") + nameless[-6:]
    with pytest.raises(LoadError, match=r"a\.zip: "):
        read_bytes(tmp_path, "a.zip", nameless)


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.jsonl.gz", gzip.compress),
        ("a.csv.gz", lambda content: gzip.compress(b"os\n") + gzip.compress(content)),
        ("a.json.zst", zstd),
        ("a.zip", lambda content: zipped(("a.jsonl", content))),
        ("a.parquet.gz", gzip.compress),
    ],
)
def test_a_bomb_is_refused_and_what_is_just_well_packed_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, pack: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(compression, "_SURE_BYTES", 2**22)
    bomb = pack(b"\n" * 2**24)
    with pytest.raises(LoadError, match=rf"{name}: it unpacks to more than 500 times its size"):
        read_bytes(tmp_path, name, bomb)
    if name != "a.parquet.gz":
        assert read_bytes(tmp_path, name, pack(b"\n" * 2**21)).records == []
        assert read_bytes(tmp_path, name, pack(b"\n" * 2**21 + os.urandom(2**18).hex().encode())).records != []


# What is no file, and files that go


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device here")
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet", "a.jsonl.gz", "a.zip", "a.csv.zst"])
def test_a_device_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(LoadError, match=rf"{name}: it is neither a file nor a pipe, but a device"):
        Source.open(str(tmp_path / name))


def test_a_socket_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("a.jsonl")
        with pytest.raises(LoadError, match=r"a\.jsonl: "):
            Source.open("a.jsonl")


@as_root
def test_what_may_not_be_read_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    (tmp_path / "data" / "a.jsonl").touch(mode=0o600)
    (tmp_path / "closed").mkdir(mode=0o700)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    code = """
        import os, sys
        from clickmart.errors import LoadError
        from clickmart.paths import find_files
        from clickmart.readers import Source
        os.setgroups([]), os.setresgid(1, 1, 1), os.setresuid(1, 1, 1)
        for call in (lambda: Source.open("data/a.jsonl"), lambda: find_files(["closed"])):
            try:
                call()
            except LoadError as error:
                print(error)
    """
    said = subprocess.run(
        [sys.executable, "-c", "\n".join(line[8:] for line in code.splitlines())],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout.splitlines() == ["data/a.jsonl: Permission denied", "closed: Permission denied"]


def test_a_file_that_is_gone_when_its_turn_comes_fails_alone(dsn: str, tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl", "c.jsonl"):
        (tmp_path / name).write_text(f'{{"event_id": "{name}"}}\n')
    files = find_files([tmp_path])
    (tmp_path / "b.jsonl").unlink()
    report = load_files(Warehouse(dsn), files)
    assert [(file.status, file.problem) for file in report.files] == [
        ("loaded", ""),
        ("failed", "No such file or directory"),
        ("loaded", ""),
    ]


def test_a_folder_that_vanishes_while_it_is_listed_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "a.jsonl").touch()
    list_folder = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("in"):
            (tmp_path / "in" / "deep").rmdir()
            (tmp_path / "in").rmdir()
        return list_folder(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(LoadError, match=rf"{tmp_path}: No such file or directory \({tmp_path}/in\)"):
        find_files([tmp_path])


# Parquet


def parquet_bytes(table: pa.Table, **options: object) -> bytes:
    target = io.BytesIO()
    parquet.write_table(table, target, **options)
    return target.getvalue()


def test_parquet_that_is_encrypted_or_too_deep_or_lies_about_itself_is_an_error(tmp_path: Path) -> None:
    plain = parquet_bytes(pa.table({"os": ["a"]}))
    deep = pa.array(["a"])
    for _ in range(200):
        deep = pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), deep)
    for content in (
        b"PARE" + plain[4:-4] + b"PARE",
        plain[:-4] + b"PARE",
        plain[:-8] + b"\xff\xff\xff\x7f" + b"PAR1",
        parquet_bytes(pa.table({"os": deep})),
    ):
        with pytest.raises(LoadError, match=r"a\.parquet: the Parquet data is damaged, or none \("):
            read_bytes(tmp_path, "a.parquet", content)


# Memory and time


def repeated() -> pa.Table:
    """Of a few kilobytes of Parquet 2,048 texts of 300,000 characters."""
    return pa.table({"os": pa.DictionaryArray.from_arrays(pa.array([0] * 2048, pa.int32()), ["x" * 300_000])})


HOSTILE_FILES: dict[str, Callable[[], bytes]] = {
    "nested.jsonl": lambda: b'{"os":' + b"[" * 100_000 + b"]" * 100_000 + b'}\n{"os": "a"}\n',
    "nested.json": lambda: b'[{"os":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b'}, {"os": "a"}]',
    "open.json": lambda: b"[" * 50_000_000,
    "fields.jsonl": lambda: json.dumps({"os": "a"} | {f"c{n}": n for n in range(10**5)}).encode(),
    "fields.csv": lambda: b"os," + b",".join(b"c%d" % n for n in range(10**5)) + b"\na" + b"," * 10**5 + b"\nb\n",
    "names.jsonl": lambda: b"".join(b'{"%d%s": 1}\n' % (n, b"k" * 2**20) for n in range(70)),
    "commas.json": lambda: b"[" + b'{"a":1}x,' * 50_000 + b'{"os": "a"}]',
    "blanks.json": lambda: b" " * (2**28 + 2**21),
    "blanks.jsonl": lambda: b"\n" * 2**27,
    "blanks.csv": lambda: b"os,x\n" + b"\r\n" * 2**26,
    "dictionary.parquet": lambda: parquet_bytes(repeated(), store_schema=False),
    "numbered.parquet": lambda: parquet_bytes(repeated()),
    "line.jsonl": lambda: b"",
    "line.csv": lambda: b"",
}

READ = """
import re, resource, sys
from pathlib import Path
from clickmart.errors import LoadError
from clickmart.readers import Source
import pyarrow.csv, pyarrow.compute

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024

resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
before = peak()
counts = [0, 0]
try:
    with Source.open(sys.argv[1]) as source:
        for batch in source.batches():
            for record in batch if isinstance(batch, list) else batch.exact():
                counts[record.values is None] += 1
    print(*counts, peak() - before)
except LoadError as error:
    print(0, 0, peak() - before, error)
"""


@has_proc
@pytest.mark.parametrize(
    ("name", "rows", "rejects", "megabytes", "message"),
    [
        ("nested.jsonl", 1, 1, 40, ""),
        ("nested.json", 1, 1, 40, ""),
        ("open.json", 0, 0, 80, "line 1: an element opens more than 1,048,576 brackets: is it closed?"),
        ("fields.jsonl", 1, 0, 150, ""),
        ("fields.csv", 2, 0, 150, ""),
        ("names.jsonl", 70, 0, 50, ""),
        ("commas.json", 50_001, 50_000, 60, ""),
        ("blanks.json", 0, 0, 700, "a line is longer than 256 MiB"),
        ("blanks.jsonl", 0, 0, 40, ""),
        ("blanks.csv", 0, 0, 40, ""),
        ("dictionary.parquet", 2048, 0, 1700, ""),
        ("numbered.parquet", 2048, 0, 700, ""),
        ("line.jsonl", 0, 0, 700, "a line is longer than 256 MiB"),
        ("line.csv", 0, 0, 700, "a line is longer than 256 MiB"),
    ],
)
def test_a_hostile_file_takes_bounded_memory_and_time(
    tmp_path: Path, name: str, rows: int, rejects: int, megabytes: int, message: str
) -> None:
    """Of each the process may take 30 seconds of a processor, where it needs less than 5."""
    file = tmp_path / name
    file.write_bytes(HOSTILE_FILES[name]())
    if name.startswith("line"):
        os.truncate(file, 2**30)  # a line of NUL characters that take no room on the disk
    done = subprocess.run([sys.executable, "-c", READ, file], capture_output=True, text=True, check=False)
    file.unlink()
    assert (done.returncode, done.stderr) == (0, "")
    found = done.stdout.split(maxsplit=3)
    assert (int(found[0]), int(found[1])) == (rows, rejects)
    assert int(found[2]) < megabytes
    assert message in "".join(found[3:])
