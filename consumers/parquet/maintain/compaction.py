"""Compaction: merges the small files of a table and deletes expired ones, while others read and write the table.

A merge is a commit that changes no row: readers of an older version use its files until they expire, and concurrent
appends are not affected. Only one process may merge a table at a time: delta-rs (1.6.6) lets two processes that merge
the same files both commit, which duplicates every row in them. So the table is loaded again once the lock is held.
"""

from __future__ import annotations

import fcntl
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, WriterProperties
from deltalake.exceptions import CommitFailedError, DeltaError

from cdckit.errors import SatelliteError, UsageError
from consumers.parquet.lake import Lake, TableRef
from consumers.parquet.maintain.lease_lock import lease_lock
from consumers.parquet.types.schema import META, LakeSchema
from consumers.parquet.write import log_sync
from consumers.parquet.write.data_files import COMPRESSION_LEVEL, ROW_GROUP

MEGABYTE = 1024 * 1024
WRITER = WriterProperties(compression="ZSTD", compression_level=COMPRESSION_LEVEL, max_row_group_size=ROW_GROUP)
_SORT_MEMORY = 512 * MEGABYTE
_LOCK = "_upkeep.lock"
_MIN_SMALL_FILES = 16
"""With fewer small files than this a merge is not worth its cost."""
_MAX_SMALL_FILES = 100
"""With this many small files a merge is always worth its cost."""


@dataclass(frozen=True, slots=True)
class CompactionPolicy:
    """The target size of files, the columns that order rows (none: by position), and how long old files are kept."""

    target_bytes: int = 128 * MEGABYTE
    sort_by: Sequence[str] = ()
    retention_hours: int = 24


@dataclass(frozen=True, slots=True)
class CompactionResult:
    """What one compaction of a table did. `expired` counts the deleted files."""

    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    expired: int


def file_sizes(table: DeltaTable) -> Mapping[str, Sequence[int]]:
    """The sizes of the current files per partition, by the name of the partition's folder."""
    files = pa.table(table.get_add_actions(flatten=True))
    sizes: dict[str, list[int]] = defaultdict(list)
    for path, size in zip(files["path"].to_pylist(), files["size_bytes"].to_pylist(), strict=True):
        sizes[path.rpartition("/")[0]].append(size)
    return sizes


def is_due(table: DeltaTable, policy: CompactionPolicy) -> bool:
    """Whether a merge is worth its cost.

    True when there are many small files, when small files are a large share of the bytes to rewrite, or when a
    partition other than the newest one still has several small files.
    """
    partitions = file_sizes(table)
    newest = max(partitions, default="")
    return any(_is_due(sizes, policy, closed=name != newest) for name, sizes in partitions.items())


def _is_due(sizes: Sequence[int], policy: CompactionPolicy, *, closed: bool) -> bool:
    small = sorted(size for size in sizes if size < policy.target_bytes / 2)
    if closed:
        return len(small) > 1
    if len(small) >= _MAX_SMALL_FILES:
        return True
    return len(small) >= _MIN_SMALL_FILES and sum(small[:-1]) >= small[-1] / 4


def compact_table(
    lake: Lake, ref: TableRef, policy: CompactionPolicy, *, remove_orphans: bool = True
) -> CompactionResult:
    """Merge small files as the policy says, then delete expired files.

    `remove_orphans` also deletes old files that no commit refers to. Raises SatelliteError when the table does not
    exist, the store fails, or another host is merging the table now.
    """
    table = lake.open(ref)
    try:
        with _exclusive(lake, ref):
            table.update_incremental()  # files that another process has merged meanwhile must not be merged again
            before = [size for sizes in file_sizes(table).values() for size in sizes]
            _merge(lake, ref, table, policy)
        expired = table.vacuum(
            policy.retention_hours, dry_run=False, enforce_retention_duration=False, full=remove_orphans
        )
    except CommitFailedError as error:
        raise SatelliteError(f"another process merged the files of {ref} at the same time", "try again") from error
    except (DeltaError, OSError) as error:
        raise SatelliteError(f"cannot merge the files of {ref}: {error}", "see the cause") from error
    after = [size for sizes in file_sizes(table).values() for size in sizes]
    return CompactionResult(len(before), len(after), sum(before), sum(after), len(expired))


def _merge(lake: Lake, ref: TableRef, table: DeltaTable, policy: CompactionPolicy) -> None:
    first = table.version()
    if policy.sort_by:
        columns = _sort_columns(table, ref, policy.sort_by)
        table.optimize.z_order(
            columns,
            target_size=policy.target_bytes,
            max_concurrent_tasks=1,
            max_spill_size=_SORT_MEMORY,
            writer_properties=WRITER,
        )
    else:
        table.optimize.compact(target_size=policy.target_bytes, max_concurrent_tasks=1, writer_properties=WRITER)
    if lake.is_local and table.version() > first:
        log_sync.sync_entries(lake.uri(ref), first + 1, table.version(), data_files=True)


def _sort_columns(table: DeltaTable, ref: TableRef, names: Sequence[str]) -> list[str]:
    """The lake columns to sort by: the newest variant of each named column, or the lake's own column of that name."""
    variants = LakeSchema.of(table).variants()
    unknown = [name for name in names if name not in variants and name not in META.names]
    if unknown:
        raise UsageError(f"{ref} has no column {unknown[0]!r} to sort by", "`cdcctl parquet schema` lists the columns")
    return [variants[name][-1].name if name in variants else name for name in names]


@contextmanager
def _exclusive(lake: Lake, ref: TableRef) -> Iterator[None]:
    # On one host the others wait, and then find little to do. On an object store they fail and try again later.
    if lake.bucket is not None:
        with lease_lock(lake.bucket, f"{ref.path}/{_LOCK}"):
            yield
        return
    with (Path(lake.uri(ref)) / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
