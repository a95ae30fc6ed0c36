"""Where statements end: what the server itself says is the law."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from clickmart.statements import split_statements
from conftest import Server
from hypothesis import given
from hypothesis import strategies as st
from psycopg.pq import ExecStatus


@pytest.fixture(scope="module")
def connection(embedded_server: Server) -> Iterator[psycopg.Connection]:
    with psycopg.connect(embedded_server.conninfo, autocommit=True) as connection:
        yield connection


def texts(sql: str) -> list[str]:
    return [statement.text for statement in split_statements(sql)]


@pytest.mark.parametrize(
    "statement",
    [
        "select 'a;b', 'it''s;', E'\\';', \";\"",
        "select $$ ; $$, $body$ $$; $body$, $ä$ ; $ä$",
        "select a$$",
        "select 1 -- ; not here\n, 2",
        "select 1 /* ; /* ; */ ; */ , 2",
        "create rule r as on insert to t do also (select 1; select 2)",
        "create function f() returns int begin atomic select 1; select case when true then 2 end; end",
        "create procedure p() language sql begin atomic select 1; end",
        "do $$ begin perform 1; end $$",
        "select 'a\nb;'",
        "select ';'\n'x'",
        'select 1 as "a"";b"',
        "select U&'d\\0061t;', b'1', x'1F', n';'",
        "select '\\'",
    ],
)
def test_a_semicolon_within_a_statement_ends_nothing(statement: str) -> None:
    assert texts(f"{statement}; select 'next'") == [statement, "select 'next'"]


def test_comments_and_blanks_alone_are_no_statement() -> None:
    assert texts(" ;; -- one;\n/* two; */ ") == []


def test_a_comment_ends_with_its_line_whatever_the_line_end() -> None:
    for end in ("\n", "\r\n", "\r"):
        assert texts(f"-- note{end}select 1") == ["select 1"]


def test_a_statement_keeps_its_comments_and_starts_at_its_first_word() -> None:
    (statement,) = split_statements("-- head\n  select /* why */ 1 -- tail\n ;")
    assert (statement.offset, statement.text, statement.words) == (10, "select /* why */ 1", ("select", "1"))


def test_a_statement_of_marks_alone_is_one_and_reaches_the_server() -> None:
    assert texts("1; +;") == ["1", "+"]


def test_the_last_statement_tells_whether_a_semicolon_ends_it() -> None:
    assert [statement.closed for statement in split_statements("select 1; select 2 -- not here;\n")] == [True, False]


def test_what_is_never_closed_is_left_to_the_server() -> None:
    assert texts("select $$ a; b") == ["select $$ a; b"]
    assert texts("select 1 /* a; b") == ["select 1"]
    assert texts("select (1; select 2") == ["select (1; select 2"]
    assert texts("select 1); select 2") == ["select 1)", "select 2"]


def test_a_long_text_takes_no_long_time() -> None:
    text = "select '" + "it''s; " * 300_000 + "';"
    assert texts(text * 2) == [text.removesuffix(";")] * 2


pieces = st.sampled_from(
    ["1", "'a;b'", "'it''s'", "E'\\';'", "e'a\\\\'", "$$ ; $$", "$a$ $$;$$ $a$", "(select 1)", "'--'", "'/*'", "U&'a;'"]
)
gaps = st.sampled_from([" ", "\n", "\r\n", "-- ;\n", "-- '\r", "/* ; */", "/* /* ' */ ; */", "/**/", "\t"])


@st.composite
def statements(draw: st.DrawFn) -> str:
    columns = draw(st.lists(st.tuples(pieces, gaps), min_size=1, max_size=4))
    return draw(gaps) + "select " + ", ".join(f"{gap}{piece}" for piece, gap in columns) + draw(gaps)


@given(sql=st.lists(statements(), max_size=5).map(";".join))
def test_the_server_finds_as_many_statements_and_takes_each(connection: psycopg.Connection, sql: str) -> None:
    found = texts(sql)
    connection.pgconn.send_query(sql.encode())
    results = []
    while result := connection.pgconn.get_result():
        results.append(result.status)
    assert [status for status in results if status != ExecStatus.EMPTY_QUERY] == [ExecStatus.TUPLES_OK] * len(found)
    for text in found:
        connection.execute(text.encode())
