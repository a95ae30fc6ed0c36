"""What a plan would do, as it was tried on a copy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from .mart_differences import MartDifference
from .tables import Block, Cell, Columns, counted, line

_MEGABYTE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Step:
    """A migration, an SQL file or the refresh, and how long it took."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Lock:
    """The lock of a table or view that keeps others `waiting`, readers and writers or writers alone: `mode` as
    PostgreSQL calls it, the step that takes it, and for how long at the most."""

    relation: str
    mode: str
    waiting: str
    step: str
    seconds: float


@dataclass(frozen=True, slots=True)
class BrokenCard:
    """A dashboard's card that PostgreSQL won't prepare, or that lacks a column; not `is_by_change` if it is so now."""

    path: str
    message: str
    is_by_change: bool


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What the tried steps took and locked, what would differ in the marts, and of how many cards which would break."""

    bytes_copied: int
    seconds_copying: float
    steps: tuple[Step, ...]
    locks: tuple[Lock, ...]
    differences: tuple[MartDifference, ...]
    cards: int
    broken_cards: tuple[BrokenCard, ...]

    @property
    def breaks_cards(self) -> bool:
        return any(card.is_by_change for card in self.broken_cards)

    def as_dict(self) -> dict[str, Any]:
        return {
            "bytes_copied": self.bytes_copied,
            "seconds_copying": round(self.seconds_copying, 3),
            "steps": [{"name": step.name, "seconds": round(step.seconds, 3)} for step in self.steps],
            "locks": [
                {
                    "relation": lock.relation,
                    "mode": lock.mode,
                    "waiting": lock.waiting,
                    "step": lock.step,
                    "seconds": round(lock.seconds, 3),
                }
                for lock in self.locks
            ],
            "marts": [difference.as_dict() for difference in self.differences],
            "cards": self.cards,
            "broken_cards": [
                {"path": card.path, "message": card.message, "is_by_change": card.is_by_change}
                for card in self.broken_cards
            ],
        }

    def blocks(self) -> Iterator[Block]:
        size = f"{self.bytes_copied / _MEGABYTE:,.1f} MB"
        yield line()
        yield line(Cell("tried on a copy", "title"), f" of {size}, made in {self.seconds_copying:.1f} s:")
        yield Columns(tuple((Cell(step.name, is_path=True), f"{step.seconds:.2f} s") for step in self.steps), indent=2)
        yield line()
        if self.locks:
            yield line(Cell("locks that keep others waiting", "title"), " until their transaction ends:")
            yield Columns(
                tuple(
                    (lock.relation, f"{lock.waiting}, {lock.seconds:.2f} s", Cell(lock.step, is_path=True))
                    for lock in self.locks
                ),
                indent=2,
            )
        else:
            yield line(Cell("no lock keeps others waiting", "good"))
        for difference in self.differences:
            yield from difference.blocks()
        yield line()
        if not self.differences:
            yield line(Cell("no mart would differ", "good"))
        yield from self._cards()

    def _cards(self) -> Iterator[Block]:
        broken = sum(card.is_by_change for card in self.broken_cards)
        if broken:
            yield line(Cell(f"{broken} of {counted(self.cards, 'card')} would break:", "bad"))
        elif self.cards:
            yield line(Cell(f"no card of {self.cards:,} would break", "good"))
        for card in sorted(self.broken_cards, key=lambda card: not card.is_by_change):
            if not card.is_by_change:
                yield line(Cell("broken already, before the change:", "open"))
            for text in card.message.splitlines():
                yield line("  ", text)
