"""The change log of one table: appends that are exactly once, whoever else writes it at the same time.

A commit succeeds only on the very version whose positions were looked at (no retry inside delta-rs); when another
writer was first, the look and the write are done anew. So a duplicate, a replay, a second shard's copy of a
truncate or a writer that woke up after its lease was taken over finds its positions there and adds nothing.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from cdckit.change import Change
from cdckit.errors import SatelliteError, TransientSinkError
from consumers.parquet import durable
from consumers.parquet.lake import Lake, TableRef
from consumers.parquet.rows import by_shape, to_arrow
from consumers.parquet.schema import META, Columns

ATTEMPTS = 50
WRITER = WriterProperties(compression="ZSTD", compression_level=3, max_row_group_size=128 * 1024)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a shard is: committed together with the files, for people and tools; deduplication does not need it."""

    shard: str
    sequence_number: str


class ChangeLog:
    """One table's log, opened or made at first use. Not for two threads at once."""

    def __init__(self, lake: Lake, ref: TableRef) -> None:
        self._lake, self._ref = lake, ref
        self._table: DeltaTable | None = None

    def append(self, changes: Sequence[Change], progress: Progress) -> int:
        """Add the changes whose positions the log lacks and return how many those were; durable on return.

        Raises TransientSinkError when other writers won every time, SatelliteError when the store fails.
        """
        unique = {change.position.sort_key: change for change in reversed(changes)}
        for attempt in range(ATTEMPTS):
            try:
                return self._append_new(unique, progress)
            except CommitFailedError:
                time.sleep(random.uniform(0, min(1.0, 0.01 * 2**attempt)))  # noqa: S311
            except (DeltaError, OSError) as error:
                self._table = None
                raise SatelliteError(f"cannot write {self._lake.uri(self._ref)}: {error}", "see the cause") from error
        raise TransientSinkError(f"other writers of {self._ref} were first {ATTEMPTS} times", "it is tried again")

    def _append_new(self, unique: Mapping[str, Change], progress: Progress) -> int:
        table = self._current()
        known = positions_in(table, unique)
        new = [change for position, change in unique.items() if position not in known]
        if new:
            self._write(table, new, progress)
        return len(new)

    def _current(self) -> DeltaTable:
        if self._table is None:
            uri, options = self._lake.uri(self._ref), dict(self._lake.storage)
            DeltaTable.create(uri, META, "ignore", partition_by=["_commit_date"], storage_options=options)
            self._table = DeltaTable(uri, storage_options=options)
        else:
            self._table.update_incremental()
        return self._table

    def _write(self, table: DeltaTable, changes: Sequence[Change], progress: Progress) -> None:
        groups = by_shape(changes)
        before = Columns.read(pa.schema(table.schema().to_arrow()))
        columns = before.extended(pair for shape in groups for pair in shape.typed_columns)
        write_deltalake(
            table,
            to_arrow(groups, columns),
            mode="append",
            schema_mode=None if columns is before else "merge",
            writer_properties=WRITER,
            commit_properties=_commit(table, progress),
        )
        if self._lake.is_local:
            durable.sync_commit(self._lake.uri(self._ref), table.version())


def _commit(table: DeltaTable, progress: Progress) -> CommitProperties:
    batches = (table.transaction_version(progress.shard) or 0) + 1
    return CommitProperties(
        max_commit_retries=0,
        app_transactions=[Transaction(progress.shard, batches)],
        custom_metadata={"shard": progress.shard, "sequence_number": progress.sequence_number},
    )


def positions_in(table: DeltaTable, wanted: Mapping[str, Change]) -> set[str]:
    """Which of the wanted positions the log holds; reads only files whose range of positions overlaps theirs."""
    low, high = min(wanted), max(wanted)
    if not _overlaps(table, low, high):
        return set()
    dates = pa.array({change.commit_time.date() for change in wanted.values()}, pa.date32())
    there = (ds.field("_position") >= low) & (ds.field("_position") <= high) & ds.field("_commit_date").isin(dates)
    values = pa.array(wanted, pa.string())
    found: set[str] = set()
    for batch in table.to_pyarrow_dataset().to_batches(columns=["_position"], filter=there):
        column: Any = batch.column("_position")
        found.update(column.filter(pc.is_in(column, value_set=values)).to_pylist())
    return found


def _overlaps(table: DeltaTable, low: str, high: str) -> bool:
    files = pa.table(table.get_add_actions(flatten=True))
    if "min._position" not in files.column_names:
        return bool(files.num_rows > 0)
    apart = pc.or_kleene(pc.greater(files["min._position"], high), pc.less(files["max._position"], low))
    all_apart: bool = pc.all(pc.fill_null(apart, False), min_count=0).as_py()
    return not all_apart
