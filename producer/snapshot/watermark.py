"""Places in the log below every change that a reading did not see: the positions of rows that are read, not decoded.

A row that was read may be published at any position below all changes that its snapshot does not contain: each of those
then wins over it, be it an update, a delete, or a truncate, in whatever order they arrive. Changes that the snapshot
does contain are no matter: the row has them already. So a *watermark* is taken before a snapshot. Not quite just
before it: a commit is in the log some moments before other transactions see it, so one that came before the watermark
may be missing in the snapshot. But whatever the snapshot misses has a transaction id that is not below its xmin, and a
watermark after which an id that is no higher than that was given out lies below all of their commits.

A watermark's own LSN is inside the logical message that made it, where no transaction's commit can be: rows that are
read never share a position with a change, nor with each other.
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
_MARK = f"SELECT pg_logical_emit_message(true, '{PREFIX}', %s)::text, clock_timestamp()::text"
_NEXT = "SELECT pg_current_xact_id()::text::bigint"  # a snapshot's xmax may be below ids that are given out already
_XMIN = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
_OLDEST = """
SELECT pid, coalesce(usename, '?'), extract(epoch FROM clock_timestamp() - xact_start)::int FROM pg_stat_activity
WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() ORDER BY xact_start LIMIT 1
"""
_AGAIN_SECONDS, _AGAIN_MOST, _TELL_SECONDS = 0.02, 1.0, 10.0


@dataclass(slots=True)
class Watermark:
    """A position's LSN, its time (ISO 8601), and how many rows were given an index under it."""

    lsn: Lsn
    time: str
    _used: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, count: int) -> int:
        """The first of `count` indexes that nobody else has."""
        with self._lock:
            first, self._used = self._used, self._used + count
        return first


class Watermarks:
    """Those of one process, shared by its threads."""

    def __init__(self) -> None:
        """None yet."""
        self._marks: list[tuple[int, Watermark]] = []
        self._lock = threading.Lock()

    def mark(self, source: Source, text: str) -> Watermark:
        """Take a new one and return it; `text` is its message's, for whoever reads the log. Raises SourceError.

        It is durable: a server that crashed and forgot it would give its place in the log to a change.
        """
        source.query("SET synchronous_commit = on")
        [(end, moment)] = source.query(_MARK, (text,))
        [(following,)] = source.query(_NEXT)  # whoever gets a higher id has not written anything yet
        mark = Watermark(Lsn(Lsn.parse(end) - 1), moment)
        with self._lock:
            self._marks.append((int(following), mark))
        return mark

    def below(self, source: Source) -> Watermark | None:
        """The newest one below all that the transaction's snapshot, which this takes, does not contain."""
        [(xmin,)] = source.query(_XMIN)
        with self._lock:
            fit = [at for at, (following, _) in enumerate(self._marks) if following <= int(xmin)]
            self._marks = self._marks[fit[-1] :] if fit else self._marks  # xmin never falls: older ones are done with
            return self._marks[0][1] if fit else None


def snapshot(source: Source, marks: Watermarks, text: str, stopping: Callable[[], bool]) -> Watermark | None:
    """Begin a transaction with one snapshot, and return the watermark of its rows; None when told to stop.

    A transaction that was open before the first watermark is waited for, as at a slot's creation. Raises SourceError.
    """
    told, pause = time.monotonic(), _AGAIN_SECONDS
    while not stopping():
        marks.mark(source, text)
        source.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        if (mark := marks.below(source)) is not None:
            return mark
        source.query("ROLLBACK")
        if time.monotonic() - told > _TELL_SECONDS:
            told, pause = time.monotonic(), _AGAIN_SECONDS
            for pid, user, age in source.query(_OLDEST):
                logger.warning("waiting for the transaction of process %s (%s), open for %s s", pid, user, age)
        time.sleep(pause)
        pause = min(2 * pause, _AGAIN_MOST)
    return None
