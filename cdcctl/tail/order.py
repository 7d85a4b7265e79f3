"""Sorts the changes of all shards by commit: a change is emitted when no earlier one can arrive any more. No I/O.

A change waits until every shard has been read up to its arrival time plus a window. The order is exact when no change
arrives more than a window after one that was committed later; such a late change is emitted when it arrives.
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
    """The identity of a change's transaction."""
    return change.source, change.position.epoch, change.position.commit_lsn


@dataclass(slots=True)
class ReorderBuffer:
    """Buffers changes until they are in order. `by_transaction` emits the changes of a transaction together."""

    window: timedelta
    by_transaction: bool = False
    _heaps: dict[str, list[tuple[str, int, FeedItem]]] = field(default_factory=dict)
    _read_to: dict[str, datetime] = field(default_factory=dict)
    _latest: dict[Transaction, datetime] = field(default_factory=dict)
    _count: int = 0

    def add(self, page: ShardPage, changes: Iterable[FeedItem], shards: Iterable[str], now: datetime) -> list[FeedItem]:
        """Add the changes of a page; returns those that are ready. `shards` are all shards being read."""
        ready = [seen for seen in changes if not self._push(seen)]
        reached = now if page.behind_ms == 0 else page.arrivals[-1] if page.arrivals else _NEVER
        self._read_to[page.shard] = max(self._read_to.get(page.shard, _NEVER), reached)
        safe = min((self._read_to.get(shard, _NEVER) for shard in shards), default=now)
        return ready + self._pop_until(_NEVER if safe == _NEVER else safe - self.window)

    def drain(self) -> list[FeedItem]:
        """Return all remaining changes in order."""
        return self._pop_until(datetime.max.replace(tzinfo=UTC))

    def _push(self, seen: FeedItem) -> bool:
        change = seen.change
        if change is None:  # an unreadable record has no position
            return False
        self._count += 1
        heap = self._heaps.setdefault(change.source, [])
        heapq.heappush(heap, (change.position.sort_key, self._count, seen))
        if self.by_transaction:
            key = transaction(change)
            self._latest[key] = max(self._latest.get(key, _NEVER), seen.arrived)
        return True

    def _pop_until(self, safe: datetime) -> list[FeedItem]:
        popped: list[FeedItem] = []
        while ready := [heap for heap in self._heaps.values() if heap and self._arrived(heap[0][2]) <= safe]:
            heap = ready[0] if len(ready) == 1 else min(ready, key=lambda heap: heap[0][2].arrived)
            popped.append(heapq.heappop(heap)[2])
        self._forget_transactions(popped)
        return popped

    def _arrived(self, seen: FeedItem) -> datetime:
        if not self.by_transaction:
            return seen.arrived
        assert seen.change is not None
        return self._latest.get(transaction(seen.change), seen.arrived)

    def _forget_transactions(self, popped: Iterable[FeedItem]) -> None:
        if self.by_transaction:
            for seen in popped:
                assert seen.change is not None
                self._latest.pop(transaction(seen.change), None)
