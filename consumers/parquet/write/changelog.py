"""Appends to the change log of one table, exactly once, also when other processes write it at the same time.

A commit succeeds only on the version of the table whose positions were checked (delta-rs must not retry). If another
writer commits first, check and write are repeated. So a redelivery, a replay, another shard's copy of a truncate, or
a writer that continues after it lost its lease finds its positions in the table and adds nothing.
The file of a failed commit is left for vacuum: an object store may have stored a commit that it reported as failed.
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
_JITTER = SystemRandom()  # not the shared generator: seeded or forked processes would all draw the same delays


@dataclass(frozen=True, slots=True)
class ShardCheckpoint:
    """A shard's progress, committed with its files. It is for people and tools; deduplication does not use it."""

    shard: str
    sequence_number: str


class ChangeLog:
    """The log of one table; opened or created at the first append. Not thread-safe."""

    def __init__(self, lake: Lake, ref: TableRef, layout: TableLayout) -> None:
        self._lake, self._ref, self._layout = lake, ref, layout
        self._filesystem = filesystem(lake, ref)
        self._known = KnownPositions(self._filesystem)
        self._table: DeltaTable | None = None
        self._synced = -1

    def append(self, unique: Mapping[str, Change], checkpoint: ShardCheckpoint) -> int:
        """Add the changes (by position) that are not in the log; durable on return. Returns how many were added.

        Raises TransientSinkError when other writers commit first at every attempt, SatelliteError when the store fails.
        """
        for attempt in range(MAX_ATTEMPTS):
            try:
                return self._append_new(unique, checkpoint)
            except CommitFailedError:
                time.sleep(_JITTER.uniform(0, min(1.0, 0.01 * 2**attempt)))
            except (DeltaError, OSError) as error:
                self._table = None
                raise SatelliteError(f"cannot write {self._lake.uri(self._ref)}: {error}", "see the cause") from error
        raise TransientSinkError(
            f"other writers committed to {self._ref} first, {MAX_ATTEMPTS} times in a row",
            "no action is required: the kit tries again",
        )

    def _append_new(self, unique: Mapping[str, Change], checkpoint: ShardCheckpoint) -> int:
        table = self._current(unique)
        known = self._known.find(table, unique)
        new = {position: change for position, change in unique.items() if position not in known}
        if new:
            self._write(table, new, checkpoint)
        if self._lake.is_local and self._synced < table.version():
            # also when nothing was added: another process may have committed the changes without syncing them yet
            log_sync.sync_entries(self._lake.uri(self._ref), self._synced + 1, table.version())
            self._synced = table.version()
        return len(new)

    def _current(self, unique: Mapping[str, Change]) -> DeltaTable:
        if self._table is None:
            self._table = open_or_create(self._lake, self._ref, self._layout, next(iter(unique.values())))
        else:
            self._table.update_incremental()
        return self._table

    def _write(self, table: DeltaTable, changes: Mapping[str, Change], checkpoint: ShardCheckpoint) -> None:
        groups = group_changes(changes)
        columns = self._columns(table, groups)
        rows = to_arrow(groups, columns)
        files = write_files(FileTarget(self._lake, self._ref, partition_column(table), stats_columns(table)), rows)
        table.create_write_transaction(
            [*files],
            "append",
            table.schema(),
            table.metadata().partition_columns,
            commit_properties=_commit(table, checkpoint),
        )
        table.update_incremental()
        self._known.record(table.version(), changes)

    def _columns(self, table: DeltaTable, groups: Sequence[ChangeGroup]) -> LakeSchema:
        before = LakeSchema.of(table)
        columns = before.extended(pair for group in groups for pair in group.typed_columns)
        if columns is not before:
            added = pa.schema(list(columns.arrow)[len(before.arrow) :])
            no_retry = CommitProperties(max_commit_retries=0)
            table.alter.add_columns(Schema.from_arrow(added).fields, commit_properties=no_retry)
        return columns


def _commit(table: DeltaTable, checkpoint: ShardCheckpoint) -> CommitProperties:
    batches = (table.transaction_version(checkpoint.shard) or 0) + 1
    return CommitProperties(
        max_commit_retries=0,
        app_transactions=[Transaction(checkpoint.shard, batches)],
        custom_metadata={"shard": checkpoint.shard, "sequence_number": checkpoint.sequence_number},
    )
