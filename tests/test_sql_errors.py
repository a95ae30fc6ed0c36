"""What PostgreSQL refuses is said with the line of the project's own file, and a caret under the column."""

from __future__ import annotations

from pathlib import Path

import pytest
from clickmart.errors import ClickmartError, SqlError
from conftest import Server
from projects import REFRESH, apply, query, run, smallest_project


def refusal(dsn: str, folder: Path, files: dict[str, str | bytes]) -> str:
    project = smallest_project(folder, files)
    with pytest.raises(ClickmartError) as caught:
        apply(dsn, project)
    return str(caught.value)


def refresh(body: str, *, before: str = "") -> str:
    """A refresh in plpgsql with that body."""
    return f"""{before}create or replace function cdm.refresh("full" boolean default false)
returns table (count_loads bigint, count_rows bigint, is_rebuilt boolean)
language plpgsql as $$
{body}$$;
"""


# Where the server itself names the character


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"sql/cdm/10.sql": "-- head\nselect 1;\nselect\n    1,\n    stepp\nfrom pg_class;\n"},
            'sql/cdm/10.sql:5:5: column "stepp" does not exist\n  5 |     stepp\n    |     ^',
        ),
        (
            {"sql/cdm/10.sql": "select 1;\r\nselect\r\n\tstepp\r\n"},
            'sql/cdm/10.sql:3:2: column "stepp" does not exist\n  3 | \tstepp\n    | \t^',
        ),
        (
            {"sql/cdm/10.sql": b"\xef\xbb\xbfselect stepp"},
            'sql/cdm/10.sql:1:8: column "stepp" does not exist\n  1 | select stepp\n    |        ^',
        ),
        (
            {"sql/cdm/10.sql": "{% for i in range(9) %}\nselect {{ i }};\n{% endfor %}\nselect 'é𝄞', stepp;\n"},
            "sql/cdm/10.sql:4:14: column \"stepp\" does not exist\n  4 | select 'é𝄞', stepp;\n    |              ^",
        ),
        (
            {"sql/cdm/10.sql": "select\n    {{ settings.product | literal }} || {{ 'stepp' }};"},
            'sql/cdm/10.sql:2:41: column "stepp" does not exist\n'
            "  2 |     {{ settings.product | literal }} || {{ 'stepp' }};\n"
            "    |                                         ^",
        ),
        (
            {
                "sql/cdm/10.sql": '{% from "macros.jinja" import m %}\nselect\n    {{ m() | indent(4) }}\n',
                "sql/macros.jinja": "{# one\n   two #}\n{% macro m() -%}\n1,\nstepp\n{%- endmacro %}\n",
            },
            'sql/macros.jinja:5:1: column "stepp" does not exist\n  5 | stepp\n    | ^',
        ),
        (
            {"sql/cdm/10.sql": "create function cdm.f() returns int language plpgsql as $$\n"
             "begin\n  retrun 1;\nend $$;"},
            'sql/cdm/10.sql:3:3: syntax error at or near "retrun"\n  3 |   retrun 1;\n    |   ^',
        ),
        (
            {"sql/cdm/10.sql": "create function cdm.f() returns int language sql as $$\n  select\n    stepp $$;"},
            'sql/cdm/10.sql:3:5: column "stepp" does not exist\n  3 |     stepp $$;\n    |     ^',
        ),
        (
            {"sql/cdm/10.sql": "select 1;\n\nselect (1;\n"},
            'sql/cdm/10.sql:3:10: syntax error at or near ";"\n',
        ),
        (
            {"sql/cdm/10.sql": "select 'never closed;\n"},
            "sql/cdm/10.sql:1:8: unterminated quoted string at or near \"'never closed\"\n",
        ),
        (
            {"migrations/0002.sql": "create table cdm.t (\n    a int,\n\t/* é */ b intt\n);"},
            'migrations/0002.sql:3:12: type "intt" does not exist\n  3 | \t/* é */ b intt\n    | \t          ^',
        ),
        (
            {"migrations/0002.sql": "create table cdm.t (a int);\r\nselect '𝄞é',\r\n  stepp;\r\n"},
            'migrations/0002.sql:3:3: column "stepp" does not exist\n  3 |   stepp;\n    |   ^',
        ),
        (
            {"migrations/0002.sql": b"\xef\xbb\xbf-- clickmart: no transaction\nselect 1; select '\xc3\xa9', stepp;"},
            'migrations/0002.sql:2:23: column "stepp" does not exist\n'
            "  2 | select 1; select 'é', stepp;\n    |                       ^",
        ),
        (
            {"migrations/0002.sql": "select {{ settings.cart }};"},
            'migrations/0002.sql:1:8: syntax error at or near "{"\n  1 | select {{ settings.cart }};\n    |        ^',
        ),
    ],
)  # fmt: skip
def test_a_refused_statement_is_shown_where_it_stands(
    empty_dsn: str, tmp_path: Path, files: dict[str, str | bytes], expected: str
) -> None:
    assert refusal(empty_dsn, tmp_path, files).startswith(expected)


def test_the_error_knows_its_place_for_programs(empty_dsn: str, tmp_path: Path) -> None:
    project = smallest_project(tmp_path, {"sql/cdm/10.sql": "\n\n  select stepp"})
    with pytest.raises(SqlError) as caught:
        apply(empty_dsn, project)
    assert (caught.value.file, caught.value.line, caught.value.column) == ("sql/cdm/10.sql", 3, 10)


def test_detail_and_hint_of_postgresql_are_shown(empty_dsn: str, tmp_path: Path) -> None:
    text = "create table cdm.t (a int primary key);\ninsert into cdm.t values (1);\n  insert into cdm.t values (1);\n"
    assert refusal(empty_dsn, tmp_path, {"migrations/0002.sql": text}) == (
        'migrations/0002.sql:3:3: duplicate key value violates unique constraint "t_pkey"\n'
        "  3 |   insert into cdm.t values (1);\n"
        "    |   ^\n"
        "detail: Key (a)=(1) already exists."
    )
    assert refusal(empty_dsn, tmp_path, {"migrations/0002.sql": "select datnam from pg_database"}).endswith(
        '\nhint: Perhaps you meant to reference the column "pg_database.datname".'
    )


# Where it names no character


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"sql/cdm/10.sql": "select 1;\n-- why\n  select 1 /\n  0;\nselect 2;"},
            "sql/cdm/10.sql:3:3: division by zero\n  3 |   select 1 /\n    |   ^",
        ),
        (
            {"migrations/0002.sql": "select 1; do $$\nbegin\n  perform 1;\n  raise 'no way';\nend $$; select 2;"},
            "migrations/0002.sql:4:3: no way\n  4 |   raise 'no way';\n    |   ^",
        ),
        (
            {"migrations/0002.sql": "-- clickmart: no transaction\nselect 1;\ndo $x$ begin\n  perform stepp; end $x$;"},
            'migrations/0002.sql:4:11: column "stepp" does not exist\n'
            "  4 |   perform stepp; end $x$;\n    |           ^",
        ),
        (
            {
                "sql/stage/10.sql": "create or replace function stage.f(a int) returns int language plpgsql as $$\n"
                "begin\n  return 1 / a;\nend $$;",
                "sql/cdm/10.sql": "select 1;\nselect stage.f(0);",
                "migrations/0002.sql": "create schema stage;",
            },
            "sql/stage/10.sql:3:3: division by zero\n  3 |   return 1 / a;\n    |   ^",
        ),
        (
            {"sql/cdm/10.sql": "create or replace function public.f() returns void language plpgsql as $$\n"
             "begin\n  perform 1 / 0;\nend $$;\nselect f();"},
            "sql/cdm/10.sql:3:3: division by zero\n  3 |   perform 1 / 0;\n    |   ^",
        ),
    ],
)  # fmt: skip
def test_a_statement_that_fails_when_it_runs_is_shown_too(
    empty_dsn: str, tmp_path: Path, files: dict[str, str | bytes], expected: str
) -> None:
    assert refusal(empty_dsn, tmp_path, files).partition("\nwhat stands before it")[0] == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("begin\n    perform 1;\n    perform 1 / 0;\n    return next;\nend\n", "6:5: division by zero"),
        ("begin\n    perform 1,\n        stepp;\n    return next;\nend\n", '6:9: column "stepp" does not exist'),
        (
            "begin\n    select 1, stepp\n    into count_loads\n    from pg_class;\n    return next;\nend\n",
            '5:15: column "stepp" does not exist',
        ),
        (
            "begin\n    select 1,\n        2 into count_loads, count_rows\n    from nowhere;\n    return next;\nend\n",
            '7:10: relation "nowhere" does not exist',
        ),
        ("begin\n\n  count_loads := 1 + stepp;\n return next;\nend\n", '6:22: column "stepp" does not exist'),
        ("begin\n  if stepp > 1 then\n    null;\n  end if;\nend\n", '5:6: column "stepp" does not exist'),
        ("begin\n  for i in 1 .. stepp loop\n    null;\n  end loop;\nend\n", '5:17: column "stepp" does not exist'),
        ("begin\n  raise exception 'at %', now()\n    using hint = 'later';\nend\n", "5:3: at "),
        ("declare\n  a int := 'x';\nbegin\n  return next;\nend\n", "5:3: invalid input syntax for type integer"),
        ("begin\n  execute 'select ' || 'stepp';\nend\n", '5:3: column "stepp" does not exist'),
    ],
)
def test_what_fails_within_the_refresh_is_shown_in_its_function(
    empty_dsn: str, tmp_path: Path, body: str, expected: str
) -> None:
    message = refusal(empty_dsn, tmp_path, {"sql/cdm/90_refresh.sql": refresh(body)})
    assert message.startswith(f"sql/cdm/90_refresh.sql:{expected}")
    line, column = (int(number) for number in expected.split(":")[:2])
    shown = message.splitlines()[1:3]
    assert shown == [
        f"  {line} | {refresh(body).splitlines()[line - 1]}",
        f"  {' ' * len(str(line))} | {' ' * (column - 1)}^",
    ]


def test_of_functions_that_call_each_other_the_innermost_is_shown(empty_dsn: str, tmp_path: Path) -> None:
    files = {
        "sql/cdm/10_part.sql": "{% set column = 'stepp' %}\n"
        "create or replace function cdm.part(\n    rebuild boolean default (1 > 0)\n) returns void\n"
        "language plpgsql as $body$\nbegin\n    create temporary table t on commit drop as\n"
        "    select {{ column }};\nend\n$body$;\n",
        "sql/cdm/90_refresh.sql": refresh("begin\n    perform cdm.part();\nend\n"),
    }
    assert refusal(empty_dsn, tmp_path, files).startswith(
        'sql/cdm/10_part.sql:8:12: column "stepp" does not exist\n  8 |     select {{ column }};\n'
    )


@pytest.mark.parametrize("earlier", ["migrations/0002.sql", "sql/cdm/10.sql"])
def test_a_function_that_a_later_file_replaces_is_shown_in_the_later_one(
    empty_dsn: str, tmp_path: Path, earlier: str
) -> None:
    body = "begin\n    perform {};\nend\n"
    files = {earlier: refresh(body.format("1 / 0")), "sql/cdm/90_refresh.sql": refresh(body.format("2 / 0"))}
    assert refusal(empty_dsn, tmp_path, files) == (
        "sql/cdm/90_refresh.sql:5:5: division by zero\n  5 |     perform 2 / 0;\n    |     ^"
    )
    files["sql/cdm/90_refresh.sql"] = ""
    assert refusal(empty_dsn, tmp_path, files).startswith(f"{earlier}:5:5: division by zero")


def test_a_function_that_no_file_makes_is_named_itself(empty_dsn: str, tmp_path: Path) -> None:
    query(empty_dsn, "create schema cdm")
    query(empty_dsn, refresh("begin perform 1 / 0; end"))
    files: dict[str, str | bytes] = {"sql/cdm/90_refresh.sql": "", "migrations/0001_cdm.sql": ""}
    assert refusal(empty_dsn, tmp_path, files) == "cdm.refresh(boolean): division by zero"


def test_a_project_without_a_refresh_is_told_what_it_lacks(empty_dsn: str, tmp_path: Path) -> None:
    assert refusal(empty_dsn, tmp_path, {"sql/cdm/90_refresh.sql": "select 1;"}) == (
        "no function cdm.refresh(boolean): a file of sql/ must make it, as sql/cdm/30_refresh.sql does"
    )


def test_what_must_run_outside_a_transaction_is_told_how(empty_dsn: str, tmp_path: Path) -> None:
    text = "create table cdm.t (a int);\ncreate index concurrently t_a on cdm.t (a);\n"
    assert refusal(empty_dsn, tmp_path, {"migrations/0002.sql": text}) == (
        "migrations/0002.sql:2:1: CREATE INDEX CONCURRENTLY cannot run inside a transaction block\n"
        "  2 | create index concurrently t_a on cdm.t (a);\n"
        "    | ^\n"
        "hint: a migration whose first line is `-- clickmart: no transaction` runs without one"
    )


def test_a_constraint_that_fails_at_the_commit_is_said_with_the_migration(empty_dsn: str, tmp_path: Path) -> None:
    text = "create table cdm.t (a int unique deferrable initially deferred);\ninsert into cdm.t values (1), (1);"
    assert refusal(empty_dsn, tmp_path, {"migrations/0002.sql": text}) == (
        'migrations/0002.sql: duplicate key value violates unique constraint "t_a_key"\n'
        "detail: Key (a)=(1) already exists."
    )
    assert refusal(empty_dsn, tmp_path, {"migrations/0002.sql": "", "sql/cdm/10.sql": text}).startswith(
        'the commit: duplicate key value violates unique constraint "t_a_key"\n'
    )


def test_places_are_the_same_on_another_server(server: Server, tmp_path: Path) -> None:
    """What a function's error says of its place differs from version to version."""
    body = "begin\n    select 1,\n        stepp\n    into count_loads\n    from pg_class;\n    return next;\nend\n"
    with server.database(template=False) as dsn:
        message = refusal(dsn, tmp_path, {"sql/cdm/90_refresh.sql": refresh(body)})
        assert message.startswith('sql/cdm/90_refresh.sql:6:9: column "stepp" does not exist')
        message = refusal(dsn, tmp_path, {"sql/cdm/90_refresh.sql": refresh("begin\n    perform\n  stepp; end")})
        assert message.startswith('sql/cdm/90_refresh.sql:6:3: column "stepp" does not exist')
        assert refusal(dsn, tmp_path, {"sql/cdm/90_refresh.sql": REFRESH + "\nselect\n1/0"}).startswith(
            "sql/cdm/90_refresh.sql:5:1"
        )


# The command


def test_an_error_is_one_message_and_a_traceback_only_on_demand(
    empty_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smallest_project(tmp_path, {"sql/cdm/10.sql": "select stepp"})
    result = run("apply", "--project", str(tmp_path), dsn=empty_dsn)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        'clickmart: sql/cdm/10.sql:1:8: column "stepp" does not exist\n  1 | select stepp\n    |        ^\n'
    )
    monkeypatch.setenv("CLICKMART_DEBUG", "1")
    with pytest.raises(SqlError):
        run("apply", "--project", str(tmp_path), dsn=empty_dsn)
