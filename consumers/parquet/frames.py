"""The lake from Python: query results as Arrow tables, Polars data frames or pandas data frames.

    from consumers.parquet.frames import arrow, pandas, polars

    arrow(".cdc/parquet", "select status, count(*) as n from orders group by all")
    polars("s3://lake/shop", "select * from orders_changes where _op = 'D'")

The SQL is DuckDB's. A table ``orders`` has three views: ``orders`` (the current rows), ``orders_changes`` (every
change) and ``orders_asof('2026-11-23 10:00')`` (the rows as of a time). Polars and pandas are not dependencies of this
project: install what you use.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import duckdb

from cdckit.errors import UsageError
from consumers.parquet.read.query import connect, query_error


def arrow(location: Path | str, sql: str) -> Any:
    """Run a query and return the result as an Arrow table.

    Args:
        location: The lake: its folder (``DATA/parquet``) or its URL (``s3://bucket/prefix``).
        sql: A query in DuckDB's SQL over the lake's tables.

    Returns:
        A `pyarrow.Table`.

    Raises:
        UsageError: DuckDB does not accept the query.
        SatelliteError: There is no lake at `location`, or it cannot be read.

    Example:
        >>> from consumers.parquet.frames import arrow
        >>> arrow(".cdc/parquet", "select status, count(*) as n from orders group by all").to_pylist()
        [{'status': 'paid', 'n': 2}]

    """
    connection = connect(location, sql)
    try:
        return connection.sql(sql).to_arrow_table()
    except duckdb.Error as error:
        raise query_error(error) from error
    finally:
        connection.close()


def polars(location: Path | str, sql: str) -> Any:
    """Run a query and return the result as a Polars data frame.

    The data frame shares memory with the Arrow table where the types allow it.

    Args:
        location: The lake: its folder (``DATA/parquet``) or its URL (``s3://bucket/prefix``).
        sql: A query in DuckDB's SQL over the lake's tables.

    Returns:
        A `polars.DataFrame`.

    Raises:
        UsageError: DuckDB does not accept the query, or Polars is not installed.
        SatelliteError: There is no lake at `location`, or it cannot be read.

    Example:
        >>> from consumers.parquet.frames import polars
        >>> polars(".cdc/parquet", "select id from orders where status = 'paid' order by id")["id"].to_list()
        [1, 2]

    """
    return _installed("polars").from_arrow(arrow(location, sql))


def pandas(location: Path | str, sql: str) -> Any:
    """Run a query and return the result as a pandas data frame.

    The columns have Arrow's types: NULL stays NULL, and decimals stay exact.

    Args:
        location: The lake: its folder (``DATA/parquet``) or its URL (``s3://bucket/prefix``).
        sql: A query in DuckDB's SQL over the lake's tables.

    Returns:
        A `pandas.DataFrame`.

    Raises:
        UsageError: DuckDB does not accept the query, or pandas is not installed.
        SatelliteError: There is no lake at `location`, or it cannot be read.

    Example:
        >>> from consumers.parquet.frames import pandas
        >>> list(pandas(".cdc/parquet", "select id from orders where status = 'paid' order by id")["id"])
        [1, 2]

    """
    found = _installed("pandas")
    return arrow(location, sql).to_pandas(types_mapper=found.ArrowDtype)


def _installed(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise UsageError(f"{name} is not installed", f"pip install {name}, or use arrow()") from error
