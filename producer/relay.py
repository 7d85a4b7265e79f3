"""The producer's loop: read the slot, route, put, and acknowledge what the stream has."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from cdckit.position import Lsn
from producer.kinesis import Publisher
from producer.ledger import Ledger, Ticket
from producer.routing import Router
from producer.wal2json import Begin, Commit, LogicalMessage, RowMessage, parse

logger = logging.getLogger(__name__)

MOST_PENDING = 20_000
MOST_PENDING_BYTES = 32 * 1024 * 1024
_READS = 500  # messages between two looks at the stream's answers
_REPORT_SECONDS = 1.0  # how often the server hears from us: keeps wal_sender_timeout away and idle slots moving
_DRAIN_SECONDS = 8.0


class Reader(Protocol):
    """What the relay needs of a slot; `producer.slot.SlotReader` is one."""

    @property
    def wal_end(self) -> Lsn:
        """The WAL's end as of the last message or keepalive."""

    def read(self) -> bytes | None:
        """The next message, or None."""

    def wait(self, seconds: float, *others: int) -> None:
        """Block until there is something to read."""

    def acknowledge(self, flushed: Lsn) -> None:
        """Report what is durable downstream."""


class Relay:
    """Carries one slot's changes to one stream; memory is bounded by `MOST_PENDING` and `MOST_PENDING_BYTES`."""

    def __init__(self, reader: Reader, router: Router, publisher: Publisher) -> None:
        """All three are the caller's to close."""
        self._reader, self._router, self._publisher = reader, router, publisher
        self._ledger = Ledger()
        self._ticket: Ticket | None = None
        self._reported, self._reported_at = Lsn(0), 0.0
        self.changes = 0

    def run(self, stopping: Callable[[], bool]) -> None:
        """Relay until `stopping`, then drain what was read for some seconds and acknowledge it.

        Raises SourceError when the slot's connection breaks and StreamError when the stream refuses for good; what
        was not accepted is then not acknowledged, and comes again at the next start.
        """
        while not stopping():
            idle = self._read_some()
            self._publisher.pump()
            self._report(caught_up=idle)
            if idle or self._full:
                self._wait()
        self._drain()

    @property
    def _full(self) -> bool:
        return self._publisher.pending >= MOST_PENDING or self._publisher.pending_bytes >= MOST_PENDING_BYTES

    def _read_some(self) -> bool:
        """Take in what has arrived; True when the slot had nothing more."""
        for _ in range(_READS):
            if self._full:
                return False
            payload = self._reader.read()
            if payload is None:
                return True
            self._take(payload)
        return False

    def _take(self, payload: bytes) -> None:
        message = parse(payload)
        match message:
            case RowMessage():
                assert self._ticket is not None
                for record in self._router.route(message):
                    self._publisher.submit(record, self._ticket)
                    self.changes += 1
            case Begin():
                self._router.begin(message)
                self._ticket = self._ledger.open()
            case Commit():
                assert self._ticket is not None
                self._ticket.end, self._ticket = message.end, None
            case LogicalMessage():
                self._router.annotate(message)

    def _report(self, *, caught_up: bool) -> None:
        flushed = self._ledger.settle()
        if caught_up:
            flushed = self._ledger.caught_up(self._reader.wal_end)
        now = time.monotonic()
        if flushed > self._reported or now - self._reported_at > _REPORT_SECONDS:
            self._reader.acknowledge(flushed)
            self._reported, self._reported_at = flushed, now

    def _wait(self) -> None:
        seconds = min(_REPORT_SECONDS, self._publisher.pause or _REPORT_SECONDS)
        if self._full:  # the slot's socket is readable and not to be read: wait for the stream alone
            time.sleep(min(seconds, 0.01))
        else:
            self._reader.wait(seconds, self._publisher.fileno())

    def _drain(self) -> None:
        deadline = time.monotonic() + _DRAIN_SECONDS
        while self._publisher.pending and time.monotonic() < deadline:
            self._publisher.pump()
            self._report(caught_up=False)
            time.sleep(min(0.01, self._publisher.pause or 0.01))
        self._publisher.pump()
        self._reader.acknowledge(self._ledger.settle())
        logger.info("stopped: %d changes relayed, %d left unacknowledged", self.changes, self._publisher.pending)
