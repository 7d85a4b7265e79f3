"""Makes the current files of a Delta table readable in DuckDB: read directly in a folder, as an Arrow dataset on S3.

DuckDB's own Delta and S3 extensions would have to be downloaded; so `deltalake` provides the list of files.
"""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from consumers.parquet.read.sql_text import literal, quoted
from consumers.parquet.read.sql_types import raw_type
from consumers.parquet.types.schema import COMMIT_DATE, PARTITION, LakeSchema


def attach(connection: duckdb.DuckDBPyConnection, name: str, table: DeltaTable) -> None:
    """Make the current files of the table readable as the relation `name`. Later commits are not visible in it."""
    files = table.file_uris()
    if not files or not all(_readable(file) for file in files):
        connection.register(name, table.to_pyarrow_dataset())
        return
    scan = f"read_parquet([{', '.join(map(literal, files))}], union_by_name = true, {_partitioning(table)})"
    found = {column.casefold() for column in connection.sql(f"SELECT * FROM {scan} LIMIT 0").columns}
    columns = LakeSchema.of(table).by_source.values()
    # a column may be in the schema before any file has it
    absent = [f"NULL::{raw_type(c.kind)} AS {quoted(c.name)}" for c in columns if c.name.casefold() not in found]
    connection.execute(f"CREATE VIEW {quoted(name)} AS SELECT {', '.join(['*', *absent])} FROM {scan}")


def _partitioning(table: DeltaTable) -> str:
    types = {COMMIT_DATE: "DATE", PARTITION: "VARCHAR"}
    shown = ", ".join(f"{literal(column)}: {types[column]}" for column in table.metadata().partition_columns)
    return f"hive_partitioning = true, hive_types = {{{shown}}}" if shown else "hive_partitioning = false"


def has_inexact(table: DeltaTable) -> bool:
    """Whether a value of the table is in ``_exact``, according to the statistics of the files."""
    files = pa.table(table.get_add_actions(flatten=True))
    if "null_count._exact" not in files.column_names:
        return bool(files.num_rows)
    fewer = pc.less(files["null_count._exact"], files["num_records"])
    found: bool = pc.any(pc.fill_null(fewer, True), min_count=0).as_py()
    return found


def _readable(file: str) -> bool:
    # DuckDB would read a folder name with a pattern's characters as a pattern.
    return "://" not in file and not set(file) & set("*?[")
