"""Reads and checks ``[consumers.parquet]`` of ``cdc.toml``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from cdckit.errors import UsageError
from consumers.parquet.lake import Lake
from consumers.parquet.maintain.compaction import MEGABYTE, CompactionPolicy
from consumers.parquet.write.table_creation import TableLayout


class ParquetOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings of the Parquet satellite. Unknown keys and invalid values are refused."""

    url: str = ""
    """The lake's URL, such as ``s3://bucket/prefix``; empty: the data folder."""
    flush_seconds: Annotated[float, Meta(ge=0, le=3600)] = 5.0
    """The longest time between two commits. A larger value makes fewer, larger files; the lake is further behind."""
    flush_rows: Annotated[int, Meta(ge=1, le=1_000_000)] = 100_000
    """The number of buffered changes above which they are written before the next flush."""
    partition_by: str = "_commit_date"
    """The partitioning of new tables: ``_commit_date``, a column with few values, or empty for none."""
    retention_hours: Annotated[int, Meta(ge=1, le=24 * 3650)] = 24
    """How long replaced files and versions are kept for readers that still use them."""
    compact: bool = True
    """Whether the consumer merges small files in the background."""
    target_mb: Annotated[float, Meta(gt=0, le=4096)] = 128
    """The target size of merged files."""
    sort_by: tuple[str, ...] = ()
    """The columns by which compaction orders rows (empty: by position), so that queries on them skip more files."""

    @classmethod
    def read(cls, table: Mapping[str, object]) -> ParquetOptions:
        """Check a settings table. Raises UsageError that names the key."""
        try:
            return msgspec.convert(table, cls)
        except msgspec.ValidationError as error:
            known = ", ".join(cls.__struct_fields__)
            raise UsageError(f"[consumers.parquet]: {error}", f"known keys: {known}; see docs/parquet.md") from error

    def lake(self, folder: Path) -> Lake:
        """The lake at the URL, or in `folder` if there is no URL. Raises UsageError for an unknown kind of URL."""
        return Lake.at(self.url or folder)

    @property
    def layout(self) -> TableLayout:
        """The layout of new tables."""
        return TableLayout(self.partition_by, self.retention_hours)

    @property
    def compaction(self) -> CompactionPolicy:
        """The compaction policy of all tables."""
        return CompactionPolicy(int(self.target_mb * MEGABYTE), self.sort_by, self.retention_hours)
