"""Which files a call means, and what each is by its name."""

from __future__ import annotations

import errno
import os

import pytest
from clickmart.errors import LoadError
from clickmart.paths import Format, find_files, naming


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a function that puts empty files into it."""
    monkeypatch.chdir(tmp_path)

    def put(*names: str) -> None:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    return put


@pytest.mark.parametrize(
    ("name", "format_"),
    [
        ("a.jsonl", "jsonl"),
        ("a.ndjson", "jsonl"),
        ("a.json", "json"),
        ("a.csv", "csv"),
        ("a.parquet", "parquet"),
        ("a.JSONL.GZ", "jsonl.gz"),
        ("a.ndjson.zst", "jsonl.zst"),
        ("a.json.zip", "json.zip"),
        ("a.csv.gz", "csv.gz"),
        ("a.parquet.gz", "parquet.gz"),
        ("a.zip", "zip"),
        ("events.csv/part-0.json", "json"),
        ("a.csv.json", "json"),
    ],
)
def test_the_extension_says_what_a_file_is(name, format_):
    assert str(Format.of(name)) == format_


@pytest.mark.parametrize("name", ["a", "a.txt", "a.gz", "a.jsonl.bz2", "a.parquet.zst", "ajsonl", "a.json~", "a.csv/b"])
def test_another_extension_is_an_error_that_names_the_known_ones(name):
    with pytest.raises(LoadError, match=r"extension is not known.*\.jsonl, \.ndjson, \.json, \.csv .*\.parquet\.gz"):
        Format.of(name)


def test_files_come_in_the_order_given(folder):
    folder("b.jsonl", "a.csv")
    assert find_files(["b.jsonl", "a.csv", "-"]) == ["b.jsonl", "a.csv", "-"]


def test_a_path_object_is_a_path(folder, tmp_path):
    folder("a.csv")
    assert find_files([tmp_path / "a.csv"]) == [str(tmp_path / "a.csv")]


def test_a_folder_is_all_files_below_it_with_a_known_extension_sorted(folder):
    folder("data/b.jsonl", "data/a.csv.gz", "data/sub/deep/c.parquet", "data/notes.txt", "data/z.json", "other.csv")
    assert find_files(["data"]) == ["data/a.csv.gz", "data/b.jsonl", "data/sub/deep/c.parquet", "data/z.json"]


def test_a_folder_may_have_a_known_extension_itself(folder):
    folder("events.parquet/part-0.parquet", "events.parquet/_SUCCESS", "events.parquet/.part-0.parquet.crc")
    assert find_files(["events.parquet"]) == ["events.parquet/part-0.parquet"]


def test_names_that_start_with_a_dot_or_an_underscore_are_passed_over(folder):
    folder("data/.a.csv", "data/_b.csv", "data/.git/c.csv", "data/_temporary/d.csv", "data/e.csv")
    assert find_files(["data"]) == ["data/e.csv"]
    assert find_files(["data/*"]) == ["data/e.csv"]
    assert find_files(["data/**/*.csv"]) == ["data/e.csv"]


def test_names_that_start_with_a_dot_or_an_underscore_can_be_asked_for(folder):
    folder("data/.a.csv", "data/_b.csv", "data/_temporary/d.csv", "data/e.csv")
    assert find_files(["data/.a.csv", "data/_b.csv"]) == ["data/.a.csv", "data/_b.csv"]
    assert find_files(["data/_*"]) == ["data/_b.csv", "data/_temporary/d.csv"]


def test_wildcards_match_in_sorted_order_also_below_folders(folder):
    folder("b.jsonl", "a.jsonl", "c.csv", "x/d.jsonl", "x/y/e.jsonl", "x/y/f.txt")
    assert find_files(["*.jsonl"]) == ["a.jsonl", "b.jsonl"]
    assert find_files(["**/*.jsonl"]) == ["a.jsonl", "b.jsonl", "x/d.jsonl", "x/y/e.jsonl"]
    assert find_files(["[bc].*", "x/?.jsonl"]) == ["b.jsonl", "c.csv", "x/d.jsonl"]
    assert find_files([os.path.abspath("x") + "/*.jsonl"]) == [os.path.abspath("x/d.jsonl")]  # noqa: PTH100


def test_a_folder_that_matches_stands_for_what_is_below_it(folder):
    folder("day1/a.csv", "day2/sub/b.csv", "day2/notes.txt")
    assert find_files(["day*"]) == ["day1/a.csv", "day2/sub/b.csv"]


def test_a_path_that_exists_is_no_pattern(folder):
    folder("a[1].csv", "a1.csv")
    assert find_files(["a[1].csv"]) == ["a[1].csv"]


def test_no_file_comes_twice(folder, tmp_path):
    folder("data/a.csv", "data/b.csv")
    (tmp_path / "link.csv").symlink_to("data/a.csv")
    paths = ["-", "data/b.csv", "data", "./data/a.csv", "data/*.csv", "link.csv", tmp_path / "data", "-"]
    assert find_files(paths) == ["-", "data/b.csv", "data/a.csv"]


def test_a_pattern_may_begin_behind_a_link(folder, tmp_path):
    folder("real/day/a.csv")
    (tmp_path / "link").symlink_to("real")
    assert find_files(["link/day/*.csv"]) == ["link/day/a.csv"]


def test_an_error_of_the_system_names_another_file_than_the_path_it_is_said_of():
    for found, said in (("data/a.csv", "data: Permission denied (data/a.csv)"), ("data", "data: Permission denied")):
        with pytest.raises(LoadError) as error, naming("data"):
            raise PermissionError(errno.EACCES, "Permission denied", found)
        assert str(error.value) == said


def test_what_is_no_file_is_passed_over_below_a_folder_but_a_broken_link_is_not(folder, tmp_path):
    folder("data/a.csv")
    os.mkfifo(tmp_path / "data/pipe.csv")
    (tmp_path / "data/link.csv").symlink_to("nowhere")
    assert find_files(["data"]) == ["data/a.csv", "data/link.csv"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere.csv", "nowhere.csv: no such file or folder"),
        ("", ": no such file or folder"),
        ("a\0.csv", "a\0.csv: no such file or folder"),
        ("notes.txt", "notes.txt: the extension is not known: rename the file"),
        ("empty", "empty: no file in this folder has a known extension: .jsonl,"),
        ("texts", "texts: no file in this folder has a known extension: .jsonl,"),
        ("*.csv", "*.csv: no file with a known extension matches: .jsonl,"),
        ("*.txt", "*.txt: no file with a known extension matches: .jsonl,"),
        ("a" * 300 + ".csv", "a.csv: File name too long"),
    ],
)
def test_a_path_that_stands_for_nothing_is_an_error_that_names_it(folder, tmp_path, path, message):
    folder("notes.txt", "texts/a.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LoadError) as error:
        find_files([path])
    assert message in str(error.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_an_error(folder, tmp_path):
    folder("data/closed/a.csv")
    (tmp_path / "data/closed").chmod(0)
    try:
        with pytest.raises(LoadError, match=r"data: Permission denied \(data/closed\)"):
            find_files(["data"])
    finally:
        (tmp_path / "data/closed").chmod(0o700)
