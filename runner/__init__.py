"""clickmart: files of page events in, exact clickstream marts out, in PostgreSQL.

Each command is a function here, and is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import ClickmartError, LoadError, MetabaseError, ProjectError, SqlError, UsageError, WarehouseError
from .version import __version__

if TYPE_CHECKING:
    from .api import (
        apply,
        check,
        completion,
        demo,
        explain,
        explain_purchase,
        history,
        init,
        load,
        metabase_export,
        metabase_plan,
        metabase_pull,
        metabase_push,
        prove,
        psql,
        rejects,
        rejects_export,
        rejects_replay,
        render,
        report,
        status,
        stop,
        test,
        watch,
    )

__all__ = [
    "ClickmartError",
    "LoadError",
    "MetabaseError",
    "ProjectError",
    "SqlError",
    "UsageError",
    "WarehouseError",
    "__version__",
    "apply",
    "check",
    "completion",
    "demo",
    "explain",
    "explain_purchase",
    "history",
    "init",
    "load",
    "metabase_export",
    "metabase_plan",
    "metabase_pull",
    "metabase_push",
    "prove",
    "psql",
    "rejects",
    "rejects_export",
    "rejects_replay",
    "render",
    "report",
    "status",
    "stop",
    "test",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from . import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
