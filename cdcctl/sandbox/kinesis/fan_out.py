"""SubscribeToShard: records are pushed as they come, in events of at most 1 MiB, for five minutes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from cdcctl.sandbox.kinesis import reading
from cdcctl.sandbox.kinesis.refused import Refused
from cdcctl.sandbox.kinesis.segments import Place
from cdcctl.sandbox.kinesis.sequence import WIDTH
from cdcctl.sandbox.kinesis.shards import children
from cdcctl.sandbox.kinesis.store import Store, Stream
from cdcctl.sandbox.kinesis.wire import encode, in_cbor

_SECONDS, _TAKE_OVER_SECONDS, _IDLE_SECONDS, _EVENT_BYTES = 300, 5, 5, 1024 * 1024
Message = Callable[[dict[str, str], bytes], bytes]
Send = Callable[[bytes], Awaitable[None]]
_live: dict[tuple[str, str], float] = {}


@dataclass(frozen=True, slots=True)
class Subscription:
    """One consumer's subscription to one shard; a later one of both takes it over."""

    store: Store
    stream: Stream
    consumer: str
    shard: str
    place: Place
    message: Message
    cbor: bool
    began: float

    @classmethod
    def make(cls, store: Store, stream: Stream, asked: dict[str, Any], message: Message, *, cbor: bool) -> Subscription:
        """Raises Refused for another position, another shard, and within 5 s of the subscription before."""
        consumer, shard = str(asked["ConsumerARN"]), str(asked.get("ShardId"))
        place = reading.start(store, stream, shard, asked.get("StartingPosition") or {})
        now = time.monotonic()
        if now - _live.get((consumer, shard), -_SECONDS) < _TAKE_OVER_SECONDS:
            raise Refused("ResourceInUseException", f"Another active subscription exists for {consumer} and {shard}")
        _live[consumer, shard] = now
        return cls(store, stream, consumer, shard, place, message, cbor, now)

    async def run(self, send: Send, gone: asyncio.Future[Any]) -> None:
        """Push events until the shard ends, the time is over, another takes over or the client is `gone`."""
        await send(self._message("initial-response", b"{}"))
        place, number, told = self.place, self._before(), 0.0
        while not gone.done() and time.monotonic() - self.began < _SECONDS and self._is_ours():
            found = reading.page(self.store, self.stream, self.shard, place, 10_000, _EVENT_BYTES)
            number = found.number or number
            if found.lines or found.place is None or time.monotonic() - told > _IDLE_SECONDS:
                await send(self._event(found, number))
                told = time.monotonic()
            if found.place is None:
                break
            place = found.place
            await asyncio.wait({gone}, timeout=0 if found.behind else 0.2)
        if self._is_ours():
            _live.pop((self.consumer, self.shard), None)

    def _before(self) -> str:
        """After which number the subscription continues when it is made again before a record came."""
        log = self.store.log(self.stream, self.shard)
        following = log.number_at(self.place)
        if following is not None:
            return f"{int(following) - 1:0{WIDTH}d}"
        return log.last or str(self.stream["shards"][self.shard]["starting_sequence_number"])

    def _is_ours(self) -> bool:
        return _live.get((self.consumer, self.shard)) == self.began and self.shard in self.stream["shards"]

    def _event(self, found: reading.Page, number: str) -> bytes:
        event: dict[str, Any] = {"ContinuationSequenceNumber": number, "MillisBehindLatest": found.behind}
        if found.place is None:
            event["ChildShards"] = children(self.stream["shards"], self.shard)
        record = in_cbor if self.cbor else json.loads
        return self._message(
            "SubscribeToShardEvent", encode({"Records": list(map(record, found.lines)), **event}, cbor=self.cbor)
        )

    def _message(self, kind: str, payload: bytes) -> bytes:
        content = "application/x-amz-cbor-1.1" if self.cbor else "application/json"
        return self.message({":message-type": "event", ":event-type": kind, ":content-type": content}, payload)
