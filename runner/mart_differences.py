"""The rows that two states of the marts don't have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from psycopg import sql

from .tables import Block, Cell, Table, counted, line
from .warehouse import Connection

#: Schemas of which nobody reads the rows as numbers of the shop.
_NO_MARTS: Final = ("stage", "checks")
#: What each refresh writes of itself, what shows loads, and what another relation shows as a whole.
_BOOKKEEPING: Final = (
    *("changes", "history", "refreshes", "rebuild", "loads", "rejects", "freshness"),
    *("source_totals", "computed_purchases"),
)

_MARTS: Final = """
    select nspname, relname
    from pg_class
    inner join pg_namespace on pg_namespace.oid = relnamespace
    where relkind in ('r', 'p', 'v', 'm') and not relispartition and nspname = any (%s)
    order by nspname, relname"""

#: Numbers that rows have from a sequence have no meaning, nor where a view shows them as an id of the same type. What
#: can't be compared is compared as text.
_COLUMNS: Final = """
    select
        attname,
        format_type(atttypid, atttypmod),
        typcategory = 'N',
        typcategory = 'S' or not exists (
            select from pg_opclass
            where
                opcmethod = (select oid from pg_am where amname = 'btree')
                and opcdefault
                and (opcintype in (pg_type.oid, pg_type.typbasetype) or typcategory in ('A', 'E', 'R'))
        )
    from pg_attribute
    inner join pg_type on pg_type.oid = atttypid
    where
        attrelid = to_regclass(%s)
        and pg_attribute.attnum > 0
        and not attisdropped
        and attidentity = ''
        and not (attname ~ '(^|_)id$' and exists (
            select from pg_rewrite
            inner join pg_depend on pg_depend.objid = pg_rewrite.oid and classid = 'pg_rewrite'::regclass
            inner join pg_attribute as numbers on numbers.attrelid = refobjid and numbers.attnum = refobjsubid
            where
                pg_rewrite.ev_class = pg_attribute.attrelid
                and refclassid = 'pg_class'::regclass
                and numbers.attidentity != ''
                and numbers.atttypid = pg_attribute.atttypid
        ))
    order by pg_attribute.attnum"""

#: mart, as cdm.sources -> the relation that has its rows
Marts = Mapping[str, sql.Identifier]


@dataclass(frozen=True, slots=True)
class MartDifference:
    """What differs in a mart, `by` the new loads, say.

    `is_new` and `is_gone` are of the mart itself, `columns_new` and `columns_gone` of its columns. `rows` are the first
    of those that differ, their numbers left out, as PostgreSQL writes them: whether the row comes, else it goes, and
    the values of `columns`. `count_come` and `count_go` are all of them.
    """

    mart: str
    by: str
    is_new: bool = False
    is_gone: bool = False
    columns_new: tuple[str, ...] = ()
    columns_gone: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    count_come: int = 0
    count_go: int = 0
    rows: tuple[tuple[bool, tuple[str | None, ...]], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            "mart": self.mart,
            "by": self.by,
            "is_new": self.is_new,
            "is_gone": self.is_gone,
            "columns_new": list(self.columns_new),
            "columns_gone": list(self.columns_gone),
            "count_come": self.count_come,
            "count_go": self.count_go,
            "rows": [{"comes": comes, **dict(zip(self.columns, values, strict=True))} for comes, values in self.rows],
        }

    def blocks(self) -> Iterator[Block]:
        yield line()
        yield line(Cell(self.mart, "title"), f", {self.by}: {'; '.join(self._said())}")
        if self.rows:
            yield Table(
                ("", *self.columns),
                tuple((Cell("+", "good") if comes else Cell("-", "bad"), *values) for comes, values in self.rows),
            )
        if more := self.count_come + self.count_go - len(self.rows):
            yield line(Cell(f"... {counted(more, 'more row')}", "quiet"))

    def _said(self) -> Iterator[str]:
        if self.is_gone:
            yield "is gone"
        if self.is_new:
            yield "is new"
        for columns, what in (self.columns_new, "new"), (self.columns_gone, "gone"):
            if columns:
                yield f"{'columns' if len(columns) > 1 else 'column'} {', '.join(columns)} {what}"
        counts = [
            f"{counted(count, 'row')} {one if count == 1 else many}"
            for count, one, many in ((self.count_go, "goes", "go"), (self.count_come, "comes", "come"))
            if count
        ]
        if counts:
            yield ", ".join(counts)


def marts_of(connection: Connection, schemas: Iterable[str] | Mapping[str, str]) -> Marts:
    """The marts in the schemas; of a mapping, from a schema to the name that its marts are to have for their schema."""
    called = schemas if isinstance(schemas, Mapping) else {schema: schema for schema in schemas}
    chosen = [schema for schema, name in called.items() if name not in _NO_MARTS]
    return {
        f"{called[str(schema)]}.{name}": sql.Identifier(str(schema), str(name))
        for schema, name in connection.execute(_MARTS, (chosen,))
        if (called[str(schema)], name) not in {("cdm", other) for other in _BOOKKEEPING}
    }


def snapshot(connection: Connection, marts: Marts) -> Marts:
    """The marts' rows of now, which stay until the transaction ends."""
    kept = {}
    for number, (mart, relation) in enumerate(marts.items()):
        kept[mart] = sql.Identifier("pg_temp", f"standing_{number}")
        columns = sql.SQL(", ").join(map(sql.Identifier, _columns(connection, relation)))
        create = sql.SQL("create temporary table {} on commit drop as select {} from {}")
        connection.execute(create.format(kept[mart], columns, relation))
    return kept


def differences(
    connection: Connection, standing: Marts, planned: Marts, *, by: str, limit: int | None
) -> Iterator[MartDifference]:
    """Of each mart that differs what does, with up to `limit` rows, None being all."""
    for mart in sorted({*standing, *planned}):
        if mart not in planned:
            yield MartDifference(mart, by, is_gone=True)
        else:
            found = _difference(connection, mart, standing.get(mart), planned[mart], by=by, limit=limit)
            if found != MartDifference(mart, by, columns=found.columns):
                yield found


@dataclass(frozen=True, slots=True)
class _Column:
    kind: str
    is_number: bool
    as_text: bool


def _columns(connection: Connection, relation: sql.Identifier) -> dict[str, _Column]:
    rows = connection.execute(_COLUMNS, (relation.as_string(connection),))
    return {str(name): _Column(str(kind), bool(number), bool(text)) for name, kind, number, text in rows}


def _difference(
    connection: Connection,
    mart: str,
    standing: sql.Identifier | None,
    planned: sql.Identifier,
    *,
    by: str,
    limit: int | None,
) -> MartDifference:
    """The rows that one of the two has oftener than the other, by the columns that both have. Rows that differ in
    numbers alone, as a count, stand beside one another."""
    now = _columns(connection, planned)
    before = now if standing is None else _columns(connection, standing)
    common = [name for name in now if name in before]
    texts = [name for name in common if now[name].as_text or now[name].kind != before[name].kind]
    if not common:
        return MartDifference(mart, by, columns_new=tuple(now), columns_gone=tuple(before))
    values = sql.SQL(", ").join(
        sql.SQL('{0}::text collate "C" as {0}' if name in texts else "{}").format(sql.Identifier(name))
        for name in common
    )
    signed = [
        sql.SQL("select {} as sign, {} from {}").format(sql.Literal(sign), values, relation)
        for sign, relation in ((-1, standing), (1, planned))
        if relation is not None
    ]
    names = sql.SQL(", ").join(map(sql.Identifier, common))
    connection.execute("drop table if exists pg_temp.differing_rows")
    connection.execute(
        sql.SQL(
            "create temporary table differing_rows on commit drop as select sum(sign) as excess, {names} "
            "from ({rows}) as signed group by {names} having sum(sign) != 0"
        ).format(names=names, rows=sql.SQL(" union all ").join(signed))
    )
    counts = connection.execute(
        "select coalesce(sum(excess) filter (where excess > 0), 0), "
        "-coalesce(sum(excess) filter (where excess < 0), 0) from pg_temp.differing_rows"
    ).fetchone()
    numbers = [name for name in common if now[name].is_number]
    others = [name for name in common if name not in numbers]
    by_others, by_numbers = (
        [sql.SQL("differing.{}").format(sql.Identifier(name)) for name in part] for part in (others, numbers)
    )
    rows = connection.execute(
        sql.SQL(
            "select excess > 0, {texts} from pg_temp.differing_rows as differing "
            "cross join lateral generate_series(1, abs(excess)) order by {order} limit {limit}"
        ).format(
            texts=sql.SQL(", ").join(sql.SQL("differing.{}::text").format(sql.Identifier(name)) for name in common),
            order=sql.SQL(", ").join([*by_others, sql.SQL("excess > 0"), *by_numbers]),
            limit=sql.Literal(limit),
        )
    ).fetchall()
    come, go = counts or (0, 0)
    return MartDifference(
        mart=mart,
        by=by,
        is_new=standing is None,
        columns_new=tuple(name for name in now if name not in before),
        columns_gone=tuple(name for name in before if name not in now),
        columns=tuple(common),
        count_come=int(str(come)),
        count_go=int(str(go)),
        rows=tuple((bool(comes), tuple(None if v is None else str(v) for v in found)) for comes, *found in rows),
    )
