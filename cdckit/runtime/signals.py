"""Ctrl-C and SIGTERM as a flag: the first asks for a graceful end, a second Ctrl-C ends at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STEP = 0.05  # seconds


class Stopping:
    """A flag that a signal handler sets; it takes no lock.

    `threading.Event.set` does, and a handler runs in the midst of what it interrupts: of the main thread's own `wait`,
    or of another handler's `set`, either of which may hold that lock, for ever then.
    """

    def __init__(self) -> None:
        """Not set."""
        self._set = False

    def set(self) -> None:
        """Ask for the end."""
        self._set = True

    def is_set(self) -> bool:
        """Whether the end was asked for."""
        return self._set

    def wait(self, seconds: float) -> bool:
        """Block until it is set (it is looked at every 50 ms), or the time; whether it is."""
        until = time.monotonic() + seconds
        while not self._set and (left := until - time.monotonic()) > 0:
            time.sleep(min(_STEP, left))
        return self._set


@contextmanager
def stop_on_signals() -> Iterator[Stopping]:
    """What SIGINT and SIGTERM set; the previous handlers come back afterwards."""
    stopping = Stopping()

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if stopping.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stopping.set()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
