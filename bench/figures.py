"""What a figure is: the seconds of a floor and of a subject, taken in turn, and what they come to."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .processes import Run


def say(message: str) -> None:
    """Progress, on stderr: stdout is for the tables."""
    print(message, file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured thing. `target` is of the ratio of the medians, `limit` of the subject's median seconds, and
    `limit_bytes` of the peak; None is no such aim. `floor` is empty where there is nothing to compare with."""

    name: str
    what: str
    size: str
    floor_what: str
    floor: tuple[float, ...]
    subject: tuple[float, ...]
    target: float | None = None
    limit: float | None = None
    peak_bytes: int | None = None
    limit_bytes: int | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """The subject's median over the floor's."""
        return statistics.median(self.subject) / statistics.median(self.floor) if self.floor else None

    @property
    def pair_ratios(self) -> tuple[float, ...]:
        """The ratio of each round: the floor and the subject that were taken one after the other."""
        return tuple(b / a for a, b in zip(self.floor, self.subject, strict=True)) if self.floor else ()

    @property
    def reached(self) -> bool | None:
        """Whether every aim is reached; None where there is none."""
        aims = [
            (self.target, self.ratio),
            (self.limit, statistics.median(self.subject) if self.subject else None),
            (self.limit_bytes, self.peak_bytes),
        ]
        held = [found <= aim for aim, found in aims if aim is not None and found is not None]
        return all(held) if held else None

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "what": self.what,
            "size": self.size,
            "floor": {"what": self.floor_what, "seconds": list(self.floor)} if self.floor else None,
            "seconds": list(self.subject),
            "ratio": self.ratio,
            "pair_ratios": list(self.pair_ratios),
            "target_ratio": self.target,
            "limit_seconds": self.limit,
            "peak_bytes": self.peak_bytes,
            "limit_bytes": self.limit_bytes,
            "reached": self.reached,
            "notes": self.notes,
        }


@dataclass(frozen=True, slots=True)
class Pairs:
    """The seconds of floor and subject, round by round, and the subject's highest peak."""

    floor: tuple[float, ...]
    subject: tuple[float, ...]
    peak_bytes: int
    outputs: tuple[str, ...]


def alternate(name: str, rounds: int, floor: Callable[[], float], subject: Callable[[], Run]) -> Pairs:
    """Takes the floor and the subject in turn, so that a slow hour of the machine falls on both."""
    floors: list[float] = []
    runs: list[Run] = []
    for number in range(1, rounds + 1):
        floors.append(floor())
        runs.append(subject())
        seconds = runs[-1].seconds
        say(f"{name} {number}/{rounds}: floor {floors[-1]:.3f} s, {seconds:.3f} s, ratio {seconds / floors[-1]:.2f}")
    return Pairs(
        tuple(floors),
        tuple(run.seconds for run in runs),
        max(run.peak_bytes for run in runs),
        tuple(run.output for run in runs),
    )
