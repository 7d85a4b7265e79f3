"""The producer's loop: read the slot, route, publish, and acknowledge what the stream has accepted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from cdckit.errors import SourceError
from cdckit.position import Lsn
from producer.ack_tracker import AckGroup, AckTracker
from producer.decoding.router import Router
from producer.kinesis.publisher import Publisher
from producer.wal2json import ACTION_OFFSET, BEGIN, COMMIT, ROW_ACTIONS, logical_message, unreadable_message

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 8.0
_MAX_MESSAGES_PER_PASS = 600  # messages read before Kinesis' answers are handled
_MAX_MESSAGES_PER_READ = 50  # messages read before the memory bounds are checked: each may have many megabytes
_REPORT_SECONDS = 1.0  # how often to report to the server: prevents wal_sender_timeout and advances idle slots
_BUSY_MESSAGES = 20  # above this many messages since the last wait the slot is busy: poll, do not wake per message
GATHER_SECONDS = 0.004  # how long messages queue up at the server: see `producer.postgres.replication_slot`
_ADVANCE_SECONDS = 0.005  # while busy, how long acknowledgements are gathered


class Reader(Protocol):
    """What the relay needs of a slot; `producer.postgres.replication_slot.SlotReader` is one."""

    @property
    def wal_end(self) -> Lsn:
        """The WAL's end as of the last message or keepalive."""

    def messages(self, max_messages: int) -> Sequence[bytes]:
        """Return the messages that have arrived, at most `max_messages`."""

    @property
    def drained(self) -> bool:
        """True when the last `messages` returned everything that had arrived."""

    def wait(self, seconds: float, *others: int) -> None:
        """Block until there is something to read, at most `seconds`."""

    def acknowledge(self, flushed: Lsn) -> None:
        """Report what is durable downstream."""


class Relay:
    """Relays one slot's changes to one stream; memory is bounded by `producer.kinesis.limits`."""

    def __init__(
        self,
        reader: Reader,
        router: Router,
        publisher: Publisher,
        on_acknowledged: Callable[[Lsn, str], None] = lambda _flushed, _time: None,
    ) -> None:
        """The caller closes all three. `on_acknowledged` is called with each new position and its commit's time."""
        self._reader, self._router, self._publisher = reader, router, publisher
        self._on_acknowledged = on_acknowledged
        self._acks = AckTracker()
        self._reported, self._reported_at = Lsn(0), 0.0
        self._since_wait = 0
        self.changes = 0

    @property
    def pending(self) -> int:
        """Records that the stream has not accepted yet."""
        return self._publisher.pending

    def run(self, stopping: Callable[[], bool], drain_seconds: float = DRAIN_SECONDS) -> None:
        """Relay until `stopping`, then drain what was read for at most `drain_seconds` and acknowledge it.

        Raises SourceError when the slot's connection breaks, and StreamError when the stream refuses permanently; what
        was not accepted is then not acknowledged, and comes again at the next start.
        """
        while not stopping():
            drained = self._read()
            idle = drained and self._since_wait <= _BUSY_MESSAGES
            self._publisher.pump(eager=idle or self._publisher.full)
            self._report(caught_up=drained)
            if drained or self._publisher.full:
                self._wait()
        self._drain(drain_seconds)

    def _read(self) -> bool:
        """Read what has arrived; True when the slot had nothing more."""
        if self._publisher.full:
            return False
        group, count = self._acks.next_group(), 0
        while count < _MAX_MESSAGES_PER_PASS and not self._publisher.full:
            read = self._reader.messages(_MAX_MESSAGES_PER_READ)
            count += len(read)
            self._process(read, group)
            if self._reader.drained:
                break
        self._since_wait += count
        return self._reader.drained

    def _process(self, read: Sequence[bytes], group: AckGroup) -> None:
        acks, router, submit, changes = self._acks, self._router, self._publisher.submit, 0
        for payload in read:  # most of the producer's time is spent in this loop
            action = payload[ACTION_OFFSET] if len(payload) > ACTION_OFFSET else 0
            if action in ROW_ACTIONS:
                if acks.open_begin is None:
                    raise unreadable_message(payload, "outside a transaction")
                for record in router.route(payload):
                    submit(record, group)
                    changes += 1
            elif action == BEGIN:
                router.begin(payload)
                acks.open_begin = payload
            elif action == COMMIT:
                acks.commit(payload)
            else:  # anything that is not a logical message is refused as unreadable
                self._message(payload)
        self.changes += changes

    def _message(self, payload: bytes) -> None:
        message = logical_message(payload)
        if message.transactional and self._acks.open_begin is None:
            raise unreadable_message(payload, "outside a transaction")
        for record in self._router.message(message):
            self._publisher.submit(record, self._acks.group)
            self.changes += 1
            if not message.transactional:
                self._acks.standalone_message(Lsn.parse(message.lsn))

    def _report(self, *, caught_up: bool) -> None:
        now = time.monotonic()
        if not caught_up and now - self._reported_at < _ADVANCE_SECONDS:
            return
        flushed = self._acks.advance()
        if caught_up:
            flushed = self._acks.caught_up(self._reader.wal_end)
        if flushed > self._reported or now - self._reported_at > _REPORT_SECONDS:
            self._reader.acknowledge(flushed)
            self._on_acknowledged(flushed, self._acks.newest_commit_time)
            self._reported, self._reported_at = flushed, now

    def _wait(self) -> None:
        seconds = min(_REPORT_SECONDS, self._publisher.pause or _REPORT_SECONDS)
        if self._publisher.full:  # the slot's socket is readable but must not be read: wait for the stream alone
            self._publisher.wait(seconds)
        elif self._since_wait > _BUSY_MESSAGES:
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
        flushed = self._acks.advance()
        try:
            self._reader.acknowledge(flushed)
            self._on_acknowledged(flushed, self._acks.newest_commit_time)
        except SourceError as error:  # the server is down too: the next start repeats what was not acknowledged
            logger.warning("%s", error.message)
        logger.info("stopped: %d changes relayed, %d left unacknowledged", self.changes, self._publisher.pending)
