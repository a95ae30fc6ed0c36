"""A project whose dashboards have one of everything, and a Metabase that stands in for a real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clickmart.metabase import pushing
from clickmart.metabase.client import Metabase
from clickmart.metabase.pushing import MetabaseOptions, MetabasePlan
from clickmart.project import Project, read_project
from metabase_standin import KEY, StandIn, wait
from projects import smallest_project

TOML = """\
# The shop's week.
title = "Week"
description = "What a week brings."
tabs = ["Sales", "Visits"]

[filters.from]
title = "From"
type = "date"

[filters.source]
title = "Source"
type = "text"
values = "sources.source"

[filters.least]
title = "At least"
type = "number"

# Cards of the first tab.
[cards.sales]
title = "Продажи по часам"
description = "Per hour."
chart = "bar"
x = "hour"
y = "sold"
series = "source"
stacked = true
tab = "Sales"
place = { column = 0, row = 2, width = 24, height = 8 }

[cards.sales.columns]
hour = { title = "Hour", format = "hour" }
sold = { title = "Sold", format = "number" }

[cards.total]
chart = "number"
y = "sold"
tab = "Sales"
place = { column = 0, row = 10, width = 6, height = 3 }

[cards.sources]
title = "Sources" # with shares
tab = "Sales"
place = { column = 6, row = 10, width = 18, height = 3 }

[cards.sources.columns]
source = { format = "link" }
share = { title = "Share", format = "percent" }
stay = { format = "duration" }
traffic = { format = "bytes" }
day = { format = "date" }

[cards.visits]
title = "Visits"
chart = "area"
x = "hour"
y = ["visits", "visitors"]
tab = "Visits"
place = { column = 0, row = 0, width = 12, height = 8 }
metabase = { "graph.show_goal" = true, "graph.goal_value" = 100 }

[cards.steps]
title = "Steps"
chart = "funnel"
x = "step"
y = "users"
tab = "Visits"
place = { column = 12, row = 0, width = 12, height = 8 }

[cards.parts]
title = "Parts"
chart = "pie"
x = "step"
y = "users"
tab = "Visits"
place = { column = 0, row = 8, width = 12, height = 8 }

[[texts]]
text = "Sales"
heading = true
tab = "Sales"
place = { column = 0, row = 0, width = 24, height = 1 }

[[texts]]
text = "All times are **UTC**."
tab = "Sales"
place = { column = 0, row = 1, width = 24, height = 1 }
"""
SALES = """\
-- Sold per hour.
select
    timestamp '2026-03-02 10:00' as hour,
    'a' as source,
    3 as sold
where
    true
    -- [[ and timestamp '2026-03-02 10:00' >= {{from}}::date ]]
    -- [[ and 'a' = {{source}} ]]
    -- [[ and 3 >= {{least}} ]]
"""
SOURCES = "select 'https://a.example' as source, 0.5 as share, 90 as stay, 1024 as traffic, date '2026-03-02' as day\n"
SOURCES += "where true\n    -- [[ and 'a' = {{source}} ]]\n"
STEPS = "select 'cart' as step, 3 as users\n"
FILES: dict[str, str | bytes] = {
    "dashboards/week/dashboard.toml": TOML,
    "dashboards/week/sales.sql": SALES,
    "dashboards/week/total.sql": "select 7 as sold\n",
    "dashboards/week/sources.sql": SOURCES,
    "dashboards/week/visits.sql": "select timestamp '2026-03-02 10:00' as hour, 3 as visits, 2 as visitors\n",
    "dashboards/week/steps.sql": STEPS,
    "dashboards/week/parts.sql": STEPS,
    "dashboards/plain/dashboard.toml": "[cards.one]\nplace = { column = 0, row = 0, width = 4, height = 4 }\n",
    "dashboards/plain/one.sql": "select 1 as one\n",
}


def a_project(folder: Path) -> Project:
    return smallest_project(folder, FILES)


def again(project: Project) -> Project:
    """The project as its files say now."""
    return read_project(project.folder)


def client(standin: StandIn) -> Metabase:
    return Metabase(standin.url, KEY, sleep=wait)


def push(standin: StandIn, project: Project, **options: Any) -> MetabasePlan:
    with client(standin) as server:
        return pushing.push(project, server, MetabaseOptions(**options))


def plan(standin: StandIn, project: Project, **options: Any) -> MetabasePlan:
    with client(standin) as server:
        return pushing.plan(project, server, MetabaseOptions(**options))


def edit(project: Project, path: str, old: str, new: str) -> None:
    file = project.folder / path
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
