"""Waits for a condition: the only wait helper of the tests and benchmarks."""

import time
from collections.abc import Callable


def wait_until(
    condition: Callable[[], object], seconds: float, what: str | Callable[[], str], interval: float = 0.1
) -> None:
    """Poll until `condition` is true. Raises TimeoutError with `what` (or its result) after `seconds`."""
    if not becomes_true(condition, seconds, interval):
        raise TimeoutError(f"not within {seconds:g} s: {what if isinstance(what, str) else what()}")


def becomes_true(condition: Callable[[], object], seconds: float, interval: float = 0.1) -> bool:
    """Whether `condition` becomes true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True
