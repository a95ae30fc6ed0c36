"""The proof that the marts are what a full build from the raw events makes of them; checks.prove computes it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from . import ledger
from .checks import SHOWN_ROWS, failing_rows, named_values
from .errors import ProjectError, SqlError
from .project import Project
from .sql_errors import sql_error
from .tables import Block, Cell, Columns, counted, line, plain
from .warehouse import Connection

logger = logging.getLogger(__name__)

_PROVE: Final = "checks.prove(bigint, bigint)"
#: Seeds that are drawn are below it, to be short.
_SEEDS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class MartProof:
    """A mart beside a full build: how many rows it should have, how many rows of either the other lacks, and the first
    of these, whose first column tells whether the row stands or should stand."""

    name: str
    rows_compared: int
    rows_differing: int
    columns: tuple[str, ...]
    differing: tuple[tuple[object, ...], ...]

    def blocks(self) -> Iterator[Block]:
        state, said = Cell("ok    ", "good"), f": {counted(self.rows_compared, 'row')}, as a full build makes them"
        if self.rows_differing:
            state = Cell("FAILED", "bad")
            verb = "differs" if self.rows_differing == 1 else "differ"
            said = f": {counted(self.rows_differing, 'row')} {verb} from a full build"
        yield Columns(((state, line(Cell(self.name, "title"), said)),))
        yield from failing_rows(self.columns, self.differing, self.rows_differing)


@dataclass(frozen=True, slots=True)
class ProofReport:
    """What was compared with a full build, and where it differs.

    `sample` is how many users were asked for, None being all, and `seed` draws the same ones again. `views_detached`
    are page views whose raw events are detached: they were taken as they stand.
    """

    sample: int | None
    seed: int | None
    users: int
    views_detached: int
    marts: tuple[MartProof, ...]
    seconds: float

    @property
    def failed(self) -> bool:
        return any(mart.rows_differing for mart in self.marts)

    def as_dict(self) -> dict[str, Any]:
        return {
            "failed": self.failed,
            "sample": self.sample,
            "seed": self.seed,
            "users": self.users,
            "views_detached": self.views_detached,
            "marts": [
                {
                    "name": mart.name,
                    "rows_compared": mart.rows_compared,
                    "rows_differing": mart.rows_differing,
                    "differing": named_values(mart.columns, mart.differing),
                }
                for mart in self.marts
            ],
            "seconds": round(self.seconds, 3),
        }

    def __str__(self) -> str:
        return plain(self.blocks())

    def blocks(self) -> Iterator[Block]:
        for mart in self.marts:
            yield from mart.blocks()
        rows = {mart.name: mart.rows_compared for mart in self.marts}
        said = [counted(self.users, "user")]
        said += [
            counted(rows[mart], name)
            for mart, name in (("page_views", "page view"), ("purchases", "purchase"))
            if mart in rows
        ]
        state = Cell("compared:", "bad") if self.failed else Cell("proven:", "good")
        yield line(state, f" {', '.join(said)} in {self.seconds:.1f} s")
        if self.sample is not None:
            yield line(Cell(f"the same users again: --sample {self.sample} --seed {self.seed}", "quiet"))
        if self.views_detached:
            views = counted(self.views_detached, "page view")
            yield line(Cell("taken as they stand:", "open"), f" {views} whose raw events are detached")


def prove_marts(
    connection: Connection, project: Project, *, sample: int | None = None, seed: int | None = None
) -> ProofReport:
    """Compares the marts with a full build, in one transaction that sees one state of the warehouse.

    `sample` is how many users to compare, at random; None is all, and what is counted of them. `seed` chooses the
    users; None draws one. Raises ProjectError where nothing was applied yet, SqlError where PostgreSQL refuses.
    """
    started = time.monotonic()
    found = connection.execute("select to_regprocedure(%s) is not null", (_PROVE,)).fetchone()
    if not (found and found[0]):
        raise ProjectError(
            f"nothing to prove: this warehouse has no function {_PROVE}; "
            "run `clickmart apply` with a project that makes it, as the built-in sql/cdm/40_proof.sql does"
        )
    if sample is not None and seed is None:
        seed = random.randrange(_SEEDS)  # noqa: S311
    connection.add_notice_handler(_log_notice)
    try:
        # An apply that runs is let end, so that none is in the middle of emptying a table when the transaction begins.
        # The next one need not wait. Where anything fails the session ends, and its lock with it.
        ledger.lock(connection)
        with connection.transaction():
            connection.execute("set transaction isolation level repeatable read")
            connection.execute("select checks.hold_page_views()")
            ledger.unlock(connection)
            rows = connection.execute(
                "select mart, rows_compared, users_compared, rows_detached, rows_differing "
                "from checks.prove(%s::bigint, %s::bigint)",
                (sample, seed or 0),
            ).fetchall()
            marts = tuple(
                _mart(connection, str(mart), _number(compared), _number(differing))
                for mart, compared, _, _, differing in rows
            )
    except psycopg.errors.DeadlockDetected as error:
        raise SqlError("an apply changes just now what is to be proven; prove again when it has ended") from error
    except psycopg.Error as error:
        raise sql_error(error, project, _PROVE) from error
    return ProofReport(
        sample=sample,
        seed=seed,
        users=sum(_number(users) for _, _, users, _, _ in rows),
        views_detached=sum(_number(detached) for _, _, _, detached, _ in rows),
        marts=marts,
        seconds=time.monotonic() - started,
    )


def _mart(connection: Connection, name: str, rows_compared: int, rows_differing: int) -> MartProof:
    """The mart with the first of the rows that differ, which checks.prove has left in order."""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[object, ...], ...] = ()
    if rows_differing:
        query = sql.SQL("select * from {} limit {}")
        cursor = connection.execute(query.format(sql.Identifier("pg_temp", f"differing_{name}"), SHOWN_ROWS))
        rows = tuple(cursor.fetchall())
        columns = tuple(column.name for column in cursor.description or ())
    return MartProof(name, rows_compared, rows_differing, columns, rows)


def _number(value: object) -> int:
    """A count; none of what a mart doesn't count is none."""
    return 0 if value is None else int(str(value))


def _log_notice(notice: psycopg.errors.Diagnostic) -> None:
    """The proof says on what it works."""
    logger.info("proving %s", notice.message_primary)
