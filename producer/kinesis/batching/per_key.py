"""Sends one stream record per change, with at most one of a partition key in flight; the shard map does not matter."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence

import msgspec

from producer.ack_tracker import AckGroup
from producer.kinesis.batching.key_limiter import KeyLimiter
from producer.kinesis.limits import RequestLimits, StreamLimits
from producer.kinesis.put_records import encode_entry
from producer.kinesis.shard_map import Shard, ShardMap
from producer.records import Record


class RecordEntry(msgspec.Struct, gc=False):
    """A record as an entry. Entries of one `order_key` are sent one after the other."""

    order_key: Hashable
    group: AckGroup
    size: int
    json: bytes
    shard: str | None = None
    """The shard that must receive it; None: any may."""

    @property
    def partition_key(self) -> str:
        """The record's partition key."""
        return str(self.order_key)


class TruncateEntry(RecordEntry, kw_only=True, gc=False):
    """A truncate's copy for one shard, ordered by itself. It holds the record: a reshard may need new copies."""

    record: Record

    @property
    def partition_key(self) -> str:
        """The record's partition key."""
        return self.record.partition_key


def truncate_entry(record: Record, group: AckGroup, shard: Shard) -> TruncateEntry:
    """Return the copy of a truncate for this shard."""
    key = record.partition_key
    size = len(record.data) + len(key.encode())
    json = encode_entry(record.data, key, str(shard.low))
    return TruncateEntry((key, shard.id), group, size, json, shard.id, record=record)


class PerKeyBatcher:
    """A `producer.kinesis.batching.protocol.Batcher` on top of `KeyLimiter`.

    An entry that was taken for a throttled shard waits here until the shard may be used again.
    """

    def __init__(self, shards: ShardMap, limits: StreamLimits) -> None:
        """`limits` are the stream's."""
        self._shards = shards
        self._limiter: KeyLimiter[RecordEntry] = KeyLimiter(RequestLimits(limits.entries, limits.request))
        self._throttled: list[RecordEntry] = []
        self._misrouted: list[TruncateEntry] = []

    @property
    def pending(self) -> int:
        """Records not yet accepted."""
        return self._limiter.pending

    @property
    def pending_bytes(self) -> int:
        """Their bytes."""
        return self._limiter.pending_bytes

    @property
    def sendable(self) -> int:
        """Entries that `take` could return now."""
        return self._limiter.sendable

    def add(self, record: Record, group: AckGroup) -> None:
        """Queue a record; a truncate once per open shard."""
        if record.every_shard:
            self._add_copies(record, group)
        else:
            group.outstanding += 1
            key, data = record.partition_key, record.data
            size = len(data) + (len(key) if key.isascii() else len(key.encode()))
            self._limiter.add(RecordEntry(key, group, size, encode_entry(data, key)))

    def take(self, throttled: Collection[str]) -> Sequence[RecordEntry]:
        """Return the next request's entries."""
        if not throttled:
            self._limiter.refused(self._throttled)
            self._throttled = []
            return self._limiter.take()
        self._release(throttled)
        while batch := self._limiter.take():
            allowed = [entry for entry in batch if self.shard_of(entry) not in throttled]
            self._throttled += [entry for entry in batch if self.shard_of(entry) in throttled]
            if allowed:
                return allowed
        return ()

    def accepted(self, entries: Sequence[RecordEntry]) -> int:
        """Remove entries that the stream accepted."""
        for entry in entries:
            entry.group.outstanding -= 1
        self._limiter.accepted(entries)
        return len(entries)

    def refused(self, entries: Sequence[RecordEntry]) -> None:
        """Queue refused entries before all others."""
        self._limiter.refused(entries)

    def misrouted(self, entry: TruncateEntry) -> None:
        """Keep a truncate's copy whose shard was split or merged; `reshard` sends a copy to each new shard."""
        self._misrouted.append(entry)

    def reshard(self, shards: ShardMap) -> None:
        """Send misrouted truncates to every shard of the new map."""
        self._shards = shards
        misrouted, self._misrouted = self._misrouted, []
        for entry in misrouted:
            self._add_copies(entry.record, entry.group)
        self.accepted(misrouted)

    def shard_of(self, entry: RecordEntry) -> str:
        """Return the shard that must receive it, else the one that the partition key's MD5 selects."""
        return entry.shard or self._shards.of(entry.partition_key).id

    def _add_copies(self, record: Record, group: AckGroup) -> None:
        for shard in self._shards.shards:
            group.outstanding += 1
            self._limiter.add(truncate_entry(record, group, shard))

    def _release(self, throttled: Collection[str]) -> None:
        """Give entries whose shard is no longer throttled back to the limiter."""
        allowed = [entry for entry in self._throttled if self.shard_of(entry) not in throttled]
        if allowed:
            self._throttled = [entry for entry in self._throttled if self.shard_of(entry) in throttled]
            self._limiter.refused(allowed)
