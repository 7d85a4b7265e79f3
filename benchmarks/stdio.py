"""Plays the MultiLangDaemon for one Python child process: the maximum rate of a shard's process."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cdckit.envelope import VERSION, Metadata, inject

BATCH = 1000
SHARD = "shardId-000000000000"


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: records per second, and the child's resident memory in MB at its end."""

    rate: float
    rss_mb: float


def lines(count: int, first: int = 1, keys: int = 20_000) -> Iterable[bytes]:
    """``processRecords`` messages of updates of ``public.orders``, about 400 bytes each."""
    for start in range(first, first + count, BATCH):
        records = [_record(number, keys) for number in range(start, min(start + BATCH, first + count))]
        yield json.dumps({"action": "processRecords", "records": records, "millisBehindLatest": 0}).encode() + b"\n"


def run(
    command: Sequence[str], environ: Mapping[str, str], messages: Sequence[bytes], records: int, shard: str = SHARD
) -> Measured:
    """Start the child, send the messages one by one, and time them (without the start and the first message)."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, **environ},
    ) as child:  # fmt: skip
        daemon = _Daemon(child)
        opening = {"action": "initialize", "shardId": shard, "sequenceNumber": "0", "subSequenceNumber": 0}
        daemon.ask(json.dumps(opening).encode() + b"\n")
        daemon.ask(messages[0])
        started = time.monotonic()
        for message in messages[1:]:
            daemon.ask(message)
        daemon.ask(b'{"action":"shutdownRequested"}\n')
        seconds = time.monotonic() - started
        status = Path(f"/proc/{child.pid}/status").read_text()
        assert child.stdin is not None
        child.stdin.close()
        child.wait(30)
    rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    return Measured((records - BATCH) / seconds, rss / 1024)


BARE = """
import sys
from amazon_kclpy import kcl
from amazon_kclpy.v3 import processor
class Counting(processor.RecordProcessorBase):
    count = 0
    def initialize(self, i): pass
    def process_records(self, i):
        for record in i.records: record.binary_data; self.count += 1
    def lease_lost(self, i): pass
    def shard_ended(self, i): i.checkpointer.checkpoint()
    def shutdown_requested(self, i): i.checkpointer.checkpoint()
kcl.KCLProcess(Counting()).run()
"""


def bare() -> list[str]:
    """A kclpy processor that only counts."""
    return [sys.executable, "-c", BARE]


class _Daemon:
    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        self._in, self._out = child.stdin, child.stdout

    def ask(self, message: bytes) -> None:
        """Send a message, and answer checkpoints until the child reports its end."""
        self._in.write(message)
        self._in.flush()
        while line := self._out.readline():
            if not line.strip():
                continue
            answer = json.loads(line)
            if answer["action"] == "status":
                return
            place = {"sequenceNumber": answer["sequenceNumber"], "subSequenceNumber": answer["subSequenceNumber"]}
            self._in.write(json.dumps({"action": "checkpoint", **place, "error": None}).encode() + b"\n")
            self._in.flush()
        raise RuntimeError("the child ended")


def _record(number: int, keys: int) -> dict[str, object]:
    key = number % keys
    row = (
        '{"action":"%s","xid":%d,"timestamp":"2026-11-24 04:14:15.123456+00","lsn":"0/%X","schema":"public",'
        '"table":"orders","columns":[{"name":"id","type":"bigint","value":%d},{"name":"customer","type":"integer",'
        '"value":%d},{"name":"status","type":"text","value":"paid %d"},{"name":"total","type":"numeric(10,2)",'
        '"value":%d.25},{"name":"note","type":"text","value":"a few words about order %d"}],%s'
        '"pk":[{"name":"id","type":"bigint"}]}'
    ) % (
        "I" if number <= keys else "U", number, number * 64, key, number % 977, number % 7, number % 1000, number,
        "" if number <= keys else '"identity":[{"name":"id","type":"bigint","value":%d}],' % key,
    )  # fmt: skip
    data = inject(row.encode(), Metadata(VERSION, 1, f"0/{number * 64 + 8:X}", 0, "main"))
    return {
        "action": "record", "data": base64.b64encode(data).decode(), "partitionKey": f"main/public.orders/[{key}]",
        "sequenceNumber": str(10**55 + number), "subSequenceNumber": 0, "approximateArrivalTimestamp": 1795000000000,
    }  # fmt: skip
