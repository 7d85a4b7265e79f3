"""When a shard may be read again: one pace for all in a process that read it, since Kinesis counts them together."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

READS_A_SECOND = 5
"""What Kinesis allows on each shard, to all its readers together."""


@dataclass(slots=True)
class Pace:
    """`clock` gives seconds that only grow, `sleep` lets them pass."""

    reads_a_second: float = READS_A_SECOND
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _due: dict[str, float] = field(default_factory=dict)

    def left(self, shard: str) -> float:
        """Seconds until the shard may be read; 0 when it may be now."""
        return max(0.0, self._due.get(shard, 0.0) - self.clock())

    def read(self, shard: str) -> None:
        """It is being read now."""
        self._due[shard] = self.clock() + 1 / self.reads_a_second

    def rest(self, shard: str, seconds: float) -> None:
        """It was throttled: it is left alone so long."""
        self._due[shard] = self.clock() + seconds
