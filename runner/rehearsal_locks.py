"""Whom a change that is tried on a copy would keep waiting, and for how long."""

from __future__ import annotations

import time
from typing import Final

from .errors import ProjectError
from .rehearsal_report import Lock
from .shadow import real_schema
from .warehouse import Connection

#: Each lock that keeps readers or writers waiting, and who that is.
_WAITING: Final = {
    "ShareLock": "writers",
    "ShareRowExclusiveLock": "writers",
    "ExclusiveLock": "writers",
    "AccessExclusiveLock": "readers and writers",
}
_LOCKED: Final = """
    select relation, mode
    from pg_locks
    where pid = pg_backend_pid() and locktype = 'relation' and granted and mode = any (%s)"""
_RELATIONS: Final = """
    select pg_class.oid, nspname || '.' || relname, nspname = any (%s)
    from pg_class
    inner join pg_namespace on pg_namespace.oid = relnamespace
    where relkind in ('r', 'p', 'v', 'm', 'f') and nspname !~ '^pg_' and nspname != 'information_schema'"""


class RawLayerLockedError(Exception):
    """A statement locks the real table for which a view stands."""


#: Table and mode of a lock -> the step that took it, and when.
Held = dict[tuple[int, str], tuple[str, float]]


class Locks:
    """The locks of the copy that keep others waiting until the apply's transaction ends that took them.

    One that a migration takes and a later transaction takes again is seen once, with the migration."""

    def __init__(self, connection: Connection, schemas: frozenset[str]) -> None:
        self._connection = connection
        self._names: dict[int, str] = {}
        self._others: dict[int, str] = {}
        for oid, name, is_copy in connection.execute(_RELATIONS, (list(schemas),)):
            (self._names if is_copy else self._others)[int(str(oid))] = str(name)
        self._held: Held = {}
        self._seen = self._now()
        self.ended: list[Lock] = []

    def look(self, step: str, since: float) -> None:
        """Notes what the step has locked. Raises ProjectError for a table that is no copy, and is locked for all."""
        new = self._now() - self._seen
        self._seen |= new
        for relation, mode in new:
            if (other := self._others.get(relation)) and other.startswith(real_schema("")):
                raise RawLayerLockedError
            if other:
                raise ProjectError(
                    f"{step}: locks {other}, which stands in no schema of the project: what is done "
                    "there can't be tried without keeping others waiting"
                )
            if relation in self._names:
                self._held[relation, mode] = step, since

    def take(self) -> Held:
        """What was locked in this transaction so far, which is from now on no part of it."""
        taken, self._held = self._held, {}
        return taken

    def hold(self, taken: Held, since: float) -> None:
        """Counts these locks to this transaction, from that moment on."""
        self._held |= {lock: (step, since) for lock, (step, _) in taken.items()}

    def end_transaction(self) -> None:
        """Notes how long what is locked was held: of a table the lock that keeps most waiting."""
        now = time.monotonic()
        strongest: dict[int, Lock] = {}
        for mode, waiting in _WAITING.items():
            for (relation, held_mode), (step, since) in self._held.items():
                if held_mode == mode:
                    strongest[relation] = Lock(self._names[relation], mode, waiting, step, now - since)
        self.ended += sorted(strongest.values(), key=lambda lock: lock.relation)
        self._held.clear()

    def _now(self) -> set[tuple[int, str]]:
        rows = self._connection.execute(_LOCKED, (list(_WAITING),))
        return {(int(str(relation)), str(mode)) for relation, mode in rows}
