"""Questions to the lake: SQL by DuckDB over Arrow datasets, and the current rows exactly as PostgreSQL has them.

connection = connect(".cdc/parquet")
connection.sql("select status, count(*) from orders group by all").pl()      # or .arrow(), .df()
connection.sql("select * from orders_asof('2026-11-23 10:00:00+00')")
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from cdckit.errors import CdcError, UsageError
from consumers.parquet.lake import Lake, TableRef
from consumers.parquet.read.scan import attach, has_inexact
from consumers.parquet.read.sql_text import literal, quoted
from consumers.parquet.read.view_names import ViewName, view_names
from consumers.parquet.read.views import asof_sql, changes_sql, current_sql, view_columns
from consumers.parquet.types.schema import LakeSchema


@dataclass(frozen=True, slots=True)
class QueryResult:
    """A query's columns and rows, as Python values."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def connect(location: Path | str, sql: str = "") -> duckdb.DuckDBPyConnection:
    """A DuckDB connection that sees every table of the lake as it is now: ``T``, ``T_changes`` and ``T_asof(time)``.

    `sql` is a query that will be asked: then only the tables whose names occur in it are opened.

    ``T`` is ``orders`` where that is unambiguous, ``public.orders`` always (several sources: ``"main/public".orders``
    too). Times without a zone are UTC. Raises SatelliteError when there is no lake.
    """
    lake = Lake.at(location)
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    connection.execute("SET TimeZone = 'UTC'")
    for number, (ref, views) in enumerate(_wanted(view_names(lake.tables()), sql).items()):
        raw, table = f"_lake_{number}", lake.open(ref)
        attach(connection, raw, table)
        columns = LakeSchema.read(pa.schema(table.schema().to_arrow()))
        retyped = any(len(variants) > 1 for variants in columns.variants().values())
        inexact = retyped or has_inexact(table)
        for view in views:
            _define(connection, raw, columns, view, inexact)
    return connection


def select_all_sql(lake: Lake, ref: TableRef, *, changes: bool = False, asof: str | None = None) -> str:
    """SQL for all of one table: its rows as they are now, every change, or its rows as of a time."""
    view = view_names(lake.tables())[ref][-1]
    name = view.name + ("_asof" if asof is not None else "_changes" if changes else "")
    arguments = "" if asof is None else f"({literal(asof)})"
    return f"SELECT * FROM {quoted(view.schema)}.{quoted(name)}{arguments}"


def _wanted(names: Mapping[TableRef, list[ViewName]], sql: str) -> Mapping[TableRef, list[ViewName]]:
    text = sql.replace('""', '"').casefold()
    named = {ref: views for ref, views in names.items() if any(view.name.casefold() in text for view in views)}
    return named or names


def run_query(location: Path | str, sql: str) -> QueryResult:
    """Run one query. Raises UsageError when DuckDB does not accept it, SatelliteError when there is no lake."""
    connection = connect(location, sql)
    try:
        relation = connection.sql(sql)
        return _answer(relation) if relation is not None else QueryResult([], [])
    except duckdb.Error as error:
        raise query_error(error) from error
    finally:
        connection.close()


def explain_analyze(location: Path | str, sql: str) -> str:
    """Run one query and tell how: DuckDB's plan with what each step took and how many files it read of how many."""
    answer = run_query(location, f"EXPLAIN ANALYZE {sql}")
    return "\n".join(str(row[-1]) for row in answer.rows)


def export_query(location: Path | str, sql: str, target: Path, kind: str) -> int:
    """Write a query's answer to a file (parquet, csv or json), whole or not at all; returns how many rows."""
    connection = connect(location, sql)
    part = target.with_name(f".{target.name}.part")
    try:
        [[count]] = connection.sql(f"COPY ({sql}) TO {literal(str(part))} (FORMAT {kind})").fetchall()
        part.replace(target)
    except duckdb.Error as error:
        part.unlink(missing_ok=True)
        raise query_error(error) from error
    finally:
        connection.close()
    return int(count)


def _answer(relation: duckdb.DuckDBPyRelation) -> QueryResult:
    cells = [_printable(name, str(kind)) for name, kind in zip(relation.columns, relation.types, strict=True)]
    table = relation.project(", ".join(cells)).to_arrow_table()
    return QueryResult(relation.columns, list(zip(*(column.to_pylist() for column in table.columns), strict=True)))


def _printable(name: str, kind: str) -> str:
    # Times go as text: Python has no infinity, no year before 1 and no 24:00.
    timely = re.match(r"DATE|TIME|INTERVAL|UUID|STRUCT|MAP", kind)
    return f"CAST({quoted(name)} AS VARCHAR) AS {quoted(name)}" if timely else quoted(name)


def query_error(error: duckdb.Error) -> CdcError:
    """DuckDB's error as one line of ours, with what mends it."""
    text = str(error)
    first = text.splitlines()[0]
    if isinstance(error, duckdb.CatalogException):
        hint = "`cdcctl parquet ls` lists the tables; each has T, T_changes and T_asof('2026-11-23 10:00:00+00')"
    elif isinstance(error, duckdb.BinderException):
        hint = (
            "`cdcctl parquet schema` lists the columns and types; text that is a number needs cast(c AS DECIMAL(38,9))"
        )
    else:
        hint = "the SQL is DuckDB's dialect"
    return UsageError(f"the query failed: {first}", hint)


def _define(
    connection: duckdb.DuckDBPyConnection, raw: str, columns: LakeSchema, view: ViewName, inexact: bool
) -> None:
    shown = view_columns(columns)
    name = f"{quoted(view.schema)}.{quoted(view.name)}"
    changes, asof = (f"{quoted(view.schema)}.{quoted(view.name + suffix)}" for suffix in ("_changes", "_asof"))
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(view.schema)}")
    connection.execute(f"CREATE VIEW {name} AS {current_sql(raw, shown, inexact=inexact)}")
    connection.execute(f"CREATE VIEW {changes} AS {changes_sql(raw, shown, inexact=inexact)}")
    connection.execute(f"CREATE MACRO {asof}(_asof) AS TABLE {asof_sql(raw, shown, inexact=inexact)}")
