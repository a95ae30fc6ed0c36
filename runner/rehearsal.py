"""What an apply would do to the marts, tried on a copy of them: the rows that would differ, how long each step takes,
whom it keeps waiting, and the cards that would break."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Final

import psycopg

from .applying import ApplyReport, connected, locked_plan, plan, planned_report, refresh, run_statement
from .card_rows import prepare_card
from .dashboards import Card, Dashboard, query_of, read_dashboards
from .errors import ProjectError, SqlError
from .mart_differences import MartDifference, Marts, differences, marts_of, snapshot
from .plan import Plan
from .progress import progress
from .project import TRANSACTION_WORDS, Project
from .rehearsal_locks import Held, Locks, RawLayerLockedError
from .rehearsal_report import BrokenCard, Rehearsal, Step
from .shadow import RAW, Shadow, project_schemas, real_schema, shadowed
from .statements import Statement, split_statements, tokens
from .warehouse import Connection, Warehouse, reset_session

logger = logging.getLogger(__name__)

REFRESH: Final = "refresh"
#: By the changes alone; the marts with the new loads, as they would be without any change, being what stands.
_CHANGE: Final = "by the change"
_LOADS: Final = "by the new loads"
_BOTH: Final = "by the change and the new loads"
#: What an object elsewhere that the change locks keeps waiting, until it turns out that it must not be.
_LOCK_TIMEOUT: Final = "2s"
_FILTER_VALUES: Final = {"date": "2026-01-01", "text": "", "number": "0"}


def rehearse(
    warehouse: Warehouse, project: Project, *, full: bool = False, jobs: int | None = None, rows: int | None = 20
) -> ApplyReport:
    """The plan, and what it would do, tried on a copy of the project's schemas that is gone at the end, unless there is
    nothing to do, or no warehouse yet.

    `rows` is how many of the rows that differ are kept of each mart, None being all; `full` and `jobs` are those of
    `apply`. It holds the lock of applies all the while. Raises what an apply does, and WarehouseError where no copy can
    be made.
    """
    if not warehouse.exists:
        return plan(warehouse, project, full=full)
    dashboards = read_dashboards(project)
    with connected(warehouse, project) as connection, locked_plan(connection, project, full=full) as (planned, _):
        report = planned_report(planned)
        if not planned.pending:
            return report
        rehearsing = _Rehearsing(connection, project, planned, dashboards, full=full, jobs=jobs, rows=rows)
        try:
            try:
                return replace(report, rehearsal=rehearsing.run(copy_raw=False))
            except (SqlError, RawLayerLockedError) as error:
                if not _needs_raw_rows(error):
                    raise
            logger.info("once more, with a copy of the raw layer", extra=progress(0, 1))
            return replace(report, rehearsal=rehearsing.run(copy_raw=True))
        except (SqlError, ProjectError) as error:
            error.args = (f"{error}\nit was tried on a copy: nothing was changed",)
            raise


def _needs_raw_rows(error: Exception) -> bool:
    """Whether a statement did to the raw layer what can't be done to the view that stands for it."""
    if isinstance(error, RawLayerLockedError):
        return True
    reason = error.__cause__
    kinds = (psycopg.errors.WrongObjectType, psycopg.errors.ObjectNotInPrerequisiteState)
    return isinstance(reason, kinds) and f'"{RAW.split(".")[1]}"' in (reason.diag.message_primary or "")


class _Rehearsing:
    """A plan, tried step by step as an apply would run it, in one transaction that is rolled back."""

    def __init__(
        self,
        connection: Connection,
        project: Project,
        planned: Plan,
        dashboards: Sequence[Dashboard],
        *,
        full: bool,
        jobs: int | None,
        rows: int | None,
    ) -> None:
        self._connection, self._project, self._planned = connection, project, planned
        self._cards = [(dashboard, card) for dashboard in dashboards for card in dashboard.cards]
        self._full, self._jobs, self._rows = full, jobs, rows

    def run(self, *, copy_raw: bool) -> Rehearsal:
        schemas = project_schemas(self._project)
        logger.info("copying the marts", extra=progress(0, self._count_steps))
        started = time.monotonic()
        with shadowed(self._connection, schemas, copy_raw=copy_raw) as shadow:
            copied = time.monotonic() - started
            with self._connection.transaction(force_rollback=True):
                shadow.take_names(self._connection)
                self._reset_session()
                return self._rehearsed(shadow, schemas, copied)

    @property
    def _count_steps(self) -> int:
        return len(self._planned.migrations) + len(self._planned.files) + 2

    @property
    def _is_change(self) -> bool:
        return bool(self._planned.migrations or self._planned.files or self._planned.rebuild)

    def _rehearsed(self, shadow: Shadow, schemas: frozenset[str], copied: float) -> Rehearsal:
        broken_before = self._broken_cards()
        locks = Locks(self._connection, schemas)
        standing = marts_of(self._connection, {real_schema(schema): schema for schema in shadow.schemas})
        found: list[MartDifference] = []
        by = _CHANGE if self._is_change else _LOADS
        with_loads = 0.0
        locks_of_loads: Held = {}
        if self._planned.new_loads and self._is_change:
            try:
                with self._connection.transaction():
                    with_loads, _ = self._refresh(locks, full=False)
            except SqlError:  # which the change may be there to mend
                by = _BOTH
            else:
                locks_of_loads = locks.take()
                found += self._differences(schemas, standing, by=_LOADS)
                standing = snapshot(self._connection, marts_of(self._connection, schemas))

        steps: list[Step] = []
        for number, migration in enumerate(self._planned.migrations, 1):
            logger.info("trying %s", migration.path, extra=progress(number, self._count_steps))
            with _timed(steps, migration.path):
                self._run(migration.path, migration.text, shadow, locks, in_transaction=migration.in_transaction)
            locks.end_transaction()
        for number, step in enumerate(self._planned.files, len(self._planned.migrations) + 1):
            logger.info("trying %s", step.file.path, extra=progress(number, self._count_steps))
            with _timed(steps, step.file.path):
                self._run(step.file.path, step.file.text, shadow, locks)
        logger.info("trying the refresh", extra=progress(self._count_steps - 1, self._count_steps))
        seconds, is_rebuilt = self._refresh(locks, full=self._full)
        # What is built anew takes in the new loads too.
        steps.append(Step(REFRESH, seconds if is_rebuilt else seconds + with_loads))
        locks.hold(locks_of_loads, time.monotonic() - steps[-1].seconds)
        locks.end_transaction()

        found += self._differences(schemas, standing, by=by)
        broken = self._broken_cards()
        return Rehearsal(
            bytes_copied=shadow.bytes_copied,
            seconds_copying=copied,
            steps=tuple(steps),
            locks=tuple(locks.ended),
            differences=tuple(found),
            cards=len(self._cards),
            broken_cards=tuple(
                BrokenCard(path, message, is_by_change=path not in broken_before) for path, message in broken.items()
            ),
        )

    def _differences(self, schemas: frozenset[str], standing: Marts, *, by: str) -> list[MartDifference]:
        logger.info("comparing the marts", extra=progress(self._count_steps - 1, self._count_steps))
        planned = marts_of(self._connection, schemas)
        return list(differences(self._connection, standing, planned, by=by, limit=self._rows))

    def _refresh(self, locks: Locks, *, full: bool) -> tuple[float, bool]:
        started = time.monotonic()
        _, _, is_rebuilt = refresh(self._connection, self._project, full=full, jobs=self._jobs)
        self._reset_session()
        locks.look(REFRESH, started)
        return time.monotonic() - started, is_rebuilt

    def _run(self, path: str, text: str, shadow: Shadow, locks: Locks, *, in_transaction: bool = True) -> None:
        for statement in split_statements(text):
            started = time.monotonic()
            tried = statement if in_transaction else _in_transaction(path, statement)
            is_comment = statement.words == ("comment", "on")
            try:
                with self._connection.transaction() if is_comment else nullcontext():
                    if tried:
                        run_statement(self._connection, self._project, path, text, tried)
            except SqlError as error:
                # A comment on a table for which a view stands here changes nothing else.
                if not (is_comment and shadow.read_through and _needs_raw_rows(error)):
                    raise
            locks.look(path, started)
        self._reset_session()

    def _reset_session(self) -> None:
        reset_session(self._connection)
        self._connection.execute("select set_config('lock_timeout', %s, true)", (_LOCK_TIMEOUT,))

    def _broken_cards(self) -> dict[str, str]:
        """What is amiss with each card that can't be prepared now, by its path."""
        broken = {}
        for dashboard, card in self._cards:
            try:
                for values in _filter_values(dashboard, card):
                    prepare_card(self._connection, self._project, card, values)
            except (SqlError, ProjectError) as error:
                broken[card.path] = str(error)
        return broken


def _filter_values(dashboard: Dashboard, card: Card) -> Iterator[dict[str, str]]:
    """All filters of a card with a value; and none, where it has some and no need of them."""
    yield {name: _FILTER_VALUES[dashboard.filters[name].type] for name in card.variables}
    if not card.variables:
        return
    try:
        query_of(card, {})
    except ProjectError:
        return
    yield {}


@contextmanager
def _timed(steps: list[Step], name: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    steps.append(Step(name, time.monotonic() - started))


def _in_transaction(path: str, statement: Statement) -> Statement | None:
    """A statement of a migration without a transaction as one can hold it; None where it has no effect in one. Raises
    ProjectError for one that would undo what was tried before it."""
    word = statement.words[0]
    if word in ("rollback", "abort"):
        raise ProjectError(f"{path}: {word} can't be tried, since all is tried in one transaction")
    if word in TRANSACTION_WORDS or word == "vacuum":
        return None
    text = statement.text
    for token in tokens(text):
        if token.kind == "word" and text[token.start : token.end].lower() == "concurrently":
            text = text[: token.start] + " " * (token.end - token.start) + text[token.end :]
    return replace(statement, text=text)
