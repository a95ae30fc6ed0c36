"""The pages of docs/ that are printed from the program: schema.md from the database's comments, cli.md from --help.
`make docs` runs it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import clickmart
import psycopg
from clickmart.cli import main as command
from clickmart.embedded import EmbeddedServer

FOLDER = Path(__file__).parent
#: What people read comes first.
SCHEMAS = ("cdm", "stage", "checks", "clickmart")

SCHEMA_HEAD = """# The schema

Printed by `make docs` from the comments in the database, which `\\d+` and `\\df+` of psql show too. The partitions of
`stage.events`, and the tables that they are once detached, are as `stage.events` is and have no comments of their own;
sequences behind an `id` are left out.
"""

CLI_HEAD = """# The command

Printed by `make docs` from the help of each command, as `clickmart COMMAND --help` shows it. Only
`clickmart psql --help` shows psql's own.
"""
HELP_WIDTH = 100

SCHEMA_COMMENT = "select obj_description(to_regnamespace(%s), 'pg_namespace')"

RELATIONS = """
select
    pg_class.oid,
    relname,
    case when relkind in ('v', 'm') then 'view' else 'table' end,
    obj_description(pg_class.oid, 'pg_class')
from pg_class
where relnamespace = to_regnamespace(%s) and relkind in ('r', 'p', 'v', 'm') and not relispartition
order by relname collate "C"
"""

COLUMNS = """
select attname, format_type(atttypid, atttypmod), col_description(attrelid, attnum)
from pg_attribute
where attrelid = %s and attnum > 0 and not attisdropped
order by attnum
"""

#: Types with their values, sequences but those of identity columns, functions with their arguments and results.
OTHERS = """
select
    format('type %%s (%%s)', pg_type.oid::regtype, string_agg(enumlabel, ', ' order by enumsortorder)),
    obj_description(pg_type.oid, 'pg_type')
from pg_type
inner join pg_enum on enumtypid = pg_type.oid
where typnamespace = to_regnamespace(%(schema)s)
group by pg_type.oid
union all
select format('sequence %%s', pg_class.oid::regclass), obj_description(pg_class.oid, 'pg_class')
from pg_class
where
    relnamespace = to_regnamespace(%(schema)s)
    and relkind = 'S'
    and not exists (select from pg_depend where objid = pg_class.oid and deptype = 'i')
union all
(
    select
        format(
            '%%s.%%s(%%s) returns %%s',
            pronamespace::regnamespace,
            proname,
            pg_get_function_identity_arguments(oid),
            pg_get_function_result(oid)
        ),
        obj_description(oid, 'pg_proc')
    from pg_proc
    where pronamespace = to_regnamespace(%(schema)s)
    order by proname collate "C"
)
"""

Connection = psycopg.Connection[tuple[object, ...]]


def schema_page(connection: Connection) -> str:
    """docs/schema.md, of a database with the built-in project applied."""
    return "\n".join([SCHEMA_HEAD, *(line for schema in SCHEMAS for line in _schema_lines(connection, schema))])


def _schema_lines(connection: Connection, schema: str) -> Iterator[str]:
    ((comment,),) = connection.execute(SCHEMA_COMMENT, (schema,)).fetchall()
    yield f"## {schema}\n\n{comment}\n"
    for oid, name, kind, meaning in connection.execute(RELATIONS, (schema,)).fetchall():
        yield f"### {schema}.{name}\n\nA {kind}. {meaning}\n"
        columns = connection.execute(COLUMNS, (oid,)).fetchall()
        yield from _table(
            ("column", "type", "meaning"), [(f"`{column}`", kind, text) for column, kind, text in columns]
        )
    if others := connection.execute(OTHERS, {"schema": schema}).fetchall():
        yield f"### Also in {schema}\n"
        yield from _table(("object", "meaning"), [(f"`{what}`", text) for what, text in others])


def cli_page() -> str:
    """docs/cli.md."""
    root = click.Context(command, info_name="clickmart", terminal_width=HELP_WIDTH, **command.context_settings)
    helps = {"clickmart": command.get_help(root)}
    for name in command.list_commands(root):
        with click.Context(command.commands[name], info_name=name, parent=root) as context:
            helps[f"clickmart {name}"] = context.command.get_help(context)
            if isinstance(context.command, click.Group):
                for inner, subcommand in context.command.commands.items():
                    with click.Context(subcommand, info_name=inner, parent=context) as inside:
                        helps[f"clickmart {name} {inner}"] = subcommand.get_help(inside)
    return "\n".join([CLI_HEAD, *(f"## {name}\n\n```\n{text.rstrip()}\n```\n" for name, text in helps.items())])


def _table(heads: tuple[str, ...], rows: list[tuple[object, ...]]) -> Iterator[str]:
    for row in (heads, ("---",) * len(heads), *rows):
        yield f"| {' | '.join(str(cell).replace('|', '&#124;') for cell in row)} |"
    yield ""


def main() -> None:
    (FOLDER / "cli.md").write_text(cli_page(), encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="clickmart-") as folder:
        server = EmbeddedServer(home=Path(folder) / "server")
        try:
            dsn = server.start()
            clickmart.apply(dsn=dsn)
            with psycopg.connect(dsn) as connection:
                (FOLDER / "schema.md").write_text(schema_page(connection), encoding="utf-8")
        finally:
            server.stop()


if __name__ == "__main__":
    main()
