"""The mutants of SQL and of the runner (tests/mutants): which changes are tried, and which are not."""

from __future__ import annotations

import pytest
from mutants import python
from mutants.sql import mutants

BODY = "create or replace function f() returns void language plpgsql as $$\nbegin\n    {}\nend\n$$;\n"


def made_of(text: str) -> set[str]:
    """The texts of all mutants, blanks counting as one."""
    return {" ".join(mutant.apply(text).split()) for mutant in mutants(text)}


@pytest.mark.parametrize(
    ("text", "mutant"),
    [
        ("select 1 from t where a < b", "select 1 from t where a <= b"),
        ("select 1 from t where a < b", "select 1 from t where true"),
        ("select 1 from t where a and b", "select 1 from t where a or b"),
        ("select 1 from t where a and b", "select 1 from t where a"),
        ("select 1 from t where a between b and c and d", "select 1 from t where a between b and c"),
        ("select a is not null", "select a is null"),
        ("select a is distinct from b", "select a is not distinct from b"),
        ("select min(a) from t", "select max(a) from t"),
        ("select count(*) filter (where a) from t", "select count(*) from t"),
        ("select 'product'", "select 'productx'"),
        ("select a + 1", "select a + 2"),
        ("select a from t union all select b from t", "select a from t union select b from t"),
        ("select distinct a from t", "select a from t"),
        ("select a from t left join u on b", "select a from t inner join u on b"),
        ("select a from t order by a desc nulls last, b", "select a from t order by b"),
        ("select a from t order by a desc nulls last, b", "select a from t order by a desc nulls first, b"),
        ("select a from t limit 1", "select a from t"),
        ("select sum(a) over (partition by b, c)", "select sum(a) over (partition by b)"),
    ],
)
def test_each_operator_boundary_and_clause_is_changed(text: str, mutant: str) -> None:
    assert mutant in made_of(text)


def test_each_statement_of_a_body_is_left_out() -> None:
    text = BODY.format("perform a();\n    if b then\n        delete from c;\n    end if;")
    assert {" ".join(text.replace(left_out, "").split()) for left_out in ("perform a();", "delete from c;")} <= made_of(
        text
    )


def test_each_key_of_an_order_in_a_macro_is_left_out() -> None:
    text = "{% macro view_order(backwards=false) -%}\na{{ direction }},\nb\n{%- endmacro %}\n"
    assert any("a{{ direction }}," not in mutant.apply(text) for mutant in mutants(text))


@pytest.mark.parametrize(
    "text",
    [
        "comment on table t is 'One row and 1 more.';",
        "{% set order = 'a' if 1 < 2 else 'b' %}",
        "select a from t offset 0",
        "select hashtextextended(a, 0)",
        "create or replace view v as select a from t",
        BODY.format("analyze t;"),
    ],
)
def test_what_changes_no_number_is_left_alone(text: str) -> None:
    assert mutants(text) == []


@pytest.mark.parametrize(
    ("text", "mutant"),
    [
        ("if a < b: c()", "if a <= b: c()"),
        ("if a < b: c()", "if True: c()"),
        ("if a < b: c()", "if False: c()"),
        ("if a < b: c()", "if a < b: pass"),
        ("while a: b()", "while False: b()"),
        ("a = [b for b in c if b]", "a = [b for b in c if True]"),
        ("a = b and c", "a = b or c"),
        ("a = b and c", "a = b"),
        ("a = b and c", "a = c"),
        ("a = not b", "a = b"),
        ("a = b + 1", "a = b - 1"),
        ("a = b + 1", "a = b + 2"),
        ("a += 1", "a -= 1"),
        ("a = b(c, d=e)", "a = b(c, )"),
        ("a = 'b'", "a = 'XXbXX'"),
        ("@property\ndef a(b): return True", "@property\ndef a(b): return False"),
    ],
)
def test_each_operator_boundary_and_clause_of_a_module_is_changed(text: str, mutant: str) -> None:
    assert mutant in [made.text() for made in python.mutants(text)]


@pytest.mark.parametrize(
    "text",
    ["import a", '"""Text."""', "a: str | None", "logger.info('a', 1)", "@a(1)\nclass B: ..."],
)
def test_what_does_nothing_in_a_module_is_left_alone(text: str) -> None:
    assert python.mutants(text) == []
