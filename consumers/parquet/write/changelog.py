"""The change log of one table: appends that are exactly once, whoever else writes it at the same time.

A commit succeeds only on the very version whose positions were looked at (no retry inside delta-rs); when another
writer was first, the look and the write are done anew. So a duplicate, a replay, a second shard's copy of a
truncate or a writer that woke up after its lease was taken over finds its positions there and adds nothing.
A file whose commit failed stays for vacuum: on an object store a commit may have arrived though it was reported lost.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import SystemRandom

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError

from cdckit.change import Change
from cdckit.errors import SatelliteError, TransientSinkError
from consumers.parquet.lake import Lake, TableRef
from consumers.parquet.types.schema import LakeSchema
from consumers.parquet.write import log_sync
from consumers.parquet.write.arrow_rows import ChangeGroup, group_changes, to_arrow
from consumers.parquet.write.data_files import FileTarget, filesystem, write_files
from consumers.parquet.write.known_positions import KnownPositions
from consumers.parquet.write.table_creation import TableLayout, open_or_create, partition_column, stats_columns

MAX_ATTEMPTS = 50
_JITTER = SystemRandom()  # no state that is shared: a seeded process, or one that was forked, jitters too


@dataclass(frozen=True, slots=True)
class ShardCheckpoint:
    """How far a shard is: committed together with the files, for people and tools; deduplication does not need it."""

    shard: str
    sequence_number: str


class ChangeLog:
    """One table's log, opened or made at first use. Not for two threads at once."""

    def __init__(self, lake: Lake, ref: TableRef, layout: TableLayout) -> None:
        self._lake, self._ref, self._layout = lake, ref, layout
        self._filesystem = filesystem(lake, ref)
        self._known = KnownPositions(self._filesystem)
        self._table: DeltaTable | None = None
        self._synced = -1

    def append(self, unique: Mapping[str, Change], progress: ShardCheckpoint) -> int:
        """Add the changes (by position) that the log lacks and return how many those were; durable on return.

        Raises TransientSinkError when other writers won every time, SatelliteError when the write_files fails.
        """
        for attempt in range(MAX_ATTEMPTS):
            try:
                return self._append_new(unique, progress)
            except CommitFailedError:
                time.sleep(_JITTER.uniform(0, min(1.0, 0.01 * 2**attempt)))
            except (DeltaError, OSError) as error:
                self._table = None
                raise SatelliteError(f"cannot write {self._lake.uri(self._ref)}: {error}", "see the cause") from error
        raise TransientSinkError(f"other writers of {self._ref} were first {MAX_ATTEMPTS} times", "it is tried again")

    def _append_new(self, unique: Mapping[str, Change], progress: ShardCheckpoint) -> int:
        table = self._current(unique)
        known = self._known.among(table, unique)
        new = {position: change for position, change in unique.items() if position not in known}
        if new:
            self._write(table, new, progress)
        if self._lake.is_local and self._synced < table.version():
            # also when all was there already: another process may have committed it and not yet synced
            log_sync.sync_entries(self._lake.uri(self._ref), self._synced + 1, table.version())
            self._synced = table.version()
        return len(new)

    def _current(self, unique: Mapping[str, Change]) -> DeltaTable:
        if self._table is None:
            self._table = open_or_create(self._lake, self._ref, self._layout, next(iter(unique.values())))
        else:
            self._table.update_incremental()
        return self._table

    def _write(self, table: DeltaTable, changes: Mapping[str, Change], progress: ShardCheckpoint) -> None:
        groups = group_changes(changes)
        columns = self._columns(table, groups)
        rows = to_arrow(groups, columns)
        files = write_files(FileTarget(self._lake, self._ref, partition_column(table), stats_columns(table)), rows)
        table.create_write_transaction(
            [*files],
            "append",
            table.schema(),
            table.metadata().partition_columns,
            commit_properties=_commit(table, progress),
        )
        table.update_incremental()
        self._known.committed(table.version(), changes)

    def _columns(self, table: DeltaTable, groups: Sequence[ChangeGroup]) -> LakeSchema:
        before = LakeSchema.read(pa.schema(table.schema().to_arrow()))
        columns = before.extended(pair for group in groups for pair in group.typed_columns)
        if columns is not before:
            added = pa.schema(list(columns.arrow)[len(before.arrow) :])
            only_here = CommitProperties(max_commit_retries=0)
            table.alter.add_columns(Schema.from_arrow(added).fields, commit_properties=only_here)
        return columns


def _commit(table: DeltaTable, progress: ShardCheckpoint) -> CommitProperties:
    batches = (table.transaction_version(progress.shard) or 0) + 1
    return CommitProperties(
        max_commit_retries=0,
        app_transactions=[Transaction(progress.shard, batches)],
        custom_metadata={"shard": progress.shard, "sequence_number": progress.sequence_number},
    )
