"""Dead letters in every kind of store: stored as a whole, once per place, dropped one by one."""

import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from cdckit.errors import ConsumerError, UsageError
from consumers.dead_letters import DeadLetter, open_store
from consumers.stream.record import RawRecord
from tests.support.local_aws import Cloud

pytestmark = pytest.mark.integration


@pytest.fixture(params=["disk", "s3", "sqs"])
def url(request: pytest.FixtureRequest, cloud: Cloud, tmp_path: Path) -> Iterator[str]:
    name = f"letters-{os.getpid()}"
    match request.param:
        case "s3":
            client = boto3.client("s3")
            client.create_bucket(Bucket=name)
            yield f"s3://{name}/dead"
        case "sqs":
            queue = boto3.client("sqs").create_queue(QueueName=name)["QueueUrl"]
            yield queue
            boto3.client("sqs").delete_queue(QueueUrl=queue)
        case _:
            yield str(tmp_path / "letters")


def letter(number: int, consumer: str = "search", data: bytes = b"\x00\xff bytes") -> DeadLetter:
    record = RawRecord(data, f"key {number}", str(10**30 + number), number)
    return DeadLetter.of(consumer, "shardId-000000000000", record, ValueError(f"error {number}"), None)


def test_letters_are_read_in_stream_order_and_dropped_one_by_one(url: str, tmp_path: Path) -> None:
    store, other = open_store(url, "search", tmp_path), open_store(url, "audit", tmp_path)
    assert list(store.read()) == []
    letters = [letter(2), letter(1), letter(3, data=b"x" * 200_000)]
    for one in (*letters, letter(1)):  # a redelivery: the same place again
        store.put(one)
    other.put(letter(9, "audit"))
    found = store.read()
    assert [one.sub_sequence_number for one in found] == [1, 2, 3]
    assert [one.data for one in found] == [letters[1].data, letters[0].data, letters[2].data]
    store.drop([found[0]])
    store.drop([found[0]])
    assert [one.id for one in store.read()] == [one.id for one in found[1:]]
    assert [one.error for one in other.read()] == ["error 9"]


def test_only_their_owner_can_read_the_files(tmp_path: Path) -> None:
    open_store("", "search", tmp_path).put(letter(1))
    [path] = (tmp_path / "dead-letters").rglob("*.json")
    assert path.stat().st_mode & 0o077 == 0


def test_a_bucket_that_is_missing_is_named(cloud: Cloud, tmp_path: Path) -> None:
    with pytest.raises(ConsumerError, match="s3://no-such-bucket/search") as raised:
        open_store("s3://no-such-bucket", "search", tmp_path).put(letter(1))
    assert "s3:PutObject" in raised.value.hint


@pytest.mark.parametrize("url", ["ftp://x/y", "https://example.com/", "s3://"])
def test_an_unknown_kind_of_store_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="dead_letters cannot be"):
        open_store(url, "search", tmp_path)
