"""What happened when, for whoever has to understand a failure."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence


class Timeline:
    """Lines with the seconds since the start. Any thread may add one; `tell` hears each at once."""

    def __init__(self, tell: Callable[[str], None] = lambda _line: None) -> None:
        self._started, self._tell, self._lock = time.monotonic(), tell, threading.Lock()
        self._lines: list[str] = []

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    def add(self, what: str) -> None:
        """Something happened."""
        with self._lock:
            self._lines.append(f"{self.seconds:7.1f} s  {what}")
            self._tell(self._lines[-1])

    @property
    def lines(self) -> Sequence[str]:
        """All of it."""
        with self._lock:
            return list(self._lines)
