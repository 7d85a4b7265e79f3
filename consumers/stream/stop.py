"""Decides when a shard has delivered all changes up to a point; does no I/O (the clock is an argument)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cdckit.change import Change
from consumers.stream.points import SLACK, Point
from consumers.stream.reader import ShardPage

_MIN_TIP_READS = 2  # after the end time: the first read of the tip may have started before it


@dataclass(slots=True)
class StopCondition:
    """A shard is done at a change `SLACK` after the point, or when its tip is read after the point's time."""

    until: Point | None
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    _end_time: datetime | None = None
    _tip_reads: Counter[str] = field(default_factory=Counter)

    def done(self, page: ShardPage, changes: Iterable[Change]) -> bool:
        """Whether the page's shard is done; `changes` are all changes in the page."""
        if self.until is None:
            return False
        later = [change.commit_time for change in changes if self.until.is_before(change)]
        if self.until.by_time:
            self._end_time = self.until.moment
        elif later and self._end_time is None:
            self._end_time = min(later)
        if self._end_time is None or self.clock() <= self._end_time:
            return False
        self._tip_reads[page.shard] += page.behind_ms == 0
        return self._tip_reads[page.shard] >= _MIN_TIP_READS or (bool(later) and max(later) > self._end_time + SLACK)
