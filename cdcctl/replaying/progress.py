"""How far a replay is: a line that is drawn anew on a terminal, a remark now and then elsewhere; on stderr."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

from cdcctl import lines, output
from consumers.reader import SHARD_END, Page

_DRAW, _TELL = 0.3, 15.0
_BAR = 20


@dataclass(slots=True)
class Progress:
    """Measured by arrival time: how far the slowest shard still is behind the stream's tip."""

    count: int = 0
    _behind: dict[str, int] = field(default_factory=dict)
    _most: int = 0
    _newest: str = ""
    _started: float = field(default_factory=time.monotonic)
    _drawn: float = field(default_factory=time.monotonic)
    _line: bool = False

    def took(self, page: Page, count: int) -> None:
        """One page more."""
        self.count += count
        if page.mark == SHARD_END:
            self._behind.pop(page.shard, None)
        else:
            self._behind[page.shard] = page.behind_ms
        self._most = max(self._most, self._left)
        if page.arrivals:
            self._newest = page.arrivals[-1].astimezone().strftime("%Y-%m-%d %H:%M:%S")
        on_terminal = sys.stderr.isatty()
        if time.monotonic() - self._drawn >= (_DRAW if on_terminal else _TELL):
            self._drawn = time.monotonic()
            self._draw() if on_terminal else output.note(f"[dim]{output.escape(self.text())}[/]")

    def text(self) -> str:
        """``[████────] 43 %  12,300 changes  4,100/s  at 2026-11-24 10:05:03  12.0s left``."""
        seconds = max(time.monotonic() - self._started, 0.001)
        share = 1 - self._left / self._most if self._most else 1.0
        full = round(share * _BAR)
        left = lines.span(seconds / share - seconds) if share > 0.01 else "-"
        return (
            f"[{'█' * full}{'─' * (_BAR - full)}] {share:.0%}  {self.count:,} changes  {self.count / seconds:,.0f}/s  "
            f"at {self._newest or '-'}  {left} left"
        )

    def close(self) -> None:
        """Take the line away."""
        if self._line:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    @property
    def _left(self) -> int:
        return max(self._behind.values(), default=0)

    def _draw(self) -> None:
        self._line = True
        sys.stderr.write(f"\r{self.text()[: output.stderr().width - 1]}\x1b[K")
        sys.stderr.flush()
