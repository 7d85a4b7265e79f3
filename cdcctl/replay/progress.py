"""Reports how far a replay has come, on stderr: a progress bar on a terminal, a line every 15 seconds elsewhere."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cdcctl import output
from consumers.stream.reader import SHARD_END, ShardPage

_LOG_SECONDS = 15.0


@dataclass(slots=True)
class ReplayProgress:
    """Progress in arrival time: how far the slowest shard is behind `until`, or behind the stream's tip."""

    until: datetime | None = None
    count: int = 0
    _behind: dict[str, int] = field(default_factory=dict)
    _max_behind: int = 0
    _newest: str = ""
    _started: float = field(default_factory=time.monotonic)
    _logged: float = field(default_factory=time.monotonic)
    _bar: Any = None

    def update(self, page: ShardPage, count: int) -> None:
        """Record a page with `count` selected changes, and report."""
        self.count += count
        if page.checkpoint == SHARD_END:
            self._behind.pop(page.shard, None)
        else:
            self._behind[page.shard] = max(0, page.behind_ms - self._beyond_end_ms())
        self._max_behind = max(self._max_behind, self._left)
        if page.arrivals:
            self._newest = page.arrivals[-1].astimezone().strftime("%Y-%m-%d %H:%M:%S")
        if sys.stderr.isatty():
            self._draw()
        elif time.monotonic() - self._logged >= _LOG_SECONDS:
            self._logged = time.monotonic()
            output.note(f"[dim]{output.escape(self.text())}[/]")

    def text(self) -> str:
        """``43%  12,300 changes  4,100/s  at 2026-11-24 10:05:03``."""
        share = 1 - self._left / self._max_behind if self._max_behind else 1.0
        return f"{share:.0%}  {self.count:,} changes  {self._rate:,.0f}/s  {self._position}".rstrip()

    def close(self) -> None:
        """Remove the progress bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _draw(self) -> None:
        if self._bar is None:
            self._bar = output.progress_bar(output.stderr())
            self._bar.add_task("", total=1, count=0, rate=0.0, position="")
            self._bar.start()
        total = max(self._max_behind, 1)
        self._bar.update(
            self._bar.task_ids[0], total=total, completed=total - self._left,
            count=self.count, rate=self._rate, position=self._position,
        )  # fmt: skip

    def _beyond_end_ms(self) -> int:
        """Milliseconds between `until` and now, which the replay does not read."""
        return 0 if self.until is None else (datetime.now(UTC) - self.until) // timedelta(milliseconds=1)

    @property
    def _left(self) -> int:
        return max(self._behind.values(), default=0)

    @property
    def _rate(self) -> float:
        return self.count / max(time.monotonic() - self._started, 0.001)

    @property
    def _position(self) -> str:
        return f"at {self._newest}" if self._newest else ""
