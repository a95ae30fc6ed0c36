"""What the warehouse holds of rejects, by their reasons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from psycopg.rows import class_row

from .load_report import shown
from .stored_rejects import check_numbers
from .tables import Block, Cell, counted, line, plain
from .warehouse import Connection

_SHOWN_FILES: Final = 3
_SHOWN_RECORD: Final = 100
_GROUPS: Final = """
    with groups as (
        select
            stage.reason_kind(reason) as reason,
            count(*) as count_rejects,
            count(*) filter (where status = 'failed') as count_failed,
            array_agg(distinct file_name) as files,
            min(id) as first_id
        from stage.standing_rejects
        where %(loads)s::bigint[] is null or batch_id = any (%(loads)s)
        group by 1
    )
    select
        groups.reason,
        count_rejects as count,
        count_failed,
        files,
        batch_id as load,
        file_name as file,
        line_number as line,
        left(raw, %(length)s) as record
    from groups
    inner join stage.standing_rejects on standing_rejects.id = first_id
    order by count_rejects desc, groups.reason"""


@dataclass(frozen=True, slots=True)
class RejectGroup:
    """The rejects of one reason, values, lines and the like left out of it; `count_failed` of them are of loads that
    failed. `load`, `file`, `line` and the start of the `record` are those of the first."""

    reason: str
    count: int
    count_failed: int
    files: list[str]
    load: int
    file: str
    line: int
    record: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "reason": self.reason,
            "count": self.count,
            "count_of_failed_loads": self.count_failed,
            "files": self.files,
            "example": {"load": self.load, "file": self.file, "line": self.line, "record": self.record},
        }

    def blocks(self) -> Iterator[Block]:
        yield line(Cell(f"{self.count:,}", "open"), "  ", Cell(shown(self.reason), "title"))
        names = ", ".join(shown(name) for name in self.files[:_SHOWN_FILES])
        more = len(self.files) - _SHOWN_FILES
        yield line("  in ", names, f" and {counted(more, 'more file')}" if more > 0 else "")
        yield line("  as ", f"{shown(self.file)}:{self.line}: ", Cell(shown(self.record, _SHOWN_RECORD), "quiet"))


@dataclass(frozen=True, slots=True)
class RejectsReport:
    """The rejects that stand, by reason, the most frequent first."""

    groups: tuple[RejectGroup, ...]

    @property
    def count(self) -> int:
        return sum(group.count for group in self.groups)

    @property
    def count_failed(self) -> int:
        return sum(group.count_failed for group in self.groups)

    def as_dict(self) -> dict[str, Any]:
        return {
            "count": self.count,
            "count_of_failed_loads": self.count_failed,
            "reasons": [group.as_dict() for group in self.groups],
        }

    def __str__(self) -> str:
        return plain(self.blocks())

    def blocks(self) -> Iterator[Block]:
        if not self.groups:
            yield line(Cell("no rejects", "good"))
            return
        for group in self.groups:
            yield from group.blocks()
        files = {name for group in self.groups for name in group.files}
        total = (
            f"{counted(self.count, 'reject')} by {counted(len(self.groups), 'reason')} in {counted(len(files), 'file')}"
        )
        yield line(Cell(total, "title"))
        if self.count_failed:
            yield line(
                f"{self.count_failed:,} of them of loads that failed, whose files can be loaded again as they are"
            )


def read_rejects(connection: Connection, numbers: Sequence[int] = ()) -> RejectsReport:
    """The rejects that stand, or those of the loads with these numbers. Raises UsageError for a number that no load
    has."""
    check_numbers(connection, numbers)
    parameters = {"loads": list(numbers) or None, "length": _SHOWN_RECORD + 1}
    with connection.cursor(row_factory=class_row(RejectGroup)) as cursor:
        return RejectsReport(tuple(cursor.execute(_GROUPS, parameters).fetchall()))
