"""Plain lanes: a record a change; at most one of a partition key is in flight. The stream's shards do not matter."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence

import msgspec

from producer.ack_tracker import Ticket
from producer.kinesis.batching.key_limiter import Gate
from producer.kinesis.limits import RequestLimits, StreamLimits
from producer.kinesis.put_records import entry
from producer.kinesis.shard_map import Shard, ShardMap
from producer.records import Record


class Outgoing(msgspec.Struct, gc=False):
    """A record on its way, as an entry's text. Records of one partition key go one after the other."""

    gate_key: Hashable
    ticket: Ticket
    size: int
    entry: bytes
    shard: str | None = None
    """The one that it must reach; None: any is right."""

    @property
    def partition_key(self) -> str:
        """Kinesis hashes it."""
        return str(self.gate_key)


class Copy(Outgoing, kw_only=True, gc=False):
    """A truncate's copy for one shard; each goes for itself. The record is kept: it may have to be copied again."""

    record: Record

    @property
    def partition_key(self) -> str:
        """That of the record."""
        return self.record.partition_key


def copied(record: Record, ticket: Ticket, shard: Shard) -> Copy:
    """The copy of a truncate for this shard."""
    key = record.partition_key
    size = len(record.data) + len(key.encode())
    return Copy((key, shard.id), ticket, size, entry(record.data, key, str(shard.low)), shard.id, record=record)


class PlainLanes:
    """A `Lanes` (see `protocol`). A shard that is throttled is left alone; what was taken for it waits here."""

    def __init__(self, shards: ShardMap, bounds: StreamLimits) -> None:
        """`bounds` are the stream's."""
        self._shards = shards
        self._gate: Gate[Outgoing] = Gate(RequestLimits(bounds.entries, bounds.request))
        self._parked: list[Outgoing] = []
        self._strays: list[Copy] = []

    @property
    def entries(self) -> int:
        """Records not yet accepted."""
        return self._gate.entries

    @property
    def size(self) -> int:
        """Their bytes."""
        return self._gate.size

    @property
    def sendable(self) -> int:
        """Parcels that `take` could hand out now."""
        return self._gate.sendable

    def add(self, record: Record, ticket: Ticket) -> None:
        """Queue a record, a truncate's once for each open shard."""
        if record.every_shard:
            self._copies(record, ticket)
        else:
            ticket.outstanding += 1
            key, data = record.partition_key, record.data
            size = len(data) + (len(key) if key.isascii() else len(key.encode()))
            self._gate.add(Outgoing(key, ticket, size, entry(data, key)))

    def take(self, closed: Collection[str]) -> Sequence[Outgoing]:
        """The next request's parcels."""
        if not closed:
            self._gate.refused(self._parked)
            self._parked = []
            return self._gate.take()
        self._reopen(closed)
        while batch := self._gate.take():
            free = [parcel for parcel in batch if self.shard_of(parcel) not in closed]
            self._parked += [parcel for parcel in batch if self.shard_of(parcel) in closed]
            if free:
                return free
        return ()

    def accepted(self, parcels: Sequence[Outgoing]) -> int:
        """The stream has these."""
        for parcel in parcels:
            parcel.ticket.outstanding -= 1
        self._gate.accepted(parcels)
        return len(parcels)

    def refused(self, parcels: Sequence[Outgoing]) -> None:
        """They go again before all others."""
        self._gate.refused(parcels)

    def strayed(self, parcel: Copy) -> None:
        """A truncate's copy whose shard was split or merged; the stream's new shards will each get one."""
        self._strays.append(parcel)

    def reshard(self, shards: ShardMap) -> None:
        """Send what strayed to every shard there is now."""
        self._shards = shards
        strays, self._strays = self._strays, []
        for parcel in strays:
            self._copies(parcel.record, parcel.ticket)
        self.accepted(strays)

    def shard_of(self, parcel: Outgoing) -> str:
        """By the partition key's MD5, unless it was told to reach one."""
        return parcel.shard or self._shards.of(parcel.partition_key).id

    def _copies(self, record: Record, ticket: Ticket) -> None:
        for shard in self._shards.shards:
            ticket.outstanding += 1
            self._gate.add(copied(record, ticket, shard))

    def _reopen(self, closed: Collection[str]) -> None:
        free = [parcel for parcel in self._parked if self.shard_of(parcel) not in closed]
        if free:
            self._parked = [parcel for parcel in self._parked if self.shard_of(parcel) in closed]
            self._gate.refused(free)
