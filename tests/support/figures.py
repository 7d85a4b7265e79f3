"""Prints the figures of a test."""

import sys


def say(text: str) -> None:
    """Print figures; pytest shows them with -s."""
    sys.stderr.write(f"\n{text}\n")
