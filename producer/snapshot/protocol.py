"""The messages between coordinator and workers, one line of JSON each; pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cdckit import errors
from cdckit.change import Table
from producer.records import Origin
from producer.snapshot.chunks import KeyRange


class RangeTask(msgspec.Struct, frozen=True, array_like=True):
    """A range to read: number `number` of the plan's table `part`."""

    part: int
    number: int
    table: Table
    range: KeyRange


class BaseSnapshot(msgspec.Struct, frozen=True):
    """The slot's own snapshot, and the WAL position (with its time) of all rows that one worker reads from it."""

    snapshot: str
    lsn: int
    time: str


class Job(msgspec.Struct, frozen=True):
    """All that one worker reads: `kind` goes into each record's annotation, `rate` is in rows per second.

    Without a `base` each range has a snapshot and a watermark of its own.
    """

    name: str
    kind: str
    origin: Origin
    tasks: Sequence[RangeTask]
    where: str = ""
    rate: float | None = None
    base: BaseSnapshot | None = None
    log_level: int = 0


class RowsAccepted(msgspec.Struct, frozen=True, tag=True):
    """The number of this worker's rows that are on the stream."""

    rows: int


class RangeFinished(msgspec.Struct, frozen=True, tag=True):
    """Every row of this range is on the stream."""

    part: int
    number: int
    rows: int


class LogLine(msgspec.Struct, frozen=True, tag=True):
    """A log line."""

    logger: str
    log_level: int
    text: str


class WorkerFailed(msgspec.Struct, frozen=True, tag=True):
    """The worker ends with this error, whose class is `kind`."""

    kind: str
    message: str
    hint: str = ""

    def to_error(self) -> errors.CdcError:
        """Return the error as the worker raised it."""
        kind = getattr(errors, self.kind, errors.CdcError)
        assert issubclass(kind, errors.CdcError)
        return kind(self.message, self.hint)


class WorkerEnded(msgspec.Struct, frozen=True, tag=True):
    """The worker has ended; it sends nothing more."""


Report = RowsAccepted | RangeFinished | LogLine | WorkerFailed | WorkerEnded
