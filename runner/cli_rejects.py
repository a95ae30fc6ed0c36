"""The commands on rejects."""

from __future__ import annotations

import click

from .command import complete_files, json_option, print_report, progress, project_option

loads_option = click.option(
    "--load",
    "loads",
    metavar="N",
    type=int,
    multiple=True,
    help="Those of load N alone, and of others given; left out, of all.",
)


@click.group(invoke_without_command=True, subcommand_metavar="[COMMAND] [ARGS]...")
@loads_option
@json_option
@click.pass_context
def rejects(ctx: click.Context, loads: tuple[int, ...], as_json: bool) -> None:
    """List the records that could not be stored; export, replay.

    Without a command: how many there are for each reason, values, lines and the like left out of it, in which files,
    and the first of them. Only reads.

    \b
    Examples:
      clickmart rejects
      clickmart rejects --load 12 --json
      clickmart rejects export rejects.jsonl
      clickmart rejects replay
    """
    if ctx.invoked_subcommand is not None:
        if loads or as_json:
            raise click.UsageError(f"options stand behind the command: clickmart rejects {ctx.invoked_subcommand} ...")
        return
    from . import api

    print_report(api.rejects(loads=loads, dsn=ctx.obj), as_json)


@rejects.command(name="export")
@click.argument("file", metavar="FILE", shell_complete=complete_files)
@loads_option
@json_option
@click.pass_obj
def rejects_export(dsn: str | None, file: str, loads: tuple[int, ...], as_json: bool) -> None:
    """Write the rejected records to FILE as they came, to be corrected and loaded.

    They are written byte for byte: rows of CSV below their header line, lines of JSON as lines, elements of a JSON
    array as an array; rows of Parquet as lines of JSON. FILE is put in its place whole or not at all; - is standard
    output. What doesn't fit one file is refused, unless FILE is a folder, or ends with a slash: then each load has a
    file of its own in it. Rejects of loads that failed are left out, unless --load names one.

    Ends with 1 if they don't fit FILE, or it can't be written.

    \b
    Examples:
      clickmart rejects export rejects.jsonl
      clickmart rejects export --load 12 rejects.csv
      clickmart rejects export rejects/
    """
    from . import api

    if as_json and file == "-":
        raise click.UsageError("--json describes a file; - writes none")
    report = api.rejects_export(file, loads=loads, dsn=dsn)
    if file != "-":
        print_report(report, as_json)
    else:
        for warning in report.warnings():
            click.echo(f"clickmart: {warning}", err=True)


@rejects.command(name="replay")
@loads_option
@project_option
@json_option
@click.pass_obj
def rejects_replay(dsn: str | None, loads: tuple[int, ...], project: str | None, as_json: bool) -> None:
    """Load the rejected records that can be stored by now.

    They are read as their files were: what a newer clickmart, a changed column or a mended mapping of their source
    takes comes in, all in one transaction, as a load of its own for each source, which the next apply takes into the
    marts; the others stay. Each comes in once,
    however often and by how many a replay is run. Rejects of loads that failed stay: load their files.

    Ends with 1 if the server refuses the rows: then nothing is replayed.

    \b
    Examples:
      clickmart rejects replay
      clickmart rejects replay --load 12 --json
    """
    from . import api

    with progress():
        report = api.rejects_replay(loads=loads, dsn=dsn, project=project)
    print_report(report, as_json)
