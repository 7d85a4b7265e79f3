"""The resharding stack keeps a parent's records after a split and a merge: what the tests that reshard rely on."""

import pytest

from consumers.stream.reader import StreamReader
from consumers.stream.start import EARLIEST
from tests.support.resharding_aws import ReshardingCloud

pytestmark = pytest.mark.integration


def test_records_survive_a_split_and_a_merge(resharding: ReshardingCloud) -> None:
    stream, kinesis = resharding.make_stream(shards=1), resharding.client("kinesis")

    def put(number: int) -> None:
        kinesis.put_record(StreamName=stream, Data=str(number).encode(), PartitionKey=f"key {number}")

    for number in range(10):
        put(number)
    resharding.split(stream)
    for number in range(10, 20):
        put(number)
    resharding.merge(stream)
    for number in range(20, 30):
        put(number)
    reader = StreamReader(stream, EARLIEST, stop_when_caught_up=True)
    seen = [record.data for page in reader.pages() for record in page.records]
    assert sorted(seen, key=int) == [str(number).encode() for number in range(30)]
    assert seen[:10] == [str(number).encode() for number in range(10)], "the parent comes first"
