"""The commands that keep dashboards at a Metabase."""

from __future__ import annotations

from typing import Any

import click

from .command import PENDING, json_option, print_report, progress, project_option

url_option = click.option("--url", metavar="URL", help="Where Metabase is; else METABASE_URL.")
collection_option = click.option(
    "--collection", metavar="NAME", default="clickmart", help="The collection of the dashboards."
)


@click.group()
def metabase() -> None:
    """The dashboards at a Metabase: plan, push, pull, export.

    The API key is in METABASE_API_KEY, and on no command line. Exit codes: 0 done; 1 it failed; 3 a push would write
    (plan --exit-code).

    \b
    Examples:
      clickmart metabase plan --url https://metabase.example.com
      clickmart metabase push --project shop
      clickmart metabase pull --project shop
      clickmart metabase export serialized
    """


def metabase_options(command: Any) -> Any:
    """The options of every command that talks to a Metabase."""
    for option in reversed(
        [
            url_option,
            collection_option,
            click.option("--database", metavar="NAME", help="Metabase's name of the warehouse; else clickmart's own."),
            click.option("--create-database", is_flag=True, help="Make that database at Metabase if it lacks it."),
            click.option("--timeout", metavar="S", type=float, default=300, help="Seconds to wait for a new database."),
        ]
    ):
        command = option(command)
    return click.pass_obj(command)


def _metabase_options(dsn: str | None, options: dict[str, Any]) -> Any:
    from .metabase.pushing import MetabaseOptions

    return MetabaseOptions(dsn=dsn, **options)


@metabase.command(name="plan")
@click.option("--exit-code", is_flag=True, help="End with 3 when a push would write anything.")
@project_option
@json_option
@metabase_options
def metabase_plan(
    dsn: str | None, url: str | None, project: str | None, as_json: bool, exit_code: bool, **options: Any
) -> None:
    """Show what a push would write, and change nothing."""
    from . import api

    report = api.metabase_plan(url=url, project=project, options=_metabase_options(dsn, options))
    print_report(report, as_json)
    if exit_code and report.pending:
        click.get_current_context().exit(PENDING)


@metabase.command(name="push")
@project_option
@json_option
@metabase_options
def metabase_push(dsn: str | None, url: str | None, project: str | None, as_json: bool, **options: Any) -> None:
    """Make Metabase hold the project's dashboards; what isn't clickmart's stays as it is."""
    from . import api

    with progress():
        report = api.metabase_push(url=url, project=project, options=_metabase_options(dsn, options))
    print_report(report, as_json)


@metabase.command(name="pull")
@url_option
@collection_option
@project_option
@json_option
def metabase_pull(url: str | None, collection: str, project: str | None, as_json: bool) -> None:
    """Bring what was changed in the browser into the project's files, and show the difference."""
    from . import api

    options = _metabase_options(None, {"collection": collection})
    print_report(api.metabase_pull(url=url, project=project, options=options), as_json)


@metabase.command(name="export")
@click.argument("folder", metavar="DIR")
@collection_option
@click.option("--database", metavar="NAME", default="clickmart", help="Metabase's name of the warehouse.")
@click.option("--creator", metavar="EMAIL", default="internal@metabase.com", help="Whose the dashboards become.")
@project_option
@json_option
def metabase_export(
    folder: str, collection: str, database: str, creator: str, project: str | None, as_json: bool
) -> None:
    """Write the dashboards to DIR as the YAML that a paid Metabase imports."""
    from . import api

    report = api.metabase_export(folder, project=project, collection=collection, database=database, creator=creator)
    print_report(report, as_json)
