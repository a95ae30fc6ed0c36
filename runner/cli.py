"""The command `clickmart`: options in, text and exit code out."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Final, Protocol, runtime_checkable

import click

from .errors import ClickmartError
from .tables import Block, without_control
from .version import __version__

PENDING: Final = 3

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
project_option = click.option(
    "--project", metavar="DIR", help="The project folder; the built-in one if left out.", default=None
)


class Report(Protocol):
    def as_dict(self) -> dict[str, Any]: ...


@runtime_checkable
class HasBlocks(Protocol):
    """What can be laid out for a terminal."""

    def blocks(self) -> Iterable[Block]: ...


class Commands(click.Group):
    """Says an error in one message on stderr and ends with its exit code; CLICKMART_DEBUG=1 shows the traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ClickmartError as error:
            if os.environ.get("CLICKMART_DEBUG"):
                raise
            click.echo(without_control(f"clickmart: {error}"), err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("clickmart: interrupted; what was not finished is undone", err=True)
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
            what = f"{type(error).__name__}: {error}"
            click.echo(f"clickmart: a fault of clickmart itself: {what}\nCLICKMART_DEBUG=1 shows where", err=True)
            ctx.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--dsn", metavar="DSN", help="Where the warehouse is; else CLICKMART_DSN, else PGHOST and the like.")
@click.version_option(__version__)
@click.pass_context
def main(ctx: click.Context, dsn: str | None) -> None:
    """Files of page events in, exact clickstream marts out, in PostgreSQL.

    Without --dsn, CLICKMART_DSN and libpq's PGHOST, PGSERVICE or PGDATABASE, the warehouse is an embedded
    PostgreSQL in .clickmart/ of the current folder, started when needed.
    """
    ctx.obj = dsn
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    # Its warnings are about a connection that is lost: the error that follows says so.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    # A terminal that lacks a letter of the data shows its code instead.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@main.command()
@json_option
@click.pass_obj
def demo(dsn: str | None, as_json: bool) -> None:
    """From nothing: load the bundled sample, apply, print the marts, write report.html."""
    from . import api

    with _progress():
        report = api.demo(dsn=dsn)
    _print(report, as_json)


@main.command()
@click.argument("folder", metavar="DIR")
def init(folder: str) -> None:
    """Copy the built-in project folder to DIR, to change it."""
    from . import api

    click.echo(api.init(folder))


@main.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("--max-rejects", metavar="N", type=click.IntRange(min=0), help="Fail a file with more rejects than N.")
@click.option("--jobs", metavar="N", type=click.IntRange(min=1), default=1, help="Load N files at a time.")
@project_option
@json_option
@click.pass_obj
def load(
    dsn: str | None, paths: tuple[str, ...], max_rejects: int | None, jobs: int, project: str | None, as_json: bool
) -> None:
    """Load files, folders or globs into stage.events, each content once; - is JSON lines on standard input.

    .jsonl, .ndjson, .json, .csv and .parquet, each also .gz; the first four also .zst and .zip.
    """
    from . import api

    with _progress():
        report = api.load(*paths, dsn=dsn, max_rejects=max_rejects, jobs=jobs, project=project)
    _print(report, as_json)
    for file in report.files:
        if file.status == "failed":
            named = file.problem if file.problem.startswith(file.file) else f"{file.file}: {file.problem}"
            click.echo(without_control(f"clickmart: {named}"), err=True)
    if report.failed:
        click.get_current_context().exit(1)


@main.command()
@click.option("--plan", is_flag=True, help="Change nothing; show what would run, and why.")
@click.option("--full", is_flag=True, help="Build all marts anew.")
@click.option(
    "--jobs", metavar="N", type=click.IntRange(min=1), help="Let N processes of the server refresh the marts."
)
@project_option
@json_option
@click.pass_obj
def apply(dsn: str | None, plan: bool, full: bool, jobs: int | None, project: str | None, as_json: bool) -> None:
    """Apply pending migrations and changed SQL files, and take new loads into the marts."""
    from . import api

    with _progress():
        report = api.apply(dsn=dsn, project=project, plan=plan, full=full, jobs=jobs)
    _print(report, as_json)


@main.command()
@click.option("--exit-code", is_flag=True, help="End with 3 when anything is pending or has drifted.")
@project_option
@json_option
@click.pass_obj
def status(dsn: str | None, exit_code: bool, project: str | None, as_json: bool) -> None:
    """Show what is applied, pending and drifted, and the last loads."""
    from . import api

    report = api.status(dsn=dsn, project=project)
    _print(report, as_json)
    if exit_code and report.pending:
        click.get_current_context().exit(PENDING)


@main.command()
@click.argument("name", required=False)
@project_option
def render(name: str | None, project: str | None) -> None:
    """Print the SQL that the templates make, or the one file NAME, ready for psql."""
    from . import api

    # As bytes: SQL is UTF-8, whatever the terminal is.
    click.echo(api.render(name, project=project).encode(), nl=False)


@main.command()
@project_option
@json_option
@click.pass_obj
def check(dsn: str | None, project: str | None, as_json: bool) -> None:
    """Run the data checks; end with 1 and show the failing rows where one fails."""
    from . import api

    report = api.check(dsn=dsn, project=project)
    _print(report, as_json)
    if report.failed:
        click.echo("clickmart: a check failed", err=True)
        click.get_current_context().exit(1)


class PassThrough(click.Command):
    """A command that takes every argument as it is, `--help` and `--` too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, ["--", *args])


@main.command(cls=PassThrough)
@click.argument("arguments", metavar="[ARGS]...", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def psql(dsn: str | None, arguments: tuple[str, ...]) -> None:
    """Run psql on the warehouse; ARGS are psql's own."""
    from . import api

    click.get_current_context().exit(api.psql(*arguments, dsn=dsn))


@main.command()
def stop() -> None:
    """Stop the embedded server of the current folder."""
    from . import api

    click.echo(api.stop())


def _print(report: Report, as_json: bool) -> None:
    """The result on stdout: as JSON, else laid out for a terminal or as plain text."""
    if as_json:
        click.echo(json.dumps(report.as_dict(), ensure_ascii=False, indent=2))
    elif isinstance(report, HasBlocks) and _is_terminal(sys.stdout):
        from . import terminal

        terminal.show(report.blocks())
    else:
        click.echo(str(report))


@contextmanager
def _progress() -> Iterator[None]:
    """Shows on stderr how far the work within is. It is for someone who watches: a pipe or a log gets results alone."""
    if _is_terminal(sys.stderr):
        from . import terminal

        with terminal.live_progress():
            yield
        return
    if sys.stderr.isatty():
        logging.getLogger(__package__).setLevel(logging.INFO)
    yield


def _is_terminal(file: IO[str]) -> bool:
    """Whether it can move a cursor and knows colours."""
    return file.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
