"""One shard's worker: deliver, flush, checkpoint; knows nothing of the KCL's own protocol.

Law 2: a checkpoint names an explicit sequence number, and is made after the flush that covers it has returned.
Law 4: at every flush, read = applied + superseded + dead-lettered; anything else ends the process, and so does every
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
from consumers.stream.unpack import unfolded
from consumers.worker.delivery import DeadShare, Delivery, TooManyDeadLetters, patiently
from consumers.worker.garbage_collector import no_search
from consumers.worker.status import ShardFigures

MOST_UNFLUSHED = 20_000
MOST_UNFLUSHED_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the shard: what a checkpoint names."""

    sequence_number: str
    sub_sequence_number: int


@dataclass(frozen=True, slots=True)
class Cadence:
    """When to flush (seconds; 0 is after every batch) and when to checkpoint: after any of these, whichever is first.

    A checkpoint is a DynamoDB write; what lies between two of them comes again after a crash.
    """

    flush_seconds: float = 0.0
    checkpoint_seconds: float = 5.0
    checkpoint_records: int = 100_000
    checkpoint_bytes: int = 128 * 1024 * 1024


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


@dataclass(slots=True)
class _Unmarked:
    """What was flushed since the last checkpoint."""

    mark: Mark | None = None
    records: int = 0
    size: int = 0
    since: float = field(default_factory=time.monotonic)


Checkpoint = Callable[[Mark], None]


@dataclass(frozen=True, slots=True)
class Portion:
    """Some records, folded ones unfolded, and their bytes. `mark` is the last record of the shard that ends in it."""

    records: Sequence[RawRecord]
    size: int
    mark: Mark | None


def portions(
    records: Iterable[RawRecord], most_bytes: int = MOST_UNFLUSHED_BYTES, most: int = MOST_UNFLUSHED
) -> Iterator[Portion]:
    """The records in runs of so many, or so many bytes: a page of references or folded records may be gigabytes.

    A folded record may be cut, its bytes counting with its first part: only its end can be checkpointed.
    """
    taken, size, ended = list[RawRecord](), 0, None
    for record in records:
        heavy = memory_size(record.data)
        if taken and size + heavy > most_bytes:
            yield Portion(taken, size, _mark(ended))
            taken, size = [], 0
        size += heavy
        taken += unfolded(record)
        while len(taken) > most:
            yield Portion(taken[:most], size, _mark(ended))
            taken, size = taken[most:], 0
        ended = record
        if len(taken) == most:
            yield Portion(taken, size, _mark(ended))
            taken, size = [], 0
    if taken:
        yield Portion(taken, size, _mark(ended))


def _mark(record: RawRecord | None) -> Mark | None:
    return None if record is None else Mark(record.sequence_number, record.sub_sequence_number)


class ShardWorker:
    """Drives one sink over one shard. `checkpoint` arguments may raise to end the process."""

    def __init__(
        self,
        sink: Sink,
        letters: DeadLetterStore,
        figures: ShardFigures,
        cadence: Cadence,
        max_dead_share: float = 0.5,
    ) -> None:
        """The sink's own ``flush_seconds`` wins over the cadence's when it is longer. `figures` names the shard."""
        self._sink, self.figures, self._cadence = sink, figures, cadence
        report = figures.report
        self._share = DeadShare(max_dead_share, report.recent_read, report.recent_dead)
        self._delivery = Delivery(report.consumer, report.shard, sink, letters, self._share)
        asked = sink.flush_seconds if isinstance(sink, Paced) else 0.0
        self._flush_seconds = max(cadence.flush_seconds, asked)
        self._portion = max_batch_changes(sink) or MOST_UNFLUSHED
        self._unflushed, self._unmarked = _Unflushed(), _Unmarked()

    @no_search()
    def process(
        self,
        records: Sequence[RawRecord],
        millis_behind: int | None,
        checkpoint: Checkpoint,
        leaving: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Apply a batch (perhaps an empty one); flush and checkpoint when it is time.

        `leaving` is asked before each portion: once it is true what was applied is flushed and checkpointed, and the
        rest left out. False says so: no later record may be applied then.
        """
        for portion in portions(records, most=self._portion):
            if leaving():
                self.finish(checkpoint)
                return False
            self._apply(portion)
            if self._full():
                self._flush()
                if self._must_checkpoint():  # folded, one page may be minutes of work
                    self._checkpoint(checkpoint)
        if self._must_flush():
            self._flush()
        if self._must_checkpoint():
            self._checkpoint(checkpoint)
        self.figures.seen(millis_behind)
        return True

    @no_search()
    def finish(self, checkpoint: Checkpoint) -> None:
        """The lease is about to be handed on, or the process to end: flush and checkpoint what was applied."""
        self._flush()
        self._checkpoint(checkpoint)
        self.figures.write()

    @no_search()
    def ended(self, checkpoint_end: Callable[[], None]) -> None:
        """The shard is closed and read to its end: flush, then tell the KCL so that the children may start."""
        self._flush()
        checkpoint_end()
        self.figures.ended()

    def close(self) -> None:
        """Free the sink. Nothing is flushed: after a lost lease another worker has it already."""
        self._sink.close()

    def _apply(self, portion: Portion) -> None:
        started, records = time.monotonic(), portion.records
        accepted = self._delivered(records)
        self.figures.report.apply_seconds += time.monotonic() - started
        pending = self._unflushed
        if not pending.read:
            pending.since = started
        pending.read += len(records)
        pending.dead += len(records) - len(accepted)
        pending.size += portion.size
        pending.last = portion.mark or pending.last
        if accepted:
            pending.newest = accepted[-1].change
            pending.commit_times += [item.change.commit_time for item in accepted]

    def _delivered(self, records: Sequence[RawRecord]) -> list[Received]:
        try:
            return self._delivery.take(records)
        except TooManyDeadLetters as error:
            self.figures.stopped(f"{error.message} ({error.hint})")
            raise
        finally:
            self.figures.recent(self._share.read, self._share.dead)

    def _must_flush(self) -> bool:
        pending = self._unflushed
        overdue = time.monotonic() - pending.since >= self._flush_seconds
        return pending.read > 0 and (overdue or self._full())

    def _full(self) -> bool:
        return self._unflushed.read >= MOST_UNFLUSHED or self._unflushed.size >= MOST_UNFLUSHED_BYTES

    def _must_checkpoint(self) -> bool:
        waiting, cadence = self._unmarked, self._cadence
        return waiting.mark is not None and (
            time.monotonic() - waiting.since >= cadence.checkpoint_seconds
            or waiting.records >= cadence.checkpoint_records
            or waiting.size >= cadence.checkpoint_bytes
        )

    def _flush(self) -> None:
        pending = self._unflushed
        if not pending.read:
            return
        started = time.monotonic()
        outcome = patiently(self._sink.flush, "flush")
        self.figures.report.flush_seconds += time.monotonic() - started
        self._account(pending, outcome)
        waiting = self._unmarked
        waiting.mark, waiting.records, waiting.size = (
            pending.last or waiting.mark, waiting.records + pending.read, waiting.size + pending.size,
        )  # fmt: skip
        self._unflushed = _Unflushed()
        self.figures.flushed(pending.read, pending.size, pending.dead, outcome, pending.newest)
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
        if self._unmarked.mark is None:
            return
        checkpoint(self._unmarked.mark)
        self._unmarked = _Unmarked()
        self.figures.report.checkpointed = time.time()
