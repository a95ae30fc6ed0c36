"""The database explains itself: what `\\d+` and `\\df+` show has a comment."""

from __future__ import annotations

import pytest
from conftest import Server
from projects import query

SCHEMAS = ["stage", "cdm", "checks", "clickmart"]

#: Everything of these schemas with its comment. Not the partitions of a table, which are as the table is.
COMMENTS = """
with schemas as (
    select oid from pg_namespace where nspname = any (%s)
),
relations as (
    select pg_class.oid, relkind from pg_class, schemas
    where relnamespace = schemas.oid and relkind in ('r', 'p', 'v', 'm', 'f', 'S') and not relispartition
)
select 'schema', oid::regnamespace::text, obj_description(oid, 'pg_namespace') from schemas
union all
select case when relkind in ('r', 'p') then 'table' else 'relation' end, oid::regclass::text,
    obj_description(oid, 'pg_class')
from relations
union all
select 'column', format('%%s.%%I', oid::regclass, attname), col_description(oid, attnum)
from relations join pg_attribute on attrelid = oid
where relkind != 'S' and attnum > 0 and not attisdropped
union all
select 'function', pg_proc.oid::regprocedure::text, obj_description(pg_proc.oid, 'pg_proc')
from pg_proc, schemas where pronamespace = schemas.oid
union all
-- Types of their own: neither a table's row nor an array.
select 'type', pg_type.oid::regtype::text, obj_description(pg_type.oid, 'pg_type')
from pg_type, schemas
where typnamespace = schemas.oid and typcategory != 'A'
    and (typtype != 'c' or exists (select from pg_class where pg_class.oid = typrelid and relkind = 'c'))
"""


def comments(dsn: str) -> list[tuple[str, str, str | None]]:
    return query(dsn, COMMENTS, SCHEMAS)


def uncommented(dsn: str) -> list[str]:
    return [name for _, name, comment in comments(dsn) if not comment]


def test_everything_has_a_comment_that_is_a_sentence(server: Server) -> None:
    with server.database() as dsn:
        found = comments(dsn)
    assert {kind for kind, *_ in found} == {"schema", "table", "relation", "column", "function", "type"}
    assert {name for kind, name, _ in found if kind == "schema"} == set(SCHEMAS)
    assert [name for _, name, comment in found if not comment or not comment.endswith(".")] == []


def test_a_tables_comment_says_what_a_row_is(dsn: str) -> None:
    tables = {name: comment for kind, name, comment in comments(dsn) if kind == "table"}
    assert {"stage.events", "cdm.purchases", "clickmart.files"} <= set(tables)
    assert [name for name, comment in tables.items() if not (comment or "").startswith("One row per ")] == []


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("create schema extra; comment on schema cdm is null", "cdm"),
        ("create table cdm.extra ()", "cdm.extra"),
        ("alter table stage.loads add extra int", "stage.loads.extra"),
        ("create view checks.extra as select", "checks.extra"),
        ("create materialized view cdm.extra as select", "cdm.extra"),
        ("create sequence cdm.extra", "cdm.extra"),
        ("create function clickmart.extra(int) returns int language sql as 'select 1'", "clickmart.extra(integer)"),
        ("create type stage.extra as enum ()", "stage.extra"),
        ("create type stage.extra as ()", "stage.extra"),
        ("create domain stage.extra as int", "stage.extra"),
    ],
)
def test_what_lacks_a_comment_would_be_found(dsn: str, statement: str, name: str) -> None:
    before = uncommented(dsn)
    query(dsn, statement)
    assert [found for found in uncommented(dsn) if found not in before] == [name]


def test_the_comments_of_personal_data_name_it_as_such(dsn: str) -> None:
    named = {name for kind, name, comment in comments(dsn) if kind == "column" and "Personal data" in (comment or "")}
    assert {f"stage.events.{column}" for column in ("ip_address", "user_custom_id", "user_domain_id")} <= named
    # A column that carries the user, by whatever name of the marts, is as personal as the source's own.
    assert {name for kind, name, _ in comments(dsn) if kind == "column" and name.endswith(".user_id")} <= named
