"""Points in the history of changes, as users name them: a commit time, an LSN or a position; does no I/O.

Commit times and arrival times come from different clocks, and a change arrives some time after its commit. So a reader
from a commit time starts `SLACK` earlier by arrival time, and a reader up to a commit time continues `SLACK` longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from cdckit.position import Lsn, Position
from consumers.stream.start import EARLIEST, StartPosition

SLACK = timedelta(seconds=60)
OLDEST = datetime(1970, 1, 1, tzinfo=UTC)
"""Means everything that the stream holds."""


class Positioned(Protocol):
    """Has a position and a commit time: a change, or what is known of one."""

    @property
    def position(self) -> Position:
        """Its position."""

    @property
    def commit_time(self) -> datetime:
        """When its transaction committed."""


@dataclass(frozen=True, slots=True)
class Point:
    """A commit time; or `lsn`, a transaction's commit in any epoch; or `position`, which is exact."""

    moment: datetime = OLDEST
    lsn: Lsn | None = None
    position: Position | None = None

    @property
    def by_time(self) -> bool:
        """Whether it is a commit time."""
        return self.lsn is None and self.position is None

    @property
    def commit_lsn(self) -> Lsn | None:
        """The LSN that the point names, if any."""
        return self.lsn if self.position is None else self.position.commit_lsn

    def is_at_or_before(self, change: Positioned) -> bool:
        """Whether the change is at this point or later."""
        if self.position is not None:
            return change.position >= self.position
        if self.lsn is not None:
            return change.position.commit_lsn >= self.lsn
        return change.commit_time >= self.moment

    def is_before(self, change: Positioned) -> bool:
        """Whether the change is later than this point."""
        if self.position is not None:
            return change.position > self.position
        if self.lsn is not None:
            return change.position.commit_lsn > self.lsn
        return change.commit_time > self.moment

    def __str__(self) -> str:
        if not self.by_time:
            return str(self.position or self.lsn)
        return "earliest" if self.moment == OLDEST else self.moment.isoformat()


def start_at(moment: datetime) -> StartPosition:
    """Where to start to read all changes committed at `moment` or later."""
    return EARLIEST if moment == OLDEST else StartPosition.at(moment - SLACK)
