"""Fixture plugin: a local AWS that speaks the wire protocol, and fresh streams in it."""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass

import boto3
import pytest

from cdcctl.sandbox import aws as stack
from cdckit.errors import CdcError
from tests.support.postgres import unavailable

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Cloud:
    """The test run's local AWS."""

    url: str
    environ: dict[str, str]


@pytest.fixture(scope="session")
def local_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """One running local AWS for the whole test session."""
    made = stack.create(tmp_path_factory.mktemp("aws"))
    try:
        daemon = made.start()
    except CdcError as error:
        unavailable(error)
        raise
    yield Cloud(made.url, made.environ)
    daemon.stop()


@pytest.fixture
def cloud(local_aws: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """The local AWS, and the standard variables pointing to it for this test."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "CDC_")) and name != "CDC_PG_BIN"]:
        monkeypatch.delenv(name)
    for name, value in local_aws.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    return local_aws


@pytest.fixture
def stream(cloud: Cloud) -> str:
    """The name of a fresh stream of two shards."""
    name = f"t{os.getpid()}-{next(_numbers)}"
    client = boto3.client("kinesis")
    client.create_stream(StreamName=name, ShardCount=2)
    client.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    client.close()
    return name
