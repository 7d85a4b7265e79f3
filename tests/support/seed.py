"""The seed of a test's random numbers: CDC_SEED repeats a run."""

import os
import sys
import time

_GIVEN = os.environ.get("CDC_SEED")  # read once: fixtures delete all CDC_ variables


def seed(default: int | None = None) -> int:
    """CDC_SEED, else `default`, else a new seed. Prints it; pytest shows the output of a test that fails."""
    chosen = int(_GIVEN) if _GIVEN else time.time_ns() % 1_000_000_000 if default is None else default
    sys.stdout.write(f"CDC_SEED={chosen}\n")
    return chosen
