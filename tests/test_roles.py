"""Who may read and who may load: tried out by roles that log in."""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import clickmart
import psycopg
import pytest
from clickmart.project import Project, init_project, read_project
from conftest import Server
from projects import apply, outcome, query, run, value, write_files
from psycopg.conninfo import make_conninfo
from psycopg.errors import InsufficientPrivilege

ROLES_FILE = "sql/cdm/50_roles.sql"
DOCUMENT = (Path(__file__).parents[1] / "docs" / "roles.md").read_text(encoding="utf-8")
EVENT = {"event_timestamp": "2026-03-02 10:00:00", "user_domain_id": "u", "page_url_path": "/product_a"}

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Warehouse:
    """A database, by the conninfo of its owner, who may do everything on the server."""

    dsn: str

    def login(self, role: str) -> str:
        """The conninfo of somebody new who is a member of the role."""
        name = f"member_{next(_numbers)}"
        query(self.dsn, f"create role {name} login in role {role}")
        return make_conninfo(self.dsn, user=name)


@pytest.fixture
def warehouse(server: Server) -> Iterator[Warehouse]:
    with server.database() as dsn:
        yield Warehouse(dsn)


def relations(dsn: str, schema: str) -> list[str]:
    rows = query(
        dsn,
        "select format('%%I.%%I', nspname, relname) from pg_class join pg_namespace on pg_namespace.oid = relnamespace "
        "where nspname = %s and relkind in ('r', 'p', 'v', 'm')",
        schema,
    )
    return [name for (name,) in rows]


def refused(dsn: str, statement: str) -> bool:
    try:
        query(dsn, statement)
    except InsufficientPrivilege:
        return True
    return False


def event_file(folder: Path, count: int = 1) -> str:
    """A file with a content of its own."""
    file = folder / f"{next(_numbers)}.jsonl"
    lines = [json.dumps({**EVENT, "event_id": f"{file.name} {number}"}) for number in range(count)]
    file.write_text("".join(f"{line}\n" for line in lines))
    return str(file)


# Reading


def test_a_reader_reads_all_of_cdm_and_nothing_else(warehouse: Warehouse) -> None:
    reader = warehouse.login("clickmart_reader")
    readable = relations(warehouse.dsn, "cdm")
    assert {"cdm.purchases", "cdm.sources", "cdm.computed_purchases", "cdm.settings"} <= set(readable)
    for name in readable:
        query(reader, f"select * from {name}")
    for schema in ("stage", "checks", "clickmart"):
        names = relations(warehouse.dsn, schema)
        assert names
        assert [name for name in names if not refused(reader, f"select from {name}")] == []


def test_a_reader_may_have_a_user_explained_and_nobody_else(warehouse: Warehouse) -> None:
    for question in ("select * from cdm.explain_user('u1')", "select * from cdm.explain_purchase(1)"):
        assert query(warehouse.login("clickmart_reader"), question) == []
        assert refused(warehouse.login("clickmart_loader"), question)


@pytest.mark.parametrize(
    "statement",
    [
        "insert into cdm.rebuild values (true, true, true)",
        "update cdm.settings set top_pages = 1",
        "delete from cdm.purchases",
        "truncate cdm.events_hours",
        "create table cdm.mine ()",
        "select cdm.refresh(true)",
        "select cdm.request_rebuild('purchases')",
    ],
)
@pytest.mark.parametrize("role", ["clickmart_reader", "clickmart_loader"])
def test_neither_role_changes_a_mart(warehouse: Warehouse, role: str, statement: str) -> None:
    assert refused(warehouse.login(role), statement)


@pytest.mark.parametrize("statement", ["select stage.begin_load()", "select nextval('stage.events_id_seq')"])
def test_a_reader_does_nothing_of_a_load(warehouse: Warehouse, statement: str) -> None:
    assert refused(warehouse.login("clickmart_reader"), statement)


def test_what_a_project_adds_to_cdm_can_be_read_after_the_same_apply(warehouse: Warehouse, tmp_path: Path) -> None:
    folder = init_project(tmp_path / "shop")
    files = {
        "migrations/0003_mine.sql": "create table cdm.mine_first ();",
        "sql/cdm/05_mine.sql": "create or replace view cdm.mine_second as select;",
        "sql/mine/10.sql": 'drop view if exists cdm."mine Third"; create view cdm."mine Third" as select 1 as a;',
    }
    write_files(folder, files)
    reader = warehouse.login("clickmart_reader")
    apply(warehouse.dsn, read_project(folder))
    for name in ("mine_first", "mine_second", '"mine Third"'):
        query(reader, f"select * from cdm.{name}")
    # Made anew it has no rights left, but for those that come with the end of the same transaction.
    write_files(folder, {"sql/mine/10.sql": files["sql/mine/10.sql"] + " -- again"})
    apply(warehouse.dsn, read_project(folder))
    query(reader, 'select * from cdm."mine Third"')


def test_what_was_made_or_revoked_by_hand_can_be_read_after_the_next_apply(warehouse: Warehouse) -> None:
    reader = warehouse.login("clickmart_reader")
    query(warehouse.dsn, "create materialized view cdm.by_hand as select 1 as a")
    query(warehouse.dsn, "revoke select on cdm.sources from clickmart_reader")
    assert refused(reader, "select from cdm.by_hand")
    assert refused(reader, "select from cdm.sources")
    apply(warehouse.dsn, read_project())
    query(reader, "select from cdm.by_hand")
    query(reader, "select from cdm.sources")


# Loading


def test_a_loader_loads_and_sees_what_is_loaded_but_not_the_events(warehouse: Warehouse, tmp_path: Path) -> None:
    loader = warehouse.login("clickmart_loader")
    # So many that a partition has to be opened.
    for _ in range(7):
        assert clickmart.load(event_file(tmp_path, 3), dsn=loader).rows_loaded == 3
    assert value(warehouse.dsn, "select count(*) from stage.partitions") > 1
    broken = tmp_path / "broken.jsonl"
    lines = [json.dumps({**EVENT, "referer_url_port": port}) for port in ("80", "٤", "abc")]
    broken.write_text("\n".join([*lines, "{"]))
    report = clickmart.load(broken, dsn=loader)
    assert (report.rows_loaded, report.rows_rejected) == (1, 3)
    assert clickmart.load(broken, dsn=loader).files[0].status == "skipped"
    assert clickmart.load(broken, dsn=loader, max_rejects=0).files[0].status == "skipped"
    few = tmp_path / "few.jsonl"
    few.write_text("{}\n{\n")
    assert clickmart.load(few, dsn=loader, max_rejects=0).files[0].status == "failed"
    assert clickmart.load(few, dsn=loader, dry_run=True).files[0].rows_rejected == 1

    assert run("status", dsn=loader).stdout == run("status", dsn=warehouse.dsn).stdout
    assert apply(warehouse.dsn, read_project()).new_rows == 22
    assert run("status", "--exit-code", dsn=loader).exit_code == 0


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet", "jsonl.gz"])
def test_a_loader_loads_every_format(warehouse: Warehouse, tmp_path: Path, suffix: str) -> None:
    import gzip

    import pyarrow
    import pyarrow.parquet

    file = tmp_path / f"e.{suffix}"
    if suffix == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([EVENT]), file)
    else:
        texts = {"csv": f"{','.join(EVENT)}\n{','.join(EVENT.values())}\n", "json": json.dumps([EVENT])}
        data = texts.get(suffix, json.dumps(EVENT)).encode()
        file.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    assert clickmart.load(file, dsn=warehouse.login("clickmart_loader")).rows_loaded == 1


def test_a_loader_neither_reads_nor_changes_what_is_loaded(warehouse: Warehouse, tmp_path: Path) -> None:
    loader = warehouse.login("clickmart_loader")
    clickmart.load(event_file(tmp_path), dsn=loader)
    for name in (*relations(warehouse.dsn, "stage"), *relations(warehouse.dsn, "cdm")):
        if name not in ("stage.loads", "cdm.rebuild"):
            assert refused(loader, f"select from {name}"), name
    for name in ("stage.loads", "stage.events", "stage.events_rejected", "stage.page_views", "cdm.purchases"):
        assert refused(loader, f"delete from {name}"), name
    assert refused(loader, "truncate stage.events, stage.loads, stage.events_rejected")
    assert refused(loader, "update stage.loads set status = 'failed'")
    assert refused(loader, "update stage.events set event_id = ''")
    assert refused(loader, "select from checks.loads")
    assert refused(loader, "select stage.detach_events(now())")
    assert refused(loader, "insert into clickmart.migrations values ('', '', now(), '')")
    assert run("apply", dsn=loader).exit_code == 1
    for command in (["rejects"], ["rejects", "export", "-"], ["rejects", "replay"]):
        assert outcome(run(*command, dsn=loader)) == (
            1,
            "",
            "clickmart: permission denied for view standing_rejects\n",
        )
    assert value(warehouse.dsn, "select count(*) from stage.events") == 1


# Making the roles


@dataclass(frozen=True)
class OwnRoles:
    """The built-in project, but with roles of another name, which the server does not have yet."""

    server: Server
    project: Project
    prefix: str

    def made(self) -> list[str]:
        with psycopg.connect(self.server.conninfo, autocommit=True) as connection:
            rows = connection.execute(
                "select rolname from pg_roles where starts_with(rolname, %s) and not rolcanlogin order by rolname",
                (self.prefix,),
            ).fetchall()
        return [str(name).removeprefix(self.prefix) for (name,) in rows]

    def owner(self, dsn: str, rights: str = "") -> str:
        """The conninfo of someone who may make schemas in the database, and no more but for these rights."""
        name = f"{self.prefix}owner_{next(_numbers)}"
        query(dsn, f"create role {name} login {rights}")
        query(dsn, f"do $$ begin execute format('grant create on database %I to {name}', current_database()); end $$")
        return make_conninfo(dsn, user=name)


@pytest.fixture
def own_roles(server: Server, tmp_path: Path) -> Iterator[OwnRoles]:
    prefix = f"own{next(_numbers)}_"
    folder = init_project(tmp_path / "own")
    text = (folder / ROLES_FILE).read_text(encoding="utf-8")
    write_files(folder, {ROLES_FILE: text.replace("'clickmart_", f"'{prefix}")})
    yield OwnRoles(server, read_project(folder), prefix)
    with psycopg.connect(server.conninfo, autocommit=True) as connection:
        rows = connection.execute("select rolname from pg_roles where starts_with(rolname, %s)", (prefix,)).fetchall()
        for (name,) in rows:
            connection.execute(f'drop role "{name}"')


@contextmanager
def applied_in_thread(dsn: str, project: Project) -> Iterator[None]:
    """An apply that runs meanwhile and has succeeded at the end."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            apply(dsn, project)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join(timeout=60)
    assert not thread.is_alive()
    assert errors == []


def test_the_first_apply_makes_the_roles_and_they_cannot_log_in(own_roles: OwnRoles) -> None:
    with own_roles.server.database(template=False) as dsn:
        assert own_roles.made() == []
        apply(dsn, own_roles.project)
        assert own_roles.made() == ["loader", "reader"]
        query(Warehouse(dsn).login(f"{own_roles.prefix}reader"), "select from cdm.sources")


def test_whoever_may_make_roles_need_not_be_a_superuser(own_roles: OwnRoles) -> None:
    with own_roles.server.database(template=False) as dsn:
        owner = own_roles.owner(dsn, "createrole")
        apply(owner, own_roles.project)
        assert own_roles.made() == ["loader", "reader"]
        query(Warehouse(dsn).login(f"{own_roles.prefix}reader"), "select from cdm.sources")


def test_without_the_right_to_make_roles_all_is_applied_and_granted_once_somebody_made_them(
    own_roles: OwnRoles, tmp_path: Path
) -> None:
    with own_roles.server.database(template=False) as dsn:
        owner = own_roles.owner(dsn)
        report = run("apply", "--project", str(own_roles.project.folder), dsn=owner)
        assert (report.stderr, report.exit_code) == ("", 0)
        assert own_roles.made() == []
        assert run("apply", "--project", str(own_roles.project.folder), dsn=owner).stdout == "nothing to do\n"

        for role in ("reader", "loader"):
            query(dsn, f"create role {own_roles.prefix}{role}")
        assert run("apply", "--project", str(own_roles.project.folder), dsn=owner).stdout == "nothing to do\n"
        query(Warehouse(dsn).login(f"{own_roles.prefix}reader"), "select from cdm.sources")
        loader = Warehouse(dsn).login(f"{own_roles.prefix}loader")
        assert clickmart.load(event_file(tmp_path), dsn=loader).rows_loaded == 1


def test_what_belongs_to_somebody_else_is_left_to_them(own_roles: OwnRoles) -> None:
    with own_roles.server.database(template=False) as dsn:
        owner = own_roles.owner(dsn, "createrole")
        apply(owner, own_roles.project)
        query(dsn, "create view cdm.foreign_view as select")  # by the superuser
        report = run("apply", "--project", str(own_roles.project.folder), dsn=owner)
        assert (report.stdout, report.stderr, report.exit_code) == ("nothing to do\n", "", 0)
        reader = Warehouse(dsn).login(f"{own_roles.prefix}reader")
        assert refused(reader, "select from cdm.foreign_view")
        query(reader, "select from cdm.sources")


def test_two_databases_of_one_server_share_the_roles(own_roles: OwnRoles) -> None:
    with own_roles.server.database(template=False) as one, own_roles.server.database(template=False) as other:
        apply(one, own_roles.project)
        apply(other, own_roles.project)
        reader = Warehouse(one).login(f"{own_roles.prefix}reader")
        query(reader, "select from cdm.sources")
        query(
            make_conninfo(other, user=str(psycopg.conninfo.conninfo_to_dict(reader)["user"])), "select from cdm.sources"
        )


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_applies_in_two_databases_may_make_the_roles_at_once(own_roles: OwnRoles, end: str) -> None:
    """The second finds the name taken by a role that it doesn't see, and waits for what becomes of it."""
    with own_roles.server.database(template=False) as one, own_roles.server.database(template=False) as other:
        apply(one, own_roles.project)
        query(one, f"drop owned by {own_roles.prefix}reader, {own_roles.prefix}loader")
        query(one, f"drop role {own_roles.prefix}reader, {own_roles.prefix}loader")
        with psycopg.connect(one) as first:
            first.execute("select cdm.grant_rights()")
            with applied_in_thread(other, own_roles.project):
                waiting = (
                    "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
                )
                while not query(other, waiting):
                    pass
                first.execute(end)
        assert own_roles.made() == ["loader", "reader"]
        query(Warehouse(other).login(f"{own_roles.prefix}reader"), "select from cdm.sources")


def test_granting_waits_for_no_reader_and_no_load_and_they_not_for_it(warehouse: Warehouse) -> None:
    query(warehouse.dsn, "revoke all on cdm.sources, cdm.source_totals from clickmart_reader")
    query(warehouse.dsn, "revoke all on stage.events, stage.loads from clickmart_loader")
    reading, loading = "select * from cdm.sources, cdm.source_totals", "insert into stage.events (batch_id) values (1)"
    quick = f"{warehouse.dsn} options='-c lock_timeout=5s'"
    with psycopg.connect(warehouse.dsn) as before, psycopg.connect(quick) as granting, psycopg.connect(quick) as after:
        before.execute(reading)
        before.execute(loading)
        granting.execute("select cdm.grant_rights()")
        rights = "select has_table_privilege('clickmart_reader', 'cdm.sources', 'select'), "
        rights += "has_table_privilege('clickmart_loader', 'stage.events', 'insert')"
        assert granting.execute(rights).fetchone() == (True, True)
        after.execute(reading)
        after.execute(loading)


def test_an_apply_that_finds_the_rights_as_they_are_writes_none(warehouse: Warehouse) -> None:
    rows = "select oid, xmin::text from pg_class where relacl is not null order by oid"
    before = query(warehouse.dsn, rows)
    apply(warehouse.dsn, read_project())
    assert query(warehouse.dsn, rows) == before


# The document


def test_the_document_shows_how_to_become_a_member(warehouse: Warehouse) -> None:
    blocks = re.findall(r"```sql\n(.*?)```", DOCUMENT, re.DOTALL)
    assert len(blocks) == 2
    names = re.findall(r"create role (\w+) login", DOCUMENT)
    assert names == ["metabase", "nightly_load", "visitor"]
    try:
        for block in blocks:
            query(warehouse.dsn, block)
        members = (
            "select rolname from pg_roles where pg_has_role(rolname, %s, 'usage') and not rolsuper and rolcanlogin"
        )
        assert ("metabase",) in query(warehouse.dsn, members, "clickmart_reader")
        assert ("nightly_load",) in query(warehouse.dsn, members, "clickmart_loader")
        visitor = make_conninfo(warehouse.dsn, user="visitor")
        query(visitor, "select from cdm.sources")
        assert refused(visitor, "select from cdm.purchases")
    finally:
        query(warehouse.dsn, "drop owned by visitor")
        query(warehouse.dsn, f"drop role {', '.join(names)}")
