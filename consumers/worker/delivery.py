"""Delivers records to a sink: decodes, applies, retries, and makes dead letters of what can never be applied.

Law 4: the sink accepts a record, or it becomes a dead letter. Any other outcome is an exception, which ends the
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

_MAX_ATTEMPTS = 6
_JITTER = SystemRandom()  # has no shared state: a seeded or forked process gets jitter too
_WINDOW = 1000  # the share of dead letters covers about this many recent records
_MIN_RECORDS = 50  # with fewer records the share is not judged
Result = TypeVar("Result")


class TooManyDeadLetters(ConsumerError):
    """Too large a share of the records fails: the stream would end up in the dead letters. A restart does not help."""


@dataclass(slots=True)
class DeadLetterShare:
    """The share of dead letters among recent records; halved counts make old ones fade."""

    max_share: float
    read: int = 0
    dead: int = 0

    def record_read(self) -> None:
        """Counts one record that was read."""
        if self.read >= 2 * _WINDOW:
            self.read, self.dead = self.read // 2, self.dead // 2
        self.read += 1

    def record_dead(self, error: Exception) -> None:
        """Counts one dead letter. Raises TooManyDeadLetters past the limit."""
        self.dead += 1
        if self.read >= _MIN_RECORDS and self.dead > self.max_share * self.read:
            raise TooManyDeadLetters(
                f"{self.dead} of the last {self.read} records could not be applied, more than {self.max_share:.0%}; "
                f"the last error: {error}",
                "see cdcctl dlq ls; fix the cause and restart (nothing is lost), or continue with --max-dead-share 1",
            )


class Delivery:
    """Delivers one shard's records to its sink."""

    def __init__(self, consumer: str, shard: str, sink: Sink, letters: DeadLetterStore, share: DeadLetterShare) -> None:
        """`share` decides when too many records failed."""
        self._consumer, self._shard, self._sink = consumer, shard, sink
        self._letters, self._share = letters, share
        self._fetcher = Fetcher()

    def deliver(self, records: Sequence[RawRecord]) -> list[Received]:
        """Applies the records; returns those that the sink accepted, in order. All others are durable dead letters.

        Raises TransientSinkError when retries did not help, TooManyDeadLetters, and what the sink raises.
        """
        pairs = [(record, received) for record in records if (received := self._decode(record)) is not None]
        return self._apply(pairs) if pairs else []

    def _decode(self, record: RawRecord) -> Received | None:
        self._share.record_read()
        try:
            data = record.data
            change = decode(data) if not data.startswith(REFERENCE_PREFIX) else self._decode_reference(data)
            return Received(change, record.sequence_number, record.sub_sequence_number)
        except EnvelopeError as error:
            self._dead_letter(record, None, error)
            return None

    def _decode_reference(self, data: bytes) -> Change:
        return with_retries(lambda: self._fetcher.decode(data), "the fetch of an oversized change")

    def _apply(self, pairs: Sequence[tuple[RawRecord, Received]]) -> list[Received]:
        """Applies all, in order; halves a batch that holds a poison change until that change is alone."""
        items = [received for _, received in pairs]
        poison = self._try_apply(items)
        if poison is None:
            return items
        if len(pairs) == 1:
            self._dead_letter(*pairs[0], poison)
            return []
        middle = len(pairs) // 2
        return self._apply(pairs[:middle]) + self._apply(pairs[middle:])

    def _try_apply(self, items: Sequence[Received]) -> PoisonChange | None:
        try:
            with_retries(lambda: self._sink.apply(Batch(self._shard, items)), f"a batch of {len(items)}")
        except PoisonChange as error:
            return error
        return None

    def _dead_letter(self, record: RawRecord, received: Received | None, error: Exception) -> None:
        change = None if received is None else received.change
        letter = DeadLetter.of(self._consumer, self._shard, record, error, change)
        self._letters.put(letter)
        subject = f"change of {letter.table}" if letter.table else "record"
        logger.error("%s at %s is now dead letter %s: %s", subject, record.sequence_number, letter.id, error)
        self._share.record_dead(error)


def with_retries(call: Callable[[], Result], action: str) -> Result:
    """Calls, and calls again on TransientSinkError, with growing pauses and jitter; six attempts in all."""
    for attempt in range(1, _MAX_ATTEMPTS):
        try:
            return call()
        except TransientSinkError as error:
            delay = min(10.0, 0.1 * 4 ** (attempt - 1)) * (0.5 + _JITTER.random() / 2)
            logger.warning("%s; retrying %s in %.1f s", error, action, delay)
            time.sleep(delay)
    return call()
