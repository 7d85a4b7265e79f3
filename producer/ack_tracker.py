"""Acknowledge late: which transactions' every record the stream has accepted; pure.

The slot may be told the end of a transaction only when it and all before it are complete and accepted. Nothing else
moves the position: not a row, not a keepalive that arrives while something is in flight.
"""

from __future__ import annotations

from collections import deque

from cdckit.position import Lsn
from producer.wal2json import end_and_time, unreadable


class Ticket:
    """What was read at one go: how many of its records are not yet accepted.

    `end` is whatever tells the end of the last transaction that was committed in it, None where none was. A large
    transaction spreads over many tickets, of which the last one has its end; many small ones share a ticket.
    """

    __slots__ = ("end", "outstanding")

    def __init__(self) -> None:
        """Nothing is outstanding yet."""
        self.end: bytes | Lsn | None = None
        self.outstanding = 0


class Ledger:
    """What was read and not yet acknowledged, in commit order."""

    def __init__(self) -> None:
        """Nothing is open."""
        self.ticket = Ticket()
        """The one that counts what is read now."""
        self._tickets = deque([self.ticket])
        self.begun: bytes | None = None
        """The open transaction's B message; None outside of any."""
        self.flushed = Lsn(0)
        """The end of the last transaction such that it and all before it are accepted."""
        self.newest_time = ""
        """Its commit time, as wal2json wrote it."""

    def __len__(self) -> int:
        """How many tickets are remembered besides the present one."""
        return len(self._tickets) - 1

    @property
    def idle(self) -> bool:
        """Whether nothing that was read awaits the stream or its commit: then the WAL's end may be acknowledged."""
        return self.begun is None and len(self._tickets) == 1 and not self.ticket.outstanding

    def turn(self) -> Ticket:
        """What is read from now on is counted by a ticket of its own."""
        if self.ticket.outstanding:
            self.ticket = Ticket()
            self._tickets.append(self.ticket)
        return self.ticket

    def commit(self, payload: bytes) -> None:
        """The open transaction is complete (a C message). Raises SourceError when there is none."""
        if self.begun is None:
            raise unreadable(payload, "outside a transaction")
        self.ticket.end, self.begun = self.begun, None

    def message(self, lsn: Lsn) -> None:
        """A message outside any transaction was read: its own place acknowledges it."""
        self.ticket.end = lsn

    def settle(self) -> Lsn:
        """Drop what is accepted, and return the position that may be acknowledged. Raises SourceError."""
        tickets, last = self._tickets, None
        while not tickets[0].outstanding:
            last = tickets[0].end or last
            if len(tickets) == 1:
                tickets[0].end = None
                break
            tickets.popleft()
        if last is not None:
            self.flushed = max(self.flushed, self._end(last))
        return self.flushed

    def caught_up(self, wal_end: Lsn) -> Lsn:
        """Everything before `wal_end` was read; when nothing awaits the stream, all of it may be acknowledged."""
        if self.idle:
            self.flushed = max(self.flushed, wal_end)
        return self.flushed

    def _end(self, end: bytes | Lsn) -> Lsn:
        if isinstance(end, Lsn):
            return end
        found, self.newest_time = end_and_time(end)
        return found
