"""``cdcctl tail --stats``: how many changes each table has, how fast, how late; live on a terminal."""

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
class Counts:
    """One table. `recent` are the times and numbers of what came in the last ten seconds."""

    ops: Counter[Op] = field(default_factory=Counter)
    total: int = 0
    first: datetime | None = None
    last: datetime | None = None
    lag: float = 0.0
    recent: deque[tuple[float, int]] = field(default_factory=deque)

    def take(self, seen: FeedItem, now: datetime) -> None:
        """One more."""
        self.total += 1
        if seen.change is None:
            return
        self.ops[seen.change.op] += 1
        committed = seen.change.commit_time
        self.first, self.last = min(self.first or committed, committed), max(self.last or committed, committed)
        self.lag = (now - committed).total_seconds()

    def came(self, count: int, now: float) -> None:
        """So many, now."""
        self.recent.append((now, count))

    def rate(self, now: float) -> float:
        """Changes a second over the last ten."""
        while self.recent and self.recent[0][0] < now - _WINDOW:
            self.recent.popleft()
        return sum(count for _, count in self.recent) / _WINDOW

    @property
    def overall(self) -> float | None:
        """Changes a second of commit time."""
        seconds = (self.last - self.first).total_seconds() if self.first and self.last else 0.0
        return self.total / seconds if seconds > 0 else None


@dataclass(slots=True)
class Statistics:
    """A `Printer` that counts: a table that is drawn anew on a terminal, and one at the end everywhere."""

    as_json: bool
    tables: dict[str, Counts] = field(default_factory=lambda: defaultdict(Counts))
    _live: Any = None
    _started: float = field(default_factory=time.monotonic)

    def show(self, seen: Sequence[FeedItem]) -> None:
        """Count them; draw."""
        now, here = datetime.now(UTC), Counter[str]()
        for one in seen:
            name = _UNREADABLE if one.change is None else f"{one.change.table.schema}.{one.change.table.name}"
            self.tables[name].take(one, now)
            here[name] += 1
        for name, count in here.items():
            self.tables[name].came(count, time.monotonic())
        self._draw()

    def close(self) -> None:
        """The result."""
        if self._live is not None:
            self._live.stop()
        if self.as_json:
            output.print_json([self._object(name, counts) for name, counts in sorted(self.tables.items())])
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
                name, *(counts.ops[op] for op in Op), counts.total,
                f"{counts.rate(now):.1f}" if live else "-" if counts.overall is None else f"{counts.overall:.1f}",
                change_lines.span(counts.lag) if counts.last else "-",
            )
            for name, counts in sorted(self.tables.items())
        ]  # fmt: skip

    def _object(self, name: str, counts: Counts) -> dict[str, Any]:
        return {
            "table": name, **{op.name.lower() + "s": counts.ops[op] for op in Op}, "total": counts.total,
            "a_second": None if counts.overall is None else round(counts.overall, 3), "first_commit": counts.first,
            "last_commit": counts.last, "lag_seconds": round(counts.lag, 3) if counts.last else None,
        }  # fmt: skip


_HEAD = ("table", "I", "U", "D", "T", "total", "/s", "lag")
