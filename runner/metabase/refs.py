"""Ids that are known once Metabase has made the thing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .objects import CardKey


class Ref(NamedTuple):
    """The id of what an earlier step makes."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".strip()


Id = int | Ref


def card_ref(key: CardKey) -> Ref:
    return Ref("card", str(key))


def resolved(value: Any, ids: Mapping[Ref, int]) -> Any:
    """The value, as JSON, with the ids in the places of their references."""
    if isinstance(value, Ref):
        return ids[value]
    if isinstance(value, Mapping):
        return {key: resolved(inner, ids) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [resolved(inner, ids) for inner in value]
    return value
