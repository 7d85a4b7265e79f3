"""Watches the slot from a thread of its own: how much WAL it keeps from removal, and how near that is to its end."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass

from cdckit.errors import CdcError, UsageError
from producer.postgres.connection import Slot, Source

logger = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
_UNITS = {"": 1, "B": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}
_STEPS = (0.95, 0.8, 0.5)  # shares of the budget at which a warning is due


def parse_size(text: str) -> int | None:
    """``10GB`` (PostgreSQL's units) in bytes; None for an empty text. Raises UsageError."""
    match = re.fullmatch(r"(\d+)\s*([kKMGT]?B?)", text.strip())
    if not text.strip():
        return None
    if match is None or (unit := match[2].upper()) not in _UNITS:
        raise UsageError(f"max_retained_wal cannot be {text!r}", "write a size, like 10GB")
    return int(match[1]) * _UNITS[unit]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the slot's state means. `share` is of the budget (0 without one), `level` one of ok, warning, danger."""

    level: str
    share: float
    text: str
    hint: str = ""


def judge(slot: Slot, budget: int | None) -> Verdict:
    """Compare the WAL that the slot keeps with the smaller of `budget` and max_slot_wal_keep_size; pure."""
    limits = [limit for limit in (budget, slot.keep_limit) if limit]
    limit = min(limits) if limits else None
    share = slot.retained / limit if limit else 0.0
    kept = f"the slot {slot.name!r} keeps {_shown(slot.retained)} of WAL"
    if slot.wal_status in ("unreserved", "lost"):
        what = "is being removed" if slot.wal_status == "unreserved" else "was removed"
        return Verdict("danger", share, f"{kept} and some of it {what} (wal_status {slot.wal_status})", _RAISE)
    if limit is None:
        return Verdict("ok", 0.0, f"{kept}; nothing limits it")
    step = next((step for step in _STEPS if share >= step), None)
    text = f"{kept}, {share:.0%} of {_shown(limit)}"
    if step is None:
        return Verdict("ok", share, text)
    return Verdict("danger" if step == _STEPS[0] else "warning", share, text, _RAISE)


_RAISE = (
    "is Kinesis accepting, is a transaction open for long? ALTER SYSTEM SET max_slot_wal_keep_size = '…'; SELECT "
    "pg_reload_conf() gives time"
)


class SlotGuard:
    """Looks now and then, logs what gets worse or better, and keeps the last state for metrics."""

    def __init__(
        self, dsn: Callable[[], str], slot: str, budget: int | None, also: Callable[[], None] = lambda: None,
        seconds: float = LOOK_SECONDS,
    ) -> None:  # fmt: skip
        """`dsn` is asked before each look. `also` is called after it, in the same thread."""
        self._dsn, self._slot, self._budget, self._also, self._seconds = dsn, slot, budget, also, seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="slot-guard", daemon=True)
        self._told = ("ok", 0.0)
        self.state: Slot | None = None
        """As of the last look."""
        self.verdict: Verdict | None = None

    def __enter__(self) -> SlotGuard:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(2)

    def look(self) -> None:
        """One look. Raises SourceError when the server cannot be asked."""
        source = Source(self._dsn())
        try:
            self.state = source.slot(self._slot)
        finally:
            source.close()
        if self.state is not None:
            self.verdict = judge(self.state, self._budget)
            self._tell(self.verdict)

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            try:
                self.look()
                self._also()
            except CdcError as error:  # the relay meets the same trouble, and says so
                logger.debug("looking at the slot failed: %s", error.message)

    def _tell(self, verdict: Verdict) -> None:
        step = next((step for step in _STEPS if verdict.share >= step), 0.0)
        if (verdict.level, step) == self._told:
            return
        worse = verdict.level != "ok"
        logger.log(
            logging.WARNING if worse else logging.INFO, "%s%s", verdict.text, f"; {verdict.hint}" if worse else ""
        )
        self._told = (verdict.level, step)


def _shown(size: int) -> str:
    for unit in ("TB", "GB", "MB", "kB"):
        if size >= _UNITS[unit.upper()]:
            return f"{size / _UNITS[unit.upper()]:.1f} {unit}"
    return f"{size} B"
