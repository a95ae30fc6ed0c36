"""Coverage-guided fuzzing of all readers, by atheris: `make fuzz`, which ends at the first finding.

An input's first byte says as what it is read, its second in blocks of what size, and the rest is the file. Whatever
that holds is read or is a LoadError, and what the fast way would have COPY store is what the exact way says, which
`reading_of` looks at. An input that does otherwise is kept as crash-*; with its path as the only argument it runs once.
"""

from __future__ import annotations

import gzip
import io
import sys
import zipfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["clickmart"]):
    # A source imports these when it needs them, which would be too late.
    import clickmart.csv_reader
    import clickmart.json_reader
    import clickmart.parquet_reader  # noqa: F401
    from clickmart.errors import LoadError
    from clickmart.paths import Format
    from clickmart.readers import Source
    from clickmart.streams import InputFile

import pyarrow as pa
from pyarrow import parquet
from reading import reading_of

NAMES = (
    "a.jsonl",
    "a.json",
    "a.csv",
    "a.parquet",
    "a.jsonl.gz",
    "a.json.zst",
    "a.csv.zip",
    "a.parquet.gz",
    "a.zip",
)
BLOCK_SIZES = (2**20, 1, 7, 100)
CORPUS = Path(__file__).parents[1] / ".fuzz"
ROWS = [
    {"os": "Ж", "referer_url_port": 80, "geo_latitude": 0.5, "device_is_mobile": True, "other": [{"x": "y"}]},
    {"os": '"\\', "referer_url_port": None, "geo_latitude": -1e300, "device_is_mobile": None, "other": []},
]
TEXTS = {
    "a.jsonl": '{"os": "\\u0416\\ud83d\\ude00", "referer_url_port": 80.0}\n\n{"os": [{"a": -0.0}], "x": 1e400}\r\n{\n',
    "a.json": '\ufeff [{"os": "a"}, {"os": {"a": [1]}, "x": null},, 1] {',
    "a.csv": 'os,"referer_url_port",x\r\n"a ""b""\n",80.0,\n"",,"c"\n,\n1,2,3,4\n"',
}


def read_anything(data: bytes) -> None:
    """What the fuzzer calls: an exception that gets out is a finding."""
    if len(data) < 2:
        return
    name, content = NAMES[data[0] % len(NAMES)], data[2:]
    file = InputFile(io.BytesIO(content), len(content))
    try:
        with Source(name, Format.of(name), file, BLOCK_SIZES[data[1] % len(BLOCK_SIZES)]) as source:
            found = reading_of(source)
    except LoadError:
        return
    assert found.size == len(content)


def seed(name: str) -> bytes:
    """A small file of that name, as a start."""
    content, _, packing = name.removeprefix("a.").partition(".")
    if content == "parquet":
        target = io.BytesIO()
        parquet.write_table(pa.Table.from_pylist(ROWS), target, compression="zstd")
        raw = target.getvalue()
    else:
        raw = TEXTS.get(f"a.{content}", TEXTS["a.jsonl"]).encode()
    if packing == "gz":
        return gzip.compress(raw, mtime=0)
    if packing == "zst":
        return bytes(pa.compress(raw, codec="zstd", asbytes=True))
    if "zip" in name:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("a.csv" if content == "csv" else "a.jsonl", raw)
        return archive.getvalue()
    return raw


def main(arguments: list[str]) -> None:
    if not any(Path(argument).is_file() for argument in arguments[1:]):
        CORPUS.mkdir(exist_ok=True)
        for number, name in enumerate(NAMES):
            for block in range(len(BLOCK_SIZES)):
                (CORPUS / f"{name}-{block}").write_bytes(bytes([number, block]) + seed(name))
        arguments = [*arguments, str(CORPUS)]
    atheris.Setup([*arguments, "-timeout=60", "-rss_limit_mb=2048"], read_anything)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
