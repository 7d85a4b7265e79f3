"""Runs ministack with this package's Kinesis instead of its own (``python -m cdcctl.sandbox.kinesis.server``).

Ministack stores what a stream is: its name, tags, retention, consumers, and the dictionary of its shards. This package
answers puts, reads and reshards. Only this file uses the internals of ministack's Kinesis module.
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

from cdcctl.sandbox.kinesis import get_records, put_records, shards
from cdcctl.sandbox.kinesis.errors import KinesisError, invalid_argument, not_found
from cdcctl.sandbox.kinesis.fan_out import Subscription
from cdcctl.sandbox.kinesis.store import RecordStore, Stream
from cdcctl.sandbox.kinesis.wire import (
    Entry,
    PutRecordsRequest,
    Record,
    decode,
    decode_object,
    encode,
    encode_record,
    encode_with_records,
)

_CHANGING_PREFIXES = (
    "Create", "Delete", "Increase", "Decrease", "Add", "Remove", "Start", "Stop", "Register", "Deregister",
)  # fmt: skip
Answer = tuple[int, dict[str, str], Any]
Handler = Callable[[str, str, dict[str, str], bytes, Any], Awaitable[Answer]]


class KinesisServer:
    """Answers the Kinesis requests that ministack receives."""

    def __init__(self, store: RecordStore, ministack_handler: Handler) -> None:
        """`ministack_handler` answers the actions that this class does not implement."""
        self._store, self._ministack_handler = store, ministack_handler
        self._actions: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "PutRecord": self._put_record,
            "GetShardIterator": lambda request: get_records.get_shard_iterator(store, _stream(request), request),
            "SplitShard": self._split,
            "MergeShards": self._merge,
            "UpdateShardCount": self._scale,
        }

    async def answer(self, method: str, path: str, headers: dict[str, str], body: bytes, query: Any) -> Answer:
        """Answer one request."""
        action = headers.get("x-amz-target", "").rpartition(".")[2]
        cbor = "cbor" in headers.get("content-type", "")
        try:
            answer = self._answer(action, body, cbor)
            return answer or await self._forward(action, cbor, (method, path, headers, body, query))
        except KinesisError as error:
            return _reply(400, encode({"__type": error.code, "message": error.message}, cbor=cbor), cbor, error.code)
        except ValueError as error:
            message = f"Could not decode request body: {error}"
            return _reply(400, encode({"__type": "SerializationException", "message": message}, cbor=cbor), cbor)

    async def _forward(self, action: str, cbor: bool, http: tuple[str, str, dict[str, str], bytes, Any]) -> Answer:
        body = http[3]
        if action in ("ListShards", "DescribeStream", "DescribeStreamSummary"):
            _, stream = kinesis._resolve_stream(decode_object(body, cbor=cbor))
            if stream is not None:
                self._store.trim(stream)  # removes closed shards whose retention is over from the list
        status, headers, answer = await self._ministack_handler(*http)
        if action in ("ListShards", "DescribeStreamSummary") and status == 200:
            answer = _correct_answer(action, decode_object(body, cbor=cbor), decode_object(answer, cbor=cbor), cbor)
        if action.startswith(_CHANGING_PREFIXES) and status == 200:
            self._after_change(action, decode_object(body, cbor=cbor))
        return status, headers, answer

    def _answer(self, action: str, body: bytes, cbor: bool) -> Answer | None:
        if action == "PutRecords":
            put = decode(body, PutRecordsRequest, cbor=cbor)
            stream = _stream({"StreamName": put.StreamName, "StreamARN": put.StreamARN})
            return _reply(200, encode(put_records.put_records(self._store, stream, put.Records), cbor=cbor), cbor)
        if action == "GetRecords":
            lines, rest = get_records.get_records(
                self._store, kinesis._resolve_stream_by_arn, decode_object(body, cbor=cbor)
            )
            return _reply(200, encode_with_records(lines, rest, cbor=cbor), cbor)
        if action == "SubscribeToShard":
            return self._subscribe(decode_object(body, cbor=cbor), cbor)
        if action in self._actions:
            return _reply(200, encode(self._actions[action](decode_object(body, cbor=cbor)), cbor=cbor), cbor)
        return None

    def _put_record(self, request: dict[str, Any]) -> dict[str, Any]:
        entry = decode(json.dumps(request, default=_base64).encode(), Entry, cbor=False)
        return put_records.put_record(self._store, _stream(request), entry)

    def _split(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            key = int(request.get("NewStartingHashKey") or "")
        except ValueError:
            raise invalid_argument("NewStartingHashKey is required and must be a number") from None
        stream = self._stream_to_reshard(request)
        shards.split(stream["shards"], str(request.get("ShardToSplit")), key, self._store.sequence.next)
        return _saved({})

    def _merge(self, request: dict[str, Any]) -> dict[str, Any]:
        name, adjacent = str(request.get("ShardToMerge")), str(request.get("AdjacentShardToMerge"))
        shards.merge(self._stream_to_reshard(request)["shards"], name, adjacent, self._store.sequence.next)
        return _saved({})

    def _scale(self, request: dict[str, Any]) -> dict[str, Any]:
        stream, count = self._stream_to_reshard(request), int(request.get("TargetShardCount") or 0)
        if count < 1:
            raise invalid_argument("TargetShardCount must be 1 or more")
        before = len(shards.open_shards(stream["shards"]))
        shards.scale(stream["shards"], count, self._store.sequence.next)
        names = {"StreamName": stream["StreamName"], "StreamARN": stream["StreamARN"]}
        return _saved({**names, "CurrentShardCount": before, "TargetShardCount": count})

    def _stream_to_reshard(self, request: dict[str, Any]) -> Stream:
        stream = _stream(request)
        self._store.open_logs(stream)
        return stream

    def _subscribe(self, request: dict[str, Any], cbor: bool) -> Answer:
        consumer = kinesis._consumer_from_arn(str(request.get("ConsumerARN")))
        if consumer is None:
            raise not_found(f"Consumer {request.get('ConsumerARN')}")
        stream = _stream({"StreamARN": consumer["StreamARN"]})
        subscription = Subscription.create(self._store, stream, request, kinesis._eventstream_message, cbor=cbor)
        response = StreamingResponse(partial(_push, subscription))
        return 200, {"Content-Type": "application/vnd.amazon.eventstream"}, response

    def _after_change(self, action: str, request: dict[str, Any]) -> None:
        if action == "DeleteStream":
            arn = (
                request.get("StreamARN") or f"arn:aws:kinesis:{kinesis.get_region()}:{kinesis.get_account_id()}:stream/"
            )
            self._store.delete_stream(arn if request.get("StreamARN") else arn + request["StreamName"])
        _saved({})

    def migrate_records(self) -> None:
        """Move records from ministack's state, where older sandboxes stored them, into files."""
        for (account, region, _), stream in list(kinesis._streams.all_items()):
            with request_scope(account, region):
                for name, shard in stream["shards"].items():
                    for old in shard["records"]:
                        number = old["SequenceNumber"]
                        record = Record(number, old["ApproximateArrivalTimestamp"], b"", old["PartitionKey"])
                        stored = encode_record(record).replace(
                            b'"Data":""', b'"Data":"' + old["Data"].encode() + b'"', 1
                        )
                        self._store.append(stream, name, [stored], (number, number))
                    shard["records"] = []


def install(folder: Path) -> KinesisServer:
    """Replace ministack's Kinesis; records are stored in `folder`."""
    server = KinesisServer(RecordStore(folder), kinesis.handle_request)
    load = kinesis.load_persisted_state

    def load_and_migrate(state: Any) -> None:
        load(state)
        server.migrate_records()

    kinesis.load_persisted_state = load_and_migrate
    kinesis.handle_request = server.answer
    kinesis._shard_out = shards.describe
    kinesis._next_sequence_number = server._store.sequence.next
    return server


def _stream(request: dict[str, Any]) -> Stream:
    name, stream = kinesis._resolve_stream(request)
    if stream is None:
        raise not_found(f"Stream {name}")
    return stream  # type: ignore[no-any-return]


def _correct_answer(action: str, request: dict[str, Any], answer: dict[str, Any], cbor: bool) -> bytes:
    """Apply the filter of ListShards and count only open shards: ministack has no closed shards."""
    stream = _stream(request) if "NextToken" not in request else None
    if action == "DescribeStreamSummary" and stream is not None:
        answer["StreamDescriptionSummary"]["OpenShardCount"] = len(shards.open_shards(stream["shards"]))
    elif stream is not None and request.get("ShardFilter"):
        names = set(shards.matching(stream["shards"], request["ShardFilter"]))
        answer["Shards"] = [shard for shard in answer["Shards"] if shard["ShardId"] in names]
    return encode(answer, cbor=cbor)


def _saved(answer: dict[str, Any]) -> dict[str, Any]:
    """Save ministack's state of the streams after a change, so that a kill of the process does not lose it."""
    persistence.save_state("kinesis", kinesis.get_state())
    return answer


def _reply(status: int, body: bytes, cbor: bool, error: str = "") -> Answer:
    content = "application/x-amz-cbor-1.1" if cbor else "application/x-amz-json-1.1"
    return status, {"Content-Type": content} | ({"x-amzn-errortype": error} if error else {}), body


def _base64(data: Any) -> str:
    if isinstance(data, bytes):
        return base64.b64encode(data).decode()
    raise ValueError(f"Data must be bytes: {data!r}")


async def _push(subscription: Subscription, send: Callable[[Any], Awaitable[None]], receive: Callable[[], Any]) -> None:
    async def send_chunk(data: bytes) -> None:
        await send({"type": "http.response.body", "body": data, "more_body": True})

    async def wait_for_disconnect() -> None:
        while (await receive()).get("type") != "http.disconnect":
            pass

    disconnected = asyncio.ensure_future(wait_for_disconnect())
    try:
        await subscription.run(send_chunk, disconnected)
    finally:
        disconnected.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def main() -> None:
    """Run ministack, which reads its settings from environment variables."""
    install(Path(persistence.STATE_DIR) / "records")
    app.main()


if __name__ == "__main__":
    main()
