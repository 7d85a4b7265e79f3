"""Keeping a table's files few and large: merging small ones, removing expired ones; beside readers and writers.

Merging is a commit that changes no row: who reads an older version goes on reading its files until they expire, and
who appends at the same time is not disturbed. delta-rs (1.6.6) lets two who merge the same files both commit, which
would double every row in them: so one merges at a time, and looks at the table only when it is its lease_lock.
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
_SORTING_MEMORY = 512 * MEGABYTE
_LOCK = "_upkeep.lock"
_SEVERAL = 16
_MANY = 100


@dataclass(frozen=True, slots=True)
class CompactionPolicy:
    """What files shall be like: their size in bytes, what rows are ordered by (nothing: position), old ones' stay."""

    target_bytes: int = 128 * MEGABYTE
    sort_by: Sequence[str] = ()
    retention_hours: int = 24


@dataclass(frozen=True, slots=True)
class CompactionResult:
    """What one upkeep of a table did. `expired` counts the files that were deleted."""

    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    expired: int


def file_sizes(table: DeltaTable) -> Mapping[str, Sequence[int]]:
    """The sizes of the current files, by partition (as the folder's name shows it)."""
    files = pa.table(table.get_add_actions(flatten=True))
    sizes: dict[str, list[int]] = defaultdict(list)
    for path, size in zip(files["path"].to_pylist(), files["size_bytes"].to_pylist(), strict=True):
        sizes[path.rpartition("/")[0]].append(size)
    return sizes


def is_due(table: DeltaTable, goal: CompactionPolicy) -> bool:
    """Whether merging is worth its cost: many small files, or a good share of what would be rewritten is in them."""
    partitions = file_sizes(table)
    newest = max(partitions, default="")
    return any(_is_due(sizes, goal, closed=name != newest) for name, sizes in partitions.items())


def _is_due(sizes: Sequence[int], goal: CompactionPolicy, *, closed: bool) -> bool:
    small = sorted(size for size in sizes if size < goal.target_bytes / 2)
    if closed:
        return len(small) > 1
    return len(small) >= _MANY or (len(small) >= _SEVERAL and sum(small[:-1]) >= small[-1] / 4)


def compact_table(lake: Lake, ref: TableRef, goal: CompactionPolicy, *, orphans: bool = True) -> CompactionResult:
    """Merge small files towards the goal, then delete what expired (`orphans`: also what no commit ever named).

    Raises SatelliteError when there is no such table or the store fails, and when another host merges its files now.
    """
    table = lake.open(ref)
    try:
        with _alone(lake, ref):
            table.update_incremental()  # what another one merged meanwhile must not be merged again
            before = [size for sizes in file_sizes(table).values() for size in sizes]
            _merge(lake, ref, table, goal)
        expired = table.vacuum(goal.retention_hours, dry_run=False, enforce_retention_duration=False, full=orphans)
    except CommitFailedError as error:
        raise SatelliteError(f"another process merged the files of {ref} at the same time", "try again") from error
    except (DeltaError, OSError) as error:
        raise SatelliteError(f"cannot merge the files of {ref}: {error}", "see the cause") from error
    after = [size for sizes in file_sizes(table).values() for size in sizes]
    return CompactionResult(len(before), len(after), sum(before), sum(after), len(expired))


def _merge(lake: Lake, ref: TableRef, table: DeltaTable, goal: CompactionPolicy) -> None:
    first = table.version()
    if goal.sort_by:
        columns = _lake_columns(table, ref, goal.sort_by)
        table.optimize.z_order(
            columns,
            target_size=goal.target_bytes,
            max_concurrent_tasks=1,
            max_spill_size=_SORTING_MEMORY,
            writer_properties=WRITER,
        )
    else:
        table.optimize.compact(target_size=goal.target_bytes, max_concurrent_tasks=1, writer_properties=WRITER)
    if lake.is_local and table.version() > first:
        log_sync.sync_entries(lake.uri(ref), first + 1, table.version(), files_too=True)


def _lake_columns(table: DeltaTable, ref: TableRef, names: Sequence[str]) -> list[str]:
    """The newest lake column of each name; one of the lake's own (``_key``) goes by itself."""
    variants = LakeSchema.read(pa.schema(table.schema().to_arrow())).variants()
    unknown = [name for name in names if name not in variants and name not in META.names]
    if unknown:
        raise UsageError(f"{ref} has no column {unknown[0]!r} to sort by", "`cdcctl parquet schema` lists the columns")
    return [variants[name][-1].name if name in variants else name for name in names]


@contextmanager
def _alone(lake: Lake, ref: TableRef) -> Iterator[None]:
    # One merges, others of this host wait, then find little to do; on an object store they come again later.
    if lake.bucket is not None:
        with lease_lock(lake.bucket, f"{ref.path}/{_LOCK}"):
            yield
        return
    with (Path(lake.uri(ref)) / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
