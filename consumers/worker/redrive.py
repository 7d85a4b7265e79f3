"""Dead letters once more: each through the sink alone; what it takes is dropped from the dead letters, durably after.

Positions make it safe: an old change never overwrites a newer one, it is superseded. What still fails stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cdckit.errors import CdcError, EnvelopeError, PoisonChange, TransientSinkError
from cdckit.sink import Batch, Outcome, Received, Sink
from consumers.dead_letters import DeadLetter, DeadLetterStore
from consumers.stream.claim_check import Fetcher
from consumers.stream.unpack import unfolded
from consumers.worker.delivery import patiently

SHARD = "redrive"
"""The shard's name under which a sink is opened for dead letters: no live worker has it."""


@dataclass(frozen=True, slots=True)
class Redriven:
    """What became of the letters: `remaining` failed again, each with the error of now."""

    outcome: Outcome = field(default_factory=Outcome)
    remaining: Sequence[tuple[DeadLetter, str]] = ()


def redrive(letters: Sequence[DeadLetter], store: DeadLetterStore, open_sink: Callable[[], Sink]) -> Redriven:
    """Apply these letters, in stream order, one by one. Raises what `open_sink` and the store raise.

    Dying half-way repeats at most the letter at hand, which is then superseded.
    """
    sink = open_sink()
    outcome, remaining = Outcome(), []
    try:
        for letter in letters:
            try:
                outcome += _one(sink, letter)
            except (EnvelopeError, PoisonChange, TransientSinkError) as error:
                remaining.append((letter, _reason(error)))
            else:
                store.drop([letter])
    finally:
        sink.close()
    return Redriven(outcome, remaining)


def _one(sink: Sink, letter: DeadLetter) -> Outcome:
    """A folded record that could not be unfolded once may be by now."""
    fetcher = Fetcher()
    batch = Batch(SHARD, [
        Received(fetcher.decode(one.data), one.sequence_number, one.sub_sequence_number)
        for one in unfolded(letter.record)
    ])  # fmt: skip
    patiently(lambda: sink.apply(batch), f"letter {letter.id}")
    return patiently(sink.flush, "flush")


def _reason(error: CdcError) -> str:
    return f"{error.message}{f' ({error.hint})' if error.hint else ''}"
