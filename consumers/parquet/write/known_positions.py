"""Finds which positions a table's log already contains. This makes an append exactly-once, at a constant cost.

A writer remembers the highest position of the last version that it has seen. Positions above it are new, without any
read. For others only the files whose range of positions overlaps are opened, and of those only such row groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable


class KnownPositions:
    """What one writer knows about the positions in one table."""

    def __init__(self, filesystem: Any) -> None:
        self._filesystem = filesystem
        self._version = -1
        self._highest = ""

    def find(self, table: DeltaTable, wanted: Mapping[str, Any]) -> set[str]:
        """Which of the wanted positions the table, in its loaded version, contains."""
        low, high = min(wanted), max(wanted)
        if table.version() == self._version and low > self._highest:
            return set()
        files = pa.table(table.get_add_actions(flatten=True))
        self._version, self._highest = table.version(), _highest(files)
        paths = [unquote(path) for path in _overlapping(files, low, high)["path"].to_pylist()]
        return self._read(paths, low, high, wanted) if paths else set()

    def record(self, version: int, positions: Mapping[str, Any]) -> None:
        """Remember that this writer has committed these positions as this version."""
        if version == self._version + 1:
            self._version, self._highest = version, max(self._highest, *positions)

    def _read(self, paths: list[str], low: str, high: str, wanted: Mapping[str, Any]) -> set[str]:
        files: Any = ds.dataset(paths, format="parquet", filesystem=self._filesystem, schema=_POSITION_SCHEMA)
        between = (ds.field("_position") >= low) & (ds.field("_position") <= high)
        values = pa.array(wanted, pa.string())
        found: set[str] = set()
        for batch in files.to_batches(filter=between):
            column: Any = batch.column("_position")
            found.update(column.filter(pc.is_in(column, value_set=values)).to_pylist())
        return found


_POSITION_SCHEMA = pa.schema([pa.field("_position", pa.string())])
_FIRST, _LAST = "min._position", "max._position"
_ABOVE_ALL = "~"


def _highest(files: Any) -> str:
    if not files.num_rows:
        return ""
    if _LAST not in files.column_names or files[_LAST].null_count:
        return _ABOVE_ALL
    highest: str = pc.max(files[_LAST]).as_py()
    return highest


def _overlapping(files: Any, low: str, high: str) -> Any:
    if not files.num_rows or _LAST not in files.column_names:
        return files
    apart = pc.or_kleene(pc.greater(files[_FIRST], high), pc.less(files[_LAST], low))
    return files.filter(pc.invert(pc.fill_null(apart, False)))
