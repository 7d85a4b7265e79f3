"""Puts records on the stream: several requests in flight, in order per key, again until they are accepted."""

from __future__ import annotations

import logging
import os
import select
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from random import SystemRandom
from typing import Any, TypeVar

import msgspec

from cdckit.errors import RecordTooLarge, StreamError
from cdckit.packing import MOST_BYTES, compress
from producer.ack_tracker import Ticket
from producer.kinesis.batching.per_key import PlainLanes
from producer.kinesis.batching.protocol import Lanes, Parcel
from producer.kinesis.limits import MAX_PENDING, MAX_PENDING_BYTES, StreamLimits
from producer.kinesis.put_records import CREDENTIALS, Answer, Put, PutRecords, RequestFailed
from producer.kinesis.shard_map import ShardMap
from producer.kinesis.stream import Stream
from producer.records import Record

logger = logging.getLogger(__name__)

IN_FLIGHT = 4
_JITTER = SystemRandom()
_BACKOFF = 0.05
_BACKOFF_MOST = 5.0
_REPEAT_SECONDS = 30.0  # between two log lines about a trouble that lasts
AnyLanes = TypeVar("AnyLanes", bound=Lanes)
_FATAL = {"ResourceNotFoundException", "AccessDeniedException", "ValidationException", "InvalidArgumentException"}


@dataclass(slots=True)
class Figures:
    """What a publisher did so far. `accepted` counts changes, of which a record may hold many.

    `strayed` records were accepted by another shard than they had to reach, and sent anew.
    """

    accepted: int = 0
    accepted_records: int = 0
    accepted_bytes: int = 0
    requests: int = 0
    refused: int = 0
    failed_requests: int = 0
    strayed: int = 0
    compressed: int = 0
    oversized: int = 0


@dataclass(slots=True)
class Backoff:
    """Exponential, with jitter, until something succeeds."""

    jitter: Callable[[], float]
    failures: int = 0
    until: float = 0.0

    def failed(self) -> float:
        """Wait longer than last time; how long, in seconds."""
        delay: float = min(_BACKOFF_MOST, _BACKOFF * 2.0**self.failures) * (0.5 + self.jitter() / 2)
        self.failures = min(self.failures + 1, 16)
        self.until = time.monotonic() + delay
        return delay


@dataclass(frozen=True, slots=True)
class Target:
    """The stream as a publisher sees it: how to put, how to list its open shards, what it takes."""

    name: str
    put: Put
    shards: Callable[[], ShardMap]
    bounds: StreamLimits = field(default_factory=StreamLimits)
    close: Callable[[], None] = lambda: None
    """Frees the connections."""
    keep: Callable[[Record, bytes], Record] | None = None
    """Keeps a record (also given as gzip) that is too large for the stream, and returns a reference to it."""

    def lanes(self, make: Callable[[ShardMap, StreamLimits], AnyLanes]) -> AnyLanes:
        """New lanes to this stream. Raises StreamError when its shards cannot be listed."""
        return make(self.shards(), self.bounds)


def open_target(stream: Stream, keep: Callable[[Record, bytes], Record] | None = None) -> Target:
    """The stream for a publisher; `keep` is its way with oversized records. Raises StreamError."""
    shards, limits = stream.shards, stream.bounds()
    shards()  # a stream that cannot be listed is refused here
    put = PutRecords(stream.client, stream.name, IN_FLIGHT)
    return Target(stream.name, put, shards, limits, put.close, keep)


class Publisher:
    """Submits records and settles them. One thread calls; worker threads only hold the requests in flight."""

    def __init__(
        self,
        target: Target,
        lanes: Lanes | None = None,
        in_flight: int = IN_FLIGHT,
        jitter: Callable[[], float] = _JITTER.random,
    ) -> None:
        """`lanes` are the target's own, plain ones when none are given. `jitter` returns numbers in [0, 1)."""
        self._target, self._jitter = target, jitter
        self._fitting = target.bounds.record - _KEY_SLACK
        self._lanes: Lanes = lanes or target.lanes(PlainLanes)
        self._pool = ThreadPoolExecutor(in_flight, thread_name_prefix="put-records")
        self._most, self.flying = in_flight, 0
        self._done: SimpleQueue[tuple[Any, Future[Sequence[Answer]]]] = SimpleQueue()
        self._awake, self._wake = os.pipe()
        self._all, self._by_shard = Backoff(jitter), dict[str, Backoff]()
        self._stale, self._said = False, 0.0
        self.figures = Figures()

    @property
    def pending(self) -> int:
        """Records submitted and not yet accepted."""
        return self._lanes.entries

    @property
    def pending_bytes(self) -> int:
        """Their bytes."""
        return self._lanes.size

    @property
    def full(self) -> bool:
        """Whether as much is pending as may be: submit no more for now."""
        return self._lanes.entries >= MAX_PENDING or self._lanes.size >= MAX_PENDING_BYTES

    def fileno(self) -> int:
        """Readable when a request has ended, for `select`."""
        return self._awake

    def wait(self, seconds: float) -> None:
        """Block until a request has ended, or the time."""
        select.select([self._awake], [], [], seconds)

    def submit(self, record: Record, ticket: Ticket) -> None:
        """Queue a record, compressed when it must be, a reference to it when even that is too large.

        Raises RecordTooLarge when the stream could never take it and nothing keeps it, StreamError when keeping fails.
        """
        if len(record.data) > self._fitting:
            record = self._compressed(record)
        self._lanes.add(record, ticket)

    def pump(self, *, eager: bool = True) -> None:
        """Settle the requests that ended and start those that may start. Raises StreamError when none ever will.

        Unless `eager`, a request that is not full waits while others are in flight: more records are about to come.
        """
        self._settle()
        if self._stale and not self._refreshed():
            return
        while self.flying < self._most and time.monotonic() >= self._all.until:
            if not eager and self.flying and self._lanes.sendable < self._target.bounds.entries:
                return
            batch = self._lanes.take(self._closed())
            if not batch:
                return
            self._start(batch)

    def flush(self, group: Ticket) -> None:
        """Wait until the stream has every record of the group. Raises StreamError when it never will."""
        while group.outstanding:
            self.pump()
            self.wait(min(0.1, self.pause or 0.1))

    @property
    def pause(self) -> float:
        """Seconds until a backoff ends; 0 when none is on."""
        now = time.monotonic()
        ends = [backoff.until for backoff in (self._all, *self._by_shard.values()) if backoff.until > now]
        return min(ends) - now if ends else 0.0

    def close(self) -> None:
        """Wait for the requests in flight; what was not accepted stays unacknowledged."""
        self._pool.shutdown(wait=True)
        os.close(self._awake)
        os.close(self._wake)

    def _compressed(self, record: Record) -> Record:
        limit = self._target.bounds.record
        smaller = compress(record.data)
        size = len(smaller) + len(record.partition_key.encode())
        if size > limit or len(record.data) > MOST_BYTES:
            if self._target.keep is not None:
                self.figures.oversized += 1
                return self._target.keep(record, smaller)
            raise RecordTooLarge(
                f"a change of {record.partition_key} has {len(record.data):,} bytes, compressed {len(smaller):,}; "
                f"a record of the stream {self._target.name!r} takes {limit:,}",
                "nothing was lost and the slot waits; keep such changes elsewhere (--oversize s3://BUCKET/PREFIX), "
                "allow larger records (aws kinesis update-max-record-size, up to 10240 KiB), or leave the table out: "
                f"--exclude-table {record.table}",
            )
        self.figures.compressed += 1
        return msgspec.structs.replace(record, data=smaller)

    def _start(self, batch: Sequence[Parcel]) -> None:
        self.flying += 1
        self.figures.requests += 1
        entries = b",".join([parcel.entry for parcel in batch])
        future = self._pool.submit(self._target.put, entries, len(batch))
        future.add_done_callback(lambda ended: self._ended(batch, ended))

    def _ended(self, batch: Sequence[Parcel], future: Future[Sequence[Answer]]) -> None:
        self._done.put((batch, future))
        os.write(self._wake, b".")

    def _settle(self) -> None:
        while True:
            try:
                batch, future = self._done.get_nowait()
            except Empty:
                return
            os.read(self._awake, 1)
            self.flying -= 1
            error = future.exception()
            if error is None:
                self._answered(batch, future.result())
            else:
                self._failed(batch, error)

    def _answered(self, batch: Sequence[Parcel], answers: Sequence[Answer]) -> None:
        accepted: list[Parcel] = []
        refused: list[tuple[Parcel, Answer]] = []
        for parcel, answer in zip(batch, answers, strict=True):
            if answer.code is not None:
                refused.append((parcel, answer))
            elif parcel.shard is not None and answer.shard != parcel.shard:
                self._strayed(parcel)
            else:
                accepted.append(parcel)
        self._accepted(accepted)
        if refused:
            self._refused(batch, refused)
        elif self._by_shard:
            self._by_shard.clear()

    def _accepted(self, parcels: Sequence[Parcel]) -> None:
        self.figures.accepted += self._lanes.accepted(parcels)
        self.figures.accepted_records += len(parcels)
        self.figures.accepted_bytes += sum([parcel.size for parcel in parcels])
        self._all.failures = 0

    def _refused(self, batch: Sequence[Parcel], refused: Sequence[tuple[Parcel, Answer]]) -> None:
        """Refused entries go again; a shard that refused all of its entries is left alone for a growing while."""
        self.figures.refused += len(refused)
        self._lanes.refused([parcel for parcel, _ in refused])
        sent = Counter(map(self._lanes.shard_of, batch))
        for shard, count in Counter(self._lanes.shard_of(parcel) for parcel, _ in refused).items():
            backoff = self._by_shard.setdefault(shard, Backoff(self._jitter))
            backoff.failures = backoff.failures if count == sent[shard] else 0
            backoff.failed()
        code, message = refused[0][1].code, refused[0][1].message or ""
        self._say(f"{len(refused)} of {len(batch)} records refused: {code} {message}")

    def _strayed(self, parcel: Parcel) -> None:
        self.figures.strayed += 1
        self._lanes.strayed(parcel)
        self._stale = True

    def _refreshed(self) -> bool:
        """After a split or merge: once nothing is in flight, list the shards and divide anew what waits."""
        if self.flying or time.monotonic() < self._all.until:
            return False
        try:
            shards = self._target.shards()
        except StreamError as error:
            self._say(f"{error.message}; next try in {self._all.failed():.2f} s")
            return False
        logger.warning("the stream was split or merged: %d shards are open now", len(shards.shards))
        self._lanes.reshard(shards)
        self._stale = False
        self._by_shard.clear()
        return True

    def _failed(self, batch: Sequence[Parcel], error: BaseException) -> None:
        self._lanes.refused(batch)
        self.figures.failed_requests += 1
        if not isinstance(error, RequestFailed):
            raise StreamError(f"putting records on {self._target.name!r} failed: {error!r}") from error
        if error.code in _FATAL:
            hint = "check the stream and the policy: cdcctl producer status; aws sts get-caller-identity"
            raise StreamError(f"the stream {self._target.name!r} refuses records: {error}", hint) from error
        delay = self._all.failed()
        mend = "; renew the credentials (they are looked up anew)" if error.code in CREDENTIALS else ""
        self._say(f"{error}{mend}; next try in {delay:.2f} s")

    def _closed(self) -> frozenset[str]:
        if not self._by_shard:
            return frozenset()
        now = time.monotonic()
        return frozenset(shard for shard, backoff in self._by_shard.items() if backoff.until > now)

    def _say(self, what: str) -> None:
        """Log at once what is new, and what lasts now and then."""
        if time.monotonic() - self._said > _REPEAT_SECONDS or self._all.failures == 1:
            self._said = time.monotonic()
            logger.warning("Kinesis: %s; %d records wait, none is lost", what, self.pending)


_KEY_SLACK = 5 * 256 + 1024  # a key's bytes may be four times its characters; the rest is an aggregated record's own
