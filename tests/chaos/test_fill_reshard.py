"""A backfill while the stream is split and merged and refuses records: every row reaches the shard of its key."""

import hashlib
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from cdckit.change import Table
from cdckit.envelope import decode
from cdckit.runtime.settings import Settings
from consumers.stream.reader import StreamReader
from consumers.stream.start import EARLIEST
from producer.records import partition_key
from producer.snapshot.backfill import BackfillRequest, backfill
from producer.snapshot.progress import SnapshotProgress
from tests.chaos.test_producer import caught_up, producing
from tests.support.fault_proxy import FaultProxy, Faults
from tests.support.postgres import Database
from tests.support.resharding_aws import ReshardingCloud
from tests.support.scale import scale

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(scale(300, 3600))]
ROWS, RATE, CHANGED = scale(50_000, 1_000_000), scale(5_000.0, 10_000.0), 2_000


def test_each_row_of_a_backfill_reaches_the_shard_of_its_key(
    postgres: Database, resharding: ReshardingCloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    postgres.run(
        "CREATE TABLE hot (id integer PRIMARY KEY, n integer, note text)",
        f"INSERT INTO hot SELECT i, 0, md5(i::text) FROM generate_series(1, {ROWS}) i",
        "ANALYZE hot",
    )
    postgres.run(f"SELECT pg_create_logical_replication_slot('{postgres.slot}', 'wal2json')")
    stream, told, done = resharding.make_stream(), [SnapshotProgress()], list[bool]()
    settings = Settings(dsn=postgres.dsn, slot=postgres.slot, stream=stream, data=str(tmp_path / "data"))
    asked = BackfillRequest([Table("public", "hot")], where="n = 0", rate=RATE)

    def fill() -> None:
        done.append(backfill(settings, asked, lambda: False, lambda figures: told.append(replace(figures)))[1])

    with FaultProxy(resharding.kinesis, seed=7) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", proxy.url)
        proxy.faults = Faults(reject=0.2, drop=0.05)
        with producing(settings):
            postgres.run(f"UPDATE hot SET n = 1 WHERE id <= {CHANGED}")
            caught_up(postgres, 60)
            thread = threading.Thread(target=fill)
            thread.start()
            for share, reshard in (
                (0.2, partial(resharding.split, number=1)),
                (0.5, partial(resharding.merge, number=0)),
            ):
                while told[-1].rows < share * ROWS:
                    assert thread.is_alive()
                    time.sleep(0.1)
                reshard(stream)
            thread.join()
        counts = dict(proxy.counts)
    monkeypatch.delenv("AWS_ENDPOINT_URL_KINESIS")
    assert done == [True]
    assert told[-1].rows == ROWS - CHANGED
    assert counts["rejected"] > 0
    assert home(resharding, stream) == set(range(CHANGED + 1, ROWS + 1))
    resharding.client("kinesis").delete_stream(StreamName=stream)


def home(resharding: ReshardingCloud, stream: str) -> set[object]:
    """The ids of rows that were read and lie in a shard whose hash range their key belongs to."""
    client, found = resharding.client("kinesis"), set[object]()
    ranges = {
        one["ShardId"]: (int(one["HashKeyRange"]["StartingHashKey"]), int(one["HashKeyRange"]["EndingHashKey"]))
        for one in client.list_shards(StreamName=stream)["Shards"]
    }
    assert len(ranges) > 3, "the stream was not split and merged"
    for page in StreamReader(stream, EARLIEST, stop_when_caught_up=True, client=client).pages():
        low, high = ranges[page.shard]
        for change in (decode(record.data) for record in page.records):
            key = partition_key("main", change.table, change.key)
            if change.annotation and low <= int.from_bytes(hashlib.md5(key.encode()).digest()) <= high:
                found.add(change.key["id"])
    return found
