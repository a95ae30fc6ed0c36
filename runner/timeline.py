"""What became of a user's page views, as cdm.explain_user tells it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, Final

from psycopg import sql
from psycopg.rows import dict_row

from .errors import ClickmartError, ProjectError
from .tables import Block, Cell, Table, Tone, counted, line, plain
from .warehouse import Connection

#: The last of them first.
_TIMELINE: Final = sql.SQL("""
    select
        views.*,
        loads.file_name,
        count(*) over () as count_views
    from cdm.{function}(%(subject)s, %(only_steps)s) with ordinality as views
    left join cdm.loads on loads.id = views.load_id
    order by views.ordinality desc
    limit %(last)s""")
_PENDING: Final = "select count_pending_loads from cdm.freshness"


@dataclass(frozen=True, slots=True)
class ExplainedView:
    """A page view; `verdict` is one of docs/explain.md. `confirmed_at` is the instant of the next confirmation,
    `purchase_id` the purchase that the view's path is of. `load_id`, `file_name` and `row_id` (stage.events.id) say
    where it came from."""

    viewed_at: datetime
    step: str | None
    page_type: str
    page_url: str | None
    referer_url: str | None
    utm_campaign: str | None
    event_id: str | None
    verdict: str
    confirmed_at: datetime | None
    purchase_id: int | None
    load_id: int
    row_id: int
    file_name: str | None

    def as_dict(self) -> dict[str, Any]:
        instants = {"viewed_at": str(self.viewed_at), "confirmed_at": self.confirmed_at and str(self.confirmed_at)}
        return asdict(self) | instants

    @property
    def tone(self) -> Tone | None:
        if self.step is None or " ignored" in self.verdict:
            return "quiet"
        return "open" if self.verdict.startswith("no ") or " not " in self.verdict else "good"


@dataclass(frozen=True, slots=True)
class Timeline:
    """Page views of a user in their order; of so many the last ones. `count_pending_loads` are not in the marts yet."""

    views: tuple[ExplainedView, ...]
    count_views: int
    count_pending_loads: int

    @property
    def pending(self) -> str:
        """What the marts don't know yet; empty where they know all."""
        count = self.count_pending_loads
        return f"{counted(count, 'load')} not in the marts yet: run `clickmart apply`" if count else ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "count_views": self.count_views,
            "count_pending_loads": self.count_pending_loads,
            "views": [view.as_dict() for view in self.views],
        }

    def __str__(self) -> str:
        return plain(self.blocks())

    def blocks(self) -> Iterator[Block]:
        if earlier := self.count_views - len(self.views):
            yield line(Cell(f"... {counted(earlier, 'page view')} before these", "quiet"))
        yield Table(
            ("viewed_at", "page_url", "verdict", "purchase", "load"),
            tuple(
                (
                    str(view.viewed_at.replace(microsecond=0)),
                    Cell(view.page_url, "quiet" if view.step is None else None, is_path=True),
                    Cell(view.verdict, view.tone),
                    Cell(view.purchase_id and str(view.purchase_id)),
                    str(view.load_id),
                )
                for view in self.views
            ),
        )
        if self.pending:
            yield line(Cell(self.pending, "open"))


def explain_user(connection: Connection, user: str, *, only_steps: bool, last: int | None) -> Timeline:
    """The user's page views, or those that are a step alone; of them the `last`, or all. Raises ClickmartError where
    there is none."""
    found = _read(connection, "explain_user", user, only_steps=only_steps, last=last)
    if found.count_views:
        return found
    what = "step" if only_steps else "page view"
    raise ClickmartError("; ".join(filter(None, [f"the marts know no {what} of a user {user!r}", found.pending])))


def explain_purchase(connection: Connection, purchase: int, *, only_steps: bool, last: int | None) -> Timeline:
    """The page views on the way to a purchase, as explain_user has them. Raises ClickmartError where there is no
    purchase of that number."""
    # No id is beyond int8.
    known = purchase if abs(purchase) < 2**63 else 0
    found = _read(connection, "explain_purchase", known, only_steps=only_steps, last=last)
    if found.count_views:
        return found
    raise ClickmartError("; ".join(filter(None, [f"there is no purchase {purchase} in cdm.purchases", found.pending])))


def _read(connection: Connection, function: str, subject: str | int, *, only_steps: bool, last: int | None) -> Timeline:
    known = connection.execute("select to_regproc(%s) is not null", (f"cdm.{function}",)).fetchone()
    if known != (True,):
        raise ProjectError(f"nothing to explain by: this warehouse has no cdm.{function} yet; run `clickmart apply`")
    query = _TIMELINE.format(function=sql.Identifier(function))
    parameters = {"subject": subject, "only_steps": only_steps, "last": last}
    # The loads that wait are those of the same instant.
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read read only")
        with connection.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(query, parameters).fetchall()
        pending = connection.execute(_PENDING).fetchone()
    names = [field.name for field in fields(ExplainedView)]
    views = tuple(ExplainedView(**{name: row[name] for name in names}) for row in reversed(rows))
    return Timeline(views, rows[0]["count_views"] if rows else 0, int(str(pending[0])) if pending else 0)
