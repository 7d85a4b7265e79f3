"""The sandbox's Kinesis: pages as Kinesis has them, one cost whatever is stored, reshards, restarts, and its bound."""

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import cbor2
import pytest

from cdcctl.sandbox import aws
from cdcctl.sandbox.processes import Daemon
from consumers.stream.reader import StreamReader
from consumers.stream.start import EARLIEST

pytestmark = pytest.mark.integration
PAGE = 10 * 1024 * 1024


def test_a_page_has_ten_mebibytes_at_the_most(stream: str) -> None:
    client = boto3.client("kinesis")
    sent = {n: os.urandom(900_000) for n in range(40)}
    for number, data in sent.items():
        client.put_record(StreamName=stream, Data=data, PartitionKey=str(number))
    pages = list(StreamReader(stream, EARLIEST, stop_when_caught_up=True).pages())
    assert max(sum(len(record.data) for record in page.records) for page in pages) <= PAGE
    assert sum(bool(page.records) for page in pages) >= 4
    found = {int(record.partition_key): record.data for page in pages for record in page.records}
    assert found == sent


class Sandbox:
    """A local AWS of a test's own, which it may end and start again."""

    def __init__(self, folder: Path) -> None:
        self.cloud = aws.create(folder)
        self.daemon: Daemon = self.cloud.start()
        self.client: Any = boto3.client(
            "kinesis", endpoint_url=self.cloud.url, region_name="us-east-1", aws_access_key_id="local",
            aws_secret_access_key="local",
        )  # fmt: skip

    def restart(self, *, kill: bool = False) -> None:
        """End it, and start it in the same folder."""
        if kill:
            os.kill(self.daemon.pid, signal.SIGKILL)
        self.daemon.stop(60)
        self.daemon = self.cloud.start()

    def put(self, first: int, count: int, size: int = 0) -> None:
        """Records whose data begins with their number."""
        for start in range(first, first + count, 500):
            numbers = range(start, min(start + 500, first + count))
            entries = [{"Data": f"{n}".encode().ljust(size), "PartitionKey": f"key {n}"} for n in numbers]
            assert self.client.put_records(StreamName="s", Records=entries)["FailedRecordCount"] == 0

    def shards(self, **asked: Any) -> list[dict[str, Any]]:
        """As ListShards has them."""
        return list(self.client.list_shards(StreamName="s", **asked)["Shards"])

    def iterator(self, shard: str, kind: str = "TRIM_HORIZON", **asked: Any) -> str:
        """Where to read."""
        found = self.client.get_shard_iterator(StreamName="s", ShardId=shard, ShardIteratorType=kind, **asked)
        return str(found["ShardIterator"])

    def read(
        self, shard: str, kind: str = "TRIM_HORIZON", **asked: Any
    ) -> tuple[list[int], list[dict[str, Any]] | None]:
        """The numbers of all records from there on, and the children at the end of a closed shard."""
        iterator, found = self.iterator(shard, kind, **asked), []
        while True:
            page = self.client.get_records(ShardIterator=iterator)
            found += [int(record["Data"]) for record in page["Records"]]
            if "NextShardIterator" not in page:
                return found, page["ChildShards"]
            if not page["Records"]:
                return found, None
            iterator = page["NextShardIterator"]

    def all(self) -> list[int]:
        """The numbers of every record of every shard."""
        return sorted(number for shard in self.shards() for number in self.read(shard["ShardId"])[0])

    def cpu(self) -> float:
        """Seconds of processor time that it has used."""
        fields = Path(f"/proc/{self.daemon.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    found = Sandbox(tmp_path / "aws")
    found.client.create_stream(StreamName="s", ShardCount=2)
    yield found
    found.daemon.stop()


def test_a_poll_and_a_put_cost_the_same_whatever_is_stored(sandbox: Sandbox) -> None:
    def cost(first: int) -> float:
        iterator = sandbox.iterator("shardId-000000000000", "LATEST")
        began = sandbox.cpu()
        for number in range(200):
            iterator = sandbox.client.get_records(ShardIterator=iterator)["NextShardIterator"]
            sandbox.client.put_record(StreamName="s", Data=b"1", PartitionKey=str(first + number))
        return sandbox.cpu() - began

    cost(0)
    empty = cost(1000)
    sandbox.put(10_000, 100_000)
    assert cost(2000) < 2 * empty


def test_every_kind_of_iterator_finds_its_place(sandbox: Sandbox) -> None:
    shard = "shardId-000000000000"
    sandbox.put(0, 300)
    before = sandbox.client.get_records(ShardIterator=sandbox.iterator(shard))["Records"]
    time.sleep(0.05)
    moment = time.time()
    latest = sandbox.iterator(shard, "LATEST")
    sandbox.put(300, 300)
    after = [int(record["Data"]) for record in sandbox.client.get_records(ShardIterator=latest)["Records"]]
    everything, _ = sandbox.read(shard)
    assert everything == [int(record["Data"]) for record in before] + after
    for place, record in list(enumerate(before))[::17]:
        number = record["SequenceNumber"]
        assert sandbox.read(shard, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=number)[0] == everything[place:]
        assert sandbox.read(shard, "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=number)[0] == everything[place + 1 :]
        bare = number.lstrip("0")
        assert sandbox.read(shard, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=bare)[0] == everything[place:]
    assert sandbox.read(shard, "AT_TIMESTAMP", Timestamp=moment)[0] == after
    assert sandbox.read(shard, "AT_TIMESTAMP", Timestamp=moment - 3600)[0] == everything
    assert sandbox.read(shard, "AT_TIMESTAMP", Timestamp=moment + 3600)[0] == []


def edges(shards: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """The hash ranges of those that are open."""
    still = [shard["HashKeyRange"] for shard in shards if "EndingSequenceNumber" not in shard["SequenceNumberRange"]]
    return sorted((int(one["StartingHashKey"]), int(one["EndingHashKey"])) for one in still)


@pytest.mark.parametrize("counts", [(4, 2, 1), (3, 5, 4), (1, 2, 3)])
def test_a_reshard_keeps_every_record_and_names_the_parents(sandbox: Sandbox, counts: tuple[int, ...]) -> None:
    sandbox.put(0, 500)
    for round_, count in enumerate(counts, 1):
        sandbox.client.update_shard_count(StreamName="s", TargetShardCount=count, ScalingType="UNIFORM_SCALING")
        found = sandbox.shards()
        assert edges(found) == [(2**128 * n // count, 2**128 * (n + 1) // count - 1) for n in range(count)]
        summary = sandbox.client.describe_stream_summary(StreamName="s")["StreamDescriptionSummary"]
        assert summary["OpenShardCount"] == count
        sandbox.put(round_ * 500, 500)
        assert sandbox.all() == list(range(round_ * 500 + 500))
    names = {shard["ShardId"] for shard in found}
    for shard in found:
        of = {shard[key] for key in ("ParentShardId", "AdjacentParentShardId") if key in shard}
        assert of <= names
        assert len(of) == (0 if shard["ShardId"] <= "shardId-000000000001" else len(of) or -1)
        if "EndingSequenceNumber" in shard["SequenceNumberRange"]:
            children = sandbox.read(shard["ShardId"])[1]
            assert children
            assert all(shard["ShardId"] in child["ParentShards"] for child in children)
    latest = sandbox.shards(ShardFilter={"Type": "AT_LATEST"})
    assert len(latest) == counts[-1]
    first = sandbox.shards(ShardFilter={"Type": "AT_TRIM_HORIZON"})
    assert [shard["ShardId"] for shard in first] == ["shardId-000000000000", "shardId-000000000001"]


def test_a_split_and_a_merge_by_hand_and_what_is_refused(sandbox: Sandbox) -> None:
    client, error = sandbox.client, sandbox.client.exceptions
    one, two = (shard["ShardId"] for shard in sandbox.shards())
    client.split_shard(StreamName="s", ShardToSplit=one, NewStartingHashKey="1000")
    assert edges(sandbox.shards())[:2] == [(0, 999), (1000, 2**127 - 1)]
    with pytest.raises(error.InvalidArgumentException, match="closed"):
        client.split_shard(StreamName="s", ShardToSplit=one, NewStartingHashKey="2000")
    with pytest.raises(error.InvalidArgumentException, match="not adjacent"):
        client.merge_shards(StreamName="s", ShardToMerge="shardId-000000000002", AdjacentShardToMerge=two)
    with pytest.raises(error.ResourceNotFoundException):
        client.split_shard(StreamName="s", ShardToSplit="shardId-000000000009", NewStartingHashKey="2000")
    with pytest.raises(error.InvalidArgumentException, match="double"):
        client.update_shard_count(StreamName="s", TargetShardCount=7, ScalingType="UNIFORM_SCALING")
    client.merge_shards(StreamName="s", ShardToMerge=two, AdjacentShardToMerge="shardId-000000000003")
    assert edges(sandbox.shards()) == [(0, 999), (1000, 2**128 - 1)]


@pytest.mark.parametrize("kill", [False, True])
def test_a_restart_keeps_records_shards_and_iterators(sandbox: Sandbox, kill: bool) -> None:
    sandbox.put(0, 1000)
    iterator = sandbox.iterator("shardId-000000000000")
    sandbox.client.update_shard_count(StreamName="s", TargetShardCount=3, ScalingType="UNIFORM_SCALING")
    sandbox.client.add_tags_to_stream(StreamName="s", Tags={"a": "b"})
    shards = sandbox.shards()
    newest = max(
        record["SequenceNumber"]
        for record in sandbox.client.get_records(ShardIterator=iterator)["Records"]
    )  # fmt: skip
    sandbox.restart(kill=kill)
    assert sandbox.shards() == shards
    assert sandbox.all() == list(range(1000))
    assert sandbox.client.get_records(ShardIterator=iterator)["Records"]
    put = sandbox.client.put_record(StreamName="s", Data=b"1000", PartitionKey="k")
    assert put["SequenceNumber"] > newest
    assert sandbox.client.list_tags_for_stream(StreamName="s")["Tags"] == [{"Key": "a", "Value": "b"}]


def test_a_stream_that_is_made_again_is_empty(sandbox: Sandbox) -> None:
    sandbox.put(0, 10)
    sandbox.client.delete_stream(StreamName="s")
    assert not list((sandbox.cloud.folder / "state").rglob("*.jsonl"))
    sandbox.client.create_stream(StreamName="s", ShardCount=2)
    assert sandbox.all() == []


def test_beyond_its_bound_the_oldest_records_go_and_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDC_SANDBOX_KEEP_BYTES", "1000000")
    sandbox = Sandbox(tmp_path / "aws")
    try:
        sandbox.client.create_stream(StreamName="s", ShardCount=2)
        at_first = sandbox.iterator("shardId-000000000000")
        sandbox.put(0, 5000, size=1000)
        kept = sandbox.all()
        assert 300 < len(kept) < 1000
        assert set(range(4800, 5000)) <= set(kept), "the newest stay"
        assert sandbox.client.get_records(ShardIterator=at_first)["Records"], "it goes on with the oldest that is kept"
        assert "dropped its oldest" in sandbox.cloud.log.read_text()
        assert sandbox.cloud.stored.bytes <= 1_200_000
    finally:
        sandbox.daemon.stop()


def test_the_records_of_an_older_sandbox_are_still_there(tmp_path: Path) -> None:
    """Until 2026-11 ministack itself kept the records, in the file that it writes at its end."""
    sandbox = Sandbox(tmp_path / "aws")
    try:
        sandbox.client.create_stream(StreamName="s", ShardCount=1)
        sandbox.daemon.stop(60)
        file = sandbox.cloud.folder / "state" / "kinesis.json"
        saved = json.loads(file.read_text())
        (stream,) = saved["payload"]["streams"]["data"].values()
        stream["shards"]["shardId-000000000000"]["records"] = [
            {"SequenceNumber": f"{int(time.time() * 1000):020d}{n:010d}", "ApproximateArrivalTimestamp": time.time(),
             "Data": "Nw==", "PartitionKey": 'a "key"'}
            for n in range(3)
        ]  # fmt: skip
        file.write_text(json.dumps(saved))
        sandbox.restart()
        assert sandbox.all() == [7, 7, 7]
        sandbox.put(8, 1)
        sandbox.restart()
        assert sandbox.read("shardId-000000000000")[0] == [7, 7, 7, 8]
    finally:
        sandbox.daemon.stop()


def test_the_cbor_of_the_java_sdk_carries_bytes_and_milliseconds(sandbox: Sandbox) -> None:
    def ask(action: str, **asked: Any) -> dict[str, Any]:
        request = urllib.request.Request(
            sandbox.cloud.url, cbor2.dumps(asked),
            {"X-Amz-Target": f"Kinesis_20131202.{action}", "Content-Type": "application/x-amz-cbor-1.1"},
        )  # fmt: skip
        with urllib.request.urlopen(request) as answer:
            assert answer.headers["Content-Type"] == "application/x-amz-cbor-1.1"
            found: dict[str, Any] = cbor2.loads(answer.read())
        return found

    entries = [{"Data": bytes([n, 255]), "PartitionKey": f"é{n}"} for n in range(9)]
    assert ask("PutRecords", StreamName="s", Records=entries)["FailedRecordCount"] == 0
    ask("PutRecord", StreamName="s", Data=b"\x09\xff", PartitionKey="é9", ExplicitHashKey="0")
    found = []
    for shard in ask("ListShards", StreamName="s", ShardFilter={"Type": "AT_LATEST"})["Shards"]:
        place = {"ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
        page = ask("GetRecords", ShardIterator=ask("GetShardIterator", StreamName="s", **place)["ShardIterator"])
        found += page["Records"]
    assert {record["PartitionKey"]: record["Data"] for record in found} == {f"é{n}": bytes([n, 255]) for n in range(10)}
    assert all(abs(record["ApproximateArrivalTimestamp"] / 1000 - time.time()) < 60 for record in found)


BAD = [
    ("PutRecords", b'{"StreamName":"s","Records":[]}', "ValidationException"),
    ("PutRecords", b'{"StreamName":"s","Records":[{"Data":"!","PartitionKey":"a"}]}', "SerializationException"),
    ("PutRecords", b'{"StreamName":"s","Records":[{"Data":"","PartitionKey":""}]}', "ValidationException"),
    ("PutRecords", b'{"StreamName":"other","Records":[]}', "ResourceNotFoundException"),
    ("PutRecord", b'{"StreamName":"s","Data":"AA==","PartitionKey":"a","ExplicitHashKey":"x"}', "InvalidArgument"),
    ("GetRecords", b'{"ShardIterator":"none"}', "InvalidArgumentException"),
    ("GetRecords", b"[]", "SerializationException"),
    ("GetShardIterator", b'{"StreamName":"s","ShardId":"shardId-9","ShardIteratorType":"LATEST"}', "ResourceNot"),
    ("GetShardIterator", b'{"StreamName":"s","ShardId":"shardId-000000000000","ShardIteratorType":"X"}', "Invalid"),
    ("UpdateShardCount", b'{"StreamName":"s","TargetShardCount":0}', "InvalidArgumentException"),
    ("UpdateShardCount", b'{"StreamName":"s","TargetShardCount":"x"}', "Exception"),
    ("SplitShard", b'{"StreamName":"s","ShardToSplit":"shardId-000000000000"}', "InvalidArgumentException"),
    ("ListShards", b'{"StreamName":"s","ShardFilter":{"Type":"X"}}', "InvalidArgumentException"),
]


def test_a_bad_request_is_refused_with_a_code(sandbox: Sandbox) -> None:
    for action, body, code in BAD:
        headers = {"X-Amz-Target": f"Kinesis_20131202.{action}", "Content-Type": "application/x-amz-json-1.1"}
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(sandbox.cloud.url, body, headers))
        assert refused.value.code == 400, (action, body)
        assert code in json.loads(refused.value.read())["__type"], (action, body)
