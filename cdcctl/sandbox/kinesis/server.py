"""``python -m cdcctl.sandbox.kinesis.server``: ministack, with this package's Kinesis in the place of its own.

Ministack keeps what a stream is (its name, tags, retention, consumers, and the dictionary of its shards) and saves it;
records, reads and reshards are ours. What is used of ministack's module is in this file only.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from ministack import app
from ministack.core import persistence
from ministack.core.responses import StreamingResponse, request_scope
from ministack.services import kinesis

from cdcctl.sandbox.kinesis import putting, reading, shards
from cdcctl.sandbox.kinesis.fan_out import Subscription
from cdcctl.sandbox.kinesis.refused import Refused, invalid, not_found
from cdcctl.sandbox.kinesis.store import Store, Stream
from cdcctl.sandbox.kinesis.wire import Entry, Put, Record, decode, encode, line, plain, with_records

_CHANGES = ("Create", "Delete", "Increase", "Decrease", "Add", "Remove", "Start", "Stop", "Register", "Deregister")
Answer = tuple[int, dict[str, str], Any]
Handler = Callable[[str, str, dict[str, str], bytes, Any], Awaitable[Answer]]


class Server:
    """Answers the requests that ministack hands on."""

    def __init__(self, store: Store, theirs: Handler) -> None:
        """`theirs` answers what concerns no record."""
        self._store, self._theirs = store, theirs
        self._ours: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "PutRecord": self._put_record,
            "GetShardIterator": lambda asked: reading.get_shard_iterator(store, _stream(asked), asked),
            "SplitShard": self._split,
            "MergeShards": self._merge,
            "UpdateShardCount": self._scale,
        }

    async def answer(self, method: str, path: str, headers: dict[str, str], body: bytes, query: Any) -> Answer:
        """One request."""
        action = headers.get("x-amz-target", "").rpartition(".")[2]
        cbor = "cbor" in headers.get("content-type", "")
        try:
            found = self._answer(action, body, cbor)
            return found or await self._handed_on(action, cbor, (method, path, headers, body, query))
        except Refused as error:
            return _reply(400, encode({"__type": error.code, "message": error.message}, cbor=cbor), cbor, error.code)
        except ValueError as error:
            message = f"Could not decode request body: {error}"
            return _reply(400, encode({"__type": "SerializationException", "message": message}, cbor=cbor), cbor)

    async def _handed_on(self, action: str, cbor: bool, request: tuple[str, str, dict[str, str], bytes, Any]) -> Answer:
        body = request[3]
        if action in ("ListShards", "DescribeStream", "DescribeStreamSummary"):
            _, stream = kinesis._resolve_stream(plain(body, cbor=cbor))
            if stream is not None:
                self._store.trim(stream)  # closed shards whose retention is over are not listed
        status, theirs, answer = await self._theirs(*request)
        if action in ("ListShards", "DescribeStreamSummary") and status == 200:
            answer = _corrected(action, plain(body, cbor=cbor), plain(answer, cbor=cbor), cbor)
        if action.startswith(_CHANGES) and status == 200:
            self._changed(action, plain(body, cbor=cbor))
        return status, theirs, answer

    def _answer(self, action: str, body: bytes, cbor: bool) -> Answer | None:
        if action == "PutRecords":
            put = decode(body, Put, cbor=cbor)
            stream = _stream({"StreamName": put.StreamName, "StreamARN": put.StreamARN})
            return _reply(200, encode(putting.put_records(self._store, stream, put.Records), cbor=cbor), cbor)
        if action == "GetRecords":
            lines, rest = reading.get_records(self._store, kinesis._resolve_stream_by_arn, plain(body, cbor=cbor))
            return _reply(200, with_records(lines, rest, cbor=cbor), cbor)
        if action == "SubscribeToShard":
            return self._subscribe(plain(body, cbor=cbor), cbor)
        if action in self._ours:
            return _reply(200, encode(self._ours[action](plain(body, cbor=cbor)), cbor=cbor), cbor)
        return None

    def _put_record(self, asked: dict[str, Any]) -> dict[str, Any]:
        entry = decode(json.dumps(asked, default=_base64).encode(), Entry, cbor=False)
        return putting.put_record(self._store, _stream(asked), entry)

    def _split(self, asked: dict[str, Any]) -> dict[str, Any]:
        try:
            key = int(asked.get("NewStartingHashKey") or "")
        except ValueError:
            raise invalid("NewStartingHashKey is required, a number") from None
        stream = self._whole(asked)
        shards.split(stream["shards"], str(asked.get("ShardToSplit")), key, self._store.sequence.next)
        return _saved({})

    def _merge(self, asked: dict[str, Any]) -> dict[str, Any]:
        one, other = str(asked.get("ShardToMerge")), str(asked.get("AdjacentShardToMerge"))
        shards.merge(self._whole(asked)["shards"], one, other, self._store.sequence.next)
        return _saved({})

    def _scale(self, asked: dict[str, Any]) -> dict[str, Any]:
        stream, count = self._whole(asked), int(asked.get("TargetShardCount") or 0)
        if count < 1:
            raise invalid("TargetShardCount must be 1 or more")
        now = len(shards.open_shards(stream["shards"]))
        shards.scale(stream["shards"], count, self._store.sequence.next)
        found = {"StreamName": stream["StreamName"], "StreamARN": stream["StreamARN"]}
        return _saved({**found, "CurrentShardCount": now, "TargetShardCount": count})

    def _whole(self, asked: dict[str, Any]) -> Stream:
        """A stream that is to be changed: every number that it has given out is seen first."""
        stream = _stream(asked)
        for name in stream["shards"]:
            self._store.log(stream, name)
        return stream

    def _subscribe(self, asked: dict[str, Any], cbor: bool) -> Answer:
        consumer = kinesis._consumer_from_arn(str(asked.get("ConsumerARN")))
        if consumer is None:
            raise not_found(f"Consumer {asked.get('ConsumerARN')}")
        stream = _stream({"StreamARN": consumer["StreamARN"]})
        found = Subscription.make(self._store, stream, asked, kinesis._eventstream_message, cbor=cbor)
        return 200, {"Content-Type": "application/vnd.amazon.eventstream"}, StreamingResponse(partial(_push, found))

    def _changed(self, action: str, asked: dict[str, Any]) -> None:
        if action == "DeleteStream":
            arn = asked.get("StreamARN") or f"arn:aws:kinesis:{kinesis.get_region()}:{kinesis.get_account_id()}:stream/"
            self._store.forget(arn if asked.get("StreamARN") else arn + asked["StreamName"])
        _saved({})

    def move_records(self) -> None:
        """Records that ministack's own Kinesis kept in its state, before there were files, go into files."""
        for (account, region, _), stream in list(kinesis._streams.all_items()):
            with request_scope(account, region):
                for name, shard in stream["shards"].items():
                    for found in shard["records"]:
                        number = found["SequenceNumber"]
                        record = Record(number, found["ApproximateArrivalTimestamp"], b"", found["PartitionKey"])
                        made = line(record).replace(b'"Data":""', b'"Data":"' + found["Data"].encode() + b'"', 1)
                        self._store.append(stream, name, [made], (number, number))
                    shard["records"] = []


def install(folder: Path) -> Server:
    """Put our Kinesis in the place of ministack's."""
    server = Server(Store(folder), kinesis.handle_request)
    load = kinesis.load_persisted_state

    def load_all(state: Any) -> None:
        load(state)
        server.move_records()

    kinesis.load_persisted_state = load_all
    kinesis.handle_request = server.answer
    kinesis._shard_out = shards.shown
    kinesis._next_sequence_number = server._store.sequence.next
    return server


def _stream(asked: dict[str, Any]) -> Stream:
    name, stream = kinesis._resolve_stream(asked)
    if stream is None:
        raise not_found(f"Stream {name}")
    return stream  # type: ignore[no-any-return]


def _corrected(action: str, asked: dict[str, Any], answer: dict[str, Any], cbor: bool) -> bytes:
    """Ministack knows of no closed shards: the filter of ListShards, and the number of those that are open."""
    stream = _stream(asked) if "NextToken" not in asked else None
    if action == "DescribeStreamSummary" and stream is not None:
        answer["StreamDescriptionSummary"]["OpenShardCount"] = len(shards.open_shards(stream["shards"]))
    elif stream is not None and asked.get("ShardFilter"):
        names = set(shards.wanted(stream["shards"], asked["ShardFilter"]))
        answer["Shards"] = [shard for shard in answer["Shards"] if shard["ShardId"] in names]
    return encode(answer, cbor=cbor)


def _saved(answer: dict[str, Any]) -> dict[str, Any]:
    """Save what a stream is at each change: a kill of the process loses none of it."""
    persistence.save_state("kinesis", kinesis.get_state())
    return answer


def _reply(status: int, body: bytes, cbor: bool, error: str = "") -> Answer:
    content = "application/x-amz-cbor-1.1" if cbor else "application/x-amz-json-1.1"
    return status, {"Content-Type": content} | ({"x-amzn-errortype": error} if error else {}), body


def _base64(data: Any) -> str:
    if isinstance(data, bytes):
        return base64.b64encode(data).decode()
    raise ValueError(f"not data: {data!r}")


async def _push(found: Subscription, send: Callable[[Any], Awaitable[None]], receive: Callable[[], Any]) -> None:
    async def chunk(data: bytes) -> None:
        await send({"type": "http.response.body", "body": data, "more_body": True})

    async def disconnected() -> None:
        while (await receive()).get("type") != "http.disconnect":
            pass

    gone = asyncio.ensure_future(disconnected())
    try:
        await found.run(chunk, gone)
    finally:
        gone.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def main() -> None:
    """Run ministack, set up by its own environment variables."""
    install(Path(persistence.STATE_DIR) / "records")
    app.main()


if __name__ == "__main__":
    main()
