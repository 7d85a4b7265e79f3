"""What the lake contains: its tables, their files and their columns, for people and scripts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from cdckit.change import Table
from cdckit.errors import UsageError
from consumers.parquet.lake import Lake, TableRef
from consumers.parquet.maintain.compaction import CompactionPolicy, file_sizes, is_due
from consumers.parquet.read.sql_types import sql_type
from consumers.parquet.read.views import view_columns
from consumers.parquet.types.schema import PARTITION, LakeSchema
from consumers.parquet.write.table_creation import partition_column


@dataclass(frozen=True, slots=True)
class TableStats:
    """Figures of one table. Times are ISO 8601 in UTC, to the millisecond; sizes are in bytes.

    `changes` counts every change in the log. `due` is true when a compaction is worth its cost.
    """

    source: str
    table: str
    changes: int
    files: int
    bytes: int
    smallest: int
    largest: int
    partitions: int
    partition_by: str
    oldest_commit: str | None
    newest_commit: str | None
    version: int
    due: bool
    path: str


@dataclass(frozen=True, slots=True)
class ColumnInfo:
    """One source column: its types in PostgreSQL and SQL, and its lake columns (several if its type has changed)."""

    column: str
    postgresql: str
    sql: str
    lake: str
    arrow: str


def find_tables(lake: Lake, names: list[str], source: str | None = None) -> list[TableRef]:
    """The tables with these names (``orders``, ``public.orders``), or all. Raises UsageError, SatelliteError."""
    known = [ref for ref in lake.tables() if source in (None, ref.source)]
    return [ref for name in names for ref in _matching(known, name)] if names else known


def _matching(known: list[TableRef], name: str) -> list[TableRef]:
    try:
        wanted = Table.parse(name)
    except ValueError as error:
        raise UsageError(str(error), "`cdcctl parquet ls` lists the tables") from error
    found = [ref for ref in known if ref.table == wanted]
    if not found:
        raise UsageError(f"the lake has no table {wanted}", "`cdcctl parquet ls` lists the tables")
    return found


def table_stats(lake: Lake, ref: TableRef, policy: CompactionPolicy) -> TableStats:
    """Figures of one table, from its log only: no data file is opened."""
    table = lake.open(ref)
    sizes = [size for part in file_sizes(table).values() for size in part]
    files = pa.table(table.get_add_actions(flatten=True))
    oldest, newest = _commit_times(files)
    return TableStats(
        ref.source, str(ref.table), pc.sum(files["num_records"]).as_py() or 0, len(sizes), sum(sizes),
        min(sizes, default=0), max(sizes, default=0), len(file_sizes(table)), _partitioning(table), oldest, newest,
        table.version(), is_due(table, policy), lake.uri(ref),
    )  # fmt: skip


def _partitioning(table: DeltaTable) -> str:
    column = partition_column(table)
    if column != PARTITION:
        return column or ""
    return LakeSchema.of(table).partition_source or ""


def _commit_times(files: pa.Table) -> tuple[str | None, str | None]:
    if "min._commit_time" not in files.column_names:
        return None, None
    ends = pc.min(files["min._commit_time"]).as_py(), pc.max(files["max._commit_time"]).as_py()
    oldest, newest = (end and end.isoformat(timespec="milliseconds") for end in ends)
    return oldest, newest


def column_infos(lake: Lake, ref: TableRef) -> Iterator[ColumnInfo]:
    """The columns of a table, in the order in which they first appeared."""
    columns = LakeSchema.of(lake.open(ref))
    for column in view_columns(columns):
        newest = column.variants[-1]
        yield ColumnInfo(
            column.name,
            ", then ".join(variant.pg_type or "?" for variant in column.variants),
            sql_type(newest.kind),
            ", ".join(variant.name for variant in column.variants),
            ", ".join(str(variant.kind.arrow) for variant in column.variants),
        )
