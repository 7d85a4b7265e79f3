"""Puts the changes of all shards in commit order: each waits until no earlier one can come any more; pure.

A change is held until every shard has been read a window beyond its arrival. So the order is exact as long as no
change arrives later than a window after one that was committed later; what comes later still is shown when it comes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cdckit.change import Change
from consumers.filters.feed import FeedItem
from consumers.stream.reader import ShardPage

_NEVER = datetime.min.replace(tzinfo=UTC)
Transaction = tuple[str, int, int]


def transaction(change: Change) -> Transaction:
    """What all changes of one transaction share."""
    return change.source, change.position.epoch, change.position.commit_lsn


@dataclass(slots=True)
class Orderer:
    """`whole` keeps a transaction's changes together: it waits for its last one."""

    window: timedelta
    whole: bool = False
    _heaps: dict[str, list[tuple[str, int, FeedItem]]] = field(default_factory=dict)
    _read_to: dict[str, datetime] = field(default_factory=dict)
    _latest: dict[Transaction, datetime] = field(default_factory=dict)
    _count: int = 0

    def take(self, page: ShardPage, found: Iterable[FeedItem], shards: Iterable[str], now: datetime) -> list[FeedItem]:
        """Take a page's changes in; returns those whose turn has come. `shards` are all that are being read."""
        given = [seen for seen in found if not self._hold(seen)]
        reached = now if page.behind_ms == 0 else page.arrivals[-1] if page.arrivals else _NEVER
        self._read_to[page.shard] = max(self._read_to.get(page.shard, _NEVER), reached)
        safe = min((self._read_to.get(shard, _NEVER) for shard in shards), default=now)
        return given + self._up_to(_NEVER if safe == _NEVER else safe - self.window)

    def rest(self) -> list[FeedItem]:
        """All that is still held."""
        return self._up_to(datetime.max.replace(tzinfo=UTC))

    def _hold(self, seen: FeedItem) -> bool:
        change = seen.change
        if change is None:  # no order is known of it
            return False
        self._count += 1
        heap = self._heaps.setdefault(change.source, [])
        heapq.heappush(heap, (change.position.sort_key, self._count, seen))
        if self.whole:
            key = transaction(change)
            self._latest[key] = max(self._latest.get(key, _NEVER), seen.arrived)
        return True

    def _up_to(self, safe: datetime) -> list[FeedItem]:
        given: list[FeedItem] = []
        while ready := [heap for heap in self._heaps.values() if heap and self._arrived(heap[0][2]) <= safe]:
            heap = ready[0] if len(ready) == 1 else min(ready, key=lambda one: one[0][2].arrived)
            given.append(heapq.heappop(heap)[2])
        self._forget(given)
        return given

    def _arrived(self, seen: FeedItem) -> datetime:
        if not self.whole:
            return seen.arrived
        assert seen.change is not None
        return self._latest.get(transaction(seen.change), seen.arrived)

    def _forget(self, given: Iterable[FeedItem]) -> None:
        if self.whole:
            for seen in given:
                assert seen.change is not None
                self._latest.pop(transaction(seen.change), None)
