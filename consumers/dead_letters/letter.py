"""A dead letter, and what keeps some."""

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
    """One record that was given up. `data` is the record's bytes (base64 in JSON).

    `position` and `table` are empty where the record could not even be read.
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
        """A letter of now."""
        hint = f" ({error.hint})" if isinstance(error, CdcError) and error.hint else ""
        position, table = describe(record.data) if change is None else (str(change.position), str(change.table))
        return cls(
            consumer, shard, record.sequence_number, record.sub_sequence_number, record.partition_key,
            f"{error}{hint}", datetime.now(UTC).isoformat(timespec="milliseconds"), record.data, position, table,
        )  # fmt: skip

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits of its place: the same record delivered again is the same letter."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        """``shardId-…/SEQUENCE-SUB``: its file's or object's name."""
        return f"{self.shard}/{self.sequence_number}-{self.sub_sequence_number}"

    @property
    def record(self) -> RawRecord:
        """The record, to be tried again."""
        return RawRecord(self.data, self.partition_key, self.sequence_number, self.sub_sequence_number)

    def encode(self) -> bytes:
        """The letter as JSON."""
        return msgspec.json.encode(self)


def decode_letter(text: bytes) -> DeadLetter:
    """Read what `DeadLetter.encode` wrote. Raises msgspec.DecodeError."""
    return msgspec.json.decode(text, type=DeadLetter)


def in_stream_order(letters: Collection[DeadLetter]) -> Sequence[DeadLetter]:
    """The letters as they stood on each shard; shards by name."""
    return sorted(letters, key=lambda one: (one.shard, int(one.sequence_number or 0), one.sub_sequence_number))


class DeadLetterStore(Protocol):
    """Keeps the dead letters of one consumer. Every method raises ConsumerError when the store does not answer."""

    def put(self, letter: DeadLetter) -> None:
        """Keep the letter: durable when this returns. The same place again replaces it."""

    def read(self) -> Sequence[DeadLetter]:
        """All letters, in stream order."""

    def count(self) -> int:
        """How many there are, cheaply: a queue that consumers share counts the others' too."""

    def drop(self, letters: Collection[DeadLetter]) -> None:
        """Forget these; one that is gone already is no error."""
