"""Keeps order per key: at most one entry per key is ready or in flight, later ones wait for it; pure.

PutRecords may accept a request's seventh entry and refuse its third. If both were changes of one key, sending the third
again would swap them. The limiter never puts two entries of one key into requests that overlap in time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from typing import Generic, Protocol, TypeVar

from producer.kinesis.limits import RequestLimits


class KeyedEntry(Protocol):
    """What the limiter queues: something with a key and a size in bytes."""

    @property
    def order_key(self) -> Hashable:
        """Entries of equal keys are sent one after the other."""

    @property
    def size(self) -> int:
        """Bytes that count toward the request's limit."""


EntryT = TypeVar("EntryT", bound=KeyedEntry)


class KeyLimiter(Generic[EntryT]):
    """Queues entries; returns requests in which each key occurs once, and in no other request in flight."""

    def __init__(self, limits: RequestLimits | None = None) -> None:
        """`limits` bound one request."""
        self._limits = limits or RequestLimits()
        self._ready: deque[EntryT] = deque()
        self._waiting: dict[Hashable, deque[EntryT] | None] = {}
        """By key that is ready or in flight, the entries that wait for it; None: none does."""
        self.pending = 0
        """Entries not yet accepted: ready, in flight or waiting."""
        self.pending_bytes = 0
        """Their bytes."""

    def add(self, entry: EntryT) -> None:
        """Queue an entry behind all earlier ones of its key."""
        self.pending += 1
        self.pending_bytes += entry.size
        key = entry.order_key
        if key not in self._waiting:
            self._waiting[key] = None
            self._ready.append(entry)
            return
        queue = self._waiting[key]
        if queue is None:
            queue = self._waiting[key] = deque()
        queue.append(entry)

    @property
    def sendable(self) -> int:
        """Entries that `take` could return now."""
        return len(self._ready)

    def take(self) -> list[EntryT]:
        """Return the next request's entries, within the limits; empty when none may be sent now."""
        taken: list[EntryT] = []
        ready, size = self._ready, 0
        for _ in range(min(len(ready), self._limits.entries)):
            size += ready[0].size
            if taken and size > self._limits.size:
                break
            taken.append(ready.popleft())
        return taken

    def accepted(self, entries: Sequence[EntryT]) -> None:
        """Remove entries that the stream accepted: the next entry of each key becomes ready."""
        waiting, size = self._waiting, 0
        for entry in entries:
            size += entry.size
            key = entry.order_key
            if queue := waiting[key]:
                self._ready.append(queue.popleft())
            else:
                del waiting[key]
        self.pending -= len(entries)
        self.pending_bytes -= size

    def refused(self, entries: Sequence[EntryT]) -> None:
        """Make refused entries ready again, before all others; later entries of their keys still wait."""
        self._ready.extendleft(reversed(entries))
