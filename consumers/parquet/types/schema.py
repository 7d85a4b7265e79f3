"""The schema of one table in the lake: which lake column holds which PostgreSQL column of which type.

A PostgreSQL column whose type changes gets a second lake column (``qty``, then ``qty__bigint``). Stored rows are not
rewritten; the views combine the variants. The metadata of a field contains ``pg_name`` and ``pg_type``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from consumers.parquet.names import column_name
from consumers.parquet.types.kinds import Kind, kind_of

META = pa.schema(
    [
        pa.field("_op", pa.string()),
        pa.field("_position", pa.string()),
        pa.field("_commit_time", pa.timestamp("us", "UTC")),
        pa.field("_commit_date", pa.date32()),
        pa.field("_xid", pa.int64()),
        pa.field("_annotation", pa.string()),
        pa.field("_key", pa.string()),
        pa.field("_columns", pa.string()),
        pa.field("_exact", pa.string()),
    ]
)
"""The lake's own columns. ``_columns`` names the columns that the change carried; an unchanged TOAST column is missing.
``_exact`` is a JSON object of the values that their typed column cannot hold."""


COMMIT_DATE = "_commit_date"
PARTITION = "_partition"
"""The text of the source column by which the table is partitioned, if it is partitioned by one. The column itself stays
in the files too, because a partition's value cannot distinguish an empty text from NULL."""


@dataclass(frozen=True, slots=True)
class LakeColumn:
    """One lake column: its name, and the name, type and kind of the PostgreSQL column that it holds."""

    name: str
    pg_name: str
    pg_type: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class LakeSchema:
    """All columns of one table, in the lake's order."""

    arrow: Any
    by_source: Mapping[tuple[str, str], LakeColumn]

    @classmethod
    def read(cls, arrow: Any) -> LakeSchema:
        """The schema that the field metadata of an Arrow schema describes."""
        found = [_column(field) for field in arrow if field.metadata and b"pg_name" in field.metadata]
        return cls(arrow, {(column.pg_name, column.kind.name): column for column in found})

    @classmethod
    def of(cls, table: DeltaTable) -> LakeSchema:
        """The schema of a Delta table in its loaded version."""
        return cls.read(pa.schema(table.schema().to_arrow()))

    @property
    def partition_source(self) -> str | None:
        """The source column whose text is in ``_partition``; None if no source column partitions the table."""
        if PARTITION not in self.arrow.names:
            return None
        name = (self.arrow.field(PARTITION).metadata or {}).get(b"partition_of")
        return None if name is None else str(name.decode())

    def find(self, pg_name: str, pg_type: str) -> LakeColumn:
        """The lake column for a PostgreSQL column of this type. Raises KeyError when there is none."""
        return self.by_source[pg_name, kind_of(pg_type).name]

    def variants(self) -> Mapping[str, list[LakeColumn]]:
        """The lake columns of each PostgreSQL column, oldest first."""
        found: dict[str, list[LakeColumn]] = {}
        for column in self.by_source.values():
            found.setdefault(column.pg_name, []).append(column)
        return found

    def extended(self, wanted: Iterable[tuple[str, str]]) -> LakeSchema:
        """Add columns for the (name, type) pairs that are missing; returns itself if none is missing."""
        arrow = self.arrow
        missing = {(name, kind_of(pg_type).name): (name, pg_type) for name, pg_type in wanted}
        for name, pg_type in [pair for known, pair in missing.items() if known not in self.by_source]:
            arrow = arrow.append(_field(name, pg_type, arrow.names))
        return self if arrow is self.arrow else LakeSchema.read(arrow)


def _field(pg_name: str, pg_type: str, taken: list[str]) -> Any:
    kind = kind_of(pg_type)
    name = column_name(pg_name, taken, kind.name)
    return pa.field(name, kind.arrow, metadata={"pg_name": pg_name, "pg_type": pg_type})


def _column(field: Any) -> LakeColumn:
    metadata = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    pg_type = metadata.get("pg_type", "")
    return LakeColumn(field.name, metadata.get("pg_name", field.name), pg_type, kind_of(pg_type))
