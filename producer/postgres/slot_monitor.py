"""Monitors, from a thread of its own, how much WAL the slot retains and how near that is to the limit."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass

from cdckit.errors import CdcError, UsageError
from producer.postgres.connection import Source
from producer.postgres.slots import Slot, find_slot

logger = logging.getLogger(__name__)

CHECK_SECONDS = 10.0
_UNITS = {"": 1, "B": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}
_STEPS = (0.95, 0.8, 0.5)  # shares of the budget at which a warning is logged


def parse_size(text: str) -> int | None:
    """Parse ``10GB`` (PostgreSQL's units) to bytes; None for an empty text. Raises UsageError."""
    match = re.fullmatch(r"(\d+)\s*([kKMGT]?B?)", text.strip())
    if not text.strip():
        return None
    if match is None or (unit := match[2].upper()) not in _UNITS:
        raise UsageError(f"max_retained_wal cannot be {text!r}", "write a size, like 10GB")
    return int(match[1]) * _UNITS[unit]


@dataclass(frozen=True, slots=True)
class SlotStatus:
    """What the slot's state means. `share` is of the budget (0 without one), `level` one of ok, warning, danger."""

    level: str
    share: float
    text: str
    hint: str = ""


def evaluate(slot: Slot, budget: int | None) -> SlotStatus:
    """Compare the WAL that the slot retains with the smaller of `budget` and max_slot_wal_keep_size; pure."""
    limits = [limit for limit in (budget, slot.keep_limit) if limit]
    limit = min(limits) if limits else None
    share = slot.retained / limit if limit else 0.0
    kept = f"the slot {slot.name!r} keeps {_format_size(slot.retained)} of WAL"
    if slot.wal_status in ("unreserved", "lost"):
        removal = "is being removed" if slot.wal_status == "unreserved" else "was removed"
        return SlotStatus("danger", share, f"{kept} and some of it {removal} (wal_status {slot.wal_status})", _HINT)
    if limit is None:
        return SlotStatus("ok", 0.0, f"{kept}; nothing limits it")
    step = next((step for step in _STEPS if share >= step), None)
    text = f"{kept}, {share:.0%} of {_format_size(limit)}"
    if step is None:
        return SlotStatus("ok", share, text)
    return SlotStatus("danger" if step == _STEPS[0] else "warning", share, text, _HINT)


_HINT = (
    "is Kinesis accepting, is a transaction open for long? ALTER SYSTEM SET max_slot_wal_keep_size = '…'; SELECT "
    "pg_reload_conf() gives time"
)


class SlotMonitor:
    """Checks the slot periodically, logs changes of its status, and stores the last state for the metrics."""

    def __init__(
        self, dsn: Callable[[], str], slot: str, budget: int | None, after_check: Callable[[], None] = lambda: None,
        seconds: float = CHECK_SECONDS,
    ) -> None:  # fmt: skip
        """`dsn` is called before each check; `after_check` is called after it, in the same thread."""
        self._dsn, self._slot, self._budget, self._after_check, self._seconds = dsn, slot, budget, after_check, seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="slot-guard", daemon=True)
        self._reported = ("ok", 0.0)
        self.state: Slot | None = None
        """As of the last check."""
        self.status: SlotStatus | None = None

    def __enter__(self) -> SlotMonitor:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(2)

    def check(self) -> None:
        """Check once. Raises SourceError when the server cannot be queried."""
        source = Source(self._dsn())
        try:
            self.state = find_slot(source, self._slot)
        finally:
            source.close()
        if self.state is not None:
            self.status = evaluate(self.state, self._budget)
            self._report(self.status)

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                self.check()
                self._after_check()
            except CdcError as error:  # the relay meets the same trouble, and logs it
                logger.debug("checking the slot failed: %s", error.message)

    def _report(self, status: SlotStatus) -> None:
        step = next((step for step in _STEPS if status.share >= step), 0.0)
        if (status.level, step) == self._reported:
            return
        warn = status.level != "ok"
        logger.log(logging.WARNING if warn else logging.INFO, "%s%s", status.text, f"; {status.hint}" if warn else "")
        self._reported = (status.level, step)


def _format_size(size: int) -> str:
    for unit in ("TB", "GB", "MB", "kB"):
        if size >= _UNITS[unit.upper()]:
            return f"{size / _UNITS[unit.upper()]:.1f} {unit}"
    return f"{size} B"
