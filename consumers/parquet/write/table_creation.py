"""How a table of the lake is made, and what its metadata then tell every writer, whatever its settings say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from deltalake import DeltaTable

from cdckit.change import Change
from consumers.parquet.lake import Lake, TableRef
from consumers.parquet.types.schema import COMMIT_DATE, META, PARTITION, LakeSchema
from consumers.parquet.write.arrow_rows import logged_values

_MEASURED = "delta.dataSkippingStatsColumns"
_ALWAYS = ("_position", "_commit_time", "_exact")
_RANGED = ("int", "text")
"""Key columns of these families get their range into the log: others' values have no exact JSON."""


@dataclass(frozen=True, slots=True)
class TableLayout:
    """How new tables are laid out: ``_commit_date``, a source column's name, or nothing to partition by."""

    partition_by: str = COMMIT_DATE
    retention_hours: int = 24


def open_or_create(lake: Lake, ref: TableRef, layout: TableLayout, first: Change) -> DeltaTable:
    """The table, made with the columns of its first change if there is none; one that is there is taken as it is."""
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
    """The lake column that the table is partitioned by."""
    columns = table.metadata().partition_columns
    return columns[0] if columns else None


def stats_columns(table: DeltaTable) -> Sequence[str]:
    """The lake columns whose range each file's log entry gives."""
    return (table.metadata().configuration.get(_MEASURED) or "_position").split(",")


def _columns(layout: TableLayout, first: Change) -> LakeSchema:
    arrow = META
    if _partition(layout) == PARTITION:
        arrow = arrow.append(pa.field(PARTITION, pa.string(), metadata={"partition_of": layout.partition_by}))
    return LakeSchema.read(arrow).extended((name, first.types.get(name, "")) for name in logged_values(first))


def _partition(layout: TableLayout) -> str:
    return layout.partition_by if layout.partition_by in ("", COMMIT_DATE) else PARTITION


def _configuration(layout: TableLayout, columns: LakeSchema, first: Change) -> dict[str, str | None]:
    keys = [columns.find(name, first.types.get(name, "")) for name in first.key]
    names = [*_ALWAYS, *(column.name for column in keys if column.kind.family in _RANGED)]
    kept = f"interval {layout.retention_hours} hours"
    return {
        _MEASURED: ",".join(names),
        "delta.logRetentionDuration": kept,
        "delta.deletedFileRetentionDuration": kept,
    }
