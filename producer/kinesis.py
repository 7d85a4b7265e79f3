"""Puts records on the stream: several requests in flight, in order per key, again until they are accepted."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from cdckit.errors import RecordTooLarge, StreamError
from producer.gate import Gate
from producer.ledger import Ticket
from producer.routing import Record
from producer.stream import translated

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

logger = logging.getLogger(__name__)

IN_FLIGHT = 4
RECORD_BYTES = 1024 * 1024
_BACKOFF = 0.05
_BACKOFF_MOST = 5.0
_FATAL = {"ResourceNotFoundException", "AccessDeniedException", "ValidationException", "InvalidArgumentException"}


@dataclass(frozen=True, slots=True, eq=False)
class Outgoing:
    """A record on its way, the transaction that waits for it, and (for a truncate) the shard that it must reach."""

    record: Record
    ticket: Ticket
    hash_key: str | None = None

    @property
    def gate_key(self) -> tuple[str, str | None]:
        """Records of one partition key go one after the other; a truncate's copies each for itself."""
        return self.record.partition_key, self.hash_key

    @property
    def size(self) -> int:
        """Bytes as PutRecords counts them."""
        return len(self.record.data) + len(self.record.partition_key.encode())

    def entry(self) -> dict[str, Any]:
        """The entry of a PutRecords request."""
        entry = {"Data": self.record.data, "PartitionKey": self.record.partition_key}
        return entry if self.hash_key is None else {**entry, "ExplicitHashKey": self.hash_key}


@dataclass(slots=True)
class Figures:
    """What a publisher did so far."""

    accepted: int = 0
    requests: int = 0
    refused: int = 0
    failed_requests: int = 0


class Publisher:
    """Submits records and settles them. One thread calls; worker threads only hold the requests in flight."""

    def __init__(
        self,
        client: KinesisClient,
        stream: str,
        open_shards: Callable[[], Sequence[str]],
        in_flight: int = IN_FLIGHT,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`open_shards` returns a hash key inside each open shard. `jitter` returns numbers in [0, 1)."""
        self._client, self._stream, self._open_shards, self._jitter = client, stream, open_shards, jitter
        self._gate: Gate[Outgoing] = Gate()
        self._pool = ThreadPoolExecutor(in_flight, thread_name_prefix="put-records")
        self._most, self._flying = in_flight, 0
        self._done: SimpleQueue[tuple[list[Outgoing], Future[Mapping[str, Any]]]] = SimpleQueue()
        self._awake, self._wake = os.pipe()
        self._not_before, self._failures = 0.0, 0
        self.figures = Figures()

    @property
    def pending(self) -> int:
        """Records submitted and not yet accepted."""
        return self._gate.entries

    @property
    def pending_bytes(self) -> int:
        """Their bytes."""
        return self._gate.size

    def fileno(self) -> int:
        """Readable when a request has ended, for `select`."""
        return self._awake

    def submit(self, record: Record, ticket: Ticket) -> None:
        """Queue a record. Raises RecordTooLarge when the stream could never take it."""
        first = Outgoing(record, ticket)
        if first.size > RECORD_BYTES:
            raise RecordTooLarge(
                f"a change of {record.partition_key} has {first.size:,} bytes; a Kinesis record takes {RECORD_BYTES:,}",
                f"nothing was lost and the slot waits; leave the table out with --exclude-table {record.table}, "
                "or make the row smaller",
            )
        copies = [Outgoing(record, ticket, key) for key in self._open_shards()] if record.every_shard else [first]
        for outgoing in copies:
            ticket.outstanding += 1
            self._gate.add(outgoing)

    def pump(self) -> None:
        """Settle the requests that ended and start those that may start. Raises StreamError when none ever will."""
        self._settle()
        while self._flying < self._most and time.monotonic() >= self._not_before and (batch := self._gate.take()):
            self._flying += 1
            self.figures.requests += 1
            future = self._pool.submit(self._put, [outgoing.entry() for outgoing in batch])
            future.add_done_callback(lambda ended, batch=batch: self._ended(batch, ended))  # type: ignore[misc]

    @property
    def pause(self) -> float:
        """Seconds until a backoff ends; 0 when none is on."""
        return max(0.0, self._not_before - time.monotonic())

    def close(self) -> None:
        """Wait for the requests in flight; what was not accepted stays unacknowledged."""
        self._pool.shutdown(wait=True)
        os.close(self._awake)
        os.close(self._wake)

    def _put(self, entries: list[dict[str, Any]]) -> Mapping[str, Any]:
        return self._client.put_records(StreamName=self._stream, Records=entries)  # type: ignore[arg-type]

    def _ended(self, batch: list[Outgoing], future: Future[Mapping[str, Any]]) -> None:
        self._done.put((batch, future))
        os.write(self._wake, b".")

    def _settle(self) -> None:
        while True:
            try:
                batch, future = self._done.get_nowait()
            except Empty:
                return
            os.read(self._awake, 1)
            self._flying -= 1
            error = future.exception()
            if error is not None:
                self._failed(batch, error)
            else:
                self._answered(batch, future.result()["Records"])

    def _answered(self, batch: list[Outgoing], results: Sequence[Mapping[str, Any]]) -> None:
        refused = []
        for outgoing, result in zip(batch, results, strict=True):
            if result.get("ErrorCode"):
                refused.append(outgoing)
                continue
            outgoing.ticket.outstanding -= 1
            self._gate.accepted(outgoing)
        self.figures.accepted += len(batch) - len(refused)
        self.figures.refused += len(refused)
        self._gate.refused(refused)
        if refused and len(refused) == len(batch):
            self._back_off(f"all {len(batch)} records refused: {results[0].get('ErrorCode')}")
        else:
            self._failures = 0

    def _failed(self, batch: list[Outgoing], error: BaseException) -> None:
        self._gate.refused(batch)
        self.figures.failed_requests += 1
        if isinstance(error, ClientError) and error.response["Error"]["Code"] in _FATAL:
            raise translated(error, f"the stream {self._stream!r} refuses records") from error
        if not isinstance(error, ClientError | BotoCoreError):
            raise StreamError(f"putting records on {self._stream!r} failed: {error!r}") from error
        self._back_off(str(error))

    def _back_off(self, why: str) -> None:
        delay = min(_BACKOFF_MOST, _BACKOFF * 2**self._failures) * (0.5 + self._jitter() / 2)
        self._failures = min(self._failures + 1, 16)
        self._not_before = time.monotonic() + delay
        logger.warning("Kinesis: %s; %d records wait, next try in %.2f s", why, self.pending, delay)
