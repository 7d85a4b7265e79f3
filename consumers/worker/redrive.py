"""Applies dead letters again, each by itself, and drops those that the sink accepted, once they are durable.

Positions make it safe: an old change never overwrites a newer one but is superseded. A letter that fails again stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cdckit.errors import CdcError, EnvelopeError, PoisonChange, TransientSinkError
from cdckit.sink import Batch, Outcome, Received, Sink
from consumers.dead_letters import DeadLetter, DeadLetterStore
from consumers.stream.claim_check import Fetcher
from consumers.stream.unpack import expand_folded
from consumers.worker.delivery import with_retries

SHARD = "redrive"
"""The shard name under which a sink is opened for dead letters; no live worker has it."""


@dataclass(frozen=True, slots=True)
class RedriveResult:
    """What became of the letters. `remaining` failed again, each with its new error."""

    outcome: Outcome = field(default_factory=Outcome)
    remaining: Sequence[tuple[DeadLetter, str]] = ()


def redrive(letters: Sequence[DeadLetter], store: DeadLetterStore, open_sink: Callable[[], Sink]) -> RedriveResult:
    """Applies these letters, in stream order, one by one. Raises what `open_sink` and the store raise.

    After a crash at most one letter is applied again; it is then superseded.
    """
    sink = open_sink()
    outcome, remaining = Outcome(), []
    try:
        for letter in letters:
            try:
                outcome += _apply_letter(sink, letter)
            except (EnvelopeError, PoisonChange, TransientSinkError) as error:
                remaining.append((letter, _error_text(error)))
            else:
                store.drop([letter])
    finally:
        sink.close()
    return RedriveResult(outcome, remaining)


def _apply_letter(sink: Sink, letter: DeadLetter) -> Outcome:
    """Expands a folded record again: what could not be expanded then may be now."""
    fetcher = Fetcher()
    batch = Batch(SHARD, [
        Received(fetcher.decode(record.data), record.sequence_number, record.sub_sequence_number)
        for record in expand_folded(letter.record)
    ])  # fmt: skip
    with_retries(lambda: sink.apply(batch), f"letter {letter.id}")
    return with_retries(sink.flush, "flush")


def _error_text(error: CdcError) -> str:
    return f"{error.message}{f' ({error.hint})' if error.hint else ''}"
