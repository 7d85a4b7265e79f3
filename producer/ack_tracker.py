"""Tracks which transactions the stream has accepted in full, and so what the slot may acknowledge; pure.

The slot may acknowledge a transaction's end only when every record of it and of all transactions before it is accepted.
Nothing else moves the position: not a row, not a keepalive that arrives while something is in flight.
"""

from __future__ import annotations

from collections import deque

from cdckit.position import Lsn
from producer.wal2json import end_and_time, unreadable_message


class AckGroup:
    """A group of records read together; `outstanding` counts those that Kinesis has not accepted.

    `end` is the B message (or the position) of the last transaction that committed in the group, None without one. A
    large transaction spans many groups, of which the last one has its end; many small transactions share a group.
    """

    __slots__ = ("end", "outstanding")

    def __init__(self) -> None:
        """Create an empty group."""
        self.end: bytes | Lsn | None = None
        self.outstanding = 0


class AckTracker:
    """The groups that were read and not yet acknowledged, in commit order."""

    def __init__(self) -> None:
        """Start with one empty group."""
        self.group = AckGroup()
        """The group that counts what is read now."""
        self._groups = deque([self.group])
        self.open_begin: bytes | None = None
        """The B message of the open transaction; None outside a transaction."""
        self.flushed = Lsn(0)
        """The end of the last transaction that is accepted together with all before it."""
        self.newest_commit_time = ""
        """That transaction's commit time, as wal2json wrote it."""

    def __len__(self) -> int:
        """Return the number of groups besides the current one."""
        return len(self._groups) - 1

    @property
    def idle(self) -> bool:
        """True when no record waits for the stream or for its commit: the end of the WAL may be acknowledged."""
        return self.open_begin is None and len(self._groups) == 1 and not self.group.outstanding

    def next_group(self) -> AckGroup:
        """Return the group for what is read next: a new one, unless the current one is empty."""
        if self.group.outstanding:
            self.group = AckGroup()
            self._groups.append(self.group)
        return self.group

    def commit(self, payload: bytes) -> None:
        """End the open transaction (a C message). Raises SourceError when none is open."""
        if self.open_begin is None:
            raise unreadable_message(payload, "outside a transaction")
        self.group.end, self.open_begin = self.open_begin, None

    def standalone_message(self, lsn: Lsn) -> None:
        """Record a message outside any transaction: its own position acknowledges it."""
        self.group.end = lsn

    def advance(self) -> Lsn:
        """Drop the accepted groups and return the position that may be acknowledged. Raises SourceError."""
        groups, last = self._groups, None
        while not groups[0].outstanding:
            last = groups[0].end or last
            if len(groups) == 1:
                groups[0].end = None
                break
            groups.popleft()
        if last is not None:
            self.flushed = max(self.flushed, self._position(last))
        return self.flushed

    def caught_up(self, wal_end: Lsn) -> Lsn:
        """Return the position that may be acknowledged when everything before `wal_end` was read."""
        if self.idle:
            self.flushed = max(self.flushed, wal_end)
        return self.flushed

    def _position(self, end: bytes | Lsn) -> Lsn:
        if isinstance(end, Lsn):
            return end
        lsn, self.newest_commit_time = end_and_time(end)
        return lsn
