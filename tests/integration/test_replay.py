"""`cdcctl replay` equals a simple model, does not disturb the live consumer, and can be undone."""

import hashlib
import json
import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from cdcctl.replay.request import new_folder
from cdcctl.tail.printers import JsonLines
from cdckit.change import Change
from cdckit.position import Position
from cdckit.runtime.settings import Settings
from consumers.kcl.leases import LeaseTable
from consumers.stream.shards import list_shards, parents
from consumers.stream.start import EARLIEST
from tests.support.calling import Caller
from tests.support.fault_proxy import FaultProxy
from tests.support.mixed_stream import MixedStream
from tests.support.resharding_aws import ReshardingCloud

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def filled(resharding_aws: ReshardingCloud) -> MixedStream:
    made = MixedStream(resharding_aws, random.Random(11))
    made.fill(40)
    return made


@pytest.fixture
def mixed(
    filled: MixedStream, resharding: ReshardingCloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> MixedStream:
    application = f"r{hashlib.md5(str(tmp_path).encode()).hexdigest()[:12]}"
    for name, value in {"STREAM": filled.stream, "DATA": str(tmp_path), "APP_PREFIX": application}.items():
        monkeypatch.setenv(f"CDC_{name}", value)
    monkeypatch.chdir(tmp_path)
    return filled


@pytest.fixture
def leases(mixed: MixedStream, monkeypatch: pytest.MonkeyPatch) -> LeaseTable:
    """An audit consumer that read the whole stream and was stopped."""
    table = LeaseTable(f"{os.environ['CDC_APP_PREFIX']}-audit")
    shards = list_shards(mixed.stream)
    table.seed(EARLIEST.seeds(shards))
    newest = {}
    for shard in shards:
        ended = "EndingSequenceNumber" in shard["SequenceNumberRange"]
        newest[shard["ShardId"]] = "SHARD_END" if ended else of_shard(mixed, shard["ShardId"])[-1]["SequenceNumber"]
    table.rewind(newest, [])
    return table


def of_shard(mixed: MixedStream, shard: str) -> list[Any]:
    kinesis = mixed.cloud.client("kinesis")
    iterator = kinesis.get_shard_iterator(
        StreamName=mixed.stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]  # fmt: skip
    found: list[Any] = []
    while iterator:
        answer = kinesis.get_records(ShardIterator=iterator)
        found += answer["Records"]
        iterator = answer.get("NextShardIterator") if answer["MillisBehindLatest"] else None
    return found


def held(folder: Path) -> list[str]:
    """The positions that an audit log holds."""
    with closing(sqlite3.connect(next((folder / "audit").glob("*.sqlite")))) as log:
        rows = log.execute("SELECT position FROM entry").fetchall()
    return sorted(str(Position.from_sort_key(position)) for (position,) in rows)


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ([], lambda _: True),
        (["--table", "lines", "--where", "id <= 10"], lambda one: one.table.name == "lines" and one.key["id"] <= 10),
    ],
)
def test_isolated_and_stdout_equal_a_plain_reading(
    mixed: MixedStream, cdcctl: Caller, tmp_path: Path, flags: list[str], wanted: Callable[[Change], bool]
) -> None:
    answer = json.loads(cdcctl("replay", "audit", "--from", "earliest", *flags, "-o", "json").stdout)
    assert held(Path(answer["folder"])) == mixed.positions(wanted)
    assert answer["applied"] == len(mixed.positions(wanted))
    assert answer["dead_lettered"] == 3
    assert answer["complete"]
    printed = cdcctl("replay", "stdout", "--from", "earliest", *flags).objects
    assert sorted(one["position"] for one in printed if "position" in one) == mixed.positions(wanted)
    [listed] = json.loads(cdcctl("replay", "ls", "-o", "json").stdout)
    assert listed["folder"] == answer["folder"]


def test_two_that_begin_in_one_second_have_a_folder_each(tmp_path: Path) -> None:
    settings = Settings(data=str(tmp_path))
    assert len({new_folder(settings, "audit") for _ in range(3)}) == 3


def test_a_range_by_lsn(mixed: MixedStream, cdcctl: Caller) -> None:
    ordered = sorted(mixed.changes(), key=lambda one: one.position)
    first, last = ordered[30].position, ordered[90].position
    answer = json.loads(
        cdcctl("replay", "audit", "--from", str(first.commit_lsn), "--to", str(last.commit_lsn), "-o", "json").stdout
    )
    assert held(Path(answer["folder"])) == mixed.positions(lambda one: first <= one.position <= last)


def test_cut_off_it_goes_on(
    mixed: MixedStream, cdcctl: Caller, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from consumers.replay import shadow as module
    from consumers.worker.shard import ShardWorker

    monkeypatch.setattr(module, "_SAVE_SECONDS", 0.0)
    wrong = Path(tmp_path / "into")
    real = ShardWorker.process
    calls = 0

    def dying(self: Any, *arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        real(self, *arguments)

    monkeypatch.setattr(ShardWorker, "process", dying)
    cdcctl("replay", "audit", "--from", "earliest", "--into", str(wrong), status=130)
    before = held(wrong)
    assert 0 < len(before) < len(mixed.entries)
    answer = json.loads(cdcctl("replay", "audit", "--resume", str(wrong), "-o", "json").stdout)
    assert held(wrong) == mixed.positions()
    assert answer["complete"]
    assert answer["applied"] == len(mixed.entries)
    assert "is complete" in cdcctl("replay", "audit", "--resume", str(wrong), status=2).stderr


def test_stdout_cut_off_goes_on_behind_its_last_line(
    mixed: MixedStream, cdcctl: Caller, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real, pages = JsonLines.show, 0

    def interrupted(self: JsonLines, seen: Any) -> None:
        nonlocal pages
        pages += 1
        real(self, seen)
        if pages == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(JsonLines, "show", interrupted)
    first = cdcctl("replay", "stdout", "--from", "earliest", "--table", "orders", status=130)
    [kept] = (tmp_path / "replays").iterdir()
    assert f"cdcctl replay stdout --resume {kept}" in " ".join(first.stderr.split())
    assert (
        "--resume cannot be combined"
        in cdcctl("replay", "stdout", "--resume", str(kept), "--from", "1m", status=2).stderr
    )
    second = cdcctl("replay", "stdout", "--resume", str(kept))
    found = [one["position"] for one in (*first.objects, *second.objects) if "position" in one]
    assert 0 < len(first.objects) < len(found)
    assert sorted(found) == mixed.positions(lambda one: one.table.name == "orders")
    assert not kept.exists(), "nothing is left to do"


def test_a_dry_run_reads_samples_and_writes_nothing(mixed: MixedStream, cdcctl: Caller, tmp_path: Path) -> None:
    answer = json.loads(cdcctl("replay", "audit", "--from", "earliest", "--dry-run", "-o", "json").stdout)
    counts = {shard["ShardId"]: len(of_shard(mixed, shard["ShardId"])) for shard in list_shards(mixed.stream)}
    assert {one["shard"]: one["records"] for one in answer["shards"]} == {k: v for k, v in counts.items() if v}
    assert all(one["exact"] for one in answer["shards"])
    assert not list(tmp_path.iterdir())


def test_isolated_never_writes_to_the_live_consumer_s_tables(
    mixed: MixedStream, leases: LeaseTable, cdcctl: Caller, resharding: ReshardingCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = leases.items()
    with FaultProxy(resharding.kinesis) as kinesis, FaultProxy(resharding.dynamodb) as dynamodb, renewing(leases):
        monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", kinesis.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", dynamodb.url)
        cdcctl("replay", "audit", "--from", "earliest")
        assert not dynamodb.counts
        asked = {name for name, count in kinesis.counts.items() if count}
        assert asked <= {"ListShards", "GetShardIterator", "GetRecords", "DescribeStreamSummary"}
    monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", resharding.kinesis)
    leases.restore(before or [])
    cdcctl("replay", "audit", "--from", "earliest", "--into", "again")
    assert by_key(leases.items()) == by_key(before), "with the consumer stopped: byte-identical"


def test_in_place_refuses_under_a_live_worker_and_can_be_undone(
    mixed: MixedStream, leases: LeaseTable, cdcctl: Caller
) -> None:
    before = by_key(leases.items())
    with renewing(leases):
        refused = cdcctl("replay", "audit", "--from", "earliest", "--in-place", status=5)
        assert "holds a live lease" in refused.stderr
        assert "Ctrl-C" in refused.stderr
    leases.restore(before.values())
    rewind = ("replay", "audit", "--from", "earliest", "--in-place", "-o", "json")
    planned = json.loads(cdcctl(*rewind, "--dry-run").stdout)
    assert by_key(leases.items()) == before
    done = json.loads(cdcctl(*rewind).stdout)
    roots = {shard["ShardId"] for shard in list_shards(mixed.stream) if not parents(shard)}
    assert done["rewound"] == planned["rewound"] == dict.fromkeys(roots, "TRIM_HORIZON")
    assert {shard: lease.checkpoint for shard, lease in (leases.read() or {}).items()} == done["rewound"]
    cdcctl("replay", "undo", "audit")
    assert by_key(leases.items()) == before, "byte-identical"
    assert "nothing of audit" in cdcctl("replay", "undo", "audit", status=2).stderr


def test_a_swap_changes_places_and_is_undone(
    mixed: MixedStream, leases: LeaseTable, cdcctl: Caller, tmp_path: Path
) -> None:
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / ".store-id").write_text("mine\n")
    before = by_key(leases.items())
    cdcctl("replay", "audit", "--from", "earliest", "--table", "lines", "--into", "part")
    assert "is incomplete" in cdcctl("replay", "swap", "audit", "part", "--yes", status=2).stderr
    cdcctl("replay", "audit", "--from", "earliest", "--into", "whole")
    cdcctl("replay", "swap", "audit", "whole", "--yes")
    assert held(tmp_path) == mixed.positions()
    assert (tmp_path / "audit" / ".store-id").read_text() == "mine\n", "the claim is the consumer's"
    assert {one: lease.checkpoint for one, lease in (leases.read() or {}).items()} == {
        one: item["checkpoint"]["S"] for one, item in before.items()
    }
    cdcctl("replay", "undo", "audit")
    assert [path.name for path in (tmp_path / "audit").iterdir()] == [".store-id"]
    assert by_key(leases.items()) == before


def by_key(items: Any) -> dict[str, Any]:
    return {item["leaseKey"]["S"]: item for item in items or []}


@contextmanager
def renewing(table: LeaseTable) -> Iterator[None]:
    """Renews a lease as a live worker does."""
    ended = threading.Event()
    shard, lease = next(iter((table.read() or {}).items()))

    def renew() -> None:
        while not ended.wait(0.3):
            table.rewind({shard: lease.checkpoint}, [])

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        time.sleep(0.5)
        yield
    finally:
        ended.set()
        thread.join()
