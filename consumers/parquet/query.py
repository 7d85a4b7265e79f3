"""Questions to the lake: SQL by DuckDB over Arrow datasets, and the current rows exactly as PostgreSQL has them.

connection = connect(".cdc/parquet")
connection.sql("select status, count(*) from orders group by all").pl()      # or .arrow(), .df()
connection.sql("select * from orders_asof('2026-11-23 10:00:00+00')")
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from cdckit.errors import CdcError, UsageError
from consumers.parquet.catalog import ViewName, view_names
from consumers.parquet.lake import Lake, TableRef
from consumers.parquet.scan import attach, has_inexact
from consumers.parquet.schema import Columns
from consumers.parquet.sqltext import quoted
from consumers.parquet.views import asof_sql, changes_sql, current_sql, shown_columns


@dataclass(frozen=True, slots=True)
class Answer:
    """A query's columns and rows, as Python values."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def connect(location: Path | str) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection that sees every table of the lake as it is now: ``T``, ``T_changes`` and ``T_asof(time)``.

    ``T`` is ``orders`` where that is unambiguous, ``public.orders`` always (several sources: ``"main/public".orders``
    too). Times without a zone are UTC. Raises SatelliteError when there is no lake.
    """
    lake = Lake.at(location)
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    connection.execute("SET TimeZone = 'UTC'")
    for number, (ref, views) in enumerate(view_names(lake.tables()).items()):
        raw, table = f"_lake_{number}", lake.open(ref)
        attach(connection, raw, table)
        columns, inexact = Columns.read(pa.schema(table.schema().to_arrow())), has_inexact(table)
        for view in views:
            _define(connection, raw, columns, view, inexact)
    return connection


def read_columns(lake: Lake, ref: TableRef) -> Columns:
    """The lake columns of one table. Raises SatelliteError when the lake has no such table."""
    return Columns.read(pa.schema(lake.open(ref).schema().to_arrow()))


def ask(location: Path | str, sql: str) -> Answer:
    """Run one query. Raises UsageError when DuckDB does not accept it, SatelliteError when there is no lake."""
    connection = connect(location)
    try:
        relation = connection.sql(sql)
        return _answer(relation) if relation is not None else Answer([], [])
    except duckdb.Error as error:
        raise explained(error) from error
    finally:
        connection.close()


def _answer(relation: duckdb.DuckDBPyRelation) -> Answer:
    cells = [_printable(name, str(kind)) for name, kind in zip(relation.columns, relation.types, strict=True)]
    table = relation.project(", ".join(cells)).to_arrow_table()
    return Answer(relation.columns, list(zip(*(column.to_pylist() for column in table.columns), strict=True)))


def _printable(name: str, kind: str) -> str:
    # Times go as text: Python has no infinity, no year before 1 and no 24:00.
    timely = re.match(r"DATE|TIME|INTERVAL|UUID|STRUCT|MAP", kind)
    return f"CAST({quoted(name)} AS VARCHAR) AS {quoted(name)}" if timely else quoted(name)


def explained(error: duckdb.Error) -> CdcError:
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


def _define(connection: duckdb.DuckDBPyConnection, raw: str, columns: Columns, view: ViewName, inexact: bool) -> None:
    shown = shown_columns(columns)
    name = f"{quoted(view.schema)}.{quoted(view.name)}"
    changes, asof = (f"{quoted(view.schema)}.{quoted(view.name + suffix)}" for suffix in ("_changes", "_asof"))
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(view.schema)}")
    connection.execute(f"CREATE VIEW {name} AS {current_sql(raw, shown, inexact=inexact)}")
    connection.execute(f"CREATE VIEW {changes} AS {changes_sql(raw, shown)}")
    connection.execute(f"CREATE MACRO {asof}(_asof) AS TABLE {asof_sql(raw, shown, inexact=inexact)}")
