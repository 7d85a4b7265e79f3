"""Queries of the lake: runs SQL in DuckDB, over three views per table.

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

from cdckit.errors import CdcError, UsageError
from consumers.parquet.lake import Lake, TableRef
from consumers.parquet.read.scan import attach, has_inexact
from consumers.parquet.read.sql_text import literal, quoted
from consumers.parquet.read.view_names import ViewName, view_names
from consumers.parquet.read.views import asof_sql, changes_sql, current_sql, view_columns
from consumers.parquet.types.schema import LakeSchema


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The columns and rows of a query's result, as Python values."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def connect(location: Path | str, sql: str = "") -> duckdb.DuckDBPyConnection:
    """A DuckDB connection that sees the current version of every table as ``T``, ``T_changes`` and ``T_asof(time)``.

    With `sql`, the query to be run, only tables whose names occur in it are opened.

    ``T`` is ``public.orders``, also ``orders`` if that is unambiguous, and with several sources
    ``"main/public".orders``. Times without a zone are UTC. Raises SatelliteError when there is no lake.
    """
    lake = Lake.at(location)
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    connection.execute("SET TimeZone = 'UTC'")
    for number, (ref, views) in enumerate(_tables_in(view_names(lake.tables()), sql).items()):
        raw, table = f"_lake_{number}", lake.open(ref)
        attach(connection, raw, table)
        columns = LakeSchema.of(table)
        retyped = any(len(variants) > 1 for variants in columns.variants().values())
        inexact = retyped or has_inexact(table)
        for view in views:
            _create_views(connection, raw, columns, view, inexact)
    return connection


def select_all_sql(lake: Lake, ref: TableRef, *, changes: bool = False, asof: str | None = None) -> str:
    """SQL for all rows of one table: the current rows, every change, or the rows as of a time."""
    view = view_names(lake.tables())[ref][-1]
    name = view.name + ("_asof" if asof is not None else "_changes" if changes else "")
    arguments = "" if asof is None else f"({literal(asof)})"
    return f"SELECT * FROM {quoted(view.schema)}.{quoted(name)}{arguments}"


def _tables_in(names: Mapping[TableRef, list[ViewName]], sql: str) -> Mapping[TableRef, list[ViewName]]:
    text = sql.replace('""', '"').casefold()
    named = {ref: views for ref, views in names.items() if any(view.name.casefold() in text for view in views)}
    return named or names


def run_query(location: Path | str, sql: str) -> QueryResult:
    """Run a query. Raises UsageError when DuckDB does not accept it, SatelliteError when there is no lake."""
    connection = connect(location, sql)
    try:
        relation = connection.sql(sql)
        return _result(relation) if relation is not None else QueryResult([], [])
    except duckdb.Error as error:
        raise query_error(error) from error
    finally:
        connection.close()


def explain_analyze(location: Path | str, sql: str) -> str:
    """Run a query and return DuckDB's plan with the time of each step and how many of the files were read."""
    result = run_query(location, f"EXPLAIN ANALYZE {sql}")
    return "\n".join(str(row[-1]) for row in result.rows)


def export_query(location: Path | str, sql: str, target: Path, kind: str) -> int:
    """Write a query's result to a file (parquet, csv or json), completely or not at all. Returns the number of rows."""
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


def _result(relation: duckdb.DuckDBPyRelation) -> QueryResult:
    cells = [_printable(name, str(kind)) for name, kind in zip(relation.columns, relation.types, strict=True)]
    table = relation.project(", ".join(cells)).to_arrow_table()
    return QueryResult(relation.columns, list(zip(*(column.to_pylist() for column in table.columns), strict=True)))


def _printable(name: str, kind: str) -> str:
    # Times as text: Python's types have no infinity, no year before 1 and no 24:00.
    as_text = re.match(r"DATE|TIME|INTERVAL|UUID|STRUCT|MAP", kind)
    return f"CAST({quoted(name)} AS VARCHAR) AS {quoted(name)}" if as_text else quoted(name)


def query_error(error: duckdb.Error) -> CdcError:
    """The first line of DuckDB's error as a UsageError, with a hint that fixes it."""
    text = str(error)
    first = text.splitlines()[0]
    if isinstance(error, duckdb.CatalogException):
        hint = "`cdcctl parquet ls` lists the tables; each has T, T_changes and T_asof('2026-11-23 10:00:00+00')"
    elif isinstance(error, duckdb.BinderException):
        hint = (
            "`cdcctl parquet schema` lists the columns and types; text that is a number needs cast(c AS DECIMAL(38,9))"
        )
    else:
        hint = "write the query in DuckDB's SQL dialect"
    return UsageError(f"the query failed: {first}", hint)


def _create_views(
    connection: duckdb.DuckDBPyConnection, raw: str, columns: LakeSchema, view: ViewName, inexact: bool
) -> None:
    shown = view_columns(columns)
    name = f"{quoted(view.schema)}.{quoted(view.name)}"
    changes, asof = (f"{quoted(view.schema)}.{quoted(view.name + suffix)}" for suffix in ("_changes", "_asof"))
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(view.schema)}")
    connection.execute(f"CREATE VIEW {name} AS {current_sql(raw, shown, inexact=inexact)}")
    connection.execute(f"CREATE VIEW {changes} AS {changes_sql(raw, shown, inexact=inexact)}")
    connection.execute(f"CREATE MACRO {asof}(_asof) AS TABLE {asof_sql(raw, shown, inexact=inexact)}")
