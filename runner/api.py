"""Each command as a function: `str()` of what it returns is what the command prints. Errors are ClickmartError (see
errors.py).

`dsn` is where the warehouse is; None looks at CLICKMART_DSN, at libpq's variables, and else takes the embedded server
of the current folder. `project` is a project folder; None is the built-in one.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Final, Literal

from .embedded import EmbeddedServer
from .errors import LoadError, ProjectError, UsageError, WarehouseError
from .project import TIMELINES, Project, checksum, init_project, names_of, read_project
from .tables import Block, Cell, line, plain
from .warehouse import EMBEDDED_FOLDER, Connection, Warehouse, find_warehouse, libpq_environment

# What one command alone needs is imported when it runs, so that none waits for the others' imports.
if TYPE_CHECKING:
    from .applying import ApplyReport
    from .checks import CheckReport
    from .load_report import LoadReport
    from .mart_history import HistoryReport
    from .marts import Mart
    from .metabase.exporting import MetabaseExport
    from .metabase.pulling import MetabasePull
    from .metabase.pushing import MetabaseOptions, MetabasePlan
    from .proof import ProofReport
    from .reject_export import ExportReport
    from .reject_groups import RejectsReport
    from .replaying import ReplayReport
    from .reporting.files import ReportFile
    from .state import StatusReport
    from .timeline import Timeline
    from .timeline_tests import TestReport
    from .watching import WatchReport

PathLike = str | os.PathLike[str]

_PROGRAM: Final = "clickmart"
#: By it the script asks the command, as click has it.
_COMPLETION_VARIABLE: Final = "_CLICKMART_COMPLETE"
REPORT_FILE: Final = "report.html"
REPORT_FOLDER: Final = "report"
_DEMO_ROWS: Final = 5


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What the demo did and the first rows of each mart; `report` is the HTML file that it wrote."""

    load: LoadReport
    apply: ApplyReport
    marts: tuple[Mart, ...]
    report: Path

    def as_dict(self) -> dict[str, Any]:
        return {
            "load": self.load.as_dict(),
            "apply": self.apply.as_dict(),
            "marts": {mart.name: mart.count_rows for mart in self.marts},
            "report": str(self.report),
        }

    def __str__(self) -> str:
        return plain(self.blocks())

    def blocks(self) -> Iterator[Block]:
        loaded = f"{self.load.rows_loaded:,} events, {self.load.rows_rejected:,} broken records set aside"
        if not self.load.rows_loaded:
            loaded = "loaded already"
        yield line(Cell("sample:", "good"), f" {loaded}")
        for mart in self.marts:
            yield line()
            yield from mart.blocks()
        yield line()
        yield line(f"{self.report.name} shows them as a page; `clickmart psql` asks them anything")


@dataclass(frozen=True, slots=True)
class InitReport:
    """The project folder that was made."""

    folder: Path

    def __str__(self) -> str:
        return f"{self.folder}: a project folder; change it, then `clickmart apply --project {quote(str(self.folder))}`"


@dataclass(frozen=True, slots=True)
class StopReport:
    """Whether a server ran that was stopped."""

    stopped: bool

    def __str__(self) -> str:
        return "stopped" if self.stopped else "no embedded server runs here"


def load(
    *paths: PathLike | Iterable[PathLike],
    dsn: str | None = None,
    max_rejects: int | None = None,
    jobs: int = 1,
    project: PathLike | None = None,
    source: str | None = None,
    dry_run: bool = False,
) -> LoadReport:
    """Loads files, folders and globs ("-" is standard input) into stage.events, each file once.

    `max_rejects`: a file with more rejects fails; None is any number. `jobs`: how many files at a time, or by how many
    processes a large one. `source`: whose fields they have (docs/sources.md); None is those of stage.events. `dry_run`:
    nothing is written, and the report says what would be. A file that fails is in the report. Raises LoadError where a
    path names nothing to load, ProjectError for a source that is amiss and for a dry run on a warehouse without tables.
    """
    flat = _loadable(paths, max_rejects=max_rejects, jobs=jobs)
    from .applying import apply_migrations
    from .loading import load_files
    from .paths import find_files, main_files

    read = _project(project)
    mapping = read.mapping(source) if source is not None else None
    files = main_files(find_files(flat, otherwise=mapping.format if mapping else ""), mapping)
    if mapping and not files:
        raise LoadError(f"none of these files is one of {mapping.main}..., which brings the others along")
    warehouse = find_warehouse(dsn)
    if dry_run:
        with _stage(warehouse, "try the files with"):
            pass
    else:
        apply_migrations(warehouse, read)
    return load_files(warehouse, files, max_rejects=max_rejects, jobs=jobs, dry_run=dry_run, mapping=mapping)


def watch(
    *paths: PathLike | Iterable[PathLike],
    dsn: str | None = None,
    interval: float = 5.0,
    max_rejects: int | None = None,
    jobs: int = 1,
    project: PathLike | None = None,
    source: str | None = None,
) -> Iterator[WatchReport]:
    """Loads what comes new into folders or matches globs, each file once, and applies; without end.

    Looks every `interval` seconds; `source` is that of `load`. A report comes for each round in which something was
    new. What goes wrong once it runs, as a server that is gone, is in the report and tried again. Raises UsageError,
    and what the first apply does.
    """
    if not interval > 0:
        raise UsageError(f"interval must be more than 0 seconds, found {interval}")
    flat = _loadable(paths, max_rejects=max_rejects, jobs=jobs)
    if any(os.fspath(path) == "-" for path in flat):
        raise UsageError("standard input can't be watched: name folders or globs, or load it")
    from .watching import watch

    return watch(
        find_warehouse(dsn),
        lambda: _project(project),
        [os.fspath(path) for path in flat],
        interval=interval,
        max_rejects=max_rejects,
        jobs=jobs,
        source=source,
    )


def _loadable(paths: Iterable[PathLike | Iterable[PathLike]], *, max_rejects: int | None, jobs: int) -> list[PathLike]:
    """The paths of a call, one or more. Raises UsageError for a number that none of its options takes."""
    if jobs < 1:
        raise UsageError(f"jobs must be 1 or more, found {jobs}")
    if max_rejects is not None and max_rejects < 0:
        raise UsageError(f"max_rejects must be 0 or more, found {max_rejects}")
    flat: list[PathLike] = []
    for path in paths:
        flat += [path] if isinstance(path, (str, os.PathLike)) else list(path)
    if not flat:
        raise UsageError("no path to load from")
    return flat


def rejects(*, loads: Iterable[int] = (), dsn: str | None = None) -> RejectsReport:
    """The records that could not be stored, nor were replayed since, by their reasons. Only reads.

    `loads` are numbers of loads, none meaning all. Raises UsageError for a number that no load has.
    """
    from .reject_groups import read_rejects

    with _stage(find_warehouse(dsn), "show") as connection:
        return read_rejects(connection, tuple(loads))


def rejects_export(output: PathLike, *, loads: Iterable[int] = (), dsn: str | None = None) -> ExportReport:
    """Writes the rejects as they came, byte for byte, to a file; "-" is standard output, a folder gets a file a load.

    `loads` are numbers of loads, none meaning all that did not fail. Only reads the warehouse. Raises LoadError where
    they don't fit one file.
    """
    from .reject_export import export_rejects

    with _stage(find_warehouse(dsn), "export") as connection:
        return export_rejects(connection, os.fspath(output), tuple(loads))


def rejects_replay(
    *, loads: Iterable[int] = (), dsn: str | None = None, project: PathLike | None = None
) -> ReplayReport:
    """Loads the rejects that can be stored by now, each once, as a load of its own for each source.

    `loads` are numbers of loads, none meaning all that did not fail. Those of a source's files are read as `project`
    has the source now. Raises LoadError where the server refuses the rows, which leaves all as it was.
    """
    from .replaying import replay

    warehouse = find_warehouse(dsn)
    with _stage(warehouse, "replay"):
        pass
    return replay(warehouse, _project(project), tuple(loads))


@contextmanager
def _opened(warehouse: Warehouse, what: str) -> Iterator[Connection]:
    """A connection. Raises ProjectError where there is no embedded server yet to do that with."""
    if warehouse.embedded and not warehouse.exists:
        raise ProjectError(f"nothing to {what}: no warehouse in {warehouse.embedded.home}; run `clickmart apply`")
    with warehouse.connect() as connection:
        yield connection


@contextmanager
def _stage(warehouse: Warehouse, what: str) -> Iterator[Connection]:
    """A connection to a warehouse that has tables as loads of this version write them. Raises ProjectError for another
    one, to do that with."""
    from . import ledger

    with _opened(warehouse, what) as connection:
        ledger.refuse_empty(connection, what)
        ledger.refuse_older(connection)
        yield connection


def apply(
    *,
    dsn: str | None = None,
    project: PathLike | None = None,
    plan: bool = False,
    full: bool = False,
    jobs: int | None = None,
    data: bool = False,
    rows: int | None = 20,
) -> ApplyReport:
    """Applies pending migrations and changed SQL files, and takes new loads into the marts.

    `plan` changes nothing and says what would run; `full` builds all marts anew. `jobs`: how many processes of the
    server may work on one statement of the refresh; None leaves that to the server. `data`, with `plan`, tries all that
    on a copy of the marts, and says what would differ in them; `rows` is how many rows of each mart, None being all.
    """
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs must be 1 or more, found {jobs}")
    if data and not plan:
        raise UsageError("data is what a plan would change: it goes with plan")
    if rows is not None and rows < 1:
        raise UsageError(f"rows must be 1 or more, found {rows}")
    from . import applying

    warehouse, found = find_warehouse(dsn), _project(project)
    if data:
        from .rehearsal import rehearse

        return rehearse(warehouse, found, full=full, jobs=jobs, rows=rows)
    if plan:
        return applying.plan(warehouse, found, full=full)
    return applying.apply(warehouse, found, full=full, jobs=jobs)


def status(*, dsn: str | None = None, project: PathLike | None = None) -> StatusReport:
    """What is applied, pending, drifted and unknown, and the last loads. Only reads."""
    from .state import read_status

    return read_status(find_warehouse(dsn), _project(project))


def render(name: str | None = None, *, project: PathLike | None = None) -> str:
    """The SQL of the project's templates, or of the one file or migration that `name` means, ready for psql.

    `name` is a path in the project, a file's name, or that without `.sql`.
    """
    found = _project(project)
    if name is None:
        return "".join(_closed(file.text) for file in found.files)
    texts = {migration.path: migration.text for migration in found.migrations}
    texts |= {file.path: file.text for file in found.files}
    matches = [path for path in texts if name in names_of(path)]
    if len(matches) != 1:
        found_of = f"means {' and '.join(matches)}" if matches else "names no SQL file of the project"
        raise UsageError(f"{name!r} {found_of}; there are {', '.join(texts)}")
    return _closed(texts[matches[0]])


def _closed(text: str) -> str:
    """The text such that another can follow it: a file may leave out its last semicolon and its last line end."""
    from .statements import split_statements

    end = "" if text.endswith("\n") else "\n"
    last = [statement.closed for statement in split_statements(text)][-1:]
    return text + end + (";\n" if last == [False] else "")


def check(*, dsn: str | None = None, project: PathLike | None = None) -> CheckReport:
    """Runs the data checks. Raises ProjectError where nothing was applied yet."""
    from .checks import run_checks

    with _opened(find_warehouse(dsn), "check") as connection:
        return run_checks(connection, _project(project))


def prove(
    *,
    dsn: str | None = None,
    project: PathLike | None = None,
    sample: int | None = None,
    seed: int | None = None,
) -> ProofReport:
    """Compares the marts with what a full build from the raw events makes. Changes nothing.

    `sample` is how many users to compare, at random; None is all, and all marts. `seed` chooses the users: the same
    number, the same users; None draws one. Raises ProjectError where nothing was applied yet.
    """
    if sample is not None and not 1 <= sample < 2**63:
        raise UsageError(f"sample must be a number of users, 1 or more, found {sample}")
    if seed is not None and sample is None:
        raise UsageError("seed chooses the users of a sample; say how many by sample")
    if seed is not None and not -(2**63) <= seed < 2**63:
        raise UsageError(f"seed must be a number of 64 bits, found {seed}")
    from .proof import prove_marts

    with _opened(find_warehouse(dsn), "prove") as connection:
        return prove_marts(connection, _project(project), sample=sample, seed=seed)


def test(  # the command's name
    *paths: PathLike,
    dsn: str | None = None,  # noqa: PT028
    project: PathLike | None = None,  # noqa: PT028
) -> TestReport:
    """Runs the timelines of the project's tests/, or those at the paths, in databases of their own on the warehouse's
    server.

    Raises UsageError where there is none, ProjectError, with the line, for one that can't be read, WarehouseError where
    no database can be made.
    """
    from .timeline_files import ENDING, read_timeline
    from .timeline_tests import run_timelines

    found = _project(project)
    timelines = tuple(read_timeline(Path(path), os.fspath(path)) for path in paths) if paths else found.timelines
    if not timelines:
        raise UsageError(f"nothing to test: no *{ENDING} in {found.folder / TIMELINES}")
    return run_timelines(find_warehouse(dsn), found, timelines)


def explain(user: str, *, only_steps: bool = False, last: int | None = None, dsn: str | None = None) -> Timeline:
    """The page views of a user in their order, each with what became of it on the way to a purchase. Only reads.

    `only_steps` leaves out the pages that are no step. `last` is how many views, the last ones; None is all. Raises
    ClickmartError where the marts know no view of the user.
    """
    from .timeline import explain_user

    with _explained(dsn, last) as connection:
        return explain_user(connection, user, only_steps=only_steps, last=last)


def explain_purchase(
    purchase: int, *, only_steps: bool = False, last: int | None = None, dsn: str | None = None
) -> Timeline:
    """The page views on the way to a purchase, by its number in cdm.purchases; as `explain` has them."""
    from . import timeline

    with _explained(dsn, last) as connection:
        return timeline.explain_purchase(connection, purchase, only_steps=only_steps, last=last)


def history(
    mart: str,
    *,
    hour: str | None = None,
    where: Mapping[str, str] | None = None,
    last: int | None = None,
    dsn: str | None = None,
) -> HistoryReport:
    """What refreshes changed in events_hours, products_hours, top_pages or sources, and which files had them do it.

    `hour` is an instant in it; `where` are values of what tells the mart's rows apart; `last` is how many changes, the
    last ones, None being all. Raises UsageError for what the mart doesn't have.
    """
    from .mart_history import read_history

    with _explained(dsn, last) as connection:
        return read_history(connection, mart, hour=hour, where=where or {}, last=last)


@contextmanager
def _explained(dsn: str | None, last: int | None) -> Iterator[Connection]:
    if last is not None and last < 1:
        raise UsageError(f"last must be 1 or more, found {last}")
    with _opened(find_warehouse(dsn), "explain") as connection:
        yield connection


def report(
    output: PathLike | None = None,
    *,
    dsn: str | None = None,
    project: PathLike | None = None,
    format: Literal["html", "png"] = "html",  # the option's name
    dashboards: Iterable[str] = (),
    filters: Mapping[str, str] | None = None,
) -> ReportFile:
    """Writes the dashboards as one HTML page that needs nothing else, or as an image a card. Only reads the warehouse.

    `output` is the page's file (None is report.html, "-" gives it back as text), or the folder of the images (None is
    report). `dashboards` names some, all without; `filters` are values by the filters' names.
    """
    if format not in ("html", "png"):
        raise UsageError(f"format must be html or png, found {format!r}")
    path = Path(output or (REPORT_FILE if format == "html" else REPORT_FOLDER))
    if path == Path("-") and format == "png":
        raise UsageError("images go to a folder; name one by -o")
    if isinstance(dashboards, str):
        dashboards = (dashboards,)
    from .reporting.files import write_report

    with _opened(find_warehouse(dsn), "report") as connection:
        return write_report(
            connection,
            _project(project),
            None if path == Path("-") else path,
            format=format,
            dashboards=tuple(dashboards),
            filters=filters,
        )


def init(folder: PathLike) -> InitReport:
    """Copies the built-in project to `folder`, to be changed. Raises ProjectError where the folder is not empty."""
    return InitReport(init_project(os.fspath(folder)))


def stop(folder: PathLike | None = None) -> StopReport:
    """Stops the embedded server of `folder` (None is the current one)."""
    return StopReport(EmbeddedServer(home=Path(folder or Path.cwd()).absolute() / EMBEDDED_FOLDER).stop())


def psql(*arguments: str, dsn: str | None = None) -> int:
    """Runs psql on the warehouse with these arguments and returns its exit code.

    It is the machine's psql, or where there is none the one that comes with the embedded server.
    """
    warehouse = find_warehouse(dsn)
    if not (program := shutil.which("psql")):
        program = str((warehouse.embedded or EmbeddedServer(home=Path(EMBEDDED_FOLDER))).psql())
    environment = os.environ | libpq_environment(warehouse.start())
    try:
        with _interrupts_left_to_child():
            code = subprocess.call([program, *arguments], env=environment)  # noqa: S603
    except OSError as error:
        raise WarehouseError(f"{program}: can't be run: {error.strerror}") from None
    return code if code >= 0 else 128 - code  # as a shell says that a signal ended it


@contextmanager
def _interrupts_left_to_child() -> Iterator[None]:
    """Ctrl-C is for psql, which ends a query by it and not itself. Threads other than the main one never see it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def completion(shell: str) -> str:
    """The script by which the shell, bash, zsh or fish, completes the command, to be read by it when it starts."""
    from click import Group
    from click.shell_completion import ShellComplete, get_completion_class

    found = get_completion_class(shell)
    if found is None:
        raise UsageError(f"{shell}: a shell for which there is no script; there are bash, zsh and fish")
    # Not as the class of bash has it, which first looks at the version of the one that is installed here.
    return ShellComplete.source(found(Group(), {}, _PROGRAM, _COMPLETION_VARIABLE))


def demo(*, dsn: str | None = None) -> DemoReport:
    """From nothing to marts: loads the bundled sample, applies, and writes report.html to the current folder.

    Raises ProjectError in a warehouse that holds other data, with which the sample would mix.
    """
    from . import applying
    from .loading import load_files
    from .marts import MARTS, read_mart
    from .paths import find_files
    from .reporting.files import write_report

    warehouse, project = find_warehouse(dsn), _project(None)
    sample = find_files([Path(__file__).parent / "sample"])
    applying.apply_migrations(warehouse, project)
    with warehouse.connect() as connection:
        row = connection.execute(
            "select file_name from stage.loads where checksum <> all (%s::text[]) limit 1",
            ([checksum(Path(file).read_bytes()) for file in sample],),
        ).fetchone()
        if row:
            raise ProjectError(
                f"this warehouse holds other data ({row[0]}); run the demo in an empty folder or database"
            )
    loaded = load_files(warehouse, sample)
    if loaded.failed:
        raise LoadError(f"the sample can't be loaded:\n{loaded}")
    applied = applying.apply(warehouse, project)
    with warehouse.connect() as connection:
        marts = tuple(read_mart(connection, name, _DEMO_ROWS) for name in MARTS)
        report = Path(REPORT_FILE).absolute()
        write_report(connection, project, report)
    return DemoReport(loaded, applied, marts, report)


def metabase_plan(
    *, url: str | None = None, project: PathLike | None = None, options: MetabaseOptions | None = None
) -> MetabasePlan:
    """What `metabase_push` would write. Only reads. `url` is None for METABASE_URL; the key is in METABASE_API_KEY."""
    from .metabase import pushing
    from .metabase.client import find_metabase

    with find_metabase(url) as server:
        return pushing.plan(_project(project), server, options or pushing.MetabaseOptions())


def metabase_push(
    *, url: str | None = None, project: PathLike | None = None, options: MetabaseOptions | None = None
) -> MetabasePlan:
    """Makes Metabase hold the project's dashboards. Raises MetabaseError; the next push then goes on from there."""
    from .metabase import pushing
    from .metabase.client import find_metabase

    with find_metabase(url) as server:
        return pushing.push(_project(project), server, options or pushing.MetabaseOptions())


def metabase_pull(
    *, url: str | None = None, project: PathLike | None = None, options: MetabaseOptions | None = None
) -> MetabasePull:
    """Brings what was changed at Metabase into the files of `project`, which can't be the built-in one."""
    if project is None:
        raise UsageError("pull changes files, and the built-in project has none of yours; name your own by --project")
    from .metabase import pulling, pushing
    from .metabase.client import find_metabase

    with find_metabase(url) as server:
        return pulling.pull(_project(project), server, options or pushing.MetabaseOptions())


def metabase_export(
    folder: PathLike,
    *,
    project: PathLike | None = None,
    collection: str = "clickmart",
    database: str = "clickmart",
    creator: str = "internal@metabase.com",
) -> MetabaseExport:
    """Writes the dashboards as the YAML that a paid Metabase imports to `folder`, which must be empty or not exist.

    `database` is Metabase's name of the warehouse, `creator` the e-mail address of the user whose they become.
    """
    from .metabase.exporting import export

    return export(_project(project), os.fspath(folder), collection, database, creator)


def _project(folder: PathLike | None) -> Project:
    return read_project(None if folder is None else os.fspath(folder))
