"""Batches rows that a snapshot or backfill read: unordered, hundreds of one shard compressed into one record.

Rows need no order, because each has a WAL position of its own. A record holds some hundred rows of one shard as gzip,
one per line (`cdckit.packing.split_folded`): a shard takes 1,000 records and 1 MiB per second, and rows of one table
compress well. Each record goes by an explicit hash key to the shard of its rows' keys, and Kinesis' answer must name
that shard. Rows that a split or merge sent elsewhere are distributed and sent again; a consumer that receives a row
twice sees equal positions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence

import msgspec
from isal import igzip

from cdckit.packing import MAX_FOLDED_CHANGES, split_folded
from producer.ack_tracker import AckGroup
from producer.kinesis.batching.row_batch import RowBatch
from producer.kinesis.limits import StreamLimits
from producer.kinesis.put_records import decode_entry, encode_entry
from producer.kinesis.shard_map import Shard, ShardMap
from producer.records import Record

MAX_FOLDED_BYTES = 512 * 1024
"""Upper bound of a folded record: small enough that a reader's page holds several."""
_COMPRESSION_LEVEL = 1  # a tenth of the bytes of most rows, at 1 GB/s and more
_KEY = "cdc"  # partition key of a folded record; readers ignore it


class FoldedEntry(msgspec.Struct, eq=False, gc=False):
    """Many rows for the shard that must receive them, or one row by itself (`shard` is None)."""

    json: bytes
    group: AckGroup
    size: int
    partition_key: str
    rows: int = 1
    shard: str | None = None


class FoldedBatcher:
    """A `producer.kinesis.batching.protocol.Batcher`; `add_rows` is its main entrance."""

    def __init__(self, shards: ShardMap, limits: StreamLimits) -> None:
        """`limits` are the stream's."""
        self._shards, self._limits = shards, limits
        self._max_bytes = min(MAX_FOLDED_BYTES, limits.record) - len(_KEY)
        self._waiting: deque[FoldedEntry] = deque()
        self._waiting_bytes = 0
        self.pending = self.pending_bytes = 0

    @property
    def sendable(self) -> int:
        """Entries that wait; reported as a full request once they have half of a request's bytes."""
        return self._limits.entries if 2 * self._waiting_bytes >= self._limits.request else len(self._waiting)

    def add(self, record: Record, group: AckGroup) -> None:
        """Queue a row by itself."""
        key = record.partition_key
        size = len(record.data) + len(key.encode())
        self._enqueue(FoldedEntry(encode_entry(record.data, key), group, size, key))

    def add_rows(self, rows: RowBatch, group: AckGroup) -> Sequence[Record]:
        """Queue rows, folded. Returns rows that are alone or too large to fold: `add` them one by one."""
        if len(self._shards.shards) == 1:
            return self._fold(rows, self._shards.shards[0], group)
        unfolded: list[Record] = []
        for shard, shard_rows in self._divide(rows):
            unfolded += self._fold(shard_rows, shard, group)
        return unfolded

    def take(self, throttled: Collection[str]) -> Sequence[FoldedEntry]:
        """Return the next request's entries."""
        taken: list[FoldedEntry] = []
        size = 0
        for _ in range(len(self._waiting)):
            entry = self._waiting.popleft()
            if throttled and self.shard_of(entry) in throttled:
                self._waiting.append(entry)  # the others may overtake it
                continue
            if taken and (size + entry.size > self._limits.request or len(taken) == self._limits.entries):
                self._waiting.appendleft(entry)
                break
            taken.append(entry)
            size += entry.size
        self._waiting_bytes -= size
        return taken

    def accepted(self, entries: Sequence[FoldedEntry]) -> int:
        """Remove entries that the stream accepted; return how many rows they held."""
        for entry in entries:
            self._discard(entry)
        return sum(entry.rows for entry in entries)

    def refused(self, entries: Sequence[FoldedEntry]) -> None:
        """Queue refused entries before all others."""
        self._waiting.extendleft(entries)
        self._waiting_bytes += sum(entry.size for entry in entries)

    def misrouted(self, entry: FoldedEntry) -> None:
        """Keep the entry's rows; `reshard` distributes them."""
        self.refused([entry])

    def reshard(self, shards: ShardMap) -> None:
        """Distribute the waiting rows over the new shards."""
        waiting, self._waiting, self._waiting_bytes = self._waiting, deque(), 0
        self._shards = shards
        for entry in waiting:
            if entry.shard is None:
                self.refused([entry])
            else:
                rows = RowBatch.from_records(split_folded(decode_entry(entry.json)))
                for record in self.add_rows(rows, entry.group):
                    self.add(record, entry.group)
                self._discard(entry)

    def shard_of(self, entry: FoldedEntry) -> str:
        """Return the shard of a folded record, or the one that a single row's key selects."""
        return entry.shard or self._shards.of(entry.partition_key).id

    def _divide(self, rows: RowBatch) -> Iterator[tuple[Shard, RowBatch]]:
        by_shard = {shard.id: (shard, list[bytes](), list[bytes]()) for shard in self._shards.shards}
        of_bytes = self._shards.of_bytes
        for key, line in zip(rows.keys(), rows.lines(), strict=True):
            _, keys, lines = by_shard[of_bytes(key).id]
            keys.append(key)
            lines.append(line)
        for shard, keys, lines in by_shard.values():
            if lines:
                yield shard, RowBatch.from_lines(rows.table, keys, lines)

    def _fold(self, rows: RowBatch, shard: Shard, group: AckGroup) -> Sequence[Record]:
        if rows.count == 1:
            return list(rows.records())
        data = igzip.compress(rows.text, _COMPRESSION_LEVEL, mtime=0)
        if len(data) <= self._max_bytes and rows.count <= MAX_FOLDED_CHANGES:
            json = encode_entry(data, _KEY, str(shard.low))
            self._enqueue(FoldedEntry(json, group, len(data) + len(_KEY), _KEY, rows.count, shard.id))
            return ()
        return [record for half in rows.halves() for record in self._fold(half, shard, group)]

    def _enqueue(self, entry: FoldedEntry) -> None:
        entry.group.outstanding += 1
        self.pending += 1
        self.pending_bytes += entry.size
        self._waiting.append(entry)
        self._waiting_bytes += entry.size

    def _discard(self, entry: FoldedEntry) -> None:
        entry.group.outstanding -= 1
        self.pending -= 1
        self.pending_bytes -= entry.size
