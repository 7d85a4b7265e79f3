"""Order per key: at most one record of a partition key is ready or in flight; later ones wait for it; pure.

PutRecords may accept a request's seventh entry and refuse its third. Whoever sends only the refused one again has then
swapped two changes of a key, if both were in the request. Here they never are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

ENTRIES = 500
"""Records that PutRecords takes at the most."""
REQUEST_BYTES = 5 * 1024 * 1024
"""Bytes (data and partition keys) that PutRecords takes at the most."""


class Sized(Protocol):
    """What passes the gate: something with a key and a size in bytes."""

    @property
    def gate_key(self) -> Hashable:
        """Entries of equal keys are sent one after the other."""

    @property
    def size(self) -> int:
        """Bytes that count towards the request's limit."""


Entry = TypeVar("Entry", bound=Sized)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may hold."""

    entries: int = ENTRIES
    size: int = REQUEST_BYTES


class Gate(Generic[Entry]):
    """Queues entries; hands out requests in which every key occurs once, and in no other request in flight."""

    def __init__(self, limits: Limits | None = None) -> None:
        """`limits` bound one request."""
        self._limits = limits or Limits()
        self._ready: deque[Entry] = deque()
        self._waiting: dict[Hashable, deque[Entry]] = {}
        self.entries = 0
        """Entries not yet accepted: ready, in flight or waiting."""
        self.size = 0
        """Their bytes."""

    def add(self, entry: Entry) -> None:
        """Queue an entry behind all earlier ones of its key."""
        self.entries += 1
        self.size += entry.size
        queue = self._waiting.get(entry.gate_key)
        if queue is None:
            self._waiting[entry.gate_key] = deque()
            self._ready.append(entry)
        else:
            queue.append(entry)

    @property
    def sendable(self) -> int:
        """Entries that `take` could hand out now."""
        return len(self._ready)

    def take(self) -> list[Entry]:
        """The next request's entries, within the limits; empty when nothing may be sent now."""
        taken: list[Entry] = []
        size = 0
        while self._ready and len(taken) < self._limits.entries:
            if taken and size + self._ready[0].size > self._limits.size:
                break
            entry = self._ready.popleft()
            size += entry.size
            taken.append(entry)
        return taken

    def accepted(self, entry: Entry) -> None:
        """The stream has the entry: the next one of its key may go."""
        self.entries -= 1
        self.size -= entry.size
        queue = self._waiting[entry.gate_key]
        if queue:
            self._ready.append(queue.popleft())
        else:
            del self._waiting[entry.gate_key]

    def refused(self, entries: list[Entry]) -> None:
        """The stream has none of these: they go again, before all others, their keys still closed to later ones."""
        self._ready.extendleft(reversed(entries))
