"""Records what happened when, to explain a failure."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence


class Timeline:
    """Lines with the seconds since the start. Any thread may add one; `report` gets each line immediately."""

    def __init__(self, report: Callable[[str], None] = lambda _line: None) -> None:
        self._started, self._report, self._lock = time.monotonic(), report, threading.Lock()
        self._lines: list[str] = []

    @property
    def seconds(self) -> float:
        """The seconds since the start."""
        return time.monotonic() - self._started

    def add(self, what: str) -> None:
        """Add a line."""
        with self._lock:
            self._lines.append(f"{self.seconds:7.1f} s  {what}")
            self._report(self._lines[-1])

    @property
    def lines(self) -> Sequence[str]:
        """All lines."""
        with self._lock:
            return list(self._lines)
