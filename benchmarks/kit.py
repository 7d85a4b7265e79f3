"""The consumer kit and each satellite, compared with a bare kclpy processor that only counts.

One child process on one shard gets 1,000 records per message over the daemon's protocol. On AWS a shard delivers
2 MiB/s, about 5,000 such records: the rows named ``vs_shard_limit`` say how many times that each satellite processes.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import boto3

from benchmarks import Row
from benchmarks.stdio import BATCH, SHARD, Measured, bare, lines, run
from cdcctl.sandbox import aws
from consumers.kcl.leases import LeaseTable

_SHARD_BYTES = 2 * 1024 * 1024
SATELLITES = ("search", "parquet", "audit", "replica")


def rows(quick: bool) -> Iterator[Row]:
    """The kit, its memory, and each satellite."""
    count = 60_000 if quick else 300_000
    messages = list(lines(count))
    record_bytes = sum(map(len, messages)) * 3 / 4 / count  # the protocol has base64, the stream does not
    reference = run(bare(), {}, messages, count)
    null = _null(messages)
    yield Row("kit.throughput_vs_kclpy", null.rate, reference.rate, "records/s", note="null sink, stdio protocol")
    yield Row("kit.rss_vs_kclpy", null.rss_mb, reference.rss_mb, "MB", "lower", f"after {count:,} records")
    with tempfile.TemporaryDirectory() as name:
        cloud = aws.create(Path(name))
        daemon = cloud.start()
        try:
            for satellite in SATELLITES:
                found = measure_satellite(satellite, messages[: (20 if quick else 100)], cloud.environ)
                limit = _SHARD_BYTES / record_bytes
                note = f"{found.rss_mb:.0f} MB, durable"
                yield Row(f"kit.{satellite}_vs_shard_limit", found.rate, limit, "changes/s", note=note)
        finally:
            daemon.stop()


def measure_satellite(name: str, messages: list[bytes], aws_environ: dict[str, str]) -> Measured:
    """The child process of a satellite on one shard, with its own store."""
    with tempfile.TemporaryDirectory() as folder:
        environ = child_environ(name, folder, aws_environ, [SHARD])
        return run([sys.executable, "-m", "consumers.main", name], environ, messages, len(messages) * BATCH)


def child_environ(name: str, folder: str, aws_environ: dict[str, str], shards: Sequence[str]) -> dict[str, str]:
    """The environment of a child process: its own application, which claims the store, with existing leases."""
    client = boto3.client(
        "dynamodb", endpoint_url=aws_environ["AWS_ENDPOINT_URL"], region_name="us-east-1", aws_access_key_id="local",
        aws_secret_access_key="local",
    )  # fmt: skip
    settings = _settings(folder)
    LeaseTable(f"{settings['CDC_APP_PREFIX']}-{name}", client).seed(shards)
    return {**aws_environ, **settings}


def _null(messages: list[bytes]) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        environ = {**_settings(folder), "CDC_SINK": "benchmarks.null_sink:open_sink"}
        return run([sys.executable, "-m", "consumers.main", "null"], environ, messages, len(messages) * BATCH)


def _settings(folder: str) -> dict[str, str]:
    return {"CDC_DATA": folder, "CDC_CONFIG": f"{folder}/none.toml", "CDC_APP_PREFIX": Path(folder).name}
