"""The producer's loop: read the slot, route, put, and acknowledge what the stream has."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from cdckit.errors import SourceError
from cdckit.position import Lsn
from producer.ack_tracker import Ledger, Ticket
from producer.decoding.router import Router
from producer.kinesis.publisher import Publisher
from producer.wal2json import ACTION_AT, BEGIN, COMMIT, ROWS, logical_message, unreadable

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 8.0
_READS = 600  # messages between two looks at the stream's answers
_AT_ONCE = 50  # messages between two looks at the bounds: each may be of many megabytes
_REPORT_SECONDS = 1.0  # how often the server hears from us: keeps wal_sender_timeout away and idle slots moving
_BUSY = 20  # messages since the last wait from which on more are coming: to be woken for each costs both sides dear
GATHER_SECONDS = 0.004  # what arrives meanwhile queues up at the server: see `producer.postgres.replication_slot`
_SETTLE_SECONDS = 0.005  # while busy, acknowledgements are gathered for so long


class Reader(Protocol):
    """What the relay needs of a slot; `producer.postgres.replication_slot.SlotReader` is one."""

    @property
    def wal_end(self) -> Lsn:
        """The WAL's end as of the last message or keepalive."""

    def messages(self, most: int) -> Sequence[bytes]:
        """Messages that have arrived, `most` at the most."""

    @property
    def drained(self) -> bool:
        """Whether the last `messages` were all that had arrived."""

    def wait(self, seconds: float, *others: int) -> None:
        """Block until there is something to read."""

    def acknowledge(self, flushed: Lsn) -> None:
        """Report what is durable downstream."""


class Relay:
    """Carries one slot's changes to one stream; memory is bounded by `producer.kinesis.limits`."""

    def __init__(
        self,
        reader: Reader,
        router: Router,
        publisher: Publisher,
        acknowledged: Callable[[Lsn, str], None] = lambda _flushed, _time: None,
    ) -> None:
        """All three are the caller's to close. `acknowledged` hears each new position and its commit's time."""
        self._reader, self._router, self._publisher = reader, router, publisher
        self._acknowledged = acknowledged
        self._ledger = Ledger()
        self._reported, self._reported_at = Lsn(0), 0.0
        self._since_wait = 0
        self.changes = 0

    @property
    def waiting(self) -> int:
        """Records that the stream has not accepted yet."""
        return self._publisher.pending

    def run(self, stopping: Callable[[], bool], drain_seconds: float = DRAIN_SECONDS) -> None:
        """Relay until `stopping`, then drain what was read for some seconds and acknowledge it.

        Raises SourceError when the slot's connection breaks and StreamError when the stream refuses for good; what
        was not accepted is then not acknowledged, and comes again at the next start.
        """
        while not stopping():
            idle = self._read_some()
            quiet = idle and self._since_wait <= _BUSY
            self._publisher.pump(eager=quiet or self._publisher.full)
            self._report(caught_up=idle)
            if idle or self._publisher.full:
                self._wait()
        self._drain(drain_seconds)

    def _read_some(self) -> bool:
        """Take in what has arrived; True when the slot had nothing more."""
        if self._publisher.full:
            return False
        ticket, taken = self._ledger.turn(), 0
        while taken < _READS and not self._publisher.full:
            read = self._reader.messages(_AT_ONCE)
            taken += len(read)
            self._take(read, ticket)
            if self._reader.drained:
                break
        self._since_wait += taken
        return self._reader.drained

    def _take(self, read: Sequence[bytes], ticket: Ticket) -> None:
        ledger, router, submit, changes = self._ledger, self._router, self._publisher.submit, 0
        for payload in read:  # what most of the producer's time goes to
            action = payload[ACTION_AT] if len(payload) > ACTION_AT else 0
            if action in ROWS:
                if ledger.begun is None:
                    raise unreadable(payload, "outside a transaction")
                for record in router.route(payload):
                    submit(record, ticket)
                    changes += 1
            elif action == BEGIN:
                router.begin(payload)
                ledger.begun = payload
            elif action == COMMIT:
                ledger.commit(payload)
            else:  # what is no message either is refused as unreadable
                self._message(payload)
        self.changes += changes

    def _message(self, payload: bytes) -> None:
        message = logical_message(payload)
        if message.transactional and self._ledger.begun is None:
            raise unreadable(payload, "outside a transaction")
        for record in self._router.message(message):
            self._publisher.submit(record, self._ledger.ticket)
            self.changes += 1
            if not message.transactional:
                self._ledger.message(Lsn.parse(message.lsn))

    def _report(self, *, caught_up: bool) -> None:
        now = time.monotonic()
        if not caught_up and now - self._reported_at < _SETTLE_SECONDS:
            return
        flushed = self._ledger.settle()
        if caught_up:
            flushed = self._ledger.caught_up(self._reader.wal_end)
        if flushed > self._reported or now - self._reported_at > _REPORT_SECONDS:
            self._reader.acknowledge(flushed)
            self._acknowledged(flushed, self._ledger.newest_time)
            self._reported, self._reported_at = flushed, now

    def _wait(self) -> None:
        seconds = min(_REPORT_SECONDS, self._publisher.pause or _REPORT_SECONDS)
        if self._publisher.full:  # the slot's socket is readable and not to be read: wait for the stream alone
            self._publisher.wait(seconds)
        elif self._since_wait > _BUSY:
            time.sleep(GATHER_SECONDS)
        else:
            self._reader.wait(seconds, self._publisher.fileno())
        self._since_wait = 0

    def _drain(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._publisher.pending and time.monotonic() < deadline:
            self._publisher.pump()
            self._report(caught_up=False)
            self._publisher.wait(min(0.1, self._publisher.pause or 0.1))
        self._publisher.pump()
        flushed = self._ledger.settle()
        try:
            self._reader.acknowledge(flushed)
            self._acknowledged(flushed, self._ledger.newest_time)
        except SourceError as error:  # the server is gone too: the next start repeats what was not acknowledged
            logger.warning("%s", error.message)
        logger.info("stopped: %d changes relayed, %d left unacknowledged", self.changes, self._publisher.pending)
