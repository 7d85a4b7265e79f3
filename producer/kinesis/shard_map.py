"""Maps partition keys to shards, by the hash ranges of a stream's open shards; pure."""

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
    """The open shards of a stream when they were listed: a later split or merge makes the map stale."""

    def __init__(self, shards: Iterable[Shard]) -> None:
        """The ranges of `shards` together cover every hash key."""
        self.shards = sorted(shards, key=lambda shard: shard.low)
        self._lows = [shard.low.to_bytes(16) for shard in self.shards]  # compared with MD5 digests

    def of(self, partition_key: str) -> Shard:
        """Return the shard that Kinesis selects: the one whose range holds the key's MD5."""
        return self.of_bytes(partition_key.encode())

    def of_bytes(self, partition_key: bytes) -> Shard:
        """As `of`, for an encoded key."""
        if len(self.shards) == 1:
            return self.shards[0]
        digest = hashlib.md5(partition_key, usedforsecurity=False).digest()
        return self.shards[max(0, bisect_right(self._lows, digest) - 1)]
