"""What a person sees on a terminal: the command runs in a real pseudo-terminal, whose screen an emulator keeps."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass
from pathlib import Path

import pyte
import pytest
from clickmart.terminal import fitted
from hypothesis import given
from hypothesis import strategies as st
from projects import query, run, smallest_project

EVENT = {"event_timestamp": "2026-03-02 10:00:00", "user_domain_id": "u", "page_url_path": "/product_a"}
WIDTHS = [60, 120]
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


@dataclass(frozen=True)
class Shown:
    """The screen once the command has ended, and all that was sent to it."""

    code: int
    screen: pyte.Screen
    sent: str

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display[: self.screen.cursor.y]]

    def colour(self, text: str) -> str:
        """The colour of the text's first letter where it stands first."""
        for y, line in enumerate(self.screen.display):
            if (x := line.find(text)) >= 0:
                return str(self.screen.buffer[y][x].fg)
        raise AssertionError(f"{text!r} is not on the screen")


def show(
    *arguments: str,
    dsn: str,
    width: int = 120,
    folder: Path | None = None,
    stdout: int | None = None,
    keys: bytes = b"",
    **env: str,
) -> Shown:
    """Runs the command on a terminal of that width on which these keys are typed; `stdout` goes there instead."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 200, width, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "clickmart", "--dsn", dsn, *arguments],
        stdin=end, stdout=end if stdout is None else stdout, stderr=end, cwd=folder,
        env=kept | {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", "PYTHONUTF8": "1"} | env,
    )  # fmt: skip
    os.close(end)
    os.write(terminal, keys)
    sent = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            block = os.read(terminal, 65536)
        except OSError:  # so Linux says that the other end is closed
            break
        if not block:
            break
        sent += block
    try:
        code = process.wait(timeout=10)
    finally:
        process.kill()
        os.close(terminal)
    screen = pyte.Screen(width, 200)
    pyte.ByteStream(screen).feed(sent)
    return Shown(code, screen, sent.decode())


def event_files(folder: Path, *names: str) -> None:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({**EVENT, "event_id": name}) + "\n")


# What fits


@pytest.mark.parametrize("width", WIDTHS)
def test_status_fits_and_leaves_no_number_or_instant_out(dsn: str, tmp_path: Path, width: int) -> None:
    event_files(tmp_path, f"{'a-long-folder/' * 8}events.jsonl", "b.jsonl")
    (tmp_path / "bad.jsonl").write_text("{\n")
    run("load", str(tmp_path), dsn=dsn)
    shown = show("status", dsn=dsn, width=width)
    assert shown.code == 0
    text = "\n".join(shown.lines)
    plain = run("status", dsn=dsn).stdout
    for word in {
        *re.findall(r"\d{4}-\d\d-\d\d|\d\d:\d\d:\d\d", plain),
        "loaded",
        "failed",
        "pending:",
        "2 rows not yet",
    }:
        assert word in text
    assert re.search(r"…\S*events\.jsonl" if width > 60 else r"…\S+jsonl", text)
    assert "b.jsonl" in text
    assert (shown.colour("applied:"), shown.colour("pending:")) == ("default", "brown")
    assert (shown.colour("loaded "), shown.colour("failed")) == ("green", "red")


def test_on_a_wide_terminal_the_words_are_those_of_a_pipe(dsn: str, tmp_path: Path) -> None:
    event_files(tmp_path, "a.jsonl")
    run("load", str(tmp_path), dsn=dsn)
    for command in ("status", "check", "apply"):
        arguments = [command, "--plan"] if command == "apply" else [command]
        shown = show(*arguments, dsn=dsn, width=250)
        words = [word for word in " ".join(shown.lines).split() if not re.fullmatch("─+", word)]
        assert words == [word for word in run(*arguments, dsn=dsn).stdout.split() if not re.fullmatch("-+", word)]


@pytest.mark.parametrize("width", WIDTHS)
def test_load_shows_each_file_and_wraps_what_it_says(dsn: str, tmp_path: Path, width: int) -> None:
    event_files(tmp_path, "good.jsonl", f"{'long-folder/' * 12}far.jsonl")
    (tmp_path / "bad.jsonl").write_text("{\n")
    with (tmp_path / "odd.jsonl").open("w") as odd:
        odd.write('{"event_id": "1", "extra": 1}\n{\n')
    shown = show("load", "bad.jsonl", "good.jsonl", "long-folder", "odd.jsonl", dsn=dsn, width=width, folder=tmp_path)
    assert shown.code == 1
    lines = [line for line in shown.lines if not line.startswith("clickmart:")]
    assert lines[0].startswith("bad.jsonl ")
    assert next(line for line in lines if "far.jsonl" in line).startswith("…")
    text = " ".join(" ".join(lines).split())
    assert "failed, 1 rejected: none of its 1 records could be stored;" in re.sub(r" {2,}", " ", text)
    assert "1 row, 1 rejected in " in text
    assert "3 rows, 2 rejected from 4 files in " in text
    assert [shown.colour(text) for text in ("failed,", "1 row in", "1 row, 1")] == ["red", "default", "brown"]
    again = show("load", "good.jsonl", dsn=dsn, width=width, folder=tmp_path)
    assert (again.code, again.lines[0].split()[:2]) == (0, ["good.jsonl", "skipped:"])


@pytest.mark.parametrize("width", WIDTHS)
def test_apply_says_what_it_does_and_why(dsn: str, tmp_path: Path, width: int) -> None:
    event_files(tmp_path, "a.jsonl")
    run("load", str(tmp_path), dsn=dsn)
    planned = show("apply", "--plan", dsn=dsn, width=width)
    assert planned.lines == ["would apply:", "  refresh: 1 new load, 1 row"]
    applied = show("apply", dsn=dsn, width=width)
    assert applied.lines[0] == "refresh: 1 new load, 1 row"
    assert re.fullmatch(r"applied in \d\.\d s", applied.lines[1])
    assert len(applied.lines) == 2
    assert show("apply", dsn=dsn, width=width).lines == ["nothing to do"]
    assert [planned.colour("refresh"), applied.colour("refresh"), applied.colour("applied")] == [
        "brown",
        "green",
        "green",
    ]


def test_of_a_path_without_room_the_end_is_shown(empty_dsn: str, tmp_path: Path) -> None:
    name = f"{'long_' * 20}end.sql"
    smallest_project(tmp_path, {f"migrations/0002_{name}": "select 1;", f"sql/a/{name}": "select 1;"})
    project = ("--project", str(tmp_path))
    planned = show("apply", "--plan", *project, dsn=empty_dsn, width=60)
    run("apply", *project, dsn=empty_dsn)
    for shown in (planned, show("status", *project, dsn=empty_dsn, width=60)):
        cut = [line.split()[0] for line in shown.lines if "end.sql" in line]
        assert [path[0] for path in cut] == ["…", "…"]


@pytest.mark.parametrize("width", WIDTHS)
def test_check_shows_claims_and_every_value_of_a_failing_row(dsn: str, width: int) -> None:
    query(
        dsn,
        "insert into cdm.purchases (user_id, first_product_at, first_cart_at, paid_at, confirmed_at, count_products, "
        "page_urls, referer_url, utm_campaign) select 'somebody@example.com', at, at, at, at, 1, '{/a}', 'r', 'c' "
        "from (values (timestamp '2026-03-02 10:00:00.123456')) as row (at)",
    )
    shown = show("check", dsn=dsn, width=width)
    assert shown.code == 1
    assert (shown.colour("FAILED"), shown.colour("ok ")) == ("red", "green")
    # What is said beside a state begins in the same column on every line.
    claims = shown.lines[: shown.lines.index(next(line for line in shown.lines if line.startswith("FAILED")))]
    assert all(line[6:8] == "  " and line[8] != " " for line in claims)
    # Ten columns have no room, so that they stand under one another, whole.
    assert "confirmed_at      2026-03-02 10:00:00.123456" in shown.lines
    assert "user_id           somebody@example.com" in shown.lines


def test_demo_shows_the_marts(empty_dsn: str, tmp_path: Path) -> None:
    shown = show("demo", dsn=empty_dsn, width=100, folder=tmp_path)
    assert shown.code == 0
    assert shown.lines[0] == "sample: 8,803 events, 24 broken records set aside"
    assert " 1  http://shop.example.com/product_a              109" in shown.lines
    assert shown.lines[-1].startswith("report.html shows them")


@given(
    columns=st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=6),
    room=st.integers(1, 120),
)
def test_columns_are_made_narrower_only_as_far_as_needed(columns: list[tuple[int, int]], room: int) -> None:
    natural = [max(pair) for pair in columns]
    least = [min(pair) for pair in columns]
    widths = fitted(natural, least, room)
    if sum(least) > room:
        assert widths is None
        return
    assert widths is not None
    assert all(low <= width <= high for low, width, high in zip(least, widths, natural, strict=True))
    assert sum(widths) == min(sum(natural), room) or any(high > room for high in natural)
    assert sum(widths) <= room


# What is not interpreted

ODD_NAME = "[red]x[/red] \x1b[31m\x1b]0;title\x07 :smile:.jsonl"
ODD_SHOWN = r"[red]x[/red] \x1b[31m\x1b]0;title\x07 :smile:.jsonl"


def test_no_name_of_a_file_is_markup_or_moves_the_terminal(dsn: str, tmp_path: Path) -> None:
    event_files(tmp_path, ODD_NAME)
    (tmp_path / "bad[bold]\x1b[31m.jsonl").write_text("{\n")
    for arguments in (["load", "."], ["status"]):
        shown = show(*arguments, dsn=dsn, width=250, folder=tmp_path)
        assert any(ODD_SHOWN in line for line in shown.lines), shown.lines
        assert any(r"bad[bold]\x1b[31m.jsonl" in line for line in shown.lines)
        assert shown.screen.title == ""
        assert shown.colour("[red]x") == "default"
        assert "\x1b[31m" not in shown.sent
    missing = show("load", "none\x1b[31m.jsonl", dsn=dsn, width=250)
    assert (missing.code, missing.lines[0][:35]) == (1, r"clickmart: none\x1b[31m.jsonl: no f")


def test_no_value_of_a_check_is_markup_or_moves_the_terminal(empty_dsn: str, tmp_path: Path) -> None:
    odd = ODD_NAME.replace("\x1b", "' || chr(27) || '").replace("\x07", "' || chr(7) || '")
    view = f"create view checks.odd as select '{odd}\n' as \"[bold]a[/bold]\";"
    comment = "comment on view checks.odd is '[red]claim[/red]';"
    smallest_project(tmp_path, {"sql/a/1.sql": f"create schema checks; {view} {comment}"})
    run("apply", "--project", str(tmp_path), dsn=empty_dsn)
    shown = show("check", dsn=empty_dsn)
    assert shown.lines[:4] == [
        "FAILED  odd: [red]claim[/red]",
        "[bold]a[/bold]",
        "─" * (len(ODD_SHOWN) + 2),
        rf"{ODD_SHOWN}\n",
    ]
    assert (shown.screen.title, shown.colour("[red]x")) == ("", "default")


def test_an_error_that_quotes_a_file_moves_nothing(empty_dsn: str, tmp_path: Path) -> None:
    smallest_project(tmp_path, {"sql/a/1.sql": "select 1;\n\tselect '\x1b[31m' from nothing;\n"})
    shown = show("apply", "--project", str(tmp_path), dsn=empty_dsn)
    assert shown.code == 1
    assert any(r"select '\x1b[31m' from nothing;" in line for line in shown.lines)
    assert "\x1b[31m'" not in shown.sent


# What a terminal may refuse


@pytest.mark.parametrize("command", ["status", "check", "load"])
def test_no_color_is_no_colour_and_no_other_style(dsn: str, tmp_path: Path, command: str) -> None:
    event_files(tmp_path, "a.jsonl")
    arguments = ["load", str(tmp_path)] if command == "load" else [command]
    shown = show(*arguments, dsn=dsn, NO_COLOR="1")
    assert shown.code == 0
    assert re.findall(r"\x1b\[[\d;]*m", shown.sent) == []
    assert len(shown.lines) > 0


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_dumb_terminal_gets_the_lines_of_a_pipe(dsn: str, tmp_path: Path, term: str) -> None:
    event_files(tmp_path, "a.jsonl")
    shown = show("load", "a.jsonl", dsn=dsn, folder=tmp_path, TERM=term)
    assert "\x1b" not in shown.sent
    assert [re.sub(r"\d\.\d s", "N s", line) for line in shown.lines] == [
        "loading 1 file", "a.jsonl: 1 row in N s", "a.jsonl  1 row in N s",
    ]  # fmt: skip
    assert show("status", dsn=dsn, TERM=term).sent.replace("\r\n", "\n") == run("status", dsn=dsn).stdout


def test_a_terminal_of_few_letters_gets_codes_for_the_others(dsn: str, tmp_path: Path) -> None:
    event_files(tmp_path, f"{'ordner/' * 30}ж.jsonl")
    run("load", str(tmp_path), dsn=dsn)
    shown = show("status", dsn=dsn, PYTHONIOENCODING="latin-1", PYTHONUTF8="0")
    assert shown.code == 0
    assert r"\u0436.jsonl" in "\n".join(shown.lines)


# Progress


def test_progress_is_one_line_that_is_gone_at_the_end(empty_dsn: str, tmp_path: Path) -> None:
    project = smallest_project(tmp_path, {"sql/a/1.sql": "select pg_sleep(0.5);"})
    with (tmp_path / "out").open("wb") as out:
        shown = show("apply", "--project", str(project.folder), dsn=empty_dsn, stdout=out.fileno())
    assert shown.lines == []
    seen = {" ".join(words) for words in re.findall(r"(\d/\d)  (\S+ \S+)", shown.sent)}
    assert "2/4 applying sql/a/1.sql" in seen
    # The cursor is seen again.
    assert shown.sent.rindex("\x1b[?25h") > shown.sent.rindex("\x1b[?25l")
    assert (tmp_path / "out").read_text().startswith("migrations/0001_cdm.sql  new\n")


def test_what_a_source_leaves_out_and_what_a_file_lacks_stays_above_the_result(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"event": "$pageview", "timestamp": "2022-09-30 10:00:00"}\n')
    shown = show("load", "--source", "posthog", "a.jsonl", dsn=dsn, folder=tmp_path, width=80)
    text = "".join(shown.lines)
    assert text.startswith("source posthog (sources/posthog.toml): nothing feeds referer_url_port, referer_")
    assert "a.jsonl: nothing in the first event feeds user_domain_id or user_custom_id" in text
    assert shown.lines[-1].startswith("a.jsonl  1 row in ")


def test_progress_of_an_apply_that_fails_leaves_the_error_alone(empty_dsn: str, tmp_path: Path) -> None:
    project = smallest_project(tmp_path, {"sql/a/1.sql": "select pg_sleep(0.3); select nothing;"})
    shown = show("apply", "--project", str(project.folder), dsn=empty_dsn)
    assert shown.code == 1
    assert shown.lines[0] == 'clickmart: sql/a/1.sql:1:30: column "nothing" does not exist'
    assert shown.sent.rindex("\x1b[?25h") > shown.sent.rindex("\x1b[?25l")


def test_a_result_on_a_terminal_for_programs_is_json_alone(dsn: str, tmp_path: Path) -> None:
    event_files(tmp_path, "a.jsonl")
    shown = show("status", "--json", dsn=dsn)
    assert json.loads(shown.sent) == json.loads(run("status", "--json", dsn=dsn).stdout)


# What a pipe costs


def test_rich_is_imported_for_a_terminal_alone(dsn: str, tmp_path: Path) -> None:
    event_files(tmp_path, "a.jsonl")
    for arguments in (["load", "a.jsonl"], ["apply"], ["status"], ["check"], ["--help"]):
        code = f"import sys; from clickmart.cli import main; main({arguments}, standalone_mode=False); "
        code += "print([name for name in sys.modules if name.partition('.')[0] == 'rich'])"
        environment = os.environ | {"CLICKMART_DSN": dsn, "TERM": "xterm"}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.stdout.endswith("\n[]\n"), (arguments, done)


@pytest.mark.parametrize("width", [1, 8, 30])
def test_a_very_narrow_terminal_is_no_error(dsn: str, tmp_path: Path, width: int) -> None:
    event_files(tmp_path, "a.jsonl")
    for arguments in (["load", str(tmp_path)], ["status"], ["check"], ["apply"]):
        shown = show(*arguments, dsn=dsn, width=width)
        assert (shown.code, "fault of clickmart" in shown.sent) == (0, False)


def test_events_that_are_typed_are_not_written_over(dsn: str) -> None:
    shown = show("load", "-", dsn=dsn, keys=b'{"event_id": "1"}\n' + b"\x04" * 5)
    assert shown.lines[0] == '{"event_id": "1"}'
    assert re.fullmatch(r"-  1 row in \d\.\d s", shown.lines[1].removeprefix("^D\x08\x08"))
    assert "\x1b[2K" not in shown.sent
