"""A Kinesis stub that only counts: it answers PutRecords as fast as one process can, so that producers are measured.

``python -m benchmarks.put_stub PORT [--keep]``. GET /figures returns ``{"records", "requests", "bytes", "first",
"last"}`` (times of the first and last request, in Unix seconds) and resets them. With --keep, GET /records returns
every record with its arrival time. --unpack counts the changes inside aggregated records. --file PATH appends the
length and body of each request. Every local AWS becomes slower the more it stores; this one stores nothing by default.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import IO

from pybase64 import b64decode

_SHARD = "shardId-000000000000"
_TOP = 2**128 - 1
_PUT_RECORD_ANSWER = (
    b'{"SequenceNumber":"49671246667567228643283430150187087032206582658","ShardId":"shardId-000000000000"}'
)
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nx-amzn-RequestId: 1\r\nContent-Length: %d\r\n\r\n"
)


class Figures:
    """What arrived since the last GET /figures."""

    def __init__(self, keep: bool, unpack: bool, file: IO[bytes] | None = None) -> None:
        self.keep, self.unpack, self.file = keep, unpack, file
        self.bodies: list[tuple[float, bytes]] = []
        self.tags: dict[str, str] = {}
        self.reset()

    def reset(self) -> None:
        self.records = self.requests = self.bytes = 0
        self.first = self.last = 0.0
        self.bodies.clear()


@lru_cache(maxsize=1024)
def put_answer(count: int) -> bytes:
    record = {"SequenceNumber": "49671246667567228643283430150187087032206582658", "ShardId": _SHARD}
    return json.dumps({"FailedRecordCount": 0, "Records": [record] * count}).encode()


class Connection(asyncio.BufferedProtocol):
    """One persistent HTTP/1.1 connection; a request's body is counted in the receive buffer, without a copy."""

    def __init__(self, figures: Figures) -> None:
        self.figures, self.buffer = figures, bytearray(8 * 1024 * 1024)
        self.filled = self.size = 0
        self.head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 -- asyncio's contract
        if self.filled == len(self.buffer):
            larger = bytearray(2 * self.filled)
            larger[: self.filled] = self.buffer
            self.buffer = larger
        return memoryview(self.buffer)[self.filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self.filled += nbytes
        while self.filled:
            if not self.size:
                end = self.buffer.find(b"\r\n\r\n", 0, self.filled)
                if end < 0:
                    return
                self.head = bytes(self.buffer[:end])
                self.size = end + 4 + int(_header(self.head, b"content-length") or 0)
            if self.filled < self.size:
                return
            answer = self.answer(self.head, len(self.head) + 4, self.size)
            self.transport.write(_HEAD % len(answer) + answer)  # type: ignore[attr-defined]
            rest = self.filled - self.size
            self.buffer[:rest] = self.buffer[self.size : self.filled]
            self.filled, self.size = rest, 0

    def answer(self, head: bytes, start: int, end: int) -> bytes:
        figures = self.figures
        operation = (_header(head, b"x-amz-target") or head.split(b" ", 2)[1]).rpartition(b".")[2]
        if operation == b"PutRecord":
            figures.records, figures.last = figures.records + 1, time.time()
            figures.first = figures.first or figures.last
            return _PUT_RECORD_ANSWER
        if operation == b"PutRecords":
            now, count = time.time(), self.buffer.count(b'"PartitionKey"', start, end)
            changes = _changes(bytes(self.buffer[start:end])) if figures.unpack else count
            figures.records, figures.requests, figures.last = figures.records + changes, figures.requests + 1, now
            figures.first, figures.bytes = figures.first or now, figures.bytes + end - start
            if figures.file is not None:
                figures.file.write((end - start).to_bytes(8))
                figures.file.write(self.buffer[start:end])
                figures.file.flush()
            if figures.keep:
                figures.bodies.append((now, bytes(self.buffer[start:end])))
            return put_answer(count)
        return json.dumps(self.slow_answer(operation.decode(), bytes(self.buffer[start:end]))).encode()

    def slow_answer(self, operation: str, body: bytes) -> object:  # noqa: PLR0911
        figures = self.figures
        if operation == "/figures":
            result = {
                "records": figures.records, "requests": figures.requests, "bytes": figures.bytes,
                "first": figures.first, "last": figures.last,
            }  # fmt: skip
            figures.reset()
            return result
        if operation == "/count":
            return figures.records
        if operation == "/records":
            return [
                (arrival, b64decode(record["Data"]).decode())
                for arrival, text in figures.bodies for record in json.loads(text)["Records"]
            ]  # fmt: skip
        if operation == "AddTagsToStream":
            figures.tags.update(json.loads(body)["Tags"])
            return {}
        if operation == "ListTagsForStream":
            return {"Tags": [{"Key": k, "Value": v} for k, v in figures.tags.items()], "HasMoreTags": False}
        shard = {"ShardId": _SHARD, "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": str(_TOP)},
                 "SequenceNumberRange": {"StartingSequenceNumber": "1"}}  # fmt: skip
        described = {"StreamName": "bench", "StreamARN": "arn:aws:kinesis:us-east-1:000000000000:stream/bench",
                     "StreamStatus": "ACTIVE", "OpenShardCount": 1, "RetentionPeriodHours": 24,
                     "StreamCreationTimestamp": 1.0, "EnhancedMonitoring": []}  # fmt: skip
        if operation == "ListShards":
            return {"Shards": [shard]}
        if operation == "DescribeStream":
            return {"StreamDescription": {**described, "Shards": [shard], "HasMoreShards": False}}
        return {"StreamDescriptionSummary": described}


def _changes(body: bytes) -> int:
    """Changes inside aggregated records: each has one ``cdc`` key."""
    return sum(b64decode(record["Data"]).count(b',"cdc":{"v":') for record in json.loads(body)["Records"])


def _header(head: bytes, name: bytes) -> bytes | None:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip()
    return None


async def serve(port: int, figures: Figures) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(figures), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    with Path(sys.argv[sys.argv.index("--file") + 1] if "--file" in sys.argv else os.devnull).open("ab") as _file:
        _figures = Figures("--keep" in sys.argv, "--unpack" in sys.argv, _file if "--file" in sys.argv else None)
        asyncio.run(serve(int(sys.argv[1]), _figures))
