"""Drives one sink over one shard: delivers, flushes, checkpoints; does not know the KCL's protocol.

Law 2: a checkpoint names an explicit sequence number, and is written after the flush that covers it has returned.
Law 4: at every flush, read = applied + superseded + dead-lettered. Any other sum ends the process, and so does every
exception: the KCL then delivers again from the last checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cdckit.change import Change
from cdckit.claim_check import memory_size
from cdckit.errors import ConsumerError
from cdckit.sink import Outcome, Paced, Received, Sink, max_batch_changes
from consumers.dead_letters import DeadLetterStore
from consumers.stream.record import RawRecord
from consumers.stream.unpack import expand_folded
from consumers.worker.delivery import DeadLetterShare, Delivery, TooManyDeadLetters, with_retries
from consumers.worker.gc_pause import gc_disabled
from consumers.worker.status import ShardReporter

MAX_UNFLUSHED = 20_000
MAX_UNFLUSHED_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A position in the shard, up to which every record is durable."""

    sequence_number: str
    sub_sequence_number: int


@dataclass(frozen=True, slots=True)
class Cadence:
    """When to flush (0 seconds: after every batch), and when to checkpoint: at the first of the three limits.

    A checkpoint is a write to DynamoDB; after a crash the records since the last one are delivered again.
    """

    flush_seconds: float = 0.0
    checkpoint_seconds: float = 5.0
    checkpoint_records: int = 100_000
    checkpoint_bytes: int = 128 * 1024 * 1024


@dataclass(slots=True)
class _SinceFlush:
    """What was applied since the last flush."""

    read: int = 0
    dead: int = 0
    size: int = 0
    since: float = 0.0
    last: Checkpoint | None = None
    newest: Change | None = None
    commit_times: list[datetime] = field(default_factory=list)


@dataclass(slots=True)
class _SinceCheckpoint:
    """What was flushed since the last checkpoint."""

    reached: Checkpoint | None = None
    records: int = 0
    size: int = 0
    since: float = field(default_factory=time.monotonic)


Checkpointer = Callable[[Checkpoint], None]


@dataclass(frozen=True, slots=True)
class Portion:
    """Some records, with folded ones expanded, and their bytes; `checkpoint` is the last record that ends here."""

    records: Sequence[RawRecord]
    size: int
    checkpoint: Checkpoint | None


def portions(
    records: Iterable[RawRecord], max_bytes: int = MAX_UNFLUSHED_BYTES, max_records: int = MAX_UNFLUSHED
) -> Iterator[Portion]:
    """Cuts the records into portions of at most these sizes: a page of references or folded records may be gigabytes.

    A folded record may be cut. Its bytes count in its first portion, and only its end can be checkpointed.
    """
    taken, size, ended = list[RawRecord](), 0, None
    for record in records:
        record_size = memory_size(record.data)
        if taken and size + record_size > max_bytes:
            yield Portion(taken, size, _checkpoint_at(ended))
            taken, size = [], 0
        size += record_size
        taken += expand_folded(record)
        while len(taken) > max_records:
            yield Portion(taken[:max_records], size, _checkpoint_at(ended))
            taken, size = taken[max_records:], 0
        ended = record
        if len(taken) == max_records:
            yield Portion(taken, size, _checkpoint_at(ended))
            taken, size = [], 0
    if taken:
        yield Portion(taken, size, _checkpoint_at(ended))


def _checkpoint_at(record: RawRecord | None) -> Checkpoint | None:
    return None if record is None else Checkpoint(record.sequence_number, record.sub_sequence_number)


class ShardWorker:
    """Drives one sink over one shard. The `checkpointer` arguments may raise to end the process."""

    def __init__(
        self,
        sink: Sink,
        letters: DeadLetterStore,
        reporter: ShardReporter,
        cadence: Cadence,
        max_dead_share: float = 0.5,
    ) -> None:
        """A sink's own ``flush_seconds`` counts when it is longer than the cadence's. `reporter` knows the shard."""
        self._sink, self.reporter, self._cadence = sink, reporter, cadence
        report = reporter.report
        self._share = DeadLetterShare(max_dead_share, report.recent_read, report.recent_dead)
        self._delivery = Delivery(report.consumer, report.shard, sink, letters, self._share)
        sink_seconds = sink.flush_seconds if isinstance(sink, Paced) else 0.0
        self._flush_seconds = max(cadence.flush_seconds, sink_seconds)
        self._max_records = max_batch_changes(sink) or MAX_UNFLUSHED
        self._since_flush, self._since_checkpoint = _SinceFlush(), _SinceCheckpoint()

    @gc_disabled()
    def process(
        self,
        records: Sequence[RawRecord],
        millis_behind: int | None,
        checkpointer: Checkpointer,
        stop_requested: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Applies a batch, which may be empty; flushes and checkpoints when due.

        `stop_requested` is called before each portion. Once it is true, what was applied is flushed and checkpointed,
        and the result is False: the rest was not applied, so no later record may be applied either.
        """
        for portion in portions(records, max_records=self._max_records):
            if stop_requested():
                self.finish(checkpointer)
                return False
            self._apply(portion)
            if self._full():
                self._flush()
                if self._must_checkpoint():  # one page of folded records may take minutes
                    self._checkpoint(checkpointer)
        if self._must_flush():
            self._flush()
        if self._must_checkpoint():
            self._checkpoint(checkpointer)
        self.reporter.record_poll(millis_behind)
        return True

    @gc_disabled()
    def finish(self, checkpointer: Checkpointer) -> None:
        """Flushes and checkpoints what was applied, before the lease moves or the process ends."""
        self._flush()
        self._checkpoint(checkpointer)
        self.reporter.write()

    @gc_disabled()
    def end_shard(self, checkpoint_end: Callable[[], None]) -> None:
        """Flushes, then checkpoints the end of a shard that is closed and read, so that its children may start."""
        self._flush()
        checkpoint_end()
        self.reporter.record_ended()

    def close(self) -> None:
        """Closes the sink without a flush: after a lost lease another worker already has the shard."""
        self._sink.close()

    def _apply(self, portion: Portion) -> None:
        started, records = time.monotonic(), portion.records
        accepted = self._deliver(records)
        self.reporter.report.apply_seconds += time.monotonic() - started
        pending = self._since_flush
        if not pending.read:
            pending.since = started
        pending.read += len(records)
        pending.dead += len(records) - len(accepted)
        pending.size += portion.size
        pending.last = portion.checkpoint or pending.last
        if accepted:
            pending.newest = accepted[-1].change
            pending.commit_times += [item.change.commit_time for item in accepted]

    def _deliver(self, records: Sequence[RawRecord]) -> list[Received]:
        try:
            return self._delivery.deliver(records)
        except TooManyDeadLetters as error:
            self.reporter.record_stopped(f"{error.message} ({error.hint})")
            raise
        finally:
            self.reporter.record_recent(self._share.read, self._share.dead)

    def _must_flush(self) -> bool:
        pending = self._since_flush
        overdue = time.monotonic() - pending.since >= self._flush_seconds
        return pending.read > 0 and (overdue or self._full())

    def _full(self) -> bool:
        return self._since_flush.read >= MAX_UNFLUSHED or self._since_flush.size >= MAX_UNFLUSHED_BYTES

    def _must_checkpoint(self) -> bool:
        waiting, cadence = self._since_checkpoint, self._cadence
        return waiting.reached is not None and (
            time.monotonic() - waiting.since >= cadence.checkpoint_seconds
            or waiting.records >= cadence.checkpoint_records
            or waiting.size >= cadence.checkpoint_bytes
        )

    def _flush(self) -> None:
        pending = self._since_flush
        if not pending.read:
            return
        started = time.monotonic()
        outcome = with_retries(self._sink.flush, "flush")
        self.reporter.report.flush_seconds += time.monotonic() - started
        self._account(pending, outcome)
        waiting = self._since_checkpoint
        waiting.reached, waiting.records, waiting.size = (
            pending.last or waiting.reached, waiting.records + pending.read, waiting.size + pending.size,
        )  # fmt: skip
        self._since_flush = _SinceFlush()
        self.reporter.record_flush(pending.read, pending.size, pending.dead, outcome, pending.newest)
        self.reporter.record_latencies(pending.commit_times, datetime.now(UTC))

    def _account(self, pending: _SinceFlush, outcome: Outcome) -> None:
        accounted = outcome.applied + outcome.superseded + pending.dead
        if accounted != pending.read:
            raise ConsumerError(
                f"{pending.read} records read, but {outcome.applied} applied + {outcome.superseded} superseded + "
                f"{pending.dead} dead-lettered = {accounted}",
                "the sink's flush() must count every change that apply() accepted",
            )

    def _checkpoint(self, checkpointer: Checkpointer) -> None:
        if self._since_checkpoint.reached is None:
            return
        checkpointer(self._since_checkpoint.reached)
        self._since_checkpoint = _SinceCheckpoint()
        self.reporter.report.checkpointed = time.time()
