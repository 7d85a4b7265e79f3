"""When a shard needs no more reading for all changes up to a point; pure but for the clock that is handed in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cdckit.change import Change
from consumers.stream.points import SLACK, Point
from consumers.stream.reader import Page

_TIPS = 2  # reads of the tip after the end has come: the first may have been under way before it


@dataclass(slots=True)
class StopCondition:
    """A shard is done when it shows a change `SLACK` beyond the point, or its tip after the point has come."""

    until: Point | None
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    _beyond: datetime | None = None
    _tips: Counter[str] = field(default_factory=Counter)

    def done(self, page: Page, changes: Iterable[Change]) -> bool:
        """Whether the page's shard is done; `changes` are all that are in the page."""
        if self.until is None:
            return False
        later = [change.commit_time for change in changes if self.until.passed(change)]
        if self.until.by_time:
            self._beyond = self.until.moment
        elif later and self._beyond is None:
            self._beyond = min(later)
        if self._beyond is None or self.clock() <= self._beyond:
            return False
        self._tips[page.shard] += page.behind_ms == 0
        return self._tips[page.shard] >= _TIPS or (bool(later) and max(later) > self._beyond + SLACK)
