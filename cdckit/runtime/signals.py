"""SIGINT (Ctrl-C) and SIGTERM as a flag: the first requests a graceful stop, a second Ctrl-C stops at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_STEP = 0.05  # seconds


class StopFlag:
    """A flag that a signal handler sets, without a lock.

    `threading.Event.set` takes a lock. A handler interrupts other code, such as the main thread's own `wait` or another
    handler's `set`, which may hold that lock: the process would then wait for itself forever.
    """

    def __init__(self) -> None:
        """Create the flag, not set."""
        self._set = False

    def set(self) -> None:
        """Request a stop."""
        self._set = True

    def is_set(self) -> bool:
        """True once a stop was requested."""
        return self._set

    def wait(self, seconds: float) -> bool:
        """Block until the flag is set (it is checked every 50 ms), at most `seconds`; return whether it is set."""
        until = time.monotonic() + seconds
        while not self._set and (left := until - time.monotonic()) > 0:
            time.sleep(min(_STEP, left))
        return self._set


@contextmanager
def stop_on_signals() -> Iterator[StopFlag]:
    """Yield a flag that SIGINT and SIGTERM set; restore the previous handlers afterwards."""
    stop_flag = StopFlag()

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if stop_flag.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop_flag.set()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop_flag
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def sleep_until_stopped(seconds: float, stopping: Callable[[], bool]) -> None:
    """Sleep for `seconds`, but return within 100 ms once `stopping` is true."""
    deadline = time.monotonic() + seconds
    while not stopping() and time.monotonic() < deadline:
        time.sleep(0.1)
