"""Limits how often a shard is read. All readers in a process share one limiter: Kinesis counts them together."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

READS_PER_SECOND = 5
"""Kinesis' limit per shard, for all its readers together."""


@dataclass(slots=True)
class ReadRateLimiter:
    """When each shard may be read again. `clock` returns seconds that only grow; `sleep` waits."""

    reads_per_second: float = READS_PER_SECOND
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _due: dict[str, float] = field(default_factory=dict)

    def seconds_until(self, shard: str) -> float:
        """Seconds until the shard may be read; 0 when it may be read now."""
        return max(0.0, self._due.get(shard, 0.0) - self.clock())

    def record_read(self, shard: str) -> None:
        """Records that the shard is read now."""
        self._due[shard] = self.clock() + 1 / self.reads_per_second

    def back_off(self, shard: str, seconds: float) -> None:
        """Blocks the shard for some time, after Kinesis throttled it."""
        self._due[shard] = self.clock() + seconds
