"""Each policy that ``cdcctl aws policy`` prints against the calls that the part makes, seen on the wire: none is
missing, and nothing is allowed that nothing needs.

The endpoint is no address of "this machine" to the launcher, so that everything is as on AWS: the KCL makes its own
tables, speaks CBOR over HTTP/2, and tells CloudWatch of itself. Only the waiting times are those of a laptop.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

import boto3
import pytest

from cdcctl.aws import grants
from cdcctl.demo.child_processes import ChildProcesses
from cdckit.change import Op, Table
from cdckit.runtime.settings import Settings
from cdckit.sink import SinkContext
from cdckit.testing import change, deliver
from consumers.kcl.java import find_jars
from consumers.parquet.lake import Lake, TableRef
from consumers.parquet.maintain.compaction import CompactionPolicy, compact_table
from consumers.search.sink import open_sink
from consumers.worker.status import read_reports
from tests.acceptance.conftest import run_cdcctl
from tests.chaos.test_kit import wait_until
from tests.support.histories import history
from tests.support.iam import allows, unused
from tests.support.lambda_function import Function
from tests.support.local_aws import Cloud
from tests.support.opensearch import Node
from tests.support.postgres import Database
from tests.support.wire_tap import Call, WireTap

pytestmark = pytest.mark.acceptance
ACCOUNT = "000000000000"

RARE = {
    "Leases dynamodb:DeleteItem": ("leases/dynamodb/DynamoDBLeaseRefresher", b"deleteItem"),
    "Coordinator dynamodb:UpdateItem": ("coordinator/CoordinatorStateDAO", b"updateItem"),
    "Coordinator dynamodb:Scan": ("coordinator/CoordinatorStateDAO", b"scan"),
    "WorkerMetrics dynamodb:DeleteItem": ("worker/metricstats/WorkerMetricStatsDAO", b"deleteItem"),
}
"""What the KCL does now and then, or minutes after a shard's end and a day after a worker's: who calls it, by name."""
AFTER_A_FAILURE = "Lake s3:AbortMultipartUpload"
"""Given by S3's own rules to who uploads in parts: a part that fails is taken back."""

TELLS_MISSING = "OversizedMissing s3:ListBucket"
"""Never called: without it S3 says of an object that is not there that it is denied."""


def policy(environ: Mapping[str, str], folder: Path, *arguments: str) -> dict[str, Any]:
    made = run_cdcctl("aws", "policy", *arguments, "--account", ACCOUNT, environ=environ, folder=folder)
    assert made.returncode == 0, made.stderr
    loaded: dict[str, Any] = json.loads(made.stdout)
    return loaded


def must_fit(granted: Mapping[str, Any], calls: set[Call], *rare: str) -> None:
    refused = sorted(f"{call.action} {call.resource}" for call in calls if not allows(granted, call))
    assert not refused, f"the policy lacks {refused}"
    assert unused(granted, calls) <= set(rare)


def feed(stream: str, count: int, *, seed: int = 1, broken: bool = False) -> None:
    client = boto3.client("kinesis")
    for entry in islice(history(seed, 50), count):
        client.put_record(StreamName=stream, Data=entry.data, PartitionKey=entry.partition_key)
    if broken:
        client.put_record(StreamName=stream, Data=b"no change", PartitionKey="x")


def test_the_producer_makes_the_calls_that_it_may(
    postgres: Database, cloud: Cloud, stream: str, tmp_path: Path
) -> None:
    postgres.run("CREATE TABLE t (id integer PRIMARY KEY)", f"SELECT 1 -- {stream}")
    boto3.client("secretsmanager").create_secret(Name=f"cdc/{stream}", SecretString=postgres.dsn)
    with WireTap(cloud.url) as tap:
        environ = {
            **cloud.environ, "AWS_ENDPOINT_URL": tap.url, "CDC_DSN_SECRET": f"cdc/{stream}", "CDC_SLOT": postgres.slot,
            "CDC_STREAM": stream, "CDC_LAMBDA_IDLE_SECONDS": "1",
        }  # fmt: skip
        function = Function(environ)
        assert function.invoke().result["status"] == "relayed"
        postgres.run("INSERT INTO t SELECT generate_series(1, 10)")
        assert function.invoke().result["changes"] == 10
    must_fit(policy(environ, tmp_path, "producer"), tap.calls)


def test_an_oversized_change_is_kept_and_fetched_by_who_may(
    postgres: Database, cloud: Cloud, stream: str, tmp_path: Path
) -> None:
    boto3.client("s3").create_bucket(Bucket=f"large-{stream}")
    environ = {
        **cloud.environ, "CDC_SLOT": postgres.slot, "CDC_STREAM": stream, "CDC_LAMBDA_IDLE_SECONDS": "1",
        "CDC_OVERSIZE": f"s3://large-{stream}/o",
    }  # fmt: skip
    with WireTap(cloud.url) as one, WireTap(cloud.url) as two:
        function = Function({**environ, "AWS_ENDPOINT_URL": one.url, "CDC_DSN": postgres.dsn})
        function.invoke()
        postgres.run(
            "CREATE TABLE t (id integer PRIMARY KEY, note text)",
            "INSERT INTO t SELECT 1, string_agg(md5(random()::text), '') FROM generate_series(1, 100000)",
        )
        assert function.invoke().result["changes"] == 1
        reading = {**environ, "AWS_ENDPOINT_URL": two.url}
        arguments = ("--since", "10m", "--no-follow", "-o", "jsonl", "--columns", "id")
        assert '"id":1' in run_cdcctl("tail", *arguments, environ=reading, folder=tmp_path).stdout
    must_fit(policy(environ, tmp_path, "producer"), one.calls)
    must_fit(policy(environ, tmp_path, "tail"), two.calls, TELLS_MISSING)


def test_tail_makes_the_calls_that_it_may(cloud: Cloud, stream: str, tmp_path: Path) -> None:
    feed(stream, 10)
    with WireTap(cloud.url) as tap:
        environ = {**cloud.environ, "AWS_ENDPOINT_URL": tap.url, "CDC_STREAM": stream}
        for since in (["--since", "earliest"], ["--since", "10m"], ["-n", "10"]):
            told = run_cdcctl("tail", *since, "--no-follow", "-o", "raw", environ=environ, folder=tmp_path)
            assert len(told.stdout.splitlines()) in (0, 10), told  # the feed's changes are of a fixed time
    must_fit(policy(environ, tmp_path, "tail"), tap.calls)


@contextmanager
def consuming(
    name: str, folder: Path, environ: Mapping[str, str], toml: str, *arguments: str
) -> Iterator[ChildProcesses]:
    """A consumer as on AWS, with a laptop's waiting times."""
    folder.mkdir()
    shipped = files("kcl_properties")
    quick = [line for line in (shipped / "laptop.properties").read_text().splitlines() if "metricsLevel" not in line]
    (folder / f"{name}.properties").write_text("\n".join([(shipped / f"{name}.properties").read_text(), *quick]))
    (folder / "cdc.toml").write_text(toml)
    parts = ChildProcesses(folder / "logs", {**environ, "CDC_DATA": str(folder), "CDC_CHECKPOINT_SECONDS": "0.5"})
    parts.start(name, ["consumer", "run", name, *arguments], folder)
    try:
        yield parts
    finally:
        parts.stop()


def test_consumers_make_the_calls_that_they_may(cloud: Cloud, stream: str, tmp_path: Path) -> None:
    """A lake in a bucket, polling; and an audit log whose anchors are locked in a bucket, with enhanced fan-out."""
    for bucket, lock in ((f"lake-{stream}", False), (f"anchors-{stream}", True)):
        boto3.client("s3").create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=lock)
    feed(stream, 200)
    lake = f'[consumers.parquet]\nurl = "s3://lake-{stream}/l"\nflush_seconds = 0.5\n'
    anchors = f'[consumers.audit]\nanchors = "s3://anchors-{stream}/a"\nanchor_seconds = 1\nanchor_lock_days = 1\n'
    with WireTap(cloud.url) as one, WireTap(cloud.url) as two:
        common = {**cloud.environ, "CDC_STREAM": stream, "CDC_APP_PREFIX": stream}
        first = {**common, "AWS_ENDPOINT_URL": one.url, "CDC_DEAD_LETTERS": f"s3://lake-{stream}/dead"}
        second = {**common, "AWS_ENDPOINT_URL": two.url}
        with (
            consuming("parquet", tmp_path / "parquet", first, lake) as parquet,
            consuming("audit", tmp_path / "audit", second, anchors, "--fan-out") as audit,
        ):
            wait_until(lambda: read(tmp_path / "parquet", "parquet") >= 200, 120, parquet)
            wait_until(lambda: read(tmp_path / "audit", "audit") >= 200, 120, audit)
            feed(stream, 200, seed=2, broken=True)
            wait_until(lambda: read(tmp_path / "parquet", "parquet") >= 401, 60, parquet)
            wait_until(lambda: Call("cloudwatch:PutMetricData", "") in one.calls & two.calls, 120, audit)
        expire(f"s3://lake-{stream}/l", one.url)
    granted = policy(first, tmp_path / "parquet", "consumer", "parquet")
    must_fit(granted, one.calls, *RARE, AFTER_A_FAILURE)
    granted = policy(second, tmp_path / "audit", "consumer", "audit", "--fan-out")
    must_fit(granted, two.calls, *RARE)


def test_the_index_gets_the_requests_that_it_may(opensearch: Node) -> None:
    """OpenSearch's permissions are HTTP's verbs, and its domain here is a real node without IAM."""
    url = f"https://vpc-orders-{'a1' * 13}.us-east-1.es.amazonaws.com"
    settings = Settings(consumers={"search": {"engine": "opensearch", "url": url}})
    with WireTap(opensearch.url, "orders") as tap:
        options = opensearch.options(url=tap.url)
        for _ in range(2):
            sink = open_sink(SinkContext("search", "shard-0", Path("unused"), options))
            deliver(sink, *[entry.change for entry in islice(history(1, 20), 200)], change(Op.TRUNCATE, at=10_000))
            sink.close()
    granted = grants.consumer(settings, "search", grants.PolicyScope("us-east-1", ACCOUNT))
    index = {**granted, "Statement": [one for one in granted["Statement"] if one["Sid"] == "Index"]}
    must_fit(index, tap.calls)


def read(folder: Path, name: str) -> int:
    return sum(report.read for report in read_reports(folder, name))


def expire(url: str, endpoint: str) -> None:
    """What the consumer's housekeeper does a day later: delete the files that nothing refers to."""
    before = os.environ["AWS_ENDPOINT_URL"]
    os.environ["AWS_ENDPOINT_URL"] = endpoint
    try:
        compact_table(Lake.at(url), TableRef("main", Table("public", "orders")), CompactionPolicy(2**20, (), 0))
    finally:
        os.environ["AWS_ENDPOINT_URL"] = before


def test_what_was_not_seen_is_in_the_kcls_classes() -> None:
    [kcl] = list(find_jars().glob("amazon-kinesis-client-3*.jar"))
    with zipfile.ZipFile(kcl) as archive:
        for name, method in RARE.values():
            assert method in archive.read(f"software/amazon/kinesis/{name}.class")
