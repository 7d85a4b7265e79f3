"""Aggregated lanes: a shard's run of changes in commit order, packed into one KPL record; one in flight a shard.

Each record goes, by an explicit hash key, to the shard whose keys are in it, and the answer must name that shard: a
record that a split or merge sent elsewhere would be dropped by the KCL, in silence. What strayed, and all that waits,
is then divided anew among the shards that there are, in commit order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from heapq import merge

import msgspec

from cdckit.aggregation import OVERHEAD, OVERHEAD_A_RECORD, SubRecord, pack
from producer.ack_tracker import Ticket
from producer.kinesis.limits import StreamLimits
from producer.kinesis.put_records import entry
from producer.kinesis.shard_map import Shard, ShardMap
from producer.records import Record

PACK_BYTES = 512 * 1024
"""Where a shard's run is cut: large enough to be cheap, small enough that a reader's page holds several."""
_KEY = "cdc"  # of the record as a whole; nobody reads it


class Item(msgspec.Struct, eq=False, gc=False):
    """One change in a lane. `number` is its place in commit order; a truncate's copies share one."""

    number: int
    record: Record
    ticket: Ticket
    size: int
    hash_key: str | None = None


@dataclass(slots=True, eq=False)
class Packed:
    """A lane's next record: its entry's text, its changes, and the shard that it must reach."""

    entry: bytes
    items: Sequence[Item]
    shard: str
    size: int
    partition_key: str = _KEY


@dataclass(slots=True)
class _Lane:
    shard: Shard
    queue: deque[Item] = field(default_factory=deque)
    flying: Packed | None = None
    again: Packed | None = None


class AggregateLanes:
    """See `producer.kinesis.batching.protocol.Lanes`."""

    def __init__(self, shards: ShardMap, bounds: StreamLimits) -> None:
        """`bounds` are the stream's."""
        self._bounds, self._number = bounds, 0
        self._pack_bytes = min(PACK_BYTES, bounds.record)
        self._open(shards)
        self.entries = self.size = 0

    @property
    def sendable(self) -> int:
        """Shards for which something waits and nothing flies."""
        return sum(1 for lane in self._lanes.values() if lane.flying is None and (lane.again or lane.queue))

    def add(self, record: Record, ticket: Ticket) -> None:
        """Queue a record behind all earlier ones of its shard, a truncate's in every shard."""
        self._number += 1
        self._place(record, ticket, self._number)

    def take(self, closed: Collection[str]) -> Sequence[Packed]:
        """One record for each shard that has something and nothing in flight."""
        taken: list[Packed] = []
        size = 0
        for name, lane in self._lanes.items():
            if lane.flying is not None or name in closed or not (lane.again or lane.queue):
                continue
            packed = lane.again or self._pack(lane)
            size += packed.size
            if taken and (size > self._bounds.request or len(taken) == self._bounds.entries):
                lane.again = packed
                break
            lane.flying, lane.again = packed, None
            taken.append(packed)
        return taken

    def accepted(self, parcels: Sequence[Packed]) -> int:
        """The shards have all of them."""
        for parcel in parcels:
            self._lanes[parcel.shard].flying = None
            self._forget(parcel.items)
        return sum(len(parcel.items) for parcel in parcels)

    def refused(self, parcels: Sequence[Packed]) -> None:
        """Each goes again as it is."""
        for parcel in parcels:
            lane = self._lanes[parcel.shard]
            lane.flying, lane.again = None, parcel

    def strayed(self, parcel: Packed) -> None:
        """Its changes will be divided anew."""
        self.refused([parcel])

    def reshard(self, shards: ShardMap) -> None:
        """Divide all that waits among the new shards, in commit order."""
        waiting = [[*(lane.again.items if lane.again else ()), *lane.queue] for lane in self._lanes.values()]
        self._open(shards)
        last = 0
        for item in merge(*waiting, key=lambda item: item.number):
            self._forget([item])
            if item.number != last:  # a truncate's copies are one change
                self._place(item.record, item.ticket, item.number)
            last = item.number

    def shard_of(self, parcel: Packed) -> str:
        """Known from the start."""
        return parcel.shard

    def _open(self, shards: ShardMap) -> None:
        self._shards = shards
        self._lanes = {shard.id: _Lane(shard) for shard in shards.shards}

    def _place(self, record: Record, ticket: Ticket, number: int) -> None:
        key = record.partition_key.encode()
        size = len(record.data) + len(key) + OVERHEAD_A_RECORD
        if record.every_shard:
            for lane in self._lanes.values():
                self._queue(lane, Item(number, record, ticket, size, str(lane.shard.low)))
        else:
            self._queue(self._lanes[self._shards.of_bytes(key).id], Item(number, record, ticket, size))

    def _queue(self, lane: _Lane, item: Item) -> None:
        item.ticket.outstanding += 1
        self.entries += 1
        self.size += item.size
        lane.queue.append(item)

    def _forget(self, items: Sequence[Item]) -> None:
        for item in items:
            item.ticket.outstanding -= 1
        self.size -= sum([item.size for item in items])
        self.entries -= len(items)

    def _pack(self, lane: _Lane) -> Packed:
        queue = lane.queue
        items = [queue.popleft()]
        size = OVERHEAD + len(_KEY) + items[0].size
        while queue and (size := size + queue[0].size) <= self._pack_bytes:
            items.append(queue.popleft())
        if len(items) == 1:
            record = items[0].record
            text = entry(record.data, record.partition_key, items[0].hash_key)
            return Packed(text, items, lane.shard.id, items[0].size, record.partition_key)
        data = pack([SubRecord(item.record.partition_key, item.record.data, item.hash_key) for item in items])
        return Packed(entry(data, _KEY, str(lane.shard.low)), items, lane.shard.id, len(data) + len(_KEY))
