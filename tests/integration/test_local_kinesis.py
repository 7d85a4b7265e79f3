"""The local AWS answers pages as Kinesis does: ten megabytes at the most, and always one record."""

import os

import boto3
import pytest

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
