"""What every command is made of: its options, how it says results and errors, and what it shows while it works."""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

import click

from .errors import ClickmartError
from .interrupts import interrupt_text, raise_interrupt, signals_as_interrupts
from .tables import Block, json_text, without_control

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from .load_report import LoadReport

PENDING: Final = 3


def complete_folders(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="dir")]


def complete_files(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, for programs.")
project_option = click.option(
    "--project",
    metavar="DIR",
    help="The project folder, as init makes one; left out, the built-in project.",
    default=None,
    shell_complete=complete_folders,
)


class Report(Protocol):
    def as_dict(self) -> dict[str, Any]: ...


@runtime_checkable
class HasBlocks(Protocol):
    """What can be laid out for a terminal."""

    def blocks(self) -> Iterable[Block]: ...


class Command(click.Command):
    """Says an error in one message on stderr and ends with its exit code; CLICKMART_DEBUG=1 shows the traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            try:
                return super().invoke(ctx)
            except Exception as error:
                raise_interrupt(error)
                raise
        except ClickmartError as error:
            if os.environ.get("CLICKMART_DEBUG"):
                raise
            click.echo(without_control(f"clickmart: {error}"), err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt as interrupt:
            with suppress(OSError):  # of a terminal that is closed
                click.echo(f"clickmart: {interrupt_text(interrupt)}", err=True)
            ctx.exit(1)
        except click.NoSuchOption as error:
            if error.option_name != "--dsn":
                raise
            message = "--dsn stands before the command: clickmart --dsn DSN COMMAND."
            raise click.UsageError(message, error.ctx) from None
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if os.environ.get("CLICKMART_DEBUG"):
                raise
            what = without_control(f"{type(error).__name__}: {error}")
            click.echo(f"clickmart: a fault of clickmart itself: {what}\nCLICKMART_DEBUG=1 shows where", err=True)
            ctx.exit(1)


class Commands(Command, click.Group):
    """Commands of one program."""


class _Plain(logging.Formatter):
    """Messages with nothing in them that a terminal would obey: they name files and what a server says."""

    def format(self, record: logging.LogRecord) -> str:
        return without_control(super().format(record))


def set_up(ctx: click.Context) -> None:
    """Warnings go to stderr, results to stdout, whatever the terminal knows of letters; a signal that asks to end is
    an interrupt while the command runs."""
    if threading.current_thread() is threading.main_thread():
        ctx.with_resource(signals_as_interrupts())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    # Its warnings are about a connection that is lost: the error that follows says so.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    # A terminal that lacks a letter of the data shows its code instead.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


class PassThrough(click.Command):
    """A command that takes every argument as it is, `--help` and `--` too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, ["--", *args])


def print_report(report: Report, as_json: bool) -> None:
    """The result on stdout: as JSON, else laid out for a terminal or as plain text."""
    if as_json:
        say(json_text(report.as_dict()))
    elif isinstance(report, HasBlocks) and _is_terminal(sys.stdout):
        from . import terminal

        terminal.show(report.blocks())
    else:
        say(without_control(str(report)))


def say(result: str | bytes) -> None:
    """A result on stdout: a text and a line end, or bytes as they are. Raises ClickmartError where it finds no room."""
    try:
        click.echo(result, nl=isinstance(result, str))
    except BrokenPipeError:
        raise
    except OSError as error:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  what waits to be written would fail again at the end
        raise ClickmartError(f"the result can't be written to standard output: {error.strerror}") from error


def print_load(report: LoadReport, as_json: bool) -> None:
    """Prints what became of each file; ends with 1 where one failed."""
    print_report(report, as_json)
    say_problems(report.problems())
    if report.failed:
        click.get_current_context().exit(1)


def say_problems(problems: Iterable[str]) -> None:
    """What failed, on stderr."""
    for problem in problems:
        click.echo(without_control(f"clickmart: {problem}"), err=True)


@contextmanager
def progress() -> Iterator[None]:
    """Shows on stderr how far the work within is. It is for someone who watches: a pipe or a log gets results alone."""
    if _is_terminal(sys.stderr):
        from . import terminal

        with terminal.live_progress():
            yield
        return
    if sys.stderr is not None and sys.stderr.isatty():
        logging.getLogger(__package__).setLevel(logging.INFO)
    yield


def _is_terminal(file: IO[str] | None) -> bool:
    """Whether it can move a cursor and knows colours; None is one that was closed before the command."""
    return file is not None and file.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
