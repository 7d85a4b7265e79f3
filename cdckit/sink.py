"""The contract between the kit and a satellite's sink.

The contract of a `Sink`:

- One sink serves one shard, in one process, in one thread. Other processes may hold sinks on the same store.
- ``apply(batch)`` accepts every change of the batch (at most 20,000) and may buffer it, or raises and has accepted
  none of it.
  Changes of one key arrive in the order of their positions *the first time*; afterwards any range may come again, in
  any order (at-least-once delivery, replays). So the highest position wins: a change at or below the position
  that the store holds for its key, or below the table's truncate watermark, is *superseded* and has no effect.
- ``flush()`` returns only when all applied changes are durable, and reports their outcome; the kit then checkpoints.
- ``close()`` frees resources; it need not flush and must not fail.
- A sink whose flush is expensive (a file per flush) has an attribute ``flush_seconds``: the kit then waits that long
  between two flushes while changes keep coming. Without it, the kit flushes after every batch.
- A sink that works while the kit decodes (in a thread or process of its own) has an attribute ``max_changes``: it
  receives what the KCL delivers in batches of at most that many, and is flushed after the last one, or after 20,000.
- `TransientSinkError`, from ``apply`` or ``flush``, requests the same call again: six times, with growing pauses.
- `PoisonChange`, from ``apply``, means that the batch holds a change that can never be applied: the kit halves the
  batch until that change is alone, and stores it as a dead letter. An older change may thus be applied (redriven) late.
- Any other exception ends the process: the KCL delivers again from the last checkpoint, so nothing is skipped.
- A sink that keeps its store on this host has an attribute ``embedded_in``, the store's folder: the kit then refuses to
  run the same consumer on a second host, which would split the satellite.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec

from cdckit.change import Change


class Received(msgspec.Struct, frozen=True, gc=False):
    """A change and its place on the stream. A resent change has another sequence number and the same position."""

    change: Change
    sequence_number: str
    sub_sequence_number: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive changes of one shard, in stream order; never empty."""

    shard: str
    items: Sequence[Received]

    @property
    def changes(self) -> Sequence[Change]:
        """The changes alone, in stream order."""
        return [item.change for item in self.items]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of the changes applied since the last flush; ``applied + superseded`` is their number."""

    applied: int = 0
    superseded: int = 0

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(self.applied + other.applied, self.superseded + other.superseded)


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What a sink is opened with: its consumer and shard, a folder for its files, and its own table of ``cdc.toml``.

    `shadow` is the name of a replay's new satellite, empty for the live one. A sink whose store is not in `folder` must
    keep the two apart by it: a replay never writes to the live satellite.
    """

    consumer: str
    shard: str
    folder: Path
    options: Mapping[str, object] = field(default_factory=dict)
    shadow: str = ""


class Sink(Protocol):
    """A satellite's side of one shard; see the module's text for the contract."""

    def apply(self, batch: Batch) -> None:
        """Accept the whole batch, or raise."""

    def flush(self) -> Outcome:
        """Make all applied changes durable and return their outcome since the last flush."""

    def close(self) -> None:
        """Free resources."""


@runtime_checkable
class Paced(Protocol):
    """A sink that asks not to be flushed after every batch."""

    flush_seconds: float
    """Seconds between two flushes while changes keep coming."""


@runtime_checkable
class Portioned(Protocol):
    """A sink that asks for small batches."""

    max_changes: int
    """At most this many changes per batch."""


def max_batch_changes(sink: Sink) -> int | None:
    """Return how many changes per batch the sink asks for; None when it does not.

    The attribute was called ``most_changes`` before 0.2; that name works until 0.3.
    """
    if isinstance(sink, Portioned):
        return sink.max_changes
    old: int | None = getattr(sink, "most_changes", None)
    if old is not None:
        name = type(sink).__name__
        warnings.warn(f"{name}.most_changes: name it max_changes", DeprecationWarning, stacklevel=2)
    return old


@runtime_checkable
class Embedded(Protocol):
    """A sink whose store belongs to this host."""

    embedded_in: Path
    """The store's folder."""


SinkFactory = Callable[[SinkContext], Sink]
"""What the entry-point group ``cdckit.sinks`` (or ``module:name``) names: opens a sink for one shard."""
