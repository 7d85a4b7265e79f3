"""Which shard a partition key belongs to: a stream's open shards by their hash ranges; pure."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shard:
    """An open shard and the first hash key of its range."""

    id: str
    low: int


class ShardMap:
    """The open shards of a stream, as they were when they were listed: a later split or merge makes it stale."""

    def __init__(self, shards: Iterable[Shard]) -> None:
        """The shards' ranges together hold every hash key."""
        self.shards = sorted(shards, key=lambda shard: shard.low)
        self._lows = [shard.low.to_bytes(16) for shard in self.shards]  # compared as MD5 gives them

    def of(self, partition_key: str) -> Shard:
        """The shard that Kinesis would choose: MD5 of the key, as a number, within its range."""
        return self.of_bytes(partition_key.encode())

    def of_bytes(self, partition_key: bytes) -> Shard:
        """As `of`, for a key that is encoded already."""
        if len(self.shards) == 1:
            return self.shards[0]
        digest = hashlib.md5(partition_key, usedforsecurity=False).digest()
        return self.shards[max(0, bisect_right(self._lows, digest) - 1)]
