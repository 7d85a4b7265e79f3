"""How far a replay is: a line that is drawn anew on a terminal, a remark now and then elsewhere; on stderr."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cdcctl import change_lines, output
from consumers.stream.reader import SHARD_END, ShardPage

_DRAW, _TELL = 0.3, 15.0
_BAR = 20
_WIDE = 88
_TOO_EARLY = 0.01


@dataclass(slots=True)
class Progress:
    """Measured by arrival time: how far the slowest shard still is from `until`, or from the stream's tip."""

    until: datetime | None = None
    count: int = 0
    _behind: dict[str, int] = field(default_factory=dict)
    _most: int = 0
    _newest: str = ""
    _started: float = field(default_factory=time.monotonic)
    _drawn: float = field(default_factory=time.monotonic)
    _line: bool = False

    def took(self, page: ShardPage, count: int) -> None:
        """One page more."""
        self.count += count
        if page.checkpoint == SHARD_END:
            self._behind.pop(page.shard, None)
        else:
            self._behind[page.shard] = max(0, page.behind_ms - self._beyond())
        self._most = max(self._most, self._left)
        if page.arrivals:
            self._newest = page.arrivals[-1].astimezone().strftime("%Y-%m-%d %H:%M:%S")
        on_terminal = sys.stderr.isatty()
        if time.monotonic() - self._drawn >= (_DRAW if on_terminal else _TELL):
            self._drawn = time.monotonic()
            self._draw() if on_terminal else output.note(f"[dim]{output.escape(self.text())}[/]")

    def text(self, width: int = _WIDE) -> str:
        """``[████────] 43%  12,300 changes  4,100/s  12.0s left  at 2026-11-24 10:05:03``, as much as there is room."""
        seconds = max(time.monotonic() - self._started, 0.001)
        share = 1 - self._left / self._most if self._most else 1.0
        left = change_lines.span(seconds / share - seconds) if share > _TOO_EARLY else "-"
        bar = _BAR if width >= _WIDE else _BAR // 2
        full = round(share * bar)
        text = f"[{'█' * full}{'─' * (bar - full)}] {share:4.0%}  {self.count:,} changes"
        day, _, time_of_day = self._newest.partition(" ")
        position = f"at {day} {time_of_day}" if width >= _WIDE else f"at {time_of_day}"
        for more in (f"{self.count / seconds:,.0f}/s", f"{left} left", position if self._newest else ""):
            text += f"  {more}" if more and len(text) + 2 + len(more) <= width else ""
        return text

    def close(self) -> None:
        """Take the line away."""
        if self._line:
            output.passing()

    def _beyond(self) -> int:
        """Milliseconds of the stream that nobody wants."""
        return 0 if self.until is None else (datetime.now(UTC) - self.until) // timedelta(milliseconds=1)

    @property
    def _left(self) -> int:
        return max(self._behind.values(), default=0)

    def _draw(self) -> None:
        self._line = True
        output.passing(self.text(output.stderr().width - 1))
