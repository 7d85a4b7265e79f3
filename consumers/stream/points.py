"""Places in the history of changes, as people name them: a commit time, an LSN, a position; pure.

Commit times and arrival times come from different clocks, and a change arrives some time after its commit: whoever
reads from a commit time on starts `SLACK` earlier by arrival, and whoever reads up to one goes on `SLACK` longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from cdckit.position import Lsn, Position
from consumers.stream.start import EARLIEST, StartPosition

SLACK = timedelta(seconds=60)
OLDEST = datetime(1970, 1, 1, tzinfo=UTC)
"""Stands for all that there is."""


class Placed(Protocol):
    """What has a place in the history: a change, or what is known of one."""

    @property
    def position(self) -> Position:
        """Its position."""

    @property
    def commit_time(self) -> datetime:
        """When its transaction committed."""


@dataclass(frozen=True, slots=True)
class Point:
    """A commit time, unless `lsn` (a transaction's commit, in whatever epoch) or `position` (exact) is given."""

    moment: datetime = OLDEST
    lsn: Lsn | None = None
    position: Position | None = None

    @property
    def by_time(self) -> bool:
        """Whether it is a commit time."""
        return self.lsn is None and self.position is None

    @property
    def commit_lsn(self) -> Lsn | None:
        """The LSN that it names."""
        return self.lsn if self.position is None else self.position.commit_lsn

    def reached(self, change: Placed) -> bool:
        """Whether the change stands here or later."""
        if self.position is not None:
            return change.position >= self.position
        if self.lsn is not None:
            return change.position.commit_lsn >= self.lsn
        return change.commit_time >= self.moment

    def passed(self, change: Placed) -> bool:
        """Whether the change stands later than here."""
        if self.position is not None:
            return change.position > self.position
        if self.lsn is not None:
            return change.position.commit_lsn > self.lsn
        return change.commit_time > self.moment

    def __str__(self) -> str:
        if not self.by_time:
            return str(self.position or self.lsn)
        return "earliest" if self.moment == OLDEST else self.moment.isoformat()


def begin_at(moment: datetime) -> StartPosition:
    """Where to start reading for changes committed at `moment` or later."""
    return EARLIEST if moment == OLDEST else StartPosition.at(moment - SLACK)
