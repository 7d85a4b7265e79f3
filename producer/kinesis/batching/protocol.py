"""How records queue for the stream: the contract between the publisher and its ways: plain, aggregated, loose."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

from producer.ack_tracker import Ticket
from producer.kinesis.shard_map import ShardMap
from producer.records import Record


class Parcel(Protocol):
    """One entry of a PutRecords request."""

    @property
    def entry(self) -> bytes:
        """Its JSON text."""

    @property
    def shard(self) -> str | None:
        """The shard that it must reach; None when any is right."""

    @property
    def size(self) -> int:
        """Bytes as PutRecords counts them."""

    @property
    def partition_key(self) -> str:
        """The key whose shard refuses it when that is throttled."""


class Lanes(Protocol):
    """Queues records and hands out requests in which, and beside which in flight, no two changes of a key can swap."""

    @property
    def entries(self) -> int:
        """Records not yet accepted."""

    @property
    def size(self) -> int:
        """Their bytes."""

    @property
    def sendable(self) -> int:
        """About how many parcels `take` could hand out now."""

    def add(self, record: Record, ticket: Ticket) -> None:
        """Queue a record; `ticket` counts it until it is accepted."""

    def take(self, closed: Collection[str]) -> Any:
        """The next request's parcels, none for a shard in `closed`; empty when nothing may be sent now."""

    def accepted(self, parcels: Any) -> int:
        """The stream has these; how many changes that are."""

    def refused(self, parcels: Any) -> None:
        """The stream has none of these: they go again before all others of their lane."""

    def strayed(self, parcel: Any) -> None:
        """It was accepted into another shard than it must reach: `reshard` will follow, and send it anew."""

    def reshard(self, shards: ShardMap) -> None:
        """The stream was split or merged. Nothing is in flight."""

    def shard_of(self, parcel: Any) -> str:
        """The shard that the parcel goes to, as far as is known."""
