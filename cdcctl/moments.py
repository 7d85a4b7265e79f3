"""Points in time as people type them: ``10m``, ``2026-11-23T10:00:00Z``, ``earliest``; commit time, always."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from cdckit.errors import UsageError
from consumers.replay import EARLIEST

_AGO = re.compile(r"(\d+)\s*(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_moment(text: str, now: datetime | None = None) -> datetime:
    """``10m`` ago, an ISO 8601 time (no offset: this machine's zone), or ``earliest``. Raises UsageError."""
    present = now or datetime.now(UTC)
    if text.strip().lower() == "earliest":
        return EARLIEST
    if match := _AGO.fullmatch(text.strip().lower()):
        return present - timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        moment = datetime.fromisoformat(text.strip()).astimezone(UTC)
    except ValueError:
        raise UsageError(
            f"not a time: {text!r}", "write 10m, 2h, 3d (ago), 2026-11-23T10:00:00Z, or earliest"
        ) from None
    if moment > present:
        raise UsageError(f"{text} is in the future", f"now is {present.isoformat(timespec='seconds')}")
    return moment
