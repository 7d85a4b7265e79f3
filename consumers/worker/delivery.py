"""From records to the sink: decode, apply, again when that may help, and dead letters for what can never be applied.

Law 4: each record is accepted by the sink or kept as a dead letter; every other way out is an exception, which ends the
process, and the KCL delivers again from the last checkpoint.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import SystemRandom
from typing import TypeVar

from cdckit.change import Change
from cdckit.envelope import REFERENCE_PREFIX, decode
from cdckit.errors import ConsumerError, EnvelopeError, PoisonChange, TransientSinkError
from cdckit.sink import Batch, Received, Sink
from consumers.dead_letters import DeadLetter, DeadLetterStore
from consumers.stream.claim_check import Fetcher
from consumers.stream.record import RawRecord

logger = logging.getLogger(__name__)

_TRIES = 6
_JITTER = SystemRandom()  # no state that is shared: a seeded process, or one that was forked, jitters too
_WINDOW = 1000  # records that the share of dead letters looks back over, roughly
_FEWEST = 50  # records before the share says anything
Result = TypeVar("Result")


class TooManyDeadLetters(ConsumerError):
    """So many records fail that going on would drain the stream into the dead letters; a restart does not help."""


@dataclass(slots=True)
class DeadShare:
    """How large a share of the recent records failed; the counts halve now and then, so that old ones fade."""

    most: float
    read: int = 0
    dead: int = 0

    def count(self) -> None:
        """One more record was read."""
        if self.read >= 2 * _WINDOW:
            self.read, self.dead = self.read // 2, self.dead // 2
        self.read += 1

    def failed(self, error: Exception) -> None:
        """One of them was dead-lettered. Raises TooManyDeadLetters past the limit."""
        self.dead += 1
        if self.read >= _FEWEST and self.dead > self.most * self.read:
            raise TooManyDeadLetters(
                f"{self.dead} of the last {self.read} records could not be applied, more than {self.most:.0%} of them; "
                f"the last: {error}",
                "see cdcctl dlq ls; mend the cause and start again (nothing is lost), or go on with --max-dead-share 1",
            )


class Delivery:
    """One shard's way to its sink."""

    def __init__(self, consumer: str, shard: str, sink: Sink, letters: DeadLetterStore, share: DeadShare) -> None:
        """`share` says when to stop."""
        self._consumer, self._shard, self._sink = consumer, shard, sink
        self._letters, self._share = letters, share
        self._fetcher = Fetcher()

    def take(self, records: Sequence[RawRecord]) -> list[Received]:
        """Hand the records to the sink; returns what it accepted, in order. All others are durable dead letters.

        Raises TransientSinkError when trying again did not help, TooManyDeadLetters, and what the sink raises.
        """
        pairs = [(record, received) for record in records if (received := self._decoded(record)) is not None]
        return self._apply(pairs) if pairs else []

    def _decoded(self, record: RawRecord) -> Received | None:
        self._share.count()
        try:
            data = record.data
            change = decode(data) if not data.startswith(REFERENCE_PREFIX) else self._fetched(data)
            return Received(change, record.sequence_number, record.sub_sequence_number)
        except EnvelopeError as error:
            self._bury(record, None, error)
            return None

    def _fetched(self, data: bytes) -> Change:
        return patiently(lambda: self._fetcher.decode(data), "fetching an oversized change")

    def _apply(self, pairs: Sequence[tuple[RawRecord, Received]]) -> list[Received]:
        """Apply all; when the batch holds poison, halve it until the poison stands alone. Order is kept."""
        items = [received for _, received in pairs]
        poison = self._poison_in(items)
        if poison is None:
            return items
        if len(pairs) == 1:
            self._bury(*pairs[0], poison)
            return []
        middle = len(pairs) // 2
        return self._apply(pairs[:middle]) + self._apply(pairs[middle:])

    def _poison_in(self, items: Sequence[Received]) -> PoisonChange | None:
        try:
            patiently(lambda: self._sink.apply(Batch(self._shard, items)), f"batch of {len(items)}")
        except PoisonChange as error:
            return error
        return None

    def _bury(self, record: RawRecord, received: Received | None, error: Exception) -> None:
        change = None if received is None else received.change
        letter = DeadLetter.of(self._consumer, self._shard, record, error, change)
        self._letters.put(letter)
        what = f"change of {letter.table}" if letter.table else "record"
        logger.error("%s at %s is now dead letter %s: %s", what, record.sequence_number, letter.id, error)
        self._share.failed(error)


def patiently(call: Callable[[], Result], what: str) -> Result:
    """Call; on TransientSinkError again, with growing pauses and jitter; the last one comes out after six tries."""
    for attempt in range(1, _TRIES):
        try:
            return call()
        except TransientSinkError as error:
            delay = min(10.0, 0.1 * 4 ** (attempt - 1)) * (0.5 + _JITTER.random() / 2)
            logger.warning("%s; %s again in %.1f s", error, what, delay)
            time.sleep(delay)
    return call()
