"""The contract between the publisher and its batchers: per key, aggregated and folded."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

from producer.ack_tracker import AckGroup
from producer.kinesis.shard_map import ShardMap
from producer.records import Record


class Entry(Protocol):
    """One entry of a PutRecords request."""

    @property
    def json(self) -> bytes:
        """Its JSON text, as `producer.kinesis.put_records.encode_entry` writes it."""

    @property
    def shard(self) -> str | None:
        """The shard that must receive it; None when any shard may."""

    @property
    def size(self) -> int:
        """Bytes as PutRecords counts them."""

    @property
    def partition_key(self) -> str:
        """The partition key; it selects the shard, and so the throttle that applies."""


class Batcher(Protocol):
    """Queues records and builds requests such that two changes of one key can never swap, whatever is refused."""

    @property
    def pending(self) -> int:
        """Records not yet accepted."""

    @property
    def pending_bytes(self) -> int:
        """Their bytes."""

    @property
    def sendable(self) -> int:
        """About how many entries `take` could return now."""

    def add(self, record: Record, group: AckGroup) -> None:
        """Queue a record; `group` counts it until it is accepted."""

    def take(self, throttled: Collection[str]) -> Any:
        """Return the next request's entries, none of them for a `throttled` shard; empty when none may be sent now."""

    def accepted(self, entries: Any) -> int:
        """Remove entries that the stream accepted; return how many changes they held."""

    def refused(self, entries: Any) -> None:
        """Queue refused entries again, before all others of their key or shard."""

    def misrouted(self, entry: Any) -> None:
        """Keep an entry that another shard accepted than its own; `reshard` follows and sends it again."""

    def reshard(self, shards: ShardMap) -> None:
        """Adapt to a split or merge of the stream. Call it only while no request is in flight."""

    def shard_of(self, entry: Any) -> str:
        """Return the shard that the entry goes to, by the last known shard map."""
