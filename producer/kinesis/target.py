"""The stream as a publisher needs it: how to put records, how to list the open shards, and the stream's limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from producer.kinesis.batching.protocol import Batcher
from producer.kinesis.limits import StreamLimits
from producer.kinesis.put_records import Put, PutRecords
from producer.kinesis.shard_map import ShardMap
from producer.kinesis.stream import Stream
from producer.records import Record

MAX_IN_FLIGHT = 4
"""PutRecords requests in flight at once."""
AnyBatcher = TypeVar("AnyBatcher", bound=Batcher)


@dataclass(frozen=True, slots=True)
class Target:
    """A stream to publish to."""

    name: str
    put: Put
    shards: Callable[[], ShardMap]
    limits: StreamLimits = field(default_factory=StreamLimits)
    close: Callable[[], None] = lambda: None
    """Closes the connections."""
    claim_check: Callable[[Record, bytes], Record] | None = None
    """Stores a record that is too large for the stream (second argument: its gzip); returns a reference to it."""

    def batcher(self, make: Callable[[ShardMap, StreamLimits], AnyBatcher]) -> AnyBatcher:
        """Return a new batcher for this stream. Raises StreamError when its shards cannot be listed."""
        return make(self.shards(), self.limits)


def open_target(stream: Stream, claim_check: Callable[[Record, bytes], Record] | None = None) -> Target:
    """Open a stream for a publisher; `claim_check` stores oversized records. Raises StreamError."""
    shards, limits = stream.shards, stream.limits()
    shards()  # fail here when the stream cannot be listed
    put = PutRecords(stream.client, stream.name, MAX_IN_FLIGHT)
    return Target(stream.name, put, shards, limits, put.close, claim_check)
