"""Acknowledge late: which transactions' every record the stream has accepted; pure.

The slot may be told the end of a transaction only when it and all before it are complete and accepted. Nothing else
moves the position: not a row, not a keepalive that arrives while something is in flight.
"""

from __future__ import annotations

from collections import deque

from cdckit.position import Lsn
from producer.wal2json import end_and_time


class Ticket:
    """One transaction on its way: how many of its records are not yet accepted, and whether its commit was read.

    `begin` is whatever tells its end; of many that are acknowledged together only the last one's is looked at.
    """

    __slots__ = ("begin", "complete", "outstanding")

    def __init__(self, begin: bytes | Lsn) -> None:
        """Nothing is outstanding yet."""
        self.begin, self.outstanding, self.complete = begin, 0, False


class Ledger:
    """The transactions that were read and not yet acknowledged, in commit order."""

    def __init__(self) -> None:
        """Nothing is open."""
        self._tickets: deque[Ticket] = deque()
        self.flushed = Lsn(0)
        """The end of the last transaction such that it and all before it are accepted."""
        self.newest_time = ""
        """Its commit time, as wal2json wrote it."""

    def __len__(self) -> int:
        """How many transactions are remembered."""
        return len(self._tickets)

    @property
    def idle(self) -> bool:
        """Whether nothing that was read awaits the stream: then the WAL's end may be acknowledged."""
        return not self._tickets

    def open(self, begin: bytes | Lsn) -> Ticket:
        """A transaction begins with this B message; or a message outside any, at this LSN, which acknowledges it."""
        ticket = Ticket(begin)
        self._tickets.append(ticket)
        return ticket

    def commit(self, ticket: Ticket) -> None:
        """The newest transaction is complete. One without records joins the one before it, which may wait for long."""
        ticket.complete = True
        if ticket.outstanding == 0 and len(self._tickets) > 1:
            self._tickets.pop()
            self._tickets[-1].begin = ticket.begin

    def settle(self) -> Lsn:
        """Drop what is complete and accepted, and return the position that may be acknowledged. Raises SourceError."""
        tickets, last = self._tickets, None
        while tickets and tickets[0].complete and tickets[0].outstanding == 0:
            last = tickets.popleft()
        if last is not None:
            self.flushed = max(self.flushed, self._end(last.begin))
        return self.flushed

    def _end(self, begin: bytes | Lsn) -> Lsn:
        if isinstance(begin, Lsn):
            return begin
        end, self.newest_time = end_and_time(begin)
        return end

    def caught_up(self, wal_end: Lsn) -> Lsn:
        """Everything before `wal_end` was read; when nothing awaits the stream, all of it may be acknowledged."""
        if self.idle:
            self.flushed = max(self.flushed, wal_end)
        return self.flushed
