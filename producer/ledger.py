"""Acknowledge late: which transactions' every record the stream has accepted; pure.

The slot may be told the end of a transaction only when it and all before it are complete and accepted. Nothing else
moves the position: not a row, not a keepalive that arrives while something is in flight.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from cdckit.position import Lsn


@dataclass(slots=True, eq=False)
class Ticket:
    """One transaction on its way: how many of its records are still unaccepted, and whether its commit was read."""

    outstanding: int = 0
    end: Lsn | None = None

    @property
    def done(self) -> bool:
        """Whether the transaction is complete and accepted."""
        return self.end is not None and self.outstanding == 0


class Ledger:
    """The transactions that were read and not yet acknowledged, in commit order."""

    def __init__(self) -> None:
        """Nothing is open."""
        self._tickets: deque[Ticket] = deque()
        self.flushed = Lsn(0)
        """The end of the last transaction such that it and all before it are accepted."""

    @property
    def idle(self) -> bool:
        """Whether nothing that was read awaits the stream: then the WAL's end may be acknowledged."""
        return not self._tickets

    def open(self) -> Ticket:
        """A transaction begins."""
        ticket = Ticket()
        self._tickets.append(ticket)
        return ticket

    def settle(self) -> Lsn:
        """Drop what is complete and accepted, and return the position that may be acknowledged."""
        while self._tickets and self._tickets[0].done:
            end = self._tickets.popleft().end
            assert end is not None
            self.flushed = max(self.flushed, end)
        return self.flushed

    def caught_up(self, wal_end: Lsn) -> Lsn:
        """Everything before `wal_end` was read; when nothing awaits the stream, all of it may be acknowledged."""
        if self.idle:
            self.flushed = max(self.flushed, wal_end)
        return self.flushed
