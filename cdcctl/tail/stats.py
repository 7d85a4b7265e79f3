"""``cdcctl tail --stats``: counts, rates and lags of the changes per table; live on a terminal."""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cdcctl import change_lines, output
from cdckit.change import Op
from consumers.filters.feed import FeedItem

_WINDOW = 10.0
_UNREADABLE = "(unreadable)"


@dataclass(slots=True)
class TableStats:
    """The statistics of one table. `recent` has the time and number of the changes of the last ten seconds."""

    ops: Counter[Op] = field(default_factory=Counter)
    total: int = 0
    first: datetime | None = None
    last: datetime | None = None
    lag: float = 0.0
    recent: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, seen: FeedItem, now: datetime) -> None:
        """Count one change."""
        self.total += 1
        if seen.change is None:
            return
        self.ops[seen.change.op] += 1
        committed = seen.change.commit_time
        self.first, self.last = min(self.first or committed, committed), max(self.last or committed, committed)
        self.lag = (now - committed).total_seconds()

    def add_recent(self, count: int, now: float) -> None:
        """Record `count` changes for the current rate."""
        self.recent.append((now, count))

    def rate(self, now: float) -> float:
        """Changes per second over the last ten seconds."""
        while self.recent and self.recent[0][0] < now - _WINDOW:
            self.recent.popleft()
        return sum(count for _, count in self.recent) / _WINDOW

    @property
    def overall(self) -> float | None:
        """Changes per second between the first and the last commit."""
        seconds = (self.last - self.first).total_seconds() if self.first and self.last else 0.0
        return self.total / seconds if seconds > 0 else None


@dataclass(slots=True)
class Statistics:
    """A `Printer` of statistics: a table that is redrawn on a terminal, and the final table at the end."""

    as_json: bool
    tables: dict[str, TableStats] = field(default_factory=lambda: defaultdict(TableStats))
    _live: Any = None
    _started: float = field(default_factory=time.monotonic)

    def show(self, seen: Sequence[FeedItem]) -> None:
        """Count the changes and redraw the table."""
        now, counts = datetime.now(UTC), Counter[str]()
        for item in seen:
            name = _UNREADABLE if item.change is None else f"{item.change.table.schema}.{item.change.table.name}"
            self.tables[name].add(item, now)
            counts[name] += 1
        for name, count in counts.items():
            self.tables[name].add_recent(count, time.monotonic())
        self._draw()

    def close(self) -> None:
        """Print the final statistics."""
        if self._live is not None:
            self._live.stop()
        if self.as_json:
            output.print_json([self._object(name, stats) for name, stats in sorted(self.tables.items())])
        else:
            output.print_table(_HEAD, self._rows(live=False))

    def _draw(self) -> None:
        if self.as_json or not sys.stdout.isatty():
            return
        if self._live is None:
            self._live = output.live(output.stdout())
            self._live.start()
        self._live.update(output.table(_HEAD, self._rows(live=True)))

    def _rows(self, *, live: bool) -> list[Sequence[object]]:
        now = time.monotonic()
        return [
            (
                name, *(stats.ops[op] for op in Op), stats.total,
                f"{stats.rate(now):.1f}" if live else "-" if stats.overall is None else f"{stats.overall:.1f}",
                change_lines.format_duration(stats.lag) if stats.last else "-",
            )
            for name, stats in sorted(self.tables.items())
        ]  # fmt: skip

    def _object(self, name: str, stats: TableStats) -> dict[str, Any]:
        return {
            "table": name, **{op.name.lower() + "s": stats.ops[op] for op in Op}, "total": stats.total,
            "per_second": None if stats.overall is None else round(stats.overall, 3), "first_commit": stats.first,
            "last_commit": stats.last, "lag_seconds": round(stats.lag, 3) if stats.last else None,
        }  # fmt: skip


_HEAD = ("table", "I", "U", "D", "T", "total", "/s", "lag")
