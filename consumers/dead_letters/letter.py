"""A dead letter, and the protocol of the stores that hold them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from cdckit.change import Change
from cdckit.envelope import describe
from cdckit.errors import CdcError
from consumers.stream.record import RawRecord


class DeadLetter(msgspec.Struct, frozen=True):
    """One record that could not be applied. `data` is the record's bytes (base64 in JSON).

    `position` and `table` are empty when the record could not be read at all.
    """

    consumer: str
    shard: str
    sequence_number: str
    sub_sequence_number: int
    partition_key: str
    error: str
    time: str
    data: bytes
    position: str = ""
    table: str = ""

    @classmethod
    def of(cls, consumer: str, shard: str, record: RawRecord, error: Exception, change: Change | None) -> DeadLetter:
        """Makes a letter with the current time."""
        hint = f" ({error.hint})" if isinstance(error, CdcError) and error.hint else ""
        position, table = describe(record.data) if change is None else (str(change.position), str(change.table))
        return cls(
            consumer, shard, record.sequence_number, record.sub_sequence_number, record.partition_key,
            f"{error}{hint}", datetime.now(UTC).isoformat(timespec="milliseconds"), record.data, position, table,
        )  # fmt: skip

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits from its place in the stream: a record delivered again is the same letter."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        """``shardId-…/SEQUENCE-SUB``: the name of its file or object."""
        return f"{self.shard}/{self.sequence_number}-{self.sub_sequence_number}"

    @property
    def record(self) -> RawRecord:
        """The record, to apply it again."""
        return RawRecord(self.data, self.partition_key, self.sequence_number, self.sub_sequence_number)

    def encode(self) -> bytes:
        """The letter as JSON."""
        return msgspec.json.encode(self)


def decode_letter(text: bytes) -> DeadLetter:
    """Decodes what `DeadLetter.encode` wrote. Raises msgspec.DecodeError."""
    return msgspec.json.decode(text, type=DeadLetter)


def in_stream_order(letters: Collection[DeadLetter]) -> Sequence[DeadLetter]:
    """Sorts letters by shard name, then in the shard's order."""
    return sorted(
        letters, key=lambda letter: (letter.shard, int(letter.sequence_number or 0), letter.sub_sequence_number)
    )


class DeadLetterStore(Protocol):
    """The dead letters of one consumer. Every method raises ConsumerError when the store does not answer."""

    def put(self, letter: DeadLetter) -> None:
        """Stores the letter; durable when this returns. A letter with the same place replaces it."""

    def read(self) -> Sequence[DeadLetter]:
        """All letters, in stream order."""

    def count(self) -> int:
        """The number of letters, cheaply; a queue that consumers share counts the letters of all."""

    def drop(self, letters: Collection[DeadLetter]) -> None:
        """Deletes these letters; a missing one is not an error."""
