"""The table ``[consumers.parquet]`` of ``cdc.toml``, checked."""

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
    """How the sink writes. Unknown or unfit keys are refused."""

    url: str = ""
    """Where the lake is instead of the data folder, such as ``s3://bucket/prefix``."""
    flush_seconds: Annotated[float, Meta(ge=0, le=3600)] = 5.0
    """How old changes may become before they are committed: how far the lake is behind, against how many files."""
    flush_rows: Annotated[int, Meta(ge=1, le=1_000_000)] = 100_000
    """How many changes are held in memory before they are written ahead of the next flush."""
    partition_by: str = "_commit_date"
    """What new tables are partitioned by: ``_commit_date``, a column's name (few values!), or empty for nothing."""
    retention_hours: Annotated[int, Meta(ge=1, le=24 * 3650)] = 24
    """How long files and versions that are no longer current stay for readers who still use them."""
    compact: bool = True
    """Whether the consumer merges small files in the background."""
    target_mb: Annotated[float, Meta(gt=0, le=4096)] = 128
    """How large files shall become by that."""
    sort_by: tuple[str, ...] = ()
    """Columns by which compaction orders rows instead of by position, so that queries on them skip more."""

    @classmethod
    def read(cls, table: Mapping[str, object]) -> ParquetOptions:
        """Check the settings' table. Raises UsageError that names the key."""
        try:
            return msgspec.convert(table, cls)
        except msgspec.ValidationError as error:
            known = ", ".join(cls.__struct_fields__)
            raise UsageError(f"[consumers.parquet]: {error}", f"known keys: {known}; see docs/parquet.md") from error

    def lake(self, folder: Path) -> Lake:
        """The lake at the URL, else in `folder`. Raises UsageError when the URL is of no known kind."""
        return Lake.at(self.url or folder)

    @property
    def layout(self) -> TableLayout:
        """How new tables are laid out."""
        return TableLayout(self.partition_by, self.retention_hours)

    @property
    def compaction(self) -> CompactionPolicy:
        """What the files of all tables shall become."""
        return CompactionPolicy(int(self.target_mb * MEGABYTE), self.sort_by, self.retention_hours)
