"""Sequence numbers: 20 digits of milliseconds and 10 of a counter, so that text and numbers sort in the same order."""

from __future__ import annotations

import time
from dataclasses import dataclass

_COUNTER = 10
WIDTH = 30


@dataclass(slots=True)
class Sequence:
    """Generates increasing numbers, also when the clock goes back or after a restart."""

    last: int = 0

    def next(self) -> str:
        """The next number. Its milliseconds are the clock's, or the previous number's if that is ahead."""
        self.last = max(self.last + 1, int(time.time() * 1000) * 10**_COUNTER)
        return f"{self.last:0{WIDTH}d}"

    def advance_past(self, number: str) -> None:
        """Make all later numbers greater than `number`, which an earlier process used."""
        self.last = max(self.last, int(number))


def normalize(number: str) -> str:
    """Add the leading zeros that a client may have omitted. Raises ValueError if it is not a number."""
    return f"{int(number):0{WIDTH}d}"


def milliseconds(number: str) -> int:
    """The time of the number, in milliseconds since 1970."""
    return int(number[:-_COUNTER])


def at_millisecond(moment: int) -> str:
    """The lowest number of a millisecond."""
    return f"{moment:0{WIDTH - _COUNTER}d}" + "0" * _COUNTER
