"""The command `clickmart`: options in, text and exit code out.

A command's docstring is its help and its part of docs/cli.md: a short sentence for the list of commands, what it does,
with which code it ends, examples.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Literal

import click

from .cli_metabase import metabase
from .cli_rejects import rejects
from .command import (
    PENDING,
    Commands,
    PassThrough,
    complete_files,
    complete_folders,
    json_option,
    print_load,
    print_report,
    progress,
    project_option,
    say,
    say_problems,
    set_up,
)
from .errors import ClickmartError
from .interrupts import interrupt_text
from .tables import json_text
from .version import __version__

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

max_rejects_option = click.option(
    "--max-rejects",
    metavar="N",
    type=click.IntRange(min=0),
    help="Fail a file with more than N records that can't be stored; left out, any number is set aside.",
)
source_option = click.option(
    "--source",
    metavar="NAME",
    help="Read the files as that source's: access_log, ga4, matomo, posthog, segment, snowplow, or a sources/NAME.toml "
    "of the project; left out, fields have the names of stage.events' columns.",
    shell_complete=lambda ctx, _, incomplete: _source_names(ctx, incomplete),
)
load_jobs_option = click.option(
    "--jobs",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    help="Load N files at a time, or a large one by N processes; left out, one.",
)


def _source_names(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from .project import read_project

    try:
        names = read_project(ctx.params.get("project")).source_files
    except ClickmartError:
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _sql_names(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Of each SQL file of the project its shortest name that begins so; none of a project that can't be read."""
    from .project import read_project

    try:
        names = read_project(ctx.params.get("project")).names
    except ClickmartError:
        return []
    found = (next((name for name in of_file if name.startswith(incomplete)), None) for of_file in names.values())
    return [name for name in found if name]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--dsn",
    metavar="DSN",
    help="Where the warehouse is: postgresql://user@host/database or host=... dbname=...; stands before the command.",
)
@click.version_option(__version__)
@click.pass_context
def main(ctx: click.Context, dsn: str | None) -> None:
    """Files of page events in, exact clickstream marts out, in PostgreSQL.

    Where the warehouse is: --dsn, else the variable CLICKMART_DSN, else libpq's own where PGHOST, PGSERVICE or
    PGDATABASE is set, else an embedded PostgreSQL in .clickmart/ of the current folder, started when needed.

    Exit codes: 0 done; 1 it failed, as one message on stderr says; 2 wrong usage; 3 something is pending (status
    --exit-code). Ctrl-C, SIGTERM and SIGHUP end a command with 1: what it had finished stands, the rest is undone.
    Results go to stdout, progress to stderr if that is a terminal. CLICKMART_DEBUG=1 shows the
    traceback of an error; NO_COLOR=1 leaves colours out.

    \b
    Examples:
      clickmart demo
      clickmart load events/*.jsonl.gz
      clickmart --dsn postgresql://me@db.example.com/shop apply
    """
    ctx.obj = dsn
    set_up(ctx)


@main.command()
@json_option
@click.pass_obj
def demo(dsn: str | None, as_json: bool) -> None:
    """From nothing: load the bundled sample, apply, print the marts.

    It writes report.html to the current folder, which shows them as a page. The sample is a week of a small made-up
    shop. A second run finds it loaded. In a warehouse that holds other data the demo refuses to run, since the
    sample would mix with it.

    \b
    Examples:
      clickmart demo
      clickmart --dsn postgresql:///empty_database demo
    """
    from . import api

    with progress():
        report = api.demo(dsn=dsn)
    print_report(report, as_json)


@main.command()
@click.argument("folder", metavar="DIR", shell_complete=complete_folders)
def init(folder: str) -> None:
    """Copy the built-in project folder to DIR, to change it.

    DIR must not exist, or be empty. In it: clickmart.toml with the settings, migrations/, sql/ with the marts as
    templates, sources/ with the mappings of other tools' files, dashboards/, tests/ with the first timelines.

    \b
    Examples:
      clickmart init shop
      clickmart apply --plan --project shop
    """
    from . import api

    say(str(api.init(folder)))


@main.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, shell_complete=complete_files)
@max_rejects_option
@load_jobs_option
@source_option
@click.option("--dry-run", is_flag=True, help="Write nothing; show what would be loaded, and what rejected.")
@project_option
@json_option
@click.pass_obj
def load(
    dsn: str | None,
    paths: tuple[str, ...],
    max_rejects: int | None,
    jobs: int,
    dry_run: bool,
    source: str | None,
    project: str | None,
    as_json: bool,
) -> None:
    """Load files into stage.events, each content once.

    PATH is a file, a folder, of which all files are loaded, a glob, or - for JSON lines on standard input. Below a
    folder or a glob a link that leads out of it is an error. A named pipe is read to its end, a device is refused.
    Formats: .jsonl, .ndjson, .json, .csv and .parquet, each also .gz; the first four also .zst and .zip.

    Each file is one transaction: all of it is loaded, or nothing. A file whose content is loaded already is skipped,
    whatever its name. A record that can't be stored is kept with the reason: see clickmart rejects. The marts
    change with the next apply; a warehouse without tables gets them first.

    With --source the fields are those of another tool, and its mapping says which column each feeds, and which events
    are page views; the others are passed over and counted. Files may then also be TSV or logs, of any extension. A
    file whose first events lack what the mapping needs fails before any row is loaded. See docs/sources.md.

    A dry run reads the files as a load does and asks the server about doubtful values, but sends no row: what
    constraints or triggers of your own on stage.events refuse, only a load finds.

    Ends with 1 if a file failed, or would fail; the others are loaded all the same.

    \b
    Examples:
      clickmart load events/*.jsonl.gz
      clickmart load --dry-run events/*.jsonl.gz
      clickmart load --max-rejects 100 --jobs 4 archive/
      zcat events.gz | clickmart load -
      clickmart load --source snowplow 'enriched/*.gz'
    """
    from . import api

    # A line that changes would stand in the way of what is typed.
    is_typed = "-" in paths and sys.stdin is not None and sys.stdin.isatty()
    with nullcontext() if is_typed else progress():
        report = api.load(
            *paths, dsn=dsn, max_rejects=max_rejects, jobs=jobs, project=project, source=source, dry_run=dry_run
        )
    print_load(report, as_json)


@main.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, shell_complete=complete_folders)
@click.option(
    "--interval",
    metavar="SECONDS",
    type=click.FloatRange(min=0.1, max=86400),
    default=5,
    show_default=True,
    help="Look so often.",
)
@max_rejects_option
@load_jobs_option
@source_option
@project_option
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each round, for programs.")
@click.pass_obj
def watch(
    dsn: str | None,
    paths: tuple[str, ...],
    interval: float,
    max_rejects: int | None,
    jobs: int,
    source: str | None,
    project: str | None,
    as_json: bool,
) -> None:
    """Load and apply new files as they appear, until it is stopped.

    PATH is a folder, of which all files are loaded as load does, or a glob. What is there already comes first; what is
    loaded already is skipped. A file is taken when two looks find it the same: write one that takes long under a name
    that starts with a dot, or elsewhere, and rename it. A file that failed is tried again when it has changed.

    A server that is gone, a full disk, an error in the project: each is said once on stderr and tried again, after a
    while that grows from --interval to 64 times as long.

    Ends with 0 by Ctrl-C, SIGTERM or SIGHUP: what it had loaded stands, a file amid which it was stopped comes the next
    time. Ends with 1 if the first look or the first apply fails.

    \b
    Examples:
      clickmart watch incoming/
      clickmart watch --interval 60 --jobs 2 'incoming/*.jsonl.gz'
    """
    from . import api

    try:
        for report in api.watch(
            *paths, dsn=dsn, interval=interval, max_rejects=max_rejects, jobs=jobs, project=project, source=source
        ):
            if as_json:
                say(json_text(report.as_dict(), indent=None))
            elif report.load or report.apply:
                print_report(report, as_json)
            say_problems(report.problems())
    except KeyboardInterrupt as interrupt:
        click.echo(f"clickmart: {interrupt_text(interrupt)}", err=True)


main.add_command(rejects)


@main.command()
@click.option("--plan", is_flag=True, help="Change nothing; show what would run, and why.")
@click.option("--data", is_flag=True, help="With --plan: try it on a copy, and show what would differ in the marts.")
@click.option(
    "--rows",
    metavar="N",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="With --data: of each mart the first N rows that differ; 0: all.",
)
@click.option("--full", is_flag=True, help="Build all marts anew, from all that is loaded.")
@click.option(
    "--jobs",
    metavar="N",
    type=click.IntRange(min=1),
    help="Let N processes of the server work on the refresh; left out, as the server is set.",
)
@project_option
@json_option
@click.pass_obj
def apply(
    dsn: str | None,
    plan: bool,
    data: bool,
    rows: int,
    full: bool,
    jobs: int | None,
    project: str | None,
    as_json: bool,
) -> None:
    """Apply what is pending, and take new loads into the marts.

    Pending are migrations that were not applied yet, and SQL files whose rendered text has changed. Each migration
    is a transaction; the SQL files and the refresh are one more, so that readers see all of it or nothing, and keep
    reading meanwhile. What a changed file or setting touches is built anew. Two applies at once: the second waits.
    A migration that was changed after it was applied is refused by name, and so is a warehouse with migrations that
    the project lacks, as a newer clickmart or another project leaves one.

    With --plan --data all of it is tried on a copy of the marts, while they are read and files are loaded as ever:
    which rows would differ, by the change and by the new loads, how long each step takes, which locks keep others
    waiting, and which cards of dashboards/ PostgreSQL would no longer take. An apply waits until it ends.

    Ends with 1 if anything fails, the marts being as they were then; and if a card would break that --data tried.

    \b
    Examples:
      clickmart apply
      clickmart apply --plan --project shop
      clickmart apply --plan --data --project shop
      clickmart apply --full --jobs 4
    """
    from . import api

    if data and not plan:
        raise click.UsageError("--data goes with --plan: it shows what the plan would change")
    with progress():
        report = api.apply(dsn=dsn, project=project, plan=plan, full=full, jobs=jobs, data=data, rows=rows or None)
    print_report(report, as_json)
    if report.rehearsal and report.rehearsal.breaks_cards:
        click.echo("clickmart: a card would break", err=True)
        click.get_current_context().exit(1)


@main.command()
@click.option("--exit-code", is_flag=True, help="End with 3 if anything is pending, drifted or unknown.")
@project_option
@json_option
@click.pass_obj
def status(dsn: str | None, exit_code: bool, project: str | None, as_json: bool) -> None:
    """Show what is applied, pending or drifted, and the last loads.

    Pending: migrations and SQL files of the project that are not applied as they stand, loads that are not in the
    marts yet. Drifted: a migration that was changed after it was applied. Unknown: one that was applied and that the
    project lacks. Only reads.

    \b
    Examples:
      clickmart status
      clickmart status --exit-code --json
    """
    from . import api

    report = api.status(dsn=dsn, project=project)
    print_report(report, as_json)
    if exit_code and report.pending:
        click.get_current_context().exit(PENDING)


@main.command()
@click.argument("name", required=False, shell_complete=_sql_names)
@project_option
def render(name: str | None, project: str | None) -> None:
    """Print the SQL that would run, ready for psql.

    It is the SQL that the templates of the project make, and nothing else. NAME is a file of the project by its
    path, by its name, or by that without .sql; a migration too. Without NAME all files of sql/ come in the order in
    which they apply. No database is needed.

    Ends with 2 if NAME means no file or several.

    \b
    Examples:
      clickmart render 10_purchases
      clickmart render --project shop | less
    """
    from . import api

    # As bytes: SQL is UTF-8, whatever the terminal is.
    say(api.render(name, project=project).encode())


@main.command()
@click.option("--prove", is_flag=True, help="Instead, compare the marts with a full build from the raw events.")
@click.option(
    "--sample",
    metavar="N",
    type=click.IntRange(1, 2**63 - 1),
    help="With --prove: only N users, at random, and what is theirs alone.",
)
@click.option(
    "--seed",
    metavar="S",
    type=click.IntRange(-(2**63), 2**63 - 1),
    help="With --sample: draw the users by this number; left out, others each time.",
)
@project_option
@json_option
@click.pass_obj
def check(
    dsn: str | None, prove: bool, sample: int | None, seed: int | None, project: str | None, as_json: bool
) -> None:
    """Run the data checks, and show the rows that fail.

    Each view of the schema checks is one, and its rows are the failures; the built-in ones compute every mart anew from
    the tables below it. Only reads.

    With --prove it goes down to the raw events: builds in temporary tables what a full apply would, from the loads that
    the marts have taken in, and shows each row that stands and should not, or should and does not. It costs about as
    much as that apply, with --sample one look at the raw events and the work of N users. Loads and applies may go on
    meanwhile; an apply that builds the page views anew waits for its end.

    Ends with 1 if a check fails, or if a mart differs.

    \b
    Examples:
      clickmart check
      clickmart check --json
      clickmart check --prove
      clickmart check --prove --sample 1000 --seed 42
    """
    from . import api

    if sample is not None and not prove:
        raise click.UsageError("--sample N goes with --prove: the checks look at all that is there")
    if seed is not None and sample is None:
        raise click.UsageError("--seed S goes with --sample N: it draws the users")
    if prove:
        with progress():
            proof = api.prove(dsn=dsn, project=project, sample=sample, seed=seed)
        print_report(proof, as_json)
        failure, failed = "what stands is not what a full build makes", proof.failed
    else:
        report = api.check(dsn=dsn, project=project)
        print_report(report, as_json)
        failure, failed = "a check failed", report.failed
    if failed:
        click.echo(f"clickmart: {failure}", err=True)
        click.get_current_context().exit(1)


@main.command()
@click.argument("paths", metavar="[FILE]...", nargs=-1, shell_complete=complete_files)
@project_option
@json_option
@click.pass_obj
def test(dsn: str | None, paths: tuple[str, ...], project: str | None, as_json: bool) -> None:
    """Test the project's marts by its timelines.

    A timeline, tests/*.timeline of the project, has events and the rows that marts shall have after them. Each is
    loaded in several ways, with an apply after each load: as it stands, an event at a time, and so from the last to the
    first; then all is built anew. The marts must be the same each time. Databases of its own are made on the
    warehouse's server for it and dropped at the end; the warehouse is not touched. See docs/testing.md.

    Ends with 1 if a mart is not as expected.

    \b
    Examples:
      clickmart test
      clickmart test --project shop
      clickmart test --project shop shop/tests/refund.timeline
    """
    from . import api

    with progress():
        report = api.test(*paths, dsn=dsn, project=project)
    print_report(report, as_json)
    if report.failed:
        click.echo("clickmart: a timeline failed", err=True)
        click.get_current_context().exit(1)


@main.command()
@click.argument("subject", metavar="USER | purchase ID", nargs=-1, required=True)
@click.option("--steps", "only_steps", is_flag=True, help="Leave out the pages that are no step.")
@click.option(
    "--last",
    metavar="N",
    type=click.IntRange(min=0),
    default=1000,
    help="Of many views the last N; 0: all.",
    show_default=True,
)
@json_option
@click.pass_obj
def explain(dsn: str | None, subject: tuple[str, ...], only_steps: bool, last: int, as_json: bool) -> None:
    """Show what became of a user's page views, and why.

    USER is one of user_id in cdm.purchases; its page views come in their order, each with a verdict: bought, ignored
    since no product came since the last cart, before the purchase window and so on. With the word purchase and its id
    in cdm.purchases: the views on the way to that purchase. Only reads what the marts have taken in; psql and Metabase
    have the same as cdm.explain_user and cdm.explain_purchase.

    Ends with 1 if there is no such user or purchase.

    \b
    Examples:
      clickmart explain 7fe2e5b6-1d3a-4a0e-9e5a-6d3f0c1b2a3d
      clickmart explain --steps --json 7fe2e5b6-1d3a-4a0e-9e5a-6d3f0c1b2a3d
      clickmart explain purchase 42
    """
    from . import api

    match subject:
        case (user,):
            report = api.explain(user, only_steps=only_steps, last=last or None, dsn=dsn)
        case ("purchase", number) if number.isascii() and number.isdigit():
            report = api.explain_purchase(int(number), only_steps=only_steps, last=last or None, dsn=dsn)
        case ("purchase", number):
            raise click.UsageError(f"a purchase is named by its id in cdm.purchases, found {number!r}")
        case _:
            raise click.UsageError(f"one user, or purchase and its id, found {' '.join(subject)!r}")
    print_report(report, as_json)


@main.command()
@click.argument("mart", metavar="MART", type=click.Choice(["events_hours", "products_hours", "top_pages", "sources"]))
@click.option("--hour", metavar="HOUR", help="Of that hour alone, as '2022-09-30 21:00', in UTC.")
@click.option(
    "--where",
    metavar="NAME=VALUE",
    multiple=True,
    help="Of rows with that value alone, as event_type=cart; repeatable.",
)
@click.option(
    "--last",
    metavar="N",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help="Of many changes the last N; 0: all.",
)
@json_option
@click.pass_obj
def history(dsn: str | None, mart: str, hour: str | None, where: tuple[str, ...], last: int, as_json: bool) -> None:
    """Show how a mart's numbers changed, and by which files.

    Each refresh that changes a row of events_hours, products_hours, sources or of the pages that top_pages ranks is
    recorded, and what somebody changes by hand too. psql and Metabase have the same as cdm.history; cdm.prune_history
    forgets what is old.

    \b
    Examples:
      clickmart history events_hours --hour '2022-09-30 21:00'
      clickmart history sources --where referer_url=www.google.com --json
    """
    from . import api

    parted = [text.partition("=") for text in where]
    if any(not sign for _, sign, _ in parted):
        raise click.UsageError("--where is NAME=VALUE, as --where event_type=cart")
    values = {name: value for name, _, value in parted}
    print_report(api.history(mart, hour=hour, where=values, last=last or None, dsn=dsn), as_json)


@main.command()
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    help="The page's file, - for standard output; for images their folder. Left out, report.html or report.",
    shell_complete=complete_files,
)
@click.option("--format", type=click.Choice(["html", "png"]), default="html", help="One page, or an image a card.")
@click.option(
    "--dashboard", "dashboards", metavar="NAME", multiple=True, help="This dashboard, and others given; left out, all."
)
@click.option(
    "--filter", "filters", metavar="NAME=VALUE", multiple=True, help="Narrow by a filter of the dashboards; repeatable."
)
@project_option
@json_option
@click.pass_obj
def report(
    dsn: str | None,
    output: str | None,
    format: Literal["html", "png"],  # the option's name
    dashboards: tuple[str, ...],
    filters: tuple[str, ...],
    project: str | None,
    as_json: bool,
) -> None:
    """Write the dashboards as one HTML file, or as images.

    The page has charts with their tables, needs nothing else and asks for nothing. All cards are read in one snapshot;
    a card that fails leaves the former file as it was. Only reads.

    Ends with 1 if a card fails or the file can't be written.

    \b
    Examples:
      clickmart report
      clickmart report -o march.html --filter from=2026-03-01 --filter to=2026-03-31
      clickmart report --format png -o images
    """
    from . import api

    if as_json and output == "-":
        raise click.UsageError("--json describes a file; -o - writes none")
    values = dict(map(_named_value, filters))
    written = api.report(output, dsn=dsn, project=project, format=format, dashboards=dashboards, filters=values)
    if written.page is not None:
        say(written.page.encode())  # as bytes: it is UTF-8, whatever the terminal is
    else:
        print_report(written, as_json)


def _named_value(said: str) -> tuple[str, str]:
    name, equals, value = said.partition("=")
    if not equals:
        raise click.UsageError(f"--filter takes NAME=VALUE, found {said!r}")
    return name, value


@main.command(cls=PassThrough)
@click.argument("arguments", metavar="[ARGS]...", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def psql(dsn: str | None, arguments: tuple[str, ...]) -> None:
    """Run psql on the warehouse; ARGS are psql's own.

    It is the machine's psql, else the one that comes with the embedded server. It ends with psql's exit code.

    \b
    Examples:
      clickmart psql
      clickmart psql -c '\\d+ cdm.purchases'
      clickmart psql --csv -c 'table cdm.sources' > sources.csv
    """
    from . import api

    click.get_current_context().exit(api.psql(*arguments, dsn=dsn))


@main.command()
def stop() -> None:
    """Stop the embedded server of the current folder.

    The data stay; the next command starts it again.

    \b
    Example:
      clickmart stop
    """
    from . import api

    say(str(api.stop()))


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script by which a shell completes this command.

    It completes commands, options, paths and the names of render, by asking clickmart. Have the shell read it
    whenever it starts.

    \b
    Examples:
      echo 'eval "$(clickmart completion bash)"' >> ~/.bashrc
      echo 'eval "$(clickmart completion zsh)"' >> ~/.zshrc
      clickmart completion fish > ~/.config/fish/completions/clickmart.fish
    """
    from . import api

    say(api.completion(shell))


main.add_command(metabase)
