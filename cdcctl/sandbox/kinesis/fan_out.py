"""SubscribeToShard: pushes records as they arrive, in events of at most 1 MiB, for five minutes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from cdcctl.sandbox.kinesis import get_records
from cdcctl.sandbox.kinesis.errors import KinesisError
from cdcctl.sandbox.kinesis.record_log import LogPosition
from cdcctl.sandbox.kinesis.sequence import WIDTH
from cdcctl.sandbox.kinesis.shards import children
from cdcctl.sandbox.kinesis.store import RecordStore, Stream
from cdcctl.sandbox.kinesis.wire import cbor_record, encode

_SECONDS, _TAKE_OVER_SECONDS, _IDLE_SECONDS, _EVENT_BYTES = 300, 5, 5, 1024 * 1024
Message = Callable[[dict[str, str], bytes], bytes]
Send = Callable[[bytes], Awaitable[None]]
_active: dict[tuple[str, str], float] = {}


@dataclass(frozen=True, slots=True)
class Subscription:
    """One consumer's subscription to one shard; a later subscription of the same consumer and shard replaces it."""

    store: RecordStore
    stream: Stream
    consumer: str
    shard: str
    position: LogPosition
    message: Message
    cbor: bool
    started: float

    @classmethod
    def create(
        cls, store: RecordStore, stream: Stream, request: dict[str, Any], message: Message, *, cbor: bool
    ) -> Subscription:
        """Raises KinesisError for an invalid position or shard, and within 5 s of the previous subscription."""
        consumer, shard = str(request["ConsumerARN"]), str(request.get("ShardId"))
        position = get_records.start(store, stream, shard, request.get("StartingPosition") or {})
        now = time.monotonic()
        if now - _active.get((consumer, shard), -_SECONDS) < _TAKE_OVER_SECONDS:
            raise KinesisError(
                "ResourceInUseException", f"Another active subscription exists for {consumer} and {shard}"
            )
        _active[consumer, shard] = now
        return cls(store, stream, consumer, shard, position, message, cbor, now)

    async def run(self, send: Send, disconnected: asyncio.Future[Any]) -> None:
        """Push events until the shard or the time ends, another subscription replaces it, or the client disconnects."""
        await send(self._message("initial-response", b"{}"))
        position, number, sent = self.position, self._continuation_number(), 0.0
        while not disconnected.done() and time.monotonic() - self.started < _SECONDS and self._is_current():
            page = get_records.read_page(self.store, self.stream, self.shard, position, 10_000, _EVENT_BYTES)
            number = page.number or number
            if page.lines or page.position is None or time.monotonic() - sent > _IDLE_SECONDS:
                await send(self._event(page, number))
                sent = time.monotonic()
            if page.position is None:
                break
            position = page.position
            await asyncio.wait({disconnected}, timeout=0 if page.millis_behind else 0.2)
        if self._is_current():
            _active.pop((self.consumer, self.shard), None)

    def _continuation_number(self) -> str:
        """The number after which a new subscription continues if this one ends before its first record."""
        log = self.store.log(self.stream, self.shard)
        following = log.number_at(self.position)
        if following is not None:
            return f"{int(following) - 1:0{WIDTH}d}"
        return log.last or str(self.stream["shards"][self.shard]["starting_sequence_number"])

    def _is_current(self) -> bool:
        return _active.get((self.consumer, self.shard)) == self.started and self.shard in self.stream["shards"]

    def _event(self, page: get_records.Page, number: str) -> bytes:
        event: dict[str, Any] = {"MillisBehindLatest": page.millis_behind}
        if page.position is None:  # the KCL takes the end of a shard for an invalid event if it also has a number
            event["ChildShards"] = children(self.stream["shards"], self.shard)
        else:
            event["ContinuationSequenceNumber"] = number
        decode_line = cbor_record if self.cbor else json.loads
        records = list(map(decode_line, page.lines))
        return self._message("SubscribeToShardEvent", encode({"Records": records, **event}, cbor=self.cbor))

    def _message(self, kind: str, payload: bytes) -> bytes:
        content = "application/x-amz-cbor-1.1" if self.cbor else "application/json"
        return self.message({":message-type": "event", ":event-type": kind, ":content-type": content}, payload)
