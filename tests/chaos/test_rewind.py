"""Replays with the real KCL across a split and a merge: beside a live consumer, and in place."""

import hashlib
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cdcctl.demo.child_processes import ChildProcesses
from cdckit.change import Table
from cdckit.testing import MemorySink, deliver
from consumers.kcl.leases import LeaseTable
from consumers.replay import rewind
from consumers.replica.sqlite import REPLICA_FILE as REPLICA
from consumers.stream import points
from consumers.stream.shards import list_shards, parents
from tests.chaos.recording_sink import delivered
from tests.chaos.test_kit import wait_until
from tests.support.calling import Caller
from tests.support.kcl_parts import parts_in
from tests.support.mixed_stream import MixedStream
from tests.support.resharding_aws import ReshardingCloud
from tests.support.wire_tap import WireTap

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]
SINK = ("--sink", "tests.chaos.recording_sink:open_sink")
SLACK = timedelta(seconds=2)
READING = {
    f"kinesis:{name}" for name in ("ListShards", "GetShardIterator", "GetRecords", "DescribeStreamSummary")
}  # fmt: skip


@pytest.fixture
def parts(tmp_path: Path, resharding: ReshardingCloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChildProcesses]:
    with parts_in(tmp_path, resharding, monkeypatch) as made:
        yield made


def test_beside_a_live_consumer_and_in_its_place(
    tmp_path: Path, resharding: ReshardingCloud, parts: ChildProcesses, cdcctl: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (points, rewind):
        monkeypatch.setattr(module, "SLACK", SLACK)  # a minute is too long for a test
    mixed = MixedStream(resharding, random.Random(12))
    monkeypatch.setenv("CDC_STREAM", mixed.stream)
    monkeypatch.setenv("CDC_APP_PREFIX", mixed.stream)
    mixed.put(30)
    time.sleep(1.5 * SLACK.total_seconds())
    since = datetime.now(UTC)
    mixed.fill(30)
    wanted = set(mixed.positions(lambda one: one.commit_time >= since))
    folder, leases = tmp_path / "replica", LeaseTable(f"{mixed.stream}-replica")

    parts.start("replica", ["consumer", "run", "replica", *SINK])
    wait_until(lambda: {position for _, position in delivered(folder)} >= set(mixed.positions()), 180, parts)
    held, counters = (digests(folder), checkpoints(leases)), leases.read()
    with taps(resharding, monkeypatch) as (kinesis, dynamodb):
        answer = cdcctl("replay", "replica", *SINK, "--from", "earliest", "-o", "json").objects[0]
    assert (kinesis - READING, dynamodb) == (set(), set())
    assert replica(Path(answer["folder"]) / "replica") == model(mixed)
    assert (digests(folder), checkpoints(leases)) == held
    assert leases.read() != counters, "its worker was live the whole time"
    parts.stop()

    before = by_shard(leases)
    children = {shard["ShardId"] for shard in list_shards(mixed.stream) if parents(shard)}
    answer = cdcctl("replay", "replica", *SINK, "--from", since.isoformat(), "--in-place", "-o", "json").objects[0]
    assert set(answer["removed"]) == children == before.keys() - answer["rewound"].keys()
    assert all(checkpoint.isdigit() for checkpoint in answer["rewound"].values()), (
        "a record before the time, not the beginning"
    )
    first_time = len(delivered(folder))
    parts.start("replica", ["consumer", "run", "replica", *SINK])
    wait_until(lambda: {position for _, position in delivered(folder)[first_time:]} >= wanted, 180, parts)
    assert out_of_order(delivered(folder)[first_time:], mixed.stream) == []
    assert replica(folder) == model(mixed)
    parts.stop()
    assert by_shard(leases) != before
    cdcctl("replay", "undo", "replica")
    assert by_shard(leases) == before, "byte-identical"


@contextmanager
def taps(cloud: ReshardingCloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[set[str], set[str]]]:
    """Which calls this process makes to Kinesis and DynamoDB; complete after the block."""
    calls = set[str](), set[str]()
    with WireTap(cloud.kinesis) as kinesis, WireTap(cloud.dynamodb) as dynamodb, monkeypatch.context() as changed:
        changed.setenv("AWS_ENDPOINT_URL_KINESIS", kinesis.url)
        changed.setenv("AWS_ENDPOINT_URL_DYNAMODB", dynamodb.url)
        yield calls
        for names, tap in zip(calls, (kinesis, dynamodb), strict=True):
            names |= {call.action for call in tap.calls}
    assert calls[0], "the tap sees calls"


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def checkpoints(leases: LeaseTable) -> dict[str, str]:
    return {shard: lease.checkpoint for shard, lease in (leases.read() or {}).items()}


def by_shard(leases: LeaseTable) -> dict[str, Any]:
    return {item["leaseKey"]["S"]: item for item in leases.items() or []}


def out_of_order(again: list[tuple[str, str]], stream: str) -> list[tuple[str, str]]:
    """Pairs of child and parent where a record of the child was delivered before the parent's last one."""
    first, last = {shard: at for at, (shard, _) in reversed(list(enumerate(again)))}, dict[str, int]()
    for at, (shard, _) in enumerate(again):
        last[shard] = at
    return [
        (shard["ShardId"], parent)
        for shard in list_shards(stream)
        for parent in parents(shard)
        if first.get(shard["ShardId"], len(again)) < last.get(parent, -1)
    ]


def replica(folder: Path) -> dict[tuple[str, str], object]:
    with closing(sqlite3.connect(f"{(folder / REPLICA).as_uri()}?mode=ro", uri=True)) as database:
        return {
            (table, key): value
            for table in ("orders", "lines")
            for key, value in database.execute(f"SELECT _cdc_key, value FROM {table}")
        }


def model(mixed: MixedStream) -> dict[tuple[str, str], object]:
    memory = MemorySink()
    deliver(memory, *sorted((entry.change for entry in mixed.entries), key=lambda one: one.position))
    found = dict[tuple[str, str], object]()
    for row_id, row in memory.rows.items():
        _, table, key = row_id.split("/", 2)
        found[Table.parse(table).name, key] = row["value"]
    return found
