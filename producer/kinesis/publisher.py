"""Publishes records: several requests in flight, in order per key, retried until Kinesis accepts them."""

from __future__ import annotations

import logging
import os
import select
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from random import SystemRandom
from typing import Any

import msgspec

from cdckit.errors import RecordTooLarge, StreamError
from cdckit.packing import MAX_DECOMPRESSED_BYTES, compress
from producer.ack_tracker import AckGroup
from producer.kinesis.backoff import Backoff
from producer.kinesis.batching.per_key import PerKeyBatcher
from producer.kinesis.batching.protocol import Batcher, Entry
from producer.kinesis.limits import MAX_PENDING, MAX_PENDING_BYTES
from producer.kinesis.put_records import CREDENTIAL_ERRORS, EntryResult, RequestFailed
from producer.kinesis.target import MAX_IN_FLIGHT, Target
from producer.records import Record

logger = logging.getLogger(__name__)

_JITTER = SystemRandom()
_LOG_SECONDS = 30.0  # between two log lines about a trouble that lasts
_FATAL = {"ResourceNotFoundException", "AccessDeniedException", "ValidationException", "InvalidArgumentException"}
_KEY_SLACK = 5 * 256 + 1024  # a key's bytes may be four times its characters; the rest is an aggregated record's own


@dataclass(slots=True)
class PublishCounts:
    """What a publisher did so far. `accepted` counts changes, of which one record may hold many.

    `misrouted` records were accepted by another shard than their own, and sent again.
    """

    accepted: int = 0
    accepted_records: int = 0
    accepted_bytes: int = 0
    requests: int = 0
    refused: int = 0
    failed_requests: int = 0
    misrouted: int = 0
    compressed: int = 0
    oversized: int = 0


class Publisher:
    """Submits records and handles Kinesis' answers. One thread calls it; worker threads only run the requests."""

    def __init__(
        self,
        target: Target,
        batcher: Batcher | None = None,
        max_in_flight: int = MAX_IN_FLIGHT,
        jitter: Callable[[], float] = _JITTER.random,
    ) -> None:
        """`batcher` is one of the target's (default: a `PerKeyBatcher`). `jitter` returns numbers in [0, 1)."""
        self._target, self._jitter = target, jitter
        self._max_uncompressed = target.limits.record - _KEY_SLACK
        self._batcher: Batcher = batcher or target.batcher(PerKeyBatcher)
        self._pool = ThreadPoolExecutor(max_in_flight, thread_name_prefix="put-records")
        self._max_in_flight, self.in_flight = max_in_flight, 0
        self._completed: SimpleQueue[tuple[Any, Future[Sequence[EntryResult]]]] = SimpleQueue()
        self._wake_reader, self._wake_writer = os.pipe()
        self._backoff, self._shard_backoffs = Backoff(jitter), dict[str, Backoff]()
        self._shards_stale, self._logged_at = False, 0.0
        self.counts = PublishCounts()

    @property
    def pending(self) -> int:
        """Records submitted and not yet accepted."""
        return self._batcher.pending

    @property
    def pending_bytes(self) -> int:
        """Their bytes."""
        return self._batcher.pending_bytes

    @property
    def full(self) -> bool:
        """True when as much is pending as is allowed: submit no more for now."""
        return self._batcher.pending >= MAX_PENDING or self._batcher.pending_bytes >= MAX_PENDING_BYTES

    def fileno(self) -> int:
        """Return a descriptor for `select`, readable when a request has completed."""
        return self._wake_reader

    def wait(self, seconds: float) -> None:
        """Block until a request has completed, at most `seconds`."""
        select.select([self._wake_reader], [], [], seconds)

    def submit(self, record: Record, group: AckGroup) -> None:
        """Queue a record; compressed when it must be, as a reference when even the gzip is too large.

        Raises RecordTooLarge when the stream could never take it and no claim check is configured, StreamError when
        the claim check fails.
        """
        if len(record.data) > self._max_uncompressed:
            record = self._compressed(record)
        self._batcher.add(record, group)

    def pump(self, *, eager: bool = True) -> None:
        """Handle completed requests and start new ones. Raises StreamError when the stream refuses permanently.

        Unless `eager`, a request that is not full waits while others are in flight: more records are about to come.
        """
        self._handle_completed()
        if self._shards_stale and not self._refresh_shards():
            return
        while self.in_flight < self._max_in_flight and time.monotonic() >= self._backoff.until:
            if not eager and self.in_flight and self._batcher.sendable < self._target.limits.entries:
                return
            batch = self._batcher.take(self._throttled_shards())
            if not batch:
                return
            self._start(batch)

    def flush(self, group: AckGroup) -> None:
        """Wait until the stream has every record of the group. Raises StreamError when it never will."""
        while group.outstanding:
            self.pump()
            self.wait(min(0.1, self.pause or 0.1))

    @property
    def pause(self) -> float:
        """Seconds until the next backoff ends; 0 without one."""
        now = time.monotonic()
        ends = [backoff.until for backoff in (self._backoff, *self._shard_backoffs.values()) if backoff.until > now]
        return min(ends) - now if ends else 0.0

    def close(self) -> None:
        """Wait for the requests in flight; what was not accepted stays unacknowledged."""
        self._pool.shutdown(wait=True)
        os.close(self._wake_reader)
        os.close(self._wake_writer)

    def _compressed(self, record: Record) -> Record:
        limit = self._target.limits.record
        compressed = compress(record.data)
        size = len(compressed) + len(record.partition_key.encode())
        if size > limit or len(record.data) > MAX_DECOMPRESSED_BYTES:
            if self._target.claim_check is not None:
                self.counts.oversized += 1
                return self._target.claim_check(record, compressed)
            raise RecordTooLarge(
                f"a change of {record.partition_key} has {len(record.data):,} bytes, compressed {len(compressed):,}; "
                f"a record of the stream {self._target.name!r} takes {limit:,}",
                "nothing was lost and the slot waits; store such changes elsewhere (--oversize s3://BUCKET/PREFIX), "
                "allow larger records (aws kinesis update-max-record-size, up to 10240 KiB), or leave the table out: "
                f"--exclude-table {record.table}",
            )
        self.counts.compressed += 1
        return msgspec.structs.replace(record, data=compressed)

    def _start(self, batch: Sequence[Entry]) -> None:
        self.in_flight += 1
        self.counts.requests += 1
        entries = b",".join([entry.json for entry in batch])
        future = self._pool.submit(self._target.put, entries, len(batch))
        future.add_done_callback(lambda completed: self._on_completed(batch, completed))

    def _on_completed(self, batch: Sequence[Entry], future: Future[Sequence[EntryResult]]) -> None:
        self._completed.put((batch, future))
        os.write(self._wake_writer, b".")

    def _handle_completed(self) -> None:
        while True:
            try:
                batch, future = self._completed.get_nowait()
            except Empty:
                return
            os.read(self._wake_reader, 1)
            self.in_flight -= 1
            error = future.exception()
            if error is None:
                self._handle_results(batch, future.result())
            else:
                self._handle_failure(batch, error)

    def _handle_results(self, batch: Sequence[Entry], results: Sequence[EntryResult]) -> None:
        accepted: list[Entry] = []
        refused: list[tuple[Entry, EntryResult]] = []
        for entry, result in zip(batch, results, strict=True):
            if result.code is not None:
                refused.append((entry, result))
            elif entry.shard is not None and result.shard != entry.shard:
                self._handle_misrouted(entry)
            else:
                accepted.append(entry)
        self._handle_accepted(accepted)
        if refused:
            self._handle_refused(batch, refused)
        elif self._shard_backoffs:
            self._shard_backoffs.clear()

    def _handle_accepted(self, entries: Sequence[Entry]) -> None:
        self.counts.accepted += self._batcher.accepted(entries)
        self.counts.accepted_records += len(entries)
        self.counts.accepted_bytes += sum([entry.size for entry in entries])
        self._backoff.failures = 0

    def _handle_refused(self, batch: Sequence[Entry], refused: Sequence[tuple[Entry, EntryResult]]) -> None:
        """Queue refused entries again; the backoff of a shard grows while it refuses all of its entries."""
        self.counts.refused += len(refused)
        self._batcher.refused([entry for entry, _ in refused])
        sent = Counter(map(self._batcher.shard_of, batch))
        for shard, count in Counter(self._batcher.shard_of(entry) for entry, _ in refused).items():
            backoff = self._shard_backoffs.setdefault(shard, Backoff(self._jitter))
            backoff.failures = backoff.failures if count == sent[shard] else 0
            backoff.failed()
        code, message = refused[0][1].code, refused[0][1].message or ""
        self._log_trouble(f"{len(refused)} of {len(batch)} records refused: {code} {message}")

    def _handle_misrouted(self, entry: Entry) -> None:
        self.counts.misrouted += 1
        self._batcher.misrouted(entry)
        self._shards_stale = True

    def _refresh_shards(self) -> bool:
        """After a split or merge, once nothing is in flight: list the shards and distribute what waits."""
        if self.in_flight or time.monotonic() < self._backoff.until:
            return False
        try:
            shards = self._target.shards()
        except StreamError as error:
            self._log_trouble(f"{error.message}; next try in {self._backoff.failed():.2f} s")
            return False
        logger.warning("the stream was split or merged: %d shards are open now", len(shards.shards))
        self._batcher.reshard(shards)
        self._shards_stale = False
        self._shard_backoffs.clear()
        return True

    def _handle_failure(self, batch: Sequence[Entry], error: BaseException) -> None:
        self._batcher.refused(batch)
        self.counts.failed_requests += 1
        if not isinstance(error, RequestFailed):
            raise StreamError(f"putting records on {self._target.name!r} failed: {error!r}") from error
        if error.code in _FATAL:
            hint = "check the stream and the policy: cdcctl producer status; aws sts get-caller-identity"
            raise StreamError(f"the stream {self._target.name!r} refuses records: {error}", hint) from error
        delay = self._backoff.failed()
        fix = "; renew the credentials (each retry looks them up)" if error.code in CREDENTIAL_ERRORS else ""
        self._log_trouble(f"{error}{fix}; next try in {delay:.2f} s")

    def _throttled_shards(self) -> frozenset[str]:
        if not self._shard_backoffs:
            return frozenset()
        now = time.monotonic()
        return frozenset(shard for shard, backoff in self._shard_backoffs.items() if backoff.until > now)

    def _log_trouble(self, what: str) -> None:
        """Log a new trouble at once, and one that lasts every 30 seconds."""
        if time.monotonic() - self._logged_at > _LOG_SECONDS or self._backoff.failures == 1:
            self._logged_at = time.monotonic()
            logger.warning("Kinesis: %s; %d records wait, none is lost", what, self.pending)
