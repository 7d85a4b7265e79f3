"""The lake on object storage: exactly-once commits by conditional put, queries, compaction, the lease lock."""

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

from cdcctl.main import build
from cdckit.errors import SatelliteError
from cdckit.sink import Outcome, Sink, SinkContext
from cdckit.testing import change, deliver
from consumers.parquet.lake import Lake
from consumers.parquet.maintain.compaction import CompactionPolicy, compact_table
from consumers.parquet.maintain.lease_lock import lease_lock
from consumers.parquet.read.catalog import find_tables
from consumers.parquet.read.current_rows import current_rows
from consumers.parquet.read.query import connect
from consumers.parquet.sink import open_sink
from tests.support.local_aws import Cloud

pytestmark = pytest.mark.integration
_numbers = itertools.count(1)
A, B = "shardId-000000000000", "shardId-000000000001"


@pytest.fixture
def url(cloud: Cloud) -> Iterator[str]:
    """A fresh bucket's prefix."""
    client: Any = boto3.client("s3")
    name = f"lake-{next(_numbers)}"
    client.create_bucket(Bucket=name)
    yield f"s3://{name}/a b/lake"
    client.close()


def sink(url: str, shard: str = A, **options: object) -> Sink:
    return open_sink(SinkContext("parquet", shard, Path("/nonexistent"), {"url": url, "compact": False, **options}))


def test_two_writers_of_one_table_lose_and_duplicate_nothing(url: str) -> None:
    outcomes: dict[str, Outcome] = {}

    def work(shard: str, first: int) -> None:
        writer = sink(url, shard)
        total = Outcome()
        for at in range(first, first + 20, 2):
            total += deliver(writer, change("I", at, {"n": at}, at=at), change("T", at=1000), shard=shard)
        outcomes[shard] = total

    threads = [threading.Thread(target=work, args=(shard, first)) for shard, first in ((A, 1), (B, 2))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes[A] + outcomes[B] == Outcome(applied=21, superseded=19), "20 inserts, one truncate of every shard"
    connection = connect(url)
    answer = connection.sql("SELECT count(*), count(DISTINCT _position) FROM orders_changes").fetchall()
    assert answer == [(21, 21)]


def test_merging_reading_and_redelivery(url: str) -> None:
    changes = [change("I", at, {"n": at}, at=at) for at in range(1, 31)]
    writer = sink(url)
    assert not hasattr(writer, "embedded_in"), "several hosts may write it"
    for item in changes:
        deliver(writer, item)
    lake = Lake.at(url)
    [ref] = find_tables(lake, ["orders"])
    done = compact_table(lake, ref, CompactionPolicy())
    assert (done.files_before, done.files_after) == (30, 1)
    assert deliver(sink(url), *changes) == Outcome(superseded=30)
    assert deliver(writer, change("D", 7, at=40)) == Outcome(applied=1)
    assert len(dict(current_rows(url, "main", ref.table))) == 29
    assert connect(url).sql("SELECT sum(n) FROM orders").fetchall() == [(sum(range(1, 31)) - 7,)]


def test_one_host_merges_at_a_time_and_an_expired_lease_is_taken_over(url: str) -> None:
    deliver(sink(url), change("I", 1, {"n": 1}, at=1))
    deliver(sink(url), change("I", 2, {"n": 2}, at=2))
    lake = Lake.at(url)
    [ref] = find_tables(lake, ["orders"])
    bucket, path = lake.bucket, f"{ref.path}/_upkeep.lock"
    assert bucket is not None
    with lease_lock(bucket, path):
        with pytest.raises(SatelliteError, match="another process holds the lease"):
            compact_table(lake, ref, CompactionPolicy())
        with pytest.raises(SatelliteError), lease_lock(bucket, path):
            pass
    assert bucket.version(path) is None, "released"
    assert bucket.put_if(path, b"left by a kill") is not None
    with pytest.raises(SatelliteError), lease_lock(bucket, path):
        pass
    while (left := bucket.version(path)) is None or left.age_seconds <= 0.5:
        threading.Event().wait(0.1)
    with lease_lock(bucket, path, seconds=0.5):
        taken = bucket.version(path)
        assert taken is not None
        assert taken.etag != left.etag
    assert compact_table(lake, ref, CompactionPolicy()).files_after == 1


def test_a_held_lease_is_renewed(url: str) -> None:
    bucket = Lake.at(url).bucket
    assert bucket is not None
    with lease_lock(bucket, "lock", seconds=0.2):
        tags = {bucket.version("lock")}
        while len({found.etag for found in tags if found}) < 3:
            threading.Event().wait(0.02)
            tags.add(bucket.version("lock"))
    assert bucket.version("lock") is None


def test_partitions_of_any_text(url: str) -> None:
    regions = ["eu", "a b/=ü%", None]
    changes = [change("I", at, {"region": region}, at=at) for at, region in enumerate(regions, 1)]
    deliver(sink(url, partition_by="region"), *changes)
    assert connect(url).sql("SELECT region FROM orders ORDER BY id").fetchall() == [(region,) for region in regions]
    assert deliver(sink(url), *changes) == Outcome(superseded=3)


def test_the_commands_use_the_url_setting(url: str, tmp_path: Any) -> None:
    deliver(sink(url), change("I", 1, {"n": 1}, at=1))
    (tmp_path / "cdc.toml").write_text(f'[consumers.parquet]\nurl = "{url}"\n')
    environ = {"CDC_CONFIG": str(tmp_path / "cdc.toml")}
    shown = CliRunner().invoke(build(), ["parquet", "ls", "-o", "csv"], env=environ)
    assert (shown.exit_code, shown.stdout.splitlines()[1][:22]) == (0, "main,public.orders,1,1")


def test_the_error_for_a_missing_bucket_names_it(cloud: Cloud) -> None:
    writer = sink("s3://no-such-bucket/lake")
    with pytest.raises(SatelliteError, match="no-such-bucket"):
        deliver(writer, change("I", 1, at=1))
    with pytest.raises(SatelliteError, match="no-such-bucket"):
        connect("s3://no-such-bucket/lake")
