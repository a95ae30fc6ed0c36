"""Completion, asked as the shells ask for it, and by a real bash at a real terminal."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import clickmart
import pytest
from click.shell_completion import ShellComplete
from clickmart.cli import main
from clickmart.errors import UsageError
from projects import outcome, run, smallest_project, write_files

NO_BASH = not shutil.which("bash")


def completed(*words: str) -> list[tuple[str, str]]:
    """What is proposed for the last word: values, or that the shell is to propose files or folders."""
    *before, incomplete = words
    found = ShellComplete(main, {}, "clickmart", "_CLICKMART_COMPLETE").get_completions(before, incomplete)
    return [(item.type, item.value) for item in found]


def values(*words: str) -> list[str]:
    return [value for kind, value in completed(*words) if kind == "plain"]


def test_commands_and_options_are_completed() -> None:
    assert values("st") == ["status", "stop"]
    assert values("--dsn", "x", "app") == ["apply"]
    assert values("apply", "--p") == ["--plan", "--project"]
    assert values("completion", "") == ["bash", "zsh", "fish"]


@pytest.mark.parametrize("words", [["load", "ev"], ["load", "a.csv", "ev"]])
def test_files_are_left_to_the_shell(words: list[str]) -> None:
    assert completed(*words) == [("file", "ev")]


@pytest.mark.parametrize("words", [["init", "s"], ["apply", "--project", "s"], ["status", "--project", "s"]])
def test_folders_are_left_to_the_shell(words: list[str]) -> None:
    assert completed(*words) == [("dir", "s")]


def test_render_is_completed_by_the_shortest_name_that_means_one_file(tmp_path: Path) -> None:
    smallest_project(tmp_path, {"sql/a/1.sql": "", "sql/b/1.sql": "{{ nothing", "sql/b/two words.sql": ""})
    render = ["render", "--project", str(tmp_path)]
    assert values(*render, "") == ["0001_cdm", "90_refresh", "a/1.sql", "b/1.sql", "two words"]
    assert values(*render, "sql/") == ["sql/cdm/90_refresh.sql", "sql/a/1.sql", "sql/b/1.sql", "sql/b/two words.sql"]
    assert values(*render, "90_refresh.") == ["90_refresh.sql"]
    assert values(*render, "m") == ["migrations/0001_cdm.sql"]
    assert values(*render, "x") == []
    assert "20_sources" in values("render", "20")


def test_each_proposed_name_is_one_that_render_takes(tmp_path: Path) -> None:
    smallest_project(tmp_path, {"sql/a/1.sql": "select 1;\n", "sql/b/1.sql": "select 2;\n"})
    for name in values("render", "--project", str(tmp_path), ""):
        assert run("render", "--project", str(tmp_path), name).exit_code == 0


def test_a_project_that_cannot_be_read_has_no_names_and_no_error(tmp_path: Path) -> None:
    write_files(tmp_path, {"clickmart.toml": "nonsense"})
    assert values("render", "--project", str(tmp_path), "") == []
    assert values("render", "--project", str(tmp_path / "none"), "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_for_the_shell_and_needs_no_shell_to_be_printed(
    shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    script = clickmart.completion(shell)
    assert f"_CLICKMART_COMPLETE={shell}_complete" in script
    assert outcome(run("completion", shell)) == (0, f"{script}\n", "")
    if shutil.which(shell, path=os.defpath):
        subprocess.run([str(shutil.which(shell, path=os.defpath)), "-n"], input=script, text=True, check=True)


def test_another_shell_is_wrong_usage() -> None:
    assert run("completion", "tcsh").exit_code == 2
    with pytest.raises(UsageError, match=r"^tcsh: a shell for which there is no script; there are bash, zsh and fish$"):
        clickmart.completion("tcsh")


@pytest.mark.skipif(NO_BASH, reason="no bash")
def test_bash_completes_at_a_terminal_what_then_runs(tmp_path: Path) -> None:
    write_files(tmp_path, {"events/some file.jsonl": "", "shop/x": ""})
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TERM": "dumb",
        "HOME": str(tmp_path),
        "PS1": "$ ",
    }
    process, terminal = pty.fork()
    if not process:
        os.chdir(tmp_path)
        os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environment)

    def type_and_wait(keys: str, answer: str) -> str:
        os.write(terminal, keys.encode())
        seen, deadline = "", time.monotonic() + 30
        while answer not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([terminal], [], [], 0.2)[0]:
                seen += os.read(terminal, 65536).decode()
        return seen

    try:
        type_and_wait("", "$ ")
        type_and_wait(
            'bind "set enable-bracketed-paste off"; eval "$(clickmart completion bash)"; echo re""ady\n', "ready"
        )
        type_and_wait("clickmart ren\t", "render ")
        type_and_wait("30_r\t", "efresh ")
        type_and_wait("\n", "create or replace function cdm.refresh(")
        type_and_wait("clickmart load ev\t", "events/")
        type_and_wait("so\t", r"some\ file.jsonl")
        # Ctrl-U takes the line away.
        type_and_wait("\x15clickmart apply --project sh\t", "shop/")
    finally:
        os.close(terminal)
        os.waitpid(process, 0)
