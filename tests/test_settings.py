"""clickmart.toml: what it may say, and how it is refused by its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from clickmart.applying import check_settings
from clickmart.errors import ProjectError
from clickmart.project import read_project
from clickmart.settings import DEFAULT_FILE, Settings, read_settings
from clickmart.warehouse import Warehouse
from projects import clean_environment, outcome, run, smallest_project


def refusal(folder: Path, content: str | bytes) -> str:
    path = folder / "clickmart.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ProjectError) as caught:
        read_settings(path)
    return str(caught.value)


def test_without_a_file_all_settings_have_their_defaults(tmp_path: Path) -> None:
    assert read_settings(tmp_path / "clickmart.toml") == Settings()


def test_the_defaults_are_those_of_the_specification() -> None:
    assert Settings().as_dict() == {
        "product": "^product_",
        "cart": "^cart(/|$)",
        "payment": "^payment(/|$)",
        "confirmation": "^confirmation(/|$)",
        "purchase_window": "1 day",
        "session_gap": "30 minutes",
        "top_pages": 10,
    }


def test_the_file_that_init_writes_holds_the_defaults_and_each_of_them(tmp_path: Path) -> None:
    path = tmp_path / "clickmart.toml"
    path.write_text(DEFAULT_FILE)
    assert read_settings(path) == Settings()
    assert [line.split(" = ")[0] for line in DEFAULT_FILE.splitlines() if " = " in line] == list(Settings().as_dict())


def test_what_the_file_leaves_out_keeps_its_default(tmp_path: Path) -> None:
    (tmp_path / "clickmart.toml").write_text('[settings]\ncart = "^basket"\n')
    assert read_settings(tmp_path / "clickmart.toml") == Settings(cart="^basket")


@pytest.mark.parametrize(
    "content",
    [b"\xef\xbb\xbf[settings]\r\ntop_pages = 5\r\n", b"settings.top_pages = 5", b"settings = {top_pages = 5}"],
)
def test_a_byte_order_mark_windows_line_ends_and_other_ways_of_toml_are_no_error(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "clickmart.toml").write_bytes(content)
    assert read_settings(tmp_path / "clickmart.toml") == Settings(top_pages=5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "# mine\n\n[settings]\nproduct = '^p'\nprodukt = '^p'\n",
            "clickmart.toml:5: unknown setting 'produkt'; there are product, cart, payment, confirmation, "
            "purchase_window, session_gap, top_pages",
        ),
        ("[settings]\n[setings]\n", "clickmart.toml:2: unknown name 'setings'; the file has [settings] only"),
        ("\nproduct = '^p'\n", "clickmart.toml:2: unknown name 'product'; the file has [settings] only"),
        ("settings = 3\n", "clickmart.toml:1: settings is no table; write [settings]"),
        ("[[settings]]\n", "clickmart.toml:1: settings is no table; write [settings]"),
        ("[settings]\nproduct = 5\n", "clickmart.toml:2: product must be a text in quotes, found 5"),
        ("[settings]\ntop_pages = '5'\n", "clickmart.toml:2: top_pages must be a whole number, found '5'"),
        ("[settings]\ntop_pages = 5.0\n", "clickmart.toml:2: top_pages must be a whole number, found 5.0"),
        ("[settings]\ntop_pages = true\n", "clickmart.toml:2: top_pages must be a whole number, found true"),
        ("[settings]\ntop_pages = 0\n", "clickmart.toml:2: top_pages must be from 1 to 1000000, found 0"),
        ("[settings]\n\ntop_pages = -1\n", "clickmart.toml:3: top_pages must be from 1 to 1000000, found -1"),
        ("[settings]\ntop_pages = 1000001\n", "clickmart.toml:2: top_pages must be from 1 to 1000000, found 1000001"),
        ('[settings]\ncart = "a\\u0000b"\n', "clickmart.toml:2: cart holds a NUL character"),
        (b"[settings]\ncart = '\xff'\n", "clickmart.toml: not UTF-8 text (invalid start byte at byte 19)"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_is_refused_by_its_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    assert refusal(tmp_path, content) == message


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("[settings]\ncart = 'a'\ncart = 'b'\n", 3),
        ("[settings]\n[settings]\n", 2),
        ("[settings]\ncart\n", 2),
        ("[settings]\ncart = a\n", 2),
        ('[settings]\ncart = """a\n', 3),
        ("[settings]\ncart = '^cart\nproduct = 'p'\n", 2),
    ],
)
def test_what_is_no_toml_is_refused_by_its_line(tmp_path: Path, content: str, line: int) -> None:
    assert re.fullmatch(
        rf"clickmart\.toml:{line}(:\d+)?: [A-Z][^(]*(\('settings',\) twice)?", refusal(tmp_path, content)
    )


def test_the_line_is_that_of_the_setting_and_not_of_a_text_that_looks_like_it(tmp_path: Path) -> None:
    text = '[settings]\n# top_pages = 0\ncart = """\ntop_pages = 0\n"""\nproduct = "top_pages = 0"\ntop_pages = 0\n'
    assert refusal(tmp_path, text).startswith("clickmart.toml:7: top_pages")


def test_a_value_of_many_lines_is_named_by_its_first(tmp_path: Path) -> None:
    assert refusal(tmp_path, '[settings]\n\nproduct = [\n  "a",\n  "b",\n]\n').startswith(
        "clickmart.toml:3: product must"
    )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "payment = '('",
            "payment = '(' is no regular expression that PostgreSQL takes: "
            "invalid regular expression: parentheses () not balanced",
        ),
        (
            "purchase_window = 'a while'",
            "purchase_window = 'a while' is no interval that PostgreSQL takes: "
            'invalid input syntax for type interval: "a while"',
        ),
        (
            "purchase_window = ''",
            "purchase_window = '' is no interval that PostgreSQL takes: invalid input syntax for type interval: \"\"",
        ),
        ("purchase_window = '-1 day'", "purchase_window = '-1 day' is below zero"),
        (
            "purchase_window = '10000 years'",
            "purchase_window = '10000 years' is no interval that PostgreSQL takes: timestamp out of range",
        ),
    ],
)
@pytest.mark.parametrize("command", [["apply"], ["apply", "--plan"], ["status"]])
def test_a_value_that_postgresql_does_not_take_is_refused_by_its_line_before_anything_runs(
    empty_dsn: str, tmp_path: Path, setting: str, message: str, command: list[str]
) -> None:
    smallest_project(tmp_path, {"clickmart.toml": f"[settings]\n# mine\n{setting}\n"})
    result = run(*command, "--project", str(tmp_path), dsn=empty_dsn)
    assert outcome(result) == (1, "", f"clickmart: clickmart.toml:3: {message}\n")
    with Warehouse(empty_dsn).connect() as connection:
        assert connection.execute("select to_regnamespace('cdm'), to_regnamespace('clickmart')").fetchone() == (
            None,
            None,
        )


def test_a_file_that_is_wrong_needs_no_server_to_be_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)
    monkeypatch.chdir(tmp_path)
    smallest_project(tmp_path / "shop")
    (tmp_path / "shop" / "clickmart.toml").write_text("[settings]\nlast_pages = 1\n")
    for command in ("apply", "status", "render", "check", "load"):
        result = run(command, *(["x.jsonl"] if command == "load" else []), "--project", "shop")
        assert result.exit_code == 1, command
    assert run("apply", "--project", "shop").stderr.startswith(
        "clickmart: clickmart.toml:2: unknown setting 'last_pages'"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shop"]


@pytest.mark.parametrize("window", ["0", "1 month", "36 hours", "P1DT12H", "4000 years"])
def test_any_window_that_reaches_back_from_any_instant_is_taken(dsn: str, tmp_path: Path, window: str) -> None:
    (tmp_path / "clickmart.toml").write_text(f"[settings]\npurchase_window = '{window}'\n")
    for folder in ("sql", "migrations"):
        (tmp_path / folder).mkdir()
    with Warehouse(dsn).connect() as connection:
        check_settings(connection, read_project(tmp_path))
