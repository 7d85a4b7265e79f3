"""``cdcctl tail -o jsonl``, compared with a bare GetRecords loop on the same stream; and the time until a commit shows.

The loop reads both shards in turn, as fast as they answer, and counts the records; ``cdcctl tail`` unpacks, decodes
and writes each record as JSON to a file. Both run in this process in alternating rounds. The row is the round with the
median ratio, because the local AWS and other processes use a varying share of the cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Any

from benchmarks import Row
from benchmarks.search_latency import at_share, environment, milliseconds, running, watch
from benchmarks.stdio import lines
from cdcctl.main import build
from cdcctl.sandbox import aws
from producer.postgres.connection import Source
from tests.support.postgres import open_folder

_PER_REQUEST = 500
_ROUNDS = 5
_CHANGES_PER_SECOND = 200


def rows(quick: bool) -> Iterator[Row]:
    """Throughput, then latency."""
    yield _throughput(12_000 if quick else 200_000)
    yield from _latency(5 if quick else 40)


def _throughput(count: int) -> Row:
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        cloud = aws.create(Path(name))
        stack.callback(cloud.start().stop)
        stack.enter_context(environment({**cloud.environ, "CDC_STREAM": "bench", "CDC_CONFIG": f"{name}/none.toml"}))
        Path(name, "none.toml").write_text("")
        client = _filled(count)
        rounds = sorted((_round(client, count, Path(name, "shown.jsonl")) for _ in range(_ROUNDS)), key=_ratio)
    bare, ours = rounds[_ROUNDS // 2]
    seen = f"-o jsonl, two shards, {_ROUNDS} rounds: {_ratio(rounds[0]):.2f} to {_ratio(rounds[-1]):.2f}"
    return Row("tail.throughput_vs_getrecords", count / ours, count / bare, "records/s", note=seen)


def _round(client: Any, count: int, shown: Path) -> tuple[float, float]:
    """The seconds of both sides; each must have had every record."""
    started = time.monotonic()
    assert _bare(client) == count
    between = time.monotonic()
    _tail(shown)
    ended = time.monotonic()
    with shown.open() as file:
        assert sum(1 for _ in file) == count
    return between - started, ended - between


def _ratio(found: tuple[float, float]) -> float:
    return found[0] / found[1]


def _filled(count: int) -> Any:
    import boto3

    client = boto3.client("kinesis")
    client.create_stream(StreamName="bench", ShardCount=2)
    client.get_waiter("stream_exists").wait(StreamName="bench", WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    for message in lines(count):
        made = json.loads(message)["records"]
        entries: list[Any] = [
            {"Data": b64decode(record["data"]), "PartitionKey": record["partitionKey"]} for record in made
        ]
        for start in range(0, len(entries), _PER_REQUEST):
            answer = client.put_records(StreamName="bench", Records=entries[start : start + _PER_REQUEST])
            assert not answer["FailedRecordCount"]
    return client


def _bare(client: Any) -> int:
    iterators = [
        client.get_shard_iterator(
            StreamName="bench", ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        for shard in client.list_shards(StreamName="bench")["Shards"]
    ]  # fmt: skip
    count = 0
    while iterators:
        answer = client.get_records(ShardIterator=iterators.pop(0), Limit=10_000)
        count += len(answer["Records"])
        if answer["MillisBehindLatest"]:
            iterators.append(answer["NextShardIterator"])
    return count


def _tail(shown: Path) -> None:
    with shown.open("w") as file, redirect_stdout(file):
        build()(["tail", "--from-beginning", "--no-follow", "-o", "jsonl"], standalone_mode=False)


def _latency(seconds: int) -> Iterator[Row]:
    """Lower is better; compared with a bare reader of the stream, five reads per second on each shard."""
    with open_folder() as folder, running(folder) as source:
        shown, seen = _measure(source, seconds)
    note = f"commit to a line on a pipe, full pipeline at {_CHANGES_PER_SECOND} changes/s, {len(shown)} changes"
    for name, share in (("p50", 0.50), ("p99", 0.99)):
        yield Row(f"tail.commit_to_shown_{name}", at_share(shown, share), at_share(seen, share), "ms", "lower", note)


def _measure(source: Source, seconds: int) -> tuple[list[float], list[float]]:
    committed: dict[int, float] = {}
    shown: dict[int, float] = {}
    seen: dict[int, float] = {}
    done = threading.Event()
    command = [sys.executable, "-m", "cdcctl.main", "tail", "--table", "notes", "-o", "jsonl"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as tail:
        threads = [
            threading.Thread(target=_read, args=(tail, shown)),
            threading.Thread(target=watch, args=(seen, done.is_set)),
        ]
        for thread in threads:
            thread.start()
        number = 0
        while not shown or not seen:  # the producer and the tail are starting
            number -= 1
            source.query("INSERT INTO notes VALUES (%s, %s)", (number, f"probe{-number}x"))
            time.sleep(0.3)
        shown.clear()
        seen.clear()
        time.sleep(1)
        started = time.monotonic()
        for number in range(1_000_000, 1_000_000 + seconds * _CHANGES_PER_SECOND):
            source.query("INSERT INTO notes VALUES (%s, %s)", (number, f"probe{number}x"))
            committed[number] = time.monotonic()
            time.sleep(max(0.0, started + (number - 1_000_000) / _CHANGES_PER_SECOND - time.monotonic()))
        time.sleep(3)
        done.set()
        tail.terminate()
        for thread in threads:
            thread.join()
    assert shown.keys() >= committed.keys() <= seen.keys(), "every change arrives"
    return [[milliseconds(where[number] - at) for number, at in committed.items()] for where in (shown, seen)]  # type: ignore[return-value]


def _read(tail: subprocess.Popen[bytes], shown: dict[int, float]) -> None:
    assert tail.stdout is not None
    for line in tail.stdout:
        shown[json.loads(line)["key"]["id"]] = time.monotonic()
