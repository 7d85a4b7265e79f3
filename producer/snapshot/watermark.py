"""Watermarks: WAL positions below every change that a read did not see, for rows that are read and not decoded.

A row that was read may be published at any position below all changes that its snapshot does not contain: each of them,
update, delete or truncate, then wins over the row, in whatever order they arrive. Changes that the snapshot contains do
not matter: the row has them already. So a *watermark* is taken before a snapshot. The time alone is not enough: a
commit is in the WAL a moment before other transactions see it, so a commit before the watermark may be missing from the
snapshot. But a transaction that the snapshot misses has an id at or above the snapshot's xmin. If an id at or below
that xmin was assigned after the watermark, all missing commits are above the watermark.

A watermark's own LSN is inside the logical message that made it, where no transaction can commit: rows that are read
never share a position with a change, nor with each other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cdckit.position import Lsn
from producer.postgres.connection import Source

logger = logging.getLogger(__name__)

PREFIX = "cdc.watermark"
_EMIT = f"SELECT pg_logical_emit_message(true, '{PREFIX}', %s)::text, clock_timestamp()::text"
_NEXT = "SELECT pg_current_xact_id()::text::bigint"  # not a snapshot's xmax: that may be below ids already assigned
_XMIN = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
_OLDEST = """
SELECT pid, coalesce(usename, '?'), extract(epoch FROM clock_timestamp() - xact_start)::int FROM pg_stat_activity
WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() ORDER BY xact_start LIMIT 1
"""
_MIN_PAUSE, _MAX_PAUSE, _LOG_SECONDS = 0.02, 1.0, 10.0


@dataclass(slots=True)
class Watermark:
    """A position's LSN, its time (ISO 8601), and how many indexes under it were taken."""

    lsn: Lsn
    time: str
    _used: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, count: int) -> int:
        """Reserve `count` indexes and return the first."""
        with self._lock:
            first, self._used = self._used, self._used + count
        return first


class Watermarks:
    """The watermarks of one process, shared by its threads."""

    def __init__(self) -> None:
        """Start without a watermark."""
        self._watermarks: list[tuple[int, Watermark]] = []
        self._lock = threading.Lock()

    def add(self, source: Source, text: str) -> Watermark:
        """Take and return a new watermark; `text` is its message, for readers of the WAL. Raises SourceError.

        It is durable: a server that lost it in a crash would give its position in the WAL to a change.
        """
        source.query("SET synchronous_commit = on")
        [(end, moment)] = source.query(_EMIT, (text,))
        [(next_xid,)] = source.query(_NEXT)  # a transaction with a higher id has not written anything yet
        watermark = Watermark(Lsn(Lsn.parse(end) - 1), moment)
        with self._lock:
            self._watermarks.append((int(next_xid), watermark))
        return watermark

    def below(self, source: Source) -> Watermark | None:
        """Take the transaction's snapshot; return the newest watermark below every change that it does not contain."""
        [(xmin,)] = source.query(_XMIN)
        with self._lock:
            below = [index for index, (next_xid, _) in enumerate(self._watermarks) if next_xid <= int(xmin)]
            if not below:
                return None
            self._watermarks = self._watermarks[below[-1] :]  # xmin never decreases: older ones are no longer needed
            return self._watermarks[0][1]


def begin_snapshot(source: Source, watermarks: Watermarks, text: str, stopping: Callable[[], bool]) -> Watermark | None:
    """Begin a transaction with one snapshot, and return the watermark of its rows; None when a stop was requested.

    Waits for transactions that were open before the first watermark, as creating a slot does. Raises SourceError.
    """
    logged_at, pause = time.monotonic(), _MIN_PAUSE
    while not stopping():
        watermarks.add(source, text)
        source.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        if (watermark := watermarks.below(source)) is not None:
            return watermark
        source.query("ROLLBACK")
        if time.monotonic() - logged_at > _LOG_SECONDS:
            logged_at, pause = time.monotonic(), _MIN_PAUSE
            for pid, user, age in source.query(_OLDEST):
                logger.warning("waiting for the transaction of process %s (%s), open for %s s", pid, user, age)
        time.sleep(pause)
        pause = min(2 * pause, _MAX_PAUSE)
    return None
