"""Creates tables of the lake. Their metadata, not the settings, then says how later files are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from deltalake import DeltaTable

from cdckit.change import Change
from consumers.parquet.lake import Lake, TableRef
from consumers.parquet.types.schema import COMMIT_DATE, META, PARTITION, LakeSchema
from consumers.parquet.write.arrow_rows import logged_values

_STATS_COLUMNS = "delta.dataSkippingStatsColumns"
_ALWAYS_STATS = ("_position", "_commit_time", "_exact")
_STATS_FAMILIES = ("int", "text")
"""Key columns of these families have statistics in the log: values of other families have no exact form in JSON."""


@dataclass(frozen=True, slots=True)
class TableLayout:
    """The layout of new tables: partitioned by ``_commit_date``, by a source column, or (empty) not at all."""

    partition_by: str = COMMIT_DATE
    retention_hours: int = 24


def open_or_create(lake: Lake, ref: TableRef, layout: TableLayout, first: Change) -> DeltaTable:
    """Open the table, or create it with the columns of its first change. An existing table keeps its layout."""
    uri, storage = lake.uri(ref), dict(lake.storage)
    if not DeltaTable.is_deltatable(uri, storage):
        columns = _columns(layout, first)
        partition = _partition(layout)
        DeltaTable.create(
            uri,
            columns.arrow,
            "ignore",
            partition_by=[partition] if partition else None,
            configuration=_configuration(layout, columns, first),
            storage_options=storage,
        )
    return DeltaTable(uri, storage_options=storage)


def partition_column(table: DeltaTable) -> str | None:
    """The lake column by which the table is partitioned, if any."""
    columns = table.metadata().partition_columns
    return columns[0] if columns else None


def stats_columns(table: DeltaTable) -> Sequence[str]:
    """The lake columns whose range is in each file's log entry."""
    return (table.metadata().configuration.get(_STATS_COLUMNS) or "_position").split(",")


def _columns(layout: TableLayout, first: Change) -> LakeSchema:
    arrow = META
    if _partition(layout) == PARTITION:
        arrow = arrow.append(pa.field(PARTITION, pa.string(), metadata={"partition_of": layout.partition_by}))
    return LakeSchema.read(arrow).extended((name, first.types.get(name, "")) for name in logged_values(first))


def _partition(layout: TableLayout) -> str:
    return layout.partition_by if layout.partition_by in ("", COMMIT_DATE) else PARTITION


def _configuration(layout: TableLayout, columns: LakeSchema, first: Change) -> dict[str, str | None]:
    keys = [columns.find(name, first.types.get(name, "")) for name in first.key]
    names = [*_ALWAYS_STATS, *(column.name for column in keys if column.kind.family in _STATS_FAMILIES)]
    retention = f"interval {layout.retention_hours} hours"
    return {
        _STATS_COLUMNS: ",".join(names),
        "delta.logRetentionDuration": retention,
        "delta.deletedFileRetentionDuration": retention,
    }
