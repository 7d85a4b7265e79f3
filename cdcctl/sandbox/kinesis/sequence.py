"""Sequence numbers: 20 digits of milliseconds, 10 of a counter; as text they compare as they do as numbers."""

from __future__ import annotations

import time
from dataclasses import dataclass

_COUNTER = 10
WIDTH = 30
FIRST = "0" * WIDTH


@dataclass(slots=True)
class Sequence:
    """Each number is above all before it, also when the clock goes back or after a restart."""

    last: int = 0

    def next(self) -> str:
        """The next number; its milliseconds are the clock's, or those of the number before where that is ahead."""
        self.last = max(self.last + 1, int(time.time() * 1000) * 10**_COUNTER)
        return f"{self.last:0{WIDTH}d}"

    def seen(self, number: str) -> None:
        """Stay above a number that was given out by an earlier process."""
        self.last = max(self.last, int(number))


def normal(number: str) -> str:
    """A number as a client sends it, which may lack the leading zeros. Raises ValueError when it is no number."""
    return f"{int(number):0{WIDTH}d}"


def milliseconds(number: str) -> int:
    """When the number was given out, in milliseconds since 1970."""
    return int(number[:-_COUNTER])


def at_millisecond(moment: int) -> str:
    """The lowest number of this millisecond."""
    return f"{moment:0{WIDTH - _COUNTER}d}" + "0" * _COUNTER
