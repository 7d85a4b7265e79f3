"""How much a test does: little in `make test`, the full count in `make chaos` (CDC_CHAOS=full)."""

import os
from typing import TypeVar

Amount = TypeVar("Amount")

FULL = os.environ.get("CDC_CHAOS") == "full"  # read once: fixtures take every CDC_ variable away


def scale(small: Amount, full: Amount) -> Amount:
    """`small`, or `full` where the whole count was asked for."""
    return full if FULL else small
