"""Parses times, positions and rates from the command line: ``10m``, ``2026-11-23T10:00:00Z``, ``earliest``, an LSN."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from cdckit.errors import UsageError
from cdckit.position import Lsn, Position
from consumers.stream.points import OLDEST, Point

_AGO = re.compile(r"(\d+)\s*(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_point(text: str, now: datetime | None = None, *, future: bool = False) -> Point:
    """Parse a time (see `parse_time`), an LSN (``16/B374D848``) or a position (``1:16/B374D848:3``).

    Raises UsageError, also for a time in the future unless `future` is set.
    """
    plain = text.strip()
    try:
        return Point(position=Position.parse(plain)) if plain.count(":") == 2 else Point(lsn=Lsn.parse(plain))
    except ValueError:
        return Point(parse_time(text, now, future=future))


def parse_time(text: str, now: datetime | None = None, *, future: bool = False) -> datetime:
    """Parse ``10m`` (ago), an ISO 8601 time (without offset: local time zone) or ``earliest``. Raises UsageError."""
    present = now or datetime.now(UTC)
    if text.strip().lower() == "earliest":
        return OLDEST
    try:
        if match := _AGO.fullmatch(text.strip().lower()):
            return present - timedelta(**{_UNITS[match[2]]: int(match[1])})
        moment = datetime.fromisoformat(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"not a time: {text!r}",
            "use 10m, 2h or 3d (ago), 2026-11-23T10:00:00Z, or earliest; tail and replay also accept an LSN",
        ) from None
    if moment > present and not future:
        raise UsageError(f"{text} is in the future", f"the current time is {present.isoformat(timespec='seconds')}")
    return moment


def parse_rate(text: str | None) -> float | None:
    """Parse rows per second: ``5000/s`` or ``5000``; None stays None. Raises UsageError."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(?:/s)?", text.strip())
    if match is None or not float(match[1]):
        raise UsageError(f"--rate cannot be {text!r}", "use rows per second, like 5000/s")
    return float(match[1])
