"""Compaction under a long stream of mixed schema versions: few large files, and the same query results at all times."""

import fcntl
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from cdckit.change import Change, Table, Value
from cdckit.sink import SinkContext
from cdckit.testing import batch, change
from consumers.parquet.lake import Lake, TableRef
from consumers.parquet.maintain.background_compactor import BackgroundCompactor
from consumers.parquet.maintain.compaction import MEGABYTE, CompactionPolicy, compact_table, file_sizes, is_due
from consumers.parquet.read.query import connect, explain_analyze
from consumers.parquet.sink import open_sink
from tests.support.scale import scale

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]
SHARD = "shardId-000000000000"
ORDERS = TableRef("main", Table("public", "orders"))
OLD = {"id": "bigint", "customer": "integer", "note": "text", "total": "numeric(12,2)"}
NEW = {"id": "bigint", "customer": "bigint", "note": "text", "total": "numeric(14,4)", "channel": "text"}
QUESTION = (
    "SELECT count(*), count(DISTINCT _position), sum(customer), sum(total), count(channel), sum(length(note)) "
    "FROM orders_changes WHERE _position <= '{last}'"
)


def mixed(count: int) -> Iterator[Change]:
    """Changes of two schema versions, interleaved as around an ALTER TABLE."""
    chance = random.Random(3)
    for at in range(1, count + 1):
        new = chance.random() < 0.5
        row: dict[str, Value] = {
            "customer": chance.randrange(10_000),
            "note": f"{chance.getrandbits(200):x}",
            "total": at,
        }
        if new:
            row["channel"] = chance.choice(["web", "shop"])
        yield change("I", at, row, at=1 + at // 100_000, index=at, types=NEW if new else OLD)


def write(folder: Path, changes: Iterator[Change], per_flush: int) -> str:
    """Write the changes as one shard does, `per_flush` changes per commit. Returns the last position."""
    sink = open_sink(SinkContext("parquet", SHARD, folder, {"compact": False}))
    pending: list[Change] = []
    last = ""
    for item in changes:
        pending.append(item)
        last = item.position.sort_key
        if len(pending) == per_flush:
            sink.apply(batch(*pending))
            sink.flush()
            pending = []
    assert not pending
    return last


class BackgroundQuery:
    """Runs the same query repeatedly in the background."""

    def __init__(self, folder: Path, question: str) -> None:
        self._folder, self._question = folder, question
        self.answers: list[tuple[Any, ...]] = []
        self.errors: list[BaseException] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self.answers += connect(self._folder).sql(self._question).fetchall()
        except BaseException as error:
            self.errors.append(error)

    def __enter__(self) -> "BackgroundQuery":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def test_two_schema_versions_become_few_files_of_the_target_size(tmp_path: Path) -> None:
    count = scale(100_000, 1_000_000)
    target = scale(400, 4_000) * 1024
    last = write(tmp_path, mixed(count), per_flush=scale(1_000, 5_000))
    question = QUESTION.format(last=last)
    [before] = connect(tmp_path).sql(question).fetchall()
    assert before[0] == before[1] == count
    lake, goal = Lake.at(tmp_path), CompactionPolicy(target)
    assert is_due(lake.open(ORDERS), goal)
    with BackgroundQuery(tmp_path, question) as running:
        writer = threading.Thread(target=write, args=(tmp_path, later(count), 10))
        writer.start()
        done = compact_table(lake, ORDERS, goal)
        writer.join()
    compact_table(lake, ORDERS, goal)
    assert not running.errors
    assert set(running.answers) == {before}, "during"
    assert connect(tmp_path).sql(question).fetchall() == [before], "after"
    assert connect(tmp_path).sql("SELECT count(*) FROM orders_changes").fetchall() == [(count + 100,)]
    sizes = [size for part in file_sizes(lake.open(ORDERS)).values() for size in part]
    near = sum(size for size in sizes if target / 2 <= size <= target * 2)
    assert len(sizes) >= 10
    assert near / sum(sizes) >= 0.95, sizes
    assert done.files_before >= 100
    assert not is_due(lake.open(ORDERS), goal)


def later(count: int) -> Iterator[Change]:
    return (change("I", count + at, {"note": "late"}, at=20, index=count + at) for at in range(1, 101))


def test_sorted_files_are_skipped_by_their_statistics(tmp_path: Path) -> None:
    write(tmp_path, mixed(60_000), per_flush=2_000)
    lake = Lake.at(tmp_path)
    compact_table(lake, ORDERS, CompactionPolicy(256 * 1024))
    by_position = lake.open(ORDERS)
    middle = change("I", 1, at=1, index=30_000).position.sort_key
    assert _read(by_position, ds.field("_position") == middle) == 1, "in the order of the stream"
    assert _read(by_position, ds.field("id") == 30_000) == 1, "ids rise with the stream"
    compact_table(lake, ORDERS, CompactionPolicy(256 * 1024, sort_by=("id",)))
    by_id = lake.open(ORDERS)
    assert len(by_id.file_uris()) >= 4
    assert _read(by_id, ds.field("id") == 30_000) <= 2
    other_day = "SELECT * FROM orders_changes WHERE _commit_date = '2025-12-31'"
    assert "Total Files Read: 0" in explain_analyze(str(tmp_path), other_day)
    assert connect(tmp_path).sql("SELECT count(*) FROM orders").fetchall() == [(60_000,)]


def _read(table: Any, wanted: Any) -> int:
    """The number of files that a reader with the log's statistics (Spark, Trino, Polars, Arrow) has to open."""
    return len(list(table.to_pyarrow_dataset().get_fragments(wanted)))


def test_expired_files_are_deleted_and_readers_of_a_kept_version_lose_none(tmp_path: Path) -> None:
    write(tmp_path, mixed(4_000), per_flush=200)
    lake = Lake.at(tmp_path)
    reader = connect(tmp_path)
    orphan = tmp_path / "main/public/orders/_commit_date=2026-01-01/part-killed.zstd.parquet"
    orphan.write_bytes(b"written, then killed before the commit")
    assert compact_table(lake, ORDERS, CompactionPolicy()).expired == 0, "an hour old at least"
    assert reader.sql("SELECT count(*) FROM orders").fetchall() == [(4_000,)]
    assert len(list(tmp_path.rglob("*.parquet"))) == 22
    table = lake.open(ORDERS)
    assert len(table.vacuum(0, dry_run=False, enforce_retention_duration=False, full=True)) == 21
    assert connect(tmp_path).sql("SELECT count(*) FROM orders").fetchall() == [(4_000,)]


def test_concurrent_merges_duplicate_no_row(tmp_path: Path) -> None:
    """Consumers of several shards find the same small files, and wait for each other. The nemesis found rows twice."""
    write(tmp_path, mixed(4_000), per_flush=200)
    lake = Lake.at(tmp_path)
    with (tmp_path / "main/public/orders/_upkeep.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with ThreadPoolExecutor(3) as pool:
            done = [pool.submit(compact_table, lake, ORDERS, CompactionPolicy()) for _ in range(3)]
            threading.Event().wait(0.5)  # they have opened the table, and wait for the lock
            fcntl.flock(lock, fcntl.LOCK_UN)
    assert sorted(result.result().files_before for result in done) == [1, 1, 20]
    assert connect(tmp_path).sql("SELECT count(*), count(DISTINCT _position) FROM orders_changes").fetchall() == [
        (4_000, 4_000)
    ]


def test_the_consumer_merges_in_the_background(tmp_path: Path) -> None:
    lake = Lake.at(tmp_path)
    write(tmp_path, mixed(20_000), per_flush=500)
    keeper = BackgroundCompactor(lake, CompactionPolicy(128 * MEGABYTE), interval=0.05)
    keeper.schedule(ORDERS)
    for _ in range(200):
        if len(lake.open(ORDERS).file_uris()) == 1:
            break
        threading.Event().wait(0.05)
    keeper.close()
    assert len(lake.open(ORDERS).file_uris()) == 1
    assert connect(tmp_path).sql("SELECT count(*) FROM orders").fetchall() == [(20_000,)]
    assert pa.table(lake.open(ORDERS).get_add_actions(flatten=True))["num_records"].to_pylist() == [20_000]
