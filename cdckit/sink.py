"""What a satellite implements, and what the kit hands it.

The contract of a `Sink`, in prose:

- One sink serves one shard, in one process, in one thread. Other processes may hold sinks on the same store.
- ``apply(batch)`` accepts every change of the batch (20,000 at the most) and may buffer it, or raises and has accepted
  none of it.
  Changes of one key arrive in the order of their positions *the first time*; afterwards any range may come again, in
  any order (at-least-once delivery, replays). So the highest position wins: a change at or below the position
  that the store holds for its key, or below the table's truncate watermark, is *superseded* and has no effect.
- ``flush()`` returns only when all that was applied is durable, and says what became of it; the kit then checkpoints.
- ``close()`` frees resources; it need not flush and must not fail.
- A sink whose flush is costly (a file each) has an attribute ``flush_seconds``: the kit then waits that long between
  two flushes while changes keep coming. Without it, the kit flushes after every batch.
- A sink that works on while the kit decodes (in a thread or process of its own) has an attribute ``most_changes``: it
  then gets what the KCL delivers in batches of so many, and is flushed after the last of them, or after 20,000.
- `TransientSinkError`, from ``apply`` or ``flush``, says "call me again with the same": six times, with growing pauses.
- `PoisonChange`, from ``apply``, says that the batch holds a change that can never be applied: the kit halves the batch
  until that change stands alone, and keeps it as a dead letter. An older change may thus be applied (redriven) late.
- Any other exception ends the process: the KCL delivers again from the last checkpoint, so nothing is skipped.
- A sink that keeps its store on this host has an attribute ``embedded_in``, the store's folder: the kit then lets no
  second host run the same consumer, which would split the satellite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec

from cdckit.change import Change


class Received(msgspec.Struct, frozen=True, gc=False):
    """A change and where on the stream it was read. A resent change has another sequence number, the same position."""

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
    """What became of the changes applied since the last flush; ``applied + superseded`` is how many there were."""

    applied: int = 0
    superseded: int = 0

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(self.applied + other.applied, self.superseded + other.superseded)


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What a sink is opened with: whose it is, where it may keep files, and its own table of ``cdc.toml``.

    `shadow` is the name of a replay's fresh satellite, empty for the live one. A sink whose store is not in `folder`
    must keep the two apart by it: a replay never writes to the live satellite.
    """

    consumer: str
    shard: str
    folder: Path
    options: Mapping[str, object] = field(default_factory=dict)
    shadow: str = ""


class Sink(Protocol):
    """A satellite's side of one shard; see this module's text for the contract."""

    def apply(self, batch: Batch) -> None:
        """Accept the whole batch, or raise."""

    def flush(self) -> Outcome:
        """Make all that was applied durable and say what became of it since the last flush."""

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

    most_changes: int
    """Changes of a batch."""


@runtime_checkable
class Embedded(Protocol):
    """A sink whose store belongs to this host."""

    embedded_in: Path
    """The store's folder."""


SinkFactory = Callable[[SinkContext], Sink]
"""What the entry-point group ``cdckit.sinks`` (or ``module:name``) names: opens a sink for one shard."""
