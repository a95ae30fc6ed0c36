"""Runs the steps of a plan, one call each. Whatever ends it between two calls, the next push goes on from there."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from ..errors import MetabaseError
from .client import Metabase
from .database import wait_for_sync
from .found import collection_items, find_collection
from .objects import mark_of
from .refs import Ref, resolved
from .steps import COLLECTION, Step

logger = logging.getLogger(__name__)

_TWICE: Final = "Made by a push of clickmart that ran at the same time as another; the other's is used."


def run_steps(
    metabase: Metabase,
    steps: tuple[Step, ...],
    name: str,
    collection: int | None,
    *,
    timeout: float,
) -> None:
    """Makes Metabase what the plan says. `collection`: that of the plan where it is there already.

    Raises MetabaseError for the first call that fails; what was done until then stays, and is found by the next push.
    """
    ids: dict[Ref, int] = {} if collection is None else {COLLECTION: collection}
    for number, step in enumerate(steps, 1):
        logger.info("%d of %d: %s %s %s", number, len(steps), step.action, step.kind, step.name)
        body = resolved(step.body, ids)
        if step.makes is not None:
            ids[step.makes] = _make(metabase, step, body, name, ids.get(COLLECTION))
        else:
            target = ids[step.target] if isinstance(step.target, Ref) else step.target
            metabase.write(step.method, f"{step.path}/{target}", body)
        if step.kind == "database" and step.makes is not None:
            metabase.write("POST", f"/api/database/{ids[step.makes]}/sync_schema", {})
            wait_for_sync(metabase, ids[step.makes], timeout)


def _make(metabase: Metabase, step: Step, body: Mapping[str, Any], name: str, home: int | None) -> int:
    """Makes the thing, and returns the id of the one to use: where two pushes make it at once, that of the first."""
    try:
        answer = metabase.write(step.method, step.path, body)
    except MetabaseError:
        # The other push was first with a card of the same entity_id.
        if step.kind == "card" and (rivals := _same_mark(metabase, step, body, home)):
            return min(rivals)
        raise
    made = answer.get("id")
    if not isinstance(made, int):
        raise MetabaseError(f"{step.method} {metabase.url}{step.path}: answers no id")
    if step.kind == "database" or (step.kind == "card" and answer.get("entity_id") == body["entity_id"]):
        return made
    first = min([made, *_same_mark(metabase, step, body, home)])
    if first != made:
        metabase.write("PUT", f"{step.path}/{made}", {"archived": True, "description": _TWICE})
    return first


def _same_mark(metabase: Metabase, step: Step, body: Mapping[str, Any], home: int | None) -> list[int]:
    """The ids of all things of the step's kind that have its mark."""
    mark = mark_of(body["description"])
    if step.kind == "collection":
        found = find_collection(metabase, str(mark), [])
        return [] if found is None or found.archived else [int(found.id)]
    if home is None:
        return []
    return [
        row.id
        for row in collection_items(metabase, home)
        if row.model == step.kind and mark_of(row.description) == mark
    ]
