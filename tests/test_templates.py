"""What templates may do, and from which of their lines each character of the rendered text comes."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from clickmart import applying
from clickmart.errors import ProjectError
from clickmart.project import Project, read_project
from clickmart.settings import Settings
from clickmart.templates import Templates, literal
from clickmart.warehouse import Warehouse
from conftest import Server
from hypothesis import given
from hypothesis import strategies as st
from projects import query, value, write_files


def templates(folder: Path, files: dict[str, str | bytes], settings: Settings | None = None) -> Templates:
    return Templates(write_files(folder, files), settings or Settings())


def place(folder: Path, files: dict[str, str | bytes], marker: str = "@") -> str:
    """From where the marker in the rendered text of a.sql comes, as file:line:column and the line."""
    found = templates(folder, files)
    text = found.render("a.sql")
    position = found.locate("a.sql", text, text.index(marker))
    return f"{position} {position.text}"


def refusal(folder: Path, files: dict[str, str | bytes]) -> str:
    with pytest.raises(ProjectError) as caught:
        templates(folder, files).render("a.sql")
    return str(caught.value)


# Rendering


def test_a_template_sees_every_setting(tmp_path: Path) -> None:
    text = "".join(f"{{{{ settings.{name} }}}}\n" for name in Settings().as_dict())
    rendered = templates(tmp_path, {"a.sql": text}).render("a.sql")
    assert rendered.splitlines() == [str(value) for value in Settings().as_dict().values()]


def test_an_imported_macro_sees_the_settings_too(tmp_path: Path) -> None:
    files = {"m.jinja": "{% macro top() %}limit {{ settings.top_pages }}{% endmacro %}"}
    files["a.sql"] = '{% from "m.jinja" import top %}{{ top() }}'
    assert templates(tmp_path, files).render("a.sql") == "limit 10"


def test_a_template_without_jinja_stays_as_it_is(tmp_path: Path) -> None:
    text = "select '<&>', '\\', $$ % $$; -- é 𝄞\n\n"
    assert templates(tmp_path, {"a.sql": text}).render("a.sql") == text


def test_a_byte_order_mark_and_windows_line_ends_do_not_show(tmp_path: Path) -> None:
    assert templates(tmp_path, {"a.sql": b"\xef\xbb\xbfselect 1\r\n, 2\r\n"}).render("a.sql") == "select 1\n, 2\n"


def test_two_renderings_are_the_same_since_nothing_random_is_at_hand(tmp_path: Path) -> None:
    assert "random" in refusal(tmp_path, {"a.sql": "{{ [1, 2] | random }}"})
    assert "'lipsum' is undefined" in refusal(tmp_path, {"a.sql": "{{ lipsum() }}"})


# Values


def test_the_default_settings_are_plain_literals() -> None:
    assert [literal(value) for value in Settings().as_dict().values()] == [
        "'^product_'", "'^cart(/|$)'", "'^payment(/|$)'", "'^confirmation(/|$)'", "'1 day'", "'30 minutes'", "'10'",
    ]  # fmt: skip


HOSTILE = [
    "it's", "a$$b", r"\d+", "'; drop table t; --", "{{ settings.cart }}{% raw %}", "$body$", "$", "$1$", "a\nb\r\n\tc",
    "\\'", "E'\\''", "", "$$'$$;", "é𝄞", "%s %(x)s", ":name :'name'", "\x1b[0m", "\\u0024", "--", "/*", "$ä$", "''",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(
    "template",
    [
        "create view v as select {{ settings.cart | literal }} as value",
        "create function f() returns text language plpgsql as $$ begin return {{ settings.cart | literal }}; end $$;"
        "create view v as select f() as value",
        "create function f() returns text language sql as $body$ select {{ settings.cart | literal }} $body$;"
        "create view v as select f() as value",
        "{% macro m() %}\n  select\n    {{ settings.cart | literal }} as value\n{% endmacro %}"
        "create view v as {{ m() | indent(8) }}",
    ],
    ids=["plain", "plpgsql", "sql", "indented"],
)
def test_a_setting_is_a_value_and_never_code(embedded_server: Server, tmp_path: Path, template: str, text: str) -> None:
    rendered = templates(tmp_path, {"a.sql": template}, Settings(cart=text)).render("a.sql")
    with psycopg.connect(embedded_server.conninfo) as connection:
        connection.execute("create schema hostile; set local search_path to hostile")
        connection.execute(rendered.encode())
        assert connection.execute("select value from v").fetchall() == [(text,)]
        connection.rollback()


@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from("$'\\\n{}"), max_size=30))
def test_a_literal_reads_back_as_its_value_also_within_dollar_quotes(embedded_server: Server, text: str) -> None:
    with psycopg.connect(embedded_server.conninfo, autocommit=True) as connection:
        written = literal(text)
        assert connection.execute(f"select {written}".encode()).fetchone() == (text,)
        assert "$$" not in written
        assert "\n" not in written


@pytest.mark.parametrize("pattern", ["it's", "a$$b", r"a\$\$b", r"\d+", "a{2};", '"q"', r"\{\{ settings.cart }}"])
def test_a_step_pattern_matches_the_pages_that_postgresql_says_it_does(dsn: str, pattern: str) -> None:
    pages = ["it's", "a$$b", "a42", "aa;", "a{2};", '"q"', "{{ settings.cart }}", "other", "cart"]
    applying.apply(Warehouse(dsn), Project(read_project().folder, Settings(cart=pattern)))
    for page in pages:
        query(dsn, "insert into stage.events (batch_id, page_url_path) values (0, %s)", f"/{page}")
    rows = query(
        dsn,
        "select ltrim(page_url_path, '/'), step::text from stage.events join stage.parsed_events on row_id = events.id",
    )
    assert dict(rows) == {page: "cart" if value(dsn, "select %s ~ %s", page, pattern) else None for page in pages}


# From where a character comes

MACROS = "{# notes #}\n{% macro m(x) -%}\nselect {{ x }},\n    @broken\n{%- endmacro %}\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a.sql": "select 1,\n\t@ -- é\n"}, "sql/a.sql:2:2 \t@ -- é"),
        ({"a.sql": "@"}, "sql/a.sql:1:1 @"),
        ({"a.sql": "{# one\ntwo #}\n{% set x = 1 %}\nselect @"}, "sql/a.sql:4:8 select @"),
        (
            {"a.sql": "{% for i in range(9) %}\n    {{ i }},\n{%- endfor %}\nselect\n    {{ 'x' }}, @"},
            "sql/a.sql:5:16     {{ 'x' }}, @",
        ),
        (
            {"a.sql": "{% for i in range(3) -%}\nselect {{ i }}{% if i == 1 %},\n  @{% endif %};\n{% endfor %}"},
            "sql/a.sql:3:3   @{% endif %};",
        ),
        ({"a.sql": "select 1\n  {{ 'a, @' }}"}, "sql/a.sql:2:3   {{ 'a, @' }}"),
        ({"a.sql": "{{ 'a, @' }}"}, "sql/a.sql:1:1 {{ 'a, @' }}"),
        ({"a.sql": "{{ 'a' }}{{ '@' }}"}, "sql/a.sql:1:10 {{ 'a' }}{{ '@' }}"),
        ({"a.sql": "{{ 'a' -}}  \n {{- '@' }}"}, "sql/a.sql:2:2  {{- '@' }}"),
        ({"a.sql": "{% raw %}{{{% endraw %}\n@"}, "sql/a.sql:2:1 @"),
        ({"a.sql": "{% set x %}select\n@{% endset %}--\n{{ x }}"}, "sql/a.sql:2:1 @{% endset %}--"),
        (
            {"a.sql": "--\n{% from 'm.jinja' import m %}\n{{ m(1) }}", "m.jinja": MACROS},
            "sql/m.jinja:4:5     @broken",
        ),
        (
            {"a.sql": "{% import 'b/m.jinja' as m -%}\n(\n    {{ m.m('x') | indent(4) }}\n)", "b/m.jinja": MACROS},
            "sql/b/m.jinja:4:5     @broken",
        ),
        (
            {"a.sql": "{% from 'm.jinja' import m %}\n{{ m(1) | replace('\n', ' ') }}", "m.jinja": MACROS},
            "sql/m.jinja:4:5     @broken",
        ),
        (
            {"a.sql": "--\n{% from 'm.jinja' import m %}{{ m('@') }}", "m.jinja": MACROS},
            "sql/m.jinja:3:8 select {{ x }},",
        ),
        ({"a.sql": "--\n{% include 'b.sql' %}", "b.sql": "1\n2 @"}, "sql/b.sql:2:3 2 @"),
        (
            {"a.sql": "{% macro m() %}(\n\n  @){% endmacro %}--\n{{ m() | indent(4) }}"},
            "sql/a.sql:3:3   @){% endmacro %}--",
        ),
        ({"a.sql": b"\xef\xbb\xbfselect\r\n  @\r\n"}, "sql/a.sql:2:3   @"),
    ],
)
def test_a_character_is_found_where_it_stands_in_the_template(
    tmp_path: Path, files: dict[str, str | bytes], expected: str
) -> None:
    assert place(tmp_path, files) == expected


def test_a_character_is_found_in_the_rendered_text_where_a_template_counts_what_it_makes(tmp_path: Path) -> None:
    text = "{% set x %}abc\n{% endset %}\n{{ x | length }}\nselect @"
    assert place(tmp_path, {"a.sql": text}) == "sql/a.sql (as rendered):3:8 select @"


@given(
    lines=st.lists(
        st.sampled_from(["select 1", "", "  ", "{{ 1 }}", "{% if true %}", "x {{- 2 -}} y", "{# c #}"]), max_size=8
    ),
    column=st.integers(0, 5),
)
def test_every_text_of_a_template_is_found_whatever_stands_around_it(
    tmp_path: Path, lines: list[str], column: int
) -> None:
    text = "\n".join([*lines, " " * column + "@", *["{% endif %}"] * lines.count("{% if true %}")])
    assert place(tmp_path, {"a.sql": text}) == f"sql/a.sql:{len(lines) + 1}:{column + 1} {' ' * column}@"


# Errors


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.sql": "--\n--\n{{ nobody }}"}, "sql/a.sql:3: 'nobody' is undefined"),
        (
            {"a.sql": "--\n{{ settings.prodct | literal }}"},
            "sql/a.sql:2: no setting 'prodct'; there are product, cart, payment, confirmation, "
            "purchase_window, session_gap, top_pages",
        ),
        ({"a.sql": "--\n{% set x = {} %}{{ x.y }}"}, "sql/a.sql:2: 'dict object' has no attribute 'y'"),
        ({"a.sql": "--\n{{ 1 +}}"}, "sql/a.sql:2: unexpected 'end of print statement'"),
        ({"a.sql": "--\n{% fro x %}"}, "sql/a.sql:2: Encountered unknown tag 'fro'."),
        ({"a.sql": "--\n{{ 1 | sql }}"}, "sql/a.sql:2: No filter named 'sql'."),
        ({"a.sql": "--\n\n{{ 1 / 0 }}"}, "sql/a.sql:3: division by zero"),
        ({"a.sql": "--\n{% from 'm.jinja' import x %}"}, "sql/a.sql:2: no template 'm.jinja' in sql/"),
        ({"a.sql": "--\n{% include '../clickmart.toml' %}"}, "sql/a.sql:2: no template '../clickmart.toml' in sql/"),
        ({"a.sql": "--\n{% include '/etc/passwd' %}"}, "sql/a.sql:2: no template '/etc/passwd' in sql/"),
        (
            {"a.sql": "--\n{% from 'm.jinja' import x %}{{ x() }}", "m.jinja": "{% macro y() %}{% endmacro %}"},
            "sql/a.sql:2: the template 'm.jinja' (imported on line 2 in 'a.sql') "
            "does not export the requested name 'x'",
        ),
        (
            {"a.sql": "{% from 'm.jinja' import x %}\n{{ x() }}",
             "m.jinja": "{% macro x() %}\n\n{{ nobody }}{% endmacro %}"},
            "sql/m.jinja:3: 'nobody' is undefined",
        ),
        ({"a.sql": "{% from 'm.jinja' import x %}", "m.jinja": "\n{% macro %}"},
         "sql/m.jinja:2: expected token 'name', got 'end of statement block'"),
        ({"a.sql": "{% from 'm.jinja' import x %}", "m.jinja": b"a\xff"},
         "sql/m.jinja: not UTF-8 text (invalid start byte at byte 1)"),
        ({"a.sql": b"a\xff"}, "sql/a.sql: not UTF-8 text (invalid start byte at byte 1)"),
        (
            {"a.sql": "--\n{{ ''.__class__.__mro__ }}"},
            "sql/a.sql:2: access to attribute '__class__' of 'str' object is unsafe.",
        ),
        ({"a.sql": "--\n{% set x = [] %}{{ x.append(1) }}"},
         "sql/a.sql:2: access to attribute 'append' of 'list' object is unsafe."),
        ({"a.sql": "{{ range(10000000) | join }}"},
         "sql/a.sql:1: Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000)."),
        ({"a.sql": "{% macro m() %}{{ m() }}{% endmacro %}\n{{ m() }}"},
         "sql/a.sql:1: maximum recursion depth exceeded"),
        ({"a.sql": "select\n '{{ '\\0' }}'"},
         "sql/a.sql:2:3: PostgreSQL can't store the character U+0000 that stands here"),
        ({"a.sql": "--\n\0"}, "sql/a.sql:2:1: PostgreSQL can't store the character U+0000 that stands here"),
        ({"a.sql": "--{{ '\\ud800' }}"}, "sql/a.sql:1:3: PostgreSQL can't store the character U+D800 that stands here"),
    ],
)  # fmt: skip
def test_a_template_that_fails_is_refused_by_its_own_line(
    tmp_path: Path, files: dict[str, str | bytes], message: str
) -> None:
    assert refusal(tmp_path, files).startswith(message)
