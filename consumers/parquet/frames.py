"""The lake from Python: a query's answer as an Arrow table, a Polars or a pandas data frame.

    from consumers.parquet.frames import arrow, pandas, polars

    arrow(".cdc/parquet", "select status, count(*) as n from orders group by all")
    polars("s3://lake/shop", "select * from orders_changes where _op = 'D'")

Polars and pandas are not dependencies of this project: install what you use.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import duckdb

from cdckit.errors import UsageError
from consumers.parquet.read.query import connect, query_error


def arrow(location: Path | str, sql: str) -> Any:
    """A `pyarrow.Table`. Raises UsageError when DuckDB refuses the query, SatelliteError when there is no lake."""
    connection = connect(location, sql)
    try:
        return connection.sql(sql).to_arrow_table()
    except duckdb.Error as error:
        raise query_error(error) from error
    finally:
        connection.close()


def polars(location: Path | str, sql: str) -> Any:
    """A `polars.DataFrame`, from Arrow without a copy where the types allow. Raises as `arrow`, and without Polars."""
    return _installed("polars").from_arrow(arrow(location, sql))


def pandas(location: Path | str, sql: str) -> Any:
    """A `pandas.DataFrame` on Arrow's types: NULL stays NULL, decimals exact. Raises as `arrow`, and without pandas."""
    found = _installed("pandas")
    return arrow(location, sql).to_pandas(types_mapper=found.ArrowDtype)


def _installed(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise UsageError(f"{name} is not installed", f"pip install {name}, or use arrow()") from error
