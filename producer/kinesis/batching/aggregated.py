"""Packs a shard's run of changes, in commit order, into one KPL record; at most one per shard is in flight.

Each record goes by an explicit hash key to the shard whose keys are in it, and Kinesis' answer must name that shard:
the KCL silently drops an aggregated record that a split or merge sent elsewhere. Misrouted changes, and all that wait,
are then distributed over the current shards, in commit order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from heapq import merge

import msgspec

from cdckit.aggregation import OVERHEAD, OVERHEAD_PER_RECORD, SubRecord, pack
from producer.ack_tracker import AckGroup
from producer.kinesis.limits import StreamLimits
from producer.kinesis.put_records import encode_entry
from producer.kinesis.shard_map import Shard, ShardMap
from producer.records import Record

MAX_PACKED_BYTES = 512 * 1024
"""Upper bound of a packed record: large enough to be cheap, small enough that a reader's page holds several."""
_KEY = "cdc"  # partition key of a packed record; readers ignore it


class QueuedRecord(msgspec.Struct, eq=False, gc=False):
    """One change in a shard's queue. `number` is its place in commit order; a truncate's copies share one."""

    number: int
    record: Record
    group: AckGroup
    size: int
    hash_key: str | None = None


@dataclass(slots=True, eq=False)
class AggregatedEntry:
    """A shard's next entry: its JSON, its changes, and the shard that must receive it."""

    json: bytes
    records: Sequence[QueuedRecord]
    shard: str
    size: int
    partition_key: str = _KEY


@dataclass(slots=True)
class _ShardQueue:
    shard: Shard
    waiting: deque[QueuedRecord] = field(default_factory=deque)
    in_flight: AggregatedEntry | None = None
    retry: AggregatedEntry | None = None

    @property
    def sendable(self) -> bool:
        return self.in_flight is None and bool(self.retry or self.waiting)


class AggregatedBatcher:
    """A `producer.kinesis.batching.protocol.Batcher`."""

    def __init__(self, shards: ShardMap, limits: StreamLimits) -> None:
        """`limits` are the stream's."""
        self._limits, self._number = limits, 0
        self._max_bytes = min(MAX_PACKED_BYTES, limits.record)
        self._open(shards)
        self.pending = self.pending_bytes = 0

    @property
    def sendable(self) -> int:
        """Shards with waiting changes and nothing in flight."""
        return sum(1 for queue in self._queues.values() if queue.sendable)

    def add(self, record: Record, group: AckGroup) -> None:
        """Queue a record behind all earlier ones of its shard; a truncate in every shard."""
        self._number += 1
        self._route(record, group, self._number)

    def take(self, throttled: Collection[str]) -> Sequence[AggregatedEntry]:
        """Return one entry per shard that has changes and nothing in flight."""
        taken: list[AggregatedEntry] = []
        size = 0
        for shard, queue in self._queues.items():
            if shard in throttled or not queue.sendable:
                continue
            entry = queue.retry or self._pack(queue)
            size += entry.size
            if taken and (size > self._limits.request or len(taken) == self._limits.entries):
                queue.retry = entry
                break
            queue.in_flight, queue.retry = entry, None
            taken.append(entry)
        return taken

    def accepted(self, entries: Sequence[AggregatedEntry]) -> int:
        """Remove entries that their shards accepted."""
        for entry in entries:
            self._queues[entry.shard].in_flight = None
            self._discard(entry.records)
        return sum(len(entry.records) for entry in entries)

    def refused(self, entries: Sequence[AggregatedEntry]) -> None:
        """Send each entry again, unchanged."""
        for entry in entries:
            queue = self._queues[entry.shard]
            queue.in_flight, queue.retry = None, entry

    def misrouted(self, entry: AggregatedEntry) -> None:
        """Keep the entry's changes; `reshard` distributes them."""
        self.refused([entry])

    def reshard(self, shards: ShardMap) -> None:
        """Distribute all waiting changes over the new shards, in commit order."""
        waiting = [[*(queue.retry.records if queue.retry else ()), *queue.waiting] for queue in self._queues.values()]
        self._open(shards)
        last = 0
        for queued in merge(*waiting, key=lambda queued: queued.number):
            self._discard([queued])
            if queued.number != last:  # a truncate's copies are one change
                self._route(queued.record, queued.group, queued.number)
            last = queued.number

    def shard_of(self, entry: AggregatedEntry) -> str:
        """Return the shard that must receive it."""
        return entry.shard

    def _open(self, shards: ShardMap) -> None:
        self._shards = shards
        self._queues = {shard.id: _ShardQueue(shard) for shard in shards.shards}

    def _route(self, record: Record, group: AckGroup, number: int) -> None:
        key = record.partition_key.encode()
        size = len(record.data) + len(key) + OVERHEAD_PER_RECORD
        if record.every_shard:
            for queue in self._queues.values():
                self._enqueue(queue, QueuedRecord(number, record, group, size, str(queue.shard.low)))
        else:
            self._enqueue(self._queues[self._shards.of_bytes(key).id], QueuedRecord(number, record, group, size))

    def _enqueue(self, queue: _ShardQueue, queued: QueuedRecord) -> None:
        queued.group.outstanding += 1
        self.pending += 1
        self.pending_bytes += queued.size
        queue.waiting.append(queued)

    def _discard(self, records: Sequence[QueuedRecord]) -> None:
        for queued in records:
            queued.group.outstanding -= 1
        self.pending_bytes -= sum([queued.size for queued in records])
        self.pending -= len(records)

    def _pack(self, queue: _ShardQueue) -> AggregatedEntry:
        waiting, shard = queue.waiting, queue.shard
        records = [waiting.popleft()]
        size = OVERHEAD + len(_KEY) + records[0].size
        while waiting and (size := size + waiting[0].size) <= self._max_bytes:
            records.append(waiting.popleft())
        if len(records) == 1:
            record = records[0].record
            json = encode_entry(record.data, record.partition_key, records[0].hash_key)
            return AggregatedEntry(json, records, shard.id, records[0].size, record.partition_key)
        data = pack([SubRecord(queued.record.partition_key, queued.record.data, queued.hash_key) for queued in records])
        return AggregatedEntry(encode_entry(data, _KEY, str(shard.low)), records, shard.id, len(data) + len(_KEY))
