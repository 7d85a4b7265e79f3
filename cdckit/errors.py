"""The errors that this project raises on purpose.

    CdcError                     message, hint (the command or setting that fixes it), exit_code
    ├── UsageError          (2)  a flag, setting, time or name that cannot be used
    ├── SourceError         (3)  PostgreSQL: unreachable, not prepared, or another server than before
    │   ├── SlotInUse            another process streams from the slot
    │   ├── SlotLost             the slot or its WAL does not exist any more: changes are missing
    │   └── EpochChanged         another server, or a restored one, answers
    ├── StreamError         (4)  Kinesis or DynamoDB: unreachable, missing, refused, no credentials
    │   └── RecordTooLarge       a change over the stream's record limit
    ├── ConsumerError       (5)  the KCL side: no Java, unknown consumer, a live lease
    ├── SatelliteError      (6)  a satellite's store: missing, damaged, or not equal to the source
    ├── EnvelopeError            bytes on the stream that are not a change; dead-lettered by the kit
    ├── PoisonChange             raised by a sink: a change of this batch can never be applied; the kit finds it
    └── TransientSinkError       raised by a sink: try the same batch again

Foreign exceptions (psycopg2, botocore, sqlite3, ...) are translated to these at the border where they occur.
"""

from __future__ import annotations


class CdcError(Exception):
    """An error for the user: what is wrong, where, and (`hint`) the command or setting that fixes it."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(CdcError):
    """A flag, setting, time or name that cannot be used."""

    exit_code = 2


class SourceError(CdcError):
    """PostgreSQL is unreachable, not prepared for logical replication, or refuses."""

    exit_code = 3


class SlotInUse(SourceError):
    """Another process streams from the slot; only one may."""


class SlotLost(SourceError):
    """The slot does not exist or its WAL was removed: changes may be missing from the stream."""


class EpochChanged(SourceError):
    """Another server (or a restored one) answers where the stream's positions came from a different one."""


class StreamError(CdcError):
    """Kinesis or DynamoDB is unreachable, lacks the resource, or refuses."""

    exit_code = 4


class RecordTooLarge(StreamError):
    """A change is over the stream's record limit."""


class ConsumerError(CdcError):
    """The consumer side cannot run: no Java, an unknown consumer, a live lease."""

    exit_code = 5


class SatelliteError(CdcError):
    """A satellite's store is missing, damaged, or does not equal the source."""

    exit_code = 6


class EnvelopeError(CdcError):
    """Bytes on the stream that are not a change."""


class PoisonChange(CdcError):
    """Raised by a sink's ``apply`` when its batch holds a change that can never be applied (the message says why).

    The kit splits the batch until the change is alone, stores it as a dead letter, and applies all others.
    """


class TransientSinkError(CdcError):
    """Raised by a sink when the same batch may succeed later."""
