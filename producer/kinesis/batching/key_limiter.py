"""Order per key: at most one record of a partition key is ready or in flight; later ones wait for it; pure.

PutRecords may accept a request's seventh entry and refuse its third. Whoever sends only the refused one again has then
swapped two changes of a key, if both were in the request. Here they never are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from typing import Generic, Protocol, TypeVar

from producer.kinesis.limits import RequestLimits


class Sized(Protocol):
    """What passes the gate: something with a key and a size in bytes."""

    @property
    def gate_key(self) -> Hashable:
        """Entries of equal keys are sent one after the other."""

    @property
    def size(self) -> int:
        """Bytes that count towards the request's limit."""


Entry = TypeVar("Entry", bound=Sized)


class Gate(Generic[Entry]):
    """Queues entries; hands out requests in which every key occurs once, and in no other request in flight."""

    def __init__(self, limits: RequestLimits | None = None) -> None:
        """`limits` bound one request."""
        self._limits = limits or RequestLimits()
        self._ready: deque[Entry] = deque()
        self._closed: dict[Hashable, deque[Entry] | None] = {}  # keys ready or in flight; None: nothing waits
        self.entries = 0
        """Entries not yet accepted: ready, in flight or waiting."""
        self.size = 0
        """Their bytes."""

    def add(self, entry: Entry) -> None:
        """Queue an entry behind all earlier ones of its key."""
        self.entries += 1
        self.size += entry.size
        key = entry.gate_key
        if key not in self._closed:
            self._closed[key] = None
            self._ready.append(entry)
            return
        queue = self._closed[key]
        if queue is None:
            queue = self._closed[key] = deque()
        queue.append(entry)

    @property
    def sendable(self) -> int:
        """Entries that `take` could hand out now."""
        return len(self._ready)

    def take(self) -> list[Entry]:
        """The next request's entries, within the limits; empty when nothing may be sent now."""
        taken: list[Entry] = []
        ready, size = self._ready, 0
        for _ in range(min(len(ready), self._limits.entries)):
            size += ready[0].size
            if taken and size > self._limits.size:
                break
            taken.append(ready.popleft())
        return taken

    def accepted(self, entries: Sequence[Entry]) -> None:
        """The stream has these: the next one of each key may go."""
        closed, size = self._closed, 0
        for entry in entries:
            size += entry.size
            key = entry.gate_key
            if queue := closed[key]:
                self._ready.append(queue.popleft())
            else:
                del closed[key]
        self.entries -= len(entries)
        self.size -= size

    def refused(self, entries: Sequence[Entry]) -> None:
        """The stream has none of these: they go again, before all others, their keys still closed to later ones."""
        self._ready.extendleft(reversed(entries))
