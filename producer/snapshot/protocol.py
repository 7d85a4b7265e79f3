"""What a fill and the processes that read for it tell each other: a line of JSON each; pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cdckit import errors
from cdckit.change import Table
from producer.records import Origin
from producer.snapshot.chunks import Range


class Todo(msgspec.Struct, frozen=True, array_like=True):
    """A range to be read: the `number`-th of the plan's table `part`."""

    part: int
    number: int
    table: Table
    range: Range


class Base(msgspec.Struct, frozen=True):
    """The slot's own snapshot, and the place in the log (with its time) of all rows that one process reads from it."""

    snapshot: str
    lsn: int
    time: str


class Job(msgspec.Struct, frozen=True):
    """All that one process is to read: `kind` is told in each record's annotation, `rate` is in rows a second.

    Without a `base` each range has a snapshot, and a watermark.
    """

    name: str
    kind: str
    origin: Origin
    todo: Sequence[Todo]
    where: str = ""
    rate: float | None = None
    base: Base | None = None
    level: int = 0


class Accepted(msgspec.Struct, frozen=True, tag=True):
    """So many rows of this process are on the stream."""

    rows: int


class Finished(msgspec.Struct, frozen=True, tag=True):
    """Every row of this range is on the stream."""

    part: int
    number: int
    rows: int


class Said(msgspec.Struct, frozen=True, tag=True):
    """A log line."""

    logger: str
    level: int
    text: str


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The process ends with this error, whose class is `kind`."""

    kind: str
    message: str
    hint: str = ""

    def error(self) -> errors.CdcError:
        """As it was raised there."""
        kind = getattr(errors, self.kind, errors.CdcError)
        assert issubclass(kind, errors.CdcError)
        return kind(self.message, self.hint)


class Ended(msgspec.Struct, frozen=True, tag=True):
    """The process is gone; nothing more comes from it."""


Report = Accepted | Finished | Said | Failed | Ended
