"""One shard's worker: decode, apply, flush, checkpoint; knows nothing of the KCL's own protocol.

Law 2: a checkpoint names an explicit sequence number, and is made after the flush that covers it has returned.
Law 4: at every flush, read = applied + superseded + dead-lettered; anything else ends the process, and so does every
exception but `TransientSinkError`: the KCL then delivers again from the last checkpoint.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from cdckit.change import Change
from cdckit.envelope import decode
from cdckit.errors import ConsumerError, EnvelopeError, TransientSinkError
from cdckit.sink import Batch, Outcome, Paced, Received, Sink
from consumers.figures import ShardFigures

logger = logging.getLogger(__name__)

MOST_UNFLUSHED = 20_000
MOST_UNFLUSHED_BYTES = 32 * 1024 * 1024
_TRIES = 6


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record as the stream holds it (an aggregated one already unpacked by the KCL)."""

    data: bytes
    partition_key: str
    sequence_number: str
    sub_sequence_number: int = 0


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the shard: what a checkpoint names."""

    sequence_number: str
    sub_sequence_number: int


class DeadLetters(Protocol):
    """Where records go that can never be applied; durable when `put` returns."""

    def put(self, shard: str, record: RawRecord, error: Exception) -> None:
        """Keep the record, its place and why it was given up."""


@dataclass(frozen=True, slots=True)
class Cadence:
    """When to flush and when to checkpoint, in seconds; 0 is after every batch."""

    flush_seconds: float = 0.0
    checkpoint_seconds: float = 5.0


@dataclass(slots=True)
class _Unflushed:
    """What was applied since the last flush."""

    read: int = 0
    dead: int = 0
    size: int = 0
    since: float = 0.0
    last: Mark | None = None
    newest: Change | None = None
    commit_times: list[datetime] = field(default_factory=list)


Checkpoint = Callable[[Mark], None]


class ShardWorker:
    """Drives one sink over one shard. `checkpoint` arguments may raise to end the process."""

    def __init__(
        self, shard: str, sink: Sink, dead_letters: DeadLetters, figures: ShardFigures, cadence: Cadence
    ) -> None:
        """The sink's own ``flush_seconds`` wins over the cadence's when it is longer."""
        self._shard, self._sink, self._dead_letters, self.figures = shard, sink, dead_letters, figures
        asked = sink.flush_seconds if isinstance(sink, Paced) else 0.0
        self._flush_seconds, self._checkpoint_seconds = max(cadence.flush_seconds, asked), cadence.checkpoint_seconds
        self._unflushed = _Unflushed()
        self._flushed: Mark | None = None
        self._checkpointed_at = time.monotonic()

    def process(self, records: Sequence[RawRecord], millis_behind: int | None, checkpoint: Checkpoint) -> None:
        """Apply a batch (perhaps an empty one); flush and checkpoint when it is time."""
        if records:
            self._apply(records)
        if self._must_flush():
            self._flush()
        if self._flushed and time.monotonic() - self._checkpointed_at >= self._checkpoint_seconds:
            self._checkpoint(checkpoint)
        self.figures.seen(millis_behind)

    def finish(self, checkpoint: Checkpoint) -> None:
        """The lease is about to be handed on, or the process to end: flush and checkpoint what was applied."""
        self._flush()
        self._checkpoint(checkpoint)
        self.figures.write()

    def ended(self, checkpoint_end: Callable[[], None]) -> None:
        """The shard is closed and read to its end: flush, then tell the KCL so that the children may start."""
        self._flush()
        checkpoint_end()
        self.figures.ended()

    def close(self) -> None:
        """Free the sink. Nothing is flushed: after a lost lease another worker has it already."""
        self._sink.close()

    def _apply(self, records: Sequence[RawRecord]) -> None:
        received = [item for item in map(self._decode, records) if item is not None]
        if received:
            self._deliver(Batch(self._shard, received))
        pending = self._unflushed
        if not pending.read:
            pending.since = time.monotonic()
        pending.read += len(records)
        pending.dead += len(records) - len(received)
        pending.size += sum(len(record.data) for record in records)
        pending.last = Mark(records[-1].sequence_number, records[-1].sub_sequence_number)
        if received:
            pending.newest = received[-1].change
            pending.commit_times += [item.change.commit_time for item in received]

    def _decode(self, record: RawRecord) -> Received | None:
        try:
            return Received(decode(record.data), record.sequence_number, record.sub_sequence_number)
        except EnvelopeError as error:
            logger.error("record %s is no change of ours, kept as a dead letter: %s", record.sequence_number, error)
            self._dead_letters.put(self._shard, record, error)
            return None

    def _deliver(self, batch: Batch) -> None:
        for attempt in range(1, _TRIES + 1):
            try:
                self._sink.apply(batch)
                return
            except TransientSinkError as error:
                if attempt == _TRIES:
                    raise
                delay = min(10.0, 0.1 * 4 ** (attempt - 1)) * (0.5 + random.random() / 2)  # noqa: S311
                logger.warning("%s; batch of %d again in %.1f s", error, len(batch.items), delay)
                time.sleep(delay)

    def _must_flush(self) -> bool:
        pending = self._unflushed
        overdue = time.monotonic() - pending.since >= self._flush_seconds
        return pending.read > 0 and (overdue or pending.read >= MOST_UNFLUSHED or pending.size >= MOST_UNFLUSHED_BYTES)

    def _flush(self) -> None:
        pending = self._unflushed
        if not pending.read:
            return
        outcome = self._sink.flush()
        self._account(pending, outcome)
        self._unflushed, self._flushed = _Unflushed(), pending.last
        self.figures.flushed(pending.read, pending.dead, outcome, pending.newest)
        self.figures.latencies(pending.commit_times, datetime.now(UTC))

    def _account(self, pending: _Unflushed, outcome: Outcome) -> None:
        told = outcome.applied + outcome.superseded + pending.dead
        if told != pending.read:
            raise ConsumerError(
                f"{pending.read} records read, but {outcome.applied} applied + {outcome.superseded} superseded + "
                f"{pending.dead} dead-lettered = {told}",
                "the sink's flush() must account for every change that apply() took",
            )

    def _checkpoint(self, checkpoint: Checkpoint) -> None:
        if self._flushed is None:
            return
        checkpoint(self._flushed)
        self._flushed, self._checkpointed_at = None, time.monotonic()
