"""Exponential backoff with jitter, for requests and for single shards."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

_FIRST_SECONDS = 0.05
_MAX_SECONDS = 5.0


@dataclass(slots=True)
class Backoff:
    """Counts failures; `until` (monotonic time) is when the next try may start. Reset `failures` on success."""

    jitter: Callable[[], float]
    """Returns a number in [0, 1)."""
    failures: int = 0
    until: float = 0.0

    def failed(self) -> float:
        """Count a failure and extend the pause; return it in seconds."""
        delay: float = min(_MAX_SECONDS, _FIRST_SECONDS * 2.0**self.failures) * (0.5 + self.jitter() / 2)
        self.failures = min(self.failures + 1, 16)
        self.until = time.monotonic() + delay
        return delay
