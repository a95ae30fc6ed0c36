"""Sources: what is opened, unpacked, hashed and counted, whatever the format."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
from clickmart import streams
from clickmart.errors import LoadError
from clickmart.readers import Source
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from reading import SHARED_DATA, exact, read, read_bytes

BLOCK_SIZES = [1, 2, 7, 2**20]
LINES = "".join(
    json.dumps({"os": f"system {number}", "page_url": "Ж" * number}) + "\n" for number in range(50)
).encode()
FIELDS = [json.loads(line) for line in LINES.splitlines()]


def zstd(content: bytes) -> bytes:
    return pa.compress(content, codec="zstd", asbytes=True)


def zipped(*files: tuple[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files:
            target.writestr(name, content)
    return archive.getvalue()


def parquet_bytes() -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(FIELDS), file)
    return file.getvalue()


CSV = "os,page_url\n" + "".join(f'{fields["os"]},"{fields["page_url"]}"\n' for fields in FIELDS)
FORMS = {
    "a.jsonl": LINES,
    "a.ndjson": LINES,
    "a.json": json.dumps(FIELDS, indent=1).encode(),
    "a.csv": CSV.encode(),
    "a.parquet": parquet_bytes(),
    "a.jsonl.gz": gzip.compress(LINES),
    "a.JSON.GZ": gzip.compress(json.dumps(FIELDS).encode()),
    "a.csv.gz": gzip.compress(CSV.encode()),
    "a.parquet.gz": gzip.compress(parquet_bytes()),
    "a.jsonl.zst": zstd(LINES),
    "a.json.zst": zstd(json.dumps(FIELDS).encode()),
    "a.csv.zst": zstd(CSV.encode()),
    "a.jsonl.zip": zipped(("whatever", LINES)),
    "a.json.zip": zipped(("a.jsonl", json.dumps(FIELDS).encode())),
    "a.csv.zip": zipped(("a.csv", CSV.encode())),
    "plain.zip": zipped(("folder/inner.ndjson", LINES)),
}


# Formats


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
@pytest.mark.parametrize("name", FORMS)
def test_the_same_records_come_from_every_form_and_the_file_is_hashed_as_it_is(tmp_path, name, block_size):
    reading = read_bytes(tmp_path, name, FORMS[name], block_size)
    assert [fields | {"page_url": fields.get("page_url", "")} for fields in reading.fields] == FIELDS
    assert reading.checksum == hashlib.sha256(FORMS[name]).hexdigest()
    assert reading.size == len(FORMS[name])


@pytest.mark.parametrize(
    ("name", "format_"),
    [("a.ndjson", "jsonl"), ("a.JSON.GZ", "json.gz"), ("a.csv.zip", "csv.zip"), ("plain.zip", "jsonl.zip")],
)
def test_a_source_says_what_it_is(tmp_path, name, format_):
    assert read_bytes(tmp_path, name, FORMS[name]).format == format_


@pytest.mark.parametrize("name", FORMS)
def test_the_fingerprint_is_the_checksum_known_ahead(tmp_path, name):
    (tmp_path / name).write_bytes(FORMS[name])
    with Source.open(str(tmp_path / name)) as source:
        assert source.file_size == len(FORMS[name])
        assert source.fingerprint() == hashlib.sha256(FORMS[name]).hexdigest()
        assert len(exact(source.batches())) == len(FIELDS)
        assert source.checksum == source.fingerprint()
        assert source.name == str(tmp_path / name)


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the data is not here")
def test_the_forms_of_one_days_events_hold_the_same_records():
    stem = "events-2022-Sep-30-mini"
    lines = read(SHARED_DATA / f"{stem}.jsonl.gz")
    assert len(lines.records) == 7750
    assert lines.rejects == []
    for extension in ("json.zip", "parquet", "parquet.gz", "csv"):
        other = read(SHARED_DATA / f"{stem}.{extension}")
        assert other.unknown == []
        assert [_comparable(fields) for fields in other.fields] == [_comparable(fields) for fields in lines.fields]


def _comparable(fields):
    """Python's CSV has its own way to write a boolean, and Parquet has numbers where JSON has texts."""
    return fields | {
        "device_is_mobile": fields["device_is_mobile"].lower(),
        "geo_latitude": float(fields["geo_latitude"]),
        "geo_longitude": float(fields["geo_longitude"]),
    }


# gzip


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_gzip_may_have_several_members_and_zeros_behind_them(tmp_path, block_size):
    cut = len(LINES) // 3
    content = gzip.compress(LINES[:cut]) + gzip.compress(b"") + gzip.compress(LINES[cut:]) + bytes(100)
    assert len(read_bytes(tmp_path, "a.jsonl.gz", content, block_size).records) == len(FIELDS)


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_an_array_may_begin_in_a_later_member_of_gzip(tmp_path, block_size):
    content = gzip.compress(b" \n \n") + gzip.compress(b"") + gzip.compress(FORMS["a.json"])
    assert len(read_bytes(tmp_path, "a.json.gz", content, block_size).records) == len(FIELDS)


def test_gzip_that_is_cut_short_is_an_error_wherever_the_cut_is(tmp_path):
    content = gzip.compress(LINES)
    for length in range(1, len(content)):
        with pytest.raises(LoadError, match=r"a\.jsonl\.gz: the gzip data breaks off.* copy or download it again"):
            read_bytes(tmp_path, "a.jsonl.gz", content[:length])


def test_an_empty_file_is_no_gzip(tmp_path):
    with pytest.raises(LoadError, match=r"a\.csv\.gz: the file is empty, where gzip data should be"):
        read_bytes(tmp_path, "a.csv.gz", b"")


def test_something_behind_gzip_is_an_error(tmp_path):
    with pytest.raises(LoadError, match=r"a\.jsonl\.gz: something follows the gzip data that is none"):
        read_bytes(tmp_path, "a.jsonl.gz", gzip.compress(LINES) + b"garbage")


def test_what_is_no_gzip_is_an_error(tmp_path):
    with pytest.raises(LoadError, match=r"a\.jsonl\.gz: the file is not packed by gzip"):
        read_bytes(tmp_path, "a.jsonl.gz", LINES)


def test_damaged_gzip_is_an_error(tmp_path):
    content = bytearray(gzip.compress(LINES))
    content[-8] ^= 1
    with pytest.raises(LoadError, match=r"a\.jsonl\.gz: the gzip data is damaged .*copy or download it again"):
        read_bytes(tmp_path, "a.jsonl.gz", bytes(content))


def test_a_parquet_file_in_damaged_gzip_is_an_error(tmp_path):
    with pytest.raises(LoadError, match=r"a\.parquet\.gz: the gzip data breaks off"):
        read_bytes(tmp_path, "a.parquet.gz", FORMS["a.parquet.gz"][:-20])


# Zstandard


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_zstandard_may_have_several_frames(tmp_path, block_size):
    cut = len(LINES) // 3
    content = zstd(LINES[:cut]) + zstd(b"") + zstd(LINES[cut:])
    assert len(read_bytes(tmp_path, "a.jsonl.zst", content, block_size).records) == len(FIELDS)


@pytest.mark.parametrize(
    "content",
    [
        *(zstd(LINES)[:length] for length in range(1, len(zstd(LINES)), 11)),
        zstd(LINES) + b"garbage",
        zstd(LINES) + zstd(LINES)[:-1],
        LINES,
    ],
)
def test_zstandard_that_is_damaged_or_cut_short_is_an_error(tmp_path, content):
    with pytest.raises(LoadError, match=r"a\.jsonl\.zst: the Zstandard data is damaged, cut short or none"):
        read_bytes(tmp_path, "a.jsonl.zst", content)


def test_an_empty_file_is_no_zstandard(tmp_path):
    with pytest.raises(LoadError, match=r"a\.csv\.zst: the file is empty, where Zstandard data should be"):
        read_bytes(tmp_path, "a.csv.zst", b"")


# zip


def test_folders_and_what_macos_adds_do_not_count_in_a_zip(tmp_path):
    content = zipped(("folder/", b""), ("__MACOSX/folder/._a.jsonl", b"x"), ("folder/a.jsonl", LINES))
    assert len(read_bytes(tmp_path, "a.zip", content).records) == len(FIELDS)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.json.zip",
            zipped(("a.json", b"[]"), ("b.json", b"[]")),
            r"holds 2 files, where one .*\(a\.json, b\.json\)",
        ),
        (
            "a.json.zip",
            zipped(*((f"{n}.json", b"") for n in range(9))),
            r"holds 9 files.*\(0\.json, .*4\.json, \.\.\.\)",
        ),
        ("a.zip", zipped(), "holds no file"),
        ("a.zip", zipped(("__MACOSX/a.json", b"")), "holds no file"),
        ("a.zip", zipped(("a.txt", b"")), r"a\.txt in the zip archive is none of \.jsonl"),
        ("a.zip", zipped(("a.parquet", b"")), r"a\.parquet in the zip archive is none of \.jsonl"),
        ("a.zip", zipped(("a.csv.gz", b"")), r"a\.csv\.gz in the zip archive is none of \.jsonl"),
        ("a.parquet.zip", zipped(("a.parquet", b"")), r"a\.parquet in the zip archive is none of \.jsonl"),
        ("a.csv.zip", b"", "is damaged, cut short or none"),
        ("a.csv.zip", LINES, "is damaged, cut short or none"),
        ("a.jsonl.zip", zipped(("a.jsonl", LINES))[:-30], "is damaged, cut short or none"),
    ],
)
def test_a_zip_that_is_not_one_file_to_read_is_an_error(tmp_path, name, content, message):
    with pytest.raises(LoadError, match=rf"{name}: .*{message}"):
        read_bytes(tmp_path, name, content)


def test_an_encrypted_zip_is_an_error(tmp_path):
    content = zipped(("a.jsonl", LINES)).replace(b"PK\x03\x04\x14\0\0", b"PK\x03\x04\x14\0\1")
    content = content.replace(b"PK\x01\x02\x14\x03\x14\0\0", b"PK\x01\x02\x14\x03\x14\0\1")
    with pytest.raises(LoadError, match=r"a\.jsonl in the zip archive is encrypted: unpack it"):
        read_bytes(tmp_path, "a.zip", content)


def test_a_zip_whose_content_is_damaged_is_an_error(tmp_path):
    content = bytearray(zipped(("a.jsonl", LINES)))
    content[60] ^= 255
    with pytest.raises(LoadError, match=r"a\.zip: the zip archive is damaged"):
        read_bytes(tmp_path, "a.zip", bytes(content))


def test_a_zip_packed_in_an_unknown_way_is_an_error(tmp_path):
    content = zipped(("a.jsonl", LINES)).replace(b"\x14\0\0\0\x08\0", b"\x14\0\0\0\x63\0")
    with pytest.raises(LoadError, match=r"a\.zip: a\.jsonl in the zip archive is packed by another way than deflate"):
        read_bytes(tmp_path, "a.zip", content)


# Files, pipes, standard input


def test_standard_input_is_json_lines(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(LINES)))
    with Source.open("-") as source:
        assert (source.name, source.format, source.file_size, source.fingerprint()) == ("-", "jsonl", None, None)
        assert len(exact(source.batches())) == len(FIELDS)
        assert (source.checksum, source.size) == (hashlib.sha256(LINES).hexdigest(), len(LINES))
    assert not sys.stdin.buffer.closed


def test_standard_input_that_is_closed_is_an_error(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(LoadError, match="-: standard input is closed"):
        Source.open("-")


@pytest.mark.parametrize("name", FORMS)
def test_a_named_pipe_is_read_like_a_file(tmp_path, name):
    pipe = tmp_path / name
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[FORMS[name]])
    writer.start()
    with Source.open(str(pipe)) as source:
        assert (source.file_size, source.fingerprint()) == (None, None)
        assert len(exact(source.batches())) == len(FIELDS)
        assert (source.checksum, source.size) == (hashlib.sha256(FORMS[name]).hexdigest(), len(FORMS[name]))
    writer.join()


@pytest.mark.parametrize("name", FORMS)
def test_what_is_added_to_a_file_once_it_is_open_is_not_read(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FORMS[name])
    with Source.open(str(path), block_size=7) as source:
        with path.open("ab") as more:
            more.write(b'{"os": "late"}\n')
        assert len(exact(source.batches())) == len(FIELDS)
        assert (source.checksum, source.size) == (hashlib.sha256(FORMS[name]).hexdigest(), len(FORMS[name]))


@pytest.mark.parametrize("name", FORMS)
def test_a_file_that_becomes_shorter_while_it_is_read_is_an_error(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FORMS[name])
    with Source.open(str(path), block_size=7) as source:
        os.truncate(path, len(FORMS[name]) // 2)
        with pytest.raises(LoadError, match=f"{name}: the file became shorter while it was read"):
            exact(source.batches())
        with pytest.raises(LoadError, match="became shorter"):
            source.fingerprint()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system does not list open files")
def test_a_source_leaves_no_file_open(tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for name, content in FORMS.items():
        read_bytes(tmp_path, name, content)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.csv", "No such file or directory"),
        ("folder.csv", "Is a directory"),
        ("a.txt", "the extension is not known"),
    ],
)
def test_what_cannot_be_opened_is_an_error_that_names_it(tmp_path, name, message):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "a.txt").touch()
    with pytest.raises(LoadError, match=f"{tmp_path}/{name}: {message}"):
        Source.open(str(tmp_path / name))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_an_error(tmp_path):
    (tmp_path / "a.csv").touch(mode=0)
    with pytest.raises(LoadError, match=r"a\.csv: Permission denied"):
        Source.open(str(tmp_path / "a.csv"))


def test_a_disk_that_is_full_is_an_error_that_says_where(tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, _):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(streams.tempfile, "SpooledTemporaryFile", lambda _: Full())
    monkeypatch.setattr(streams.tempfile, "tempdir", "/full")
    message = r"^.*a\.parquet\.gz: it can't be set aside in /full: No space left on device; make room there, or name "
    with pytest.raises(LoadError, match=message):
        read_bytes(tmp_path, "a.parquet.gz", FORMS["a.parquet.gz"])


@pytest.mark.parametrize(
    ("name", "content"), [("a.jsonl", b" " * 5000), ("a.csv", b'os\n"' + b"\n" * 5000), ("a.json", b"[{" + b" " * 5000)]
)
def test_a_record_longer_than_can_be_stored_is_an_error(tmp_path, monkeypatch, name, content):
    for module in ("streams", "csv_reader", "json_array"):
        monkeypatch.setattr(f"clickmart.{module}.MAX_RECORD_BYTES", 1000)
    with pytest.raises(LoadError, match=f"{name}: .*is longer than"):
        read_bytes(tmp_path, name, content, block_size=10)


def test_reading_may_stop_early(tmp_path):
    for name, content in FORMS.items():
        (tmp_path / name).write_bytes(content)
        with Source.open(str(tmp_path / name)) as source:
            assert len(next(source.batches())) > 0


# Laws


@given(
    st.sampled_from(["a.jsonl.gz", "a.jsonl.zst", "plain.zip", "a.parquet", "a.parquet.gz"]),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=3),
)
def test_a_damaged_file_is_read_or_is_an_error_and_nothing_else(tmp_path_factory, name, changes):
    content = bytearray(FORMS[name])
    for at, byte in changes:
        content[at % len(content)] = byte
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    with contextlib.suppress(LoadError):
        assert read(path).size == len(content)


# Memory

MEASURE = """
import re, sys
from pathlib import Path
from clickmart.readers import Source
import pyarrow.parquet, pyarrow.csv, pyarrow.compute

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024

before = peak()
with Source.open(sys.argv[1]) as source:
    count = sum(len(batch) for batch in source.batches())
print(count, peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say how much memory was used")
@pytest.mark.parametrize("name", ["a.json", "a.json.zip", "a.jsonl.gz", "a.jsonl.zst", "a.csv", "a.parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path, name):
    """Some 60 MB of records are read within 40 MB."""
    count = 60_000
    fields = {"os": "a" * 500, "page_url": "b" * 470}
    path = tmp_path / name
    if name == "a.parquet":
        columns = {key: [f"{number} {value}" for number in range(count)] for key, value in fields.items()}
        parquet.write_table(pa.table(columns), path, compression="none", use_dictionary=False)
    else:
        record = json.dumps(fields)
        content = {
            "json": f"[{f'{record}, ' * (count - 1)}{record}]",
            "jsonl": f"{record}\n" * count,
            "csv": "os,page_url\n" + f"{fields['os']},{fields['page_url']}\n" * count,
        }[name.split(".")[1]].encode()
        pack = {".zip": lambda content: zipped(("a", content)), ".gz": gzip.compress, ".zst": zstd}
        path.write_bytes(pack.get(path.suffix, bytes)(content))
    done = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True)
    records, megabytes = map(int, done.stdout.split())
    assert records == count
    assert megabytes < 40
