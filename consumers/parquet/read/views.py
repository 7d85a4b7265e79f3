"""The SQL of the views over the raw log: every change, the current rows, and the rows as of a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consumers.parquet.read.sql_text import literal, quoted
from consumers.parquet.read.sql_types import sql_type
from consumers.parquet.types.kinds import Kind
from consumers.parquet.types.schema import META, LakeColumn, LakeSchema

_SHOWN_META = ("_op", "_position", "_commit_time", "_commit_date", "_xid", "_annotation", "_key")


@dataclass(frozen=True, slots=True)
class ViewColumn:
    """One PostgreSQL column in the views: its name there, and the lake columns that hold it, oldest first."""

    name: str
    pg_name: str
    variants: Sequence[LakeColumn]

    @property
    def value(self) -> str:
        """SQL for the value, in the type of the newest variant."""
        newest = self.variants[-1]
        older = [f"try_cast({_cell(column)} AS {sql_type(newest.kind)})" for column in reversed(self.variants[:-1])]
        return f"coalesce({', '.join([_cell(newest), *older])})" if older else _cell(newest)

    @property
    def exact(self) -> str:
        """SQL for PostgreSQL's text of a value that even the view's type cannot hold, else NULL."""
        texts = [f"json_extract_string(_exact, '$.{column.name}')" for column in self.variants]
        texts += [f"CAST({quoted(column.name)} AS VARCHAR)" for column in self.variants[:-1]]
        return f"CASE WHEN {self.value} IS NULL THEN coalesce({', '.join(texts)}, NULL) END"

    @property
    def present(self) -> str:
        """SQL for whether the change carried the column (an unchanged TOAST column is not carried)."""
        names = (f"contains(',' || _columns || ',', {literal(f',{column.name},')})" for column in self.variants)
        return f"({' OR '.join(names)})"


def view_columns(columns: LakeSchema) -> list[ViewColumn]:
    """The columns of the views. If a name differs from an earlier one only by case, the name in the lake is used."""
    taken = {name.casefold() for name in META.names}
    found = []
    for pg_name, variants in columns.variants().items():
        name = pg_name if pg_name.casefold() not in taken else variants[0].name
        taken.add(name.casefold())
        found.append(ViewColumn(name, pg_name, variants))
    return found


def changes_sql(raw: str, columns: Sequence[ViewColumn], *, inexact: bool = False) -> str:
    """SQL for every change, in the order of the files. ``_unchanged`` lists unchanged TOAST columns.

    `inexact` adds ``_exact``, a map of the values that are NULL only because DuckDB has no type for them.
    """
    absent = ", ".join(f"CASE WHEN NOT {column.present} THEN {literal(column.pg_name)} END" for column in columns)
    unchanged = f"CASE WHEN _op = 'U' THEN list_filter([{absent}], lambda name: name IS NOT NULL) END AS _unchanged"
    values = [f"{column.value} AS {quoted(column.name)}" for column in columns]
    exact = [_map(columns, [column.exact for column in columns])] if inexact else []
    return f"SELECT {', '.join([*_SHOWN_META, unchanged, *values, *exact])} FROM {quoted(raw)}"


def latest_sql(raw: str, where: str = "true") -> str:
    """CTEs over the raw log: ``alive`` (what no truncate removed) and ``latest`` (the newest change of each key)."""
    return f"""
        WITH lake AS (SELECT * FROM {quoted(raw)} WHERE {where}),
        alive AS (SELECT * FROM lake WHERE _op <> 'T' AND _position > coalesce(
            (SELECT max(_position) FROM lake WHERE _op = 'T'), '')),
        latest AS (SELECT * FROM alive WHERE _position IN (SELECT max(_position) FROM alive GROUP BY _key))"""


def incomplete_sql(count: int) -> str:
    """SQL for whether a change is an update that lacks some of the table's `count` columns."""
    return f"(_op = 'U' AND length(_columns) - length(replace(_columns, ',', '')) + 1 < {count})"


def current_sql(raw: str, columns: Sequence[ViewColumn], where: str = "true", *, inexact: bool = False) -> str:
    """SQL for the current rows, one per key; columns that the newest change left out are taken from earlier changes.

    `inexact` adds ``_exact``, a map of the values that are NULL only because DuckDB has no type for them.
    """
    texts = [column.exact for column in columns] if inexact else []
    wanted = list(enumerate([*(column.value for column in columns), *texts]))
    fills = ", ".join(_fill(columns[number % len(columns)], value, number) for number, value in wanted)
    cells = [_filled(columns[number % len(columns)], value, number) for number, value in wanted]
    named = [f"{cell} AS {quoted(column.name)}" for cell, column in zip(cells, columns, strict=False)]
    if inexact:
        named.append(_map(columns, cells[len(columns) :]))
    return f"""{latest_sql(raw, where)},
        history AS (SELECT _key AS _filled_key, {fills} FROM alive WHERE _key IN (
            SELECT _key FROM latest WHERE {incomplete_sql(len(columns))}) GROUP BY _key)
        SELECT {", ".join(named)} FROM latest LEFT JOIN history ON _key = _filled_key WHERE _op <> 'D'"""


def asof_sql(raw: str, columns: Sequence[ViewColumn], *, inexact: bool = False) -> str:
    """SQL for the rows after every transaction that had committed by the macro's parameter ``_asof``."""
    where = "_commit_time <= _asof::TIMESTAMPTZ AND _commit_date <= (_asof::TIMESTAMPTZ AT TIME ZONE 'UTC')::DATE"
    return current_sql(raw, columns, where, inexact=inexact)


def _fill(column: ViewColumn, value: str, number: int) -> str:
    cell = f"struct_pack(v := CASE WHEN _op <> 'D' THEN {value} END)"
    return f"max_by({cell}, _position) FILTER (WHERE _op = 'D' OR {column.present}) AS _fill_{number}"


def _filled(column: ViewColumn, value: str, number: int) -> str:
    return f"CASE WHEN _op = 'U' AND NOT {column.present} THEN _fill_{number}.v ELSE {value} END"


def _map(columns: Sequence[ViewColumn], texts: Sequence[str]) -> str:
    pairs = ", ".join(f"{{k: {literal(c.name)}, v: {text}}}" for c, text in zip(columns, texts, strict=True))
    return f"map_from_entries(list_filter([{pairs}], lambda pair: pair.v IS NOT NULL)) AS _exact"


def _cell(column: LakeColumn) -> str:
    name = quoted(column.name)
    if column.kind.cast == "INTERVAL":
        return f"try_cast(replace({name}, ' +', ' ') AS INTERVAL)"
    if column.kind.cast:
        return f"try_cast({name} AS {column.kind.cast})"
    return _moment(name, column.kind) if column.kind.family in ("time", "instant") else name


def _moment(name: str, kind: Kind) -> str:
    # Delta's types have no infinity and no years before 1; DuckDB's do ("0044-03-15 (BC) 12:00:00").
    text = f"regexp_replace(json_extract_string(_exact, '$.{name}'), '^(\\S+)(.*) BC$', '\\1 (BC)\\2')"
    return f"CASE WHEN _exact IS NULL THEN {name} ELSE coalesce({name}, try_cast({text} AS {sql_type(kind)})) END"
