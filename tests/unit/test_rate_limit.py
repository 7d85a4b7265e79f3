"""Each shard is read at most five times per second by all readers of a process together, whatever Kinesis answers."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from botocore.exceptions import ClientError

from cdcctl.tail.last import last_changes
from consumers.filters.feed import Feed
from consumers.filters.selection import Selection
from consumers.stream.probe import Probe
from consumers.stream.rate_limit import ReadRateLimiter
from consumers.stream.reader import StreamReader
from consumers.stream.start import EARLIEST, StartPosition

READS = 60


@dataclass
class Kinesis:
    """Answers at once, never reaches the tip, throttles and expires iterators at times; records each read's time."""

    now: float = 100.0
    reads: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def get_paginator(self, _: str) -> Any:
        return self

    def paginate(self, **_: object) -> Any:
        yield {"Shards": [{"ShardId": f"shardId-{number}", "SequenceNumberRange": {}} for number in range(3)]}

    def get_shard_iterator(self, **arguments: Any) -> Any:
        return {"ShardIterator": arguments["ShardId"]}

    def get_records(self, **arguments: Any) -> Any:
        reads = self.reads[arguments["ShardIterator"]]
        reads.append(self.now)
        if len(reads) % 7 == 3:
            code = "ExpiredIteratorException" if len(reads) % 2 else "ProvisionedThroughputExceededException"
            raise ClientError({"Error": {"Code": code, "Message": ""}}, "GetRecords")
        record = {
            "SequenceNumber": str(len(reads)), "PartitionKey": "k", "Data": b"no change",
            "ApproximateArrivalTimestamp": datetime.now(UTC),
        }  # fmt: skip
        return {
            "Records": [record],
            "NextShardIterator": arguments["ShardIterator"],
            "MillisBehindLatest": len(reads) % 5,
        }

    def closest(self) -> float:
        """The shortest time in which a shard was read six times."""
        return min(later - first for one in self.reads.values() for first, later in zip(one, one[5:], strict=False))


def readers(kinesis: Kinesis) -> Any:
    limiter = ReadRateLimiter(clock=lambda: kinesis.now, sleep=kinesis.sleep)

    def open_reader(begin: StartPosition = EARLIEST, *, to_the_tip: bool = False) -> StreamReader:
        def read_enough() -> bool:
            return min((len(one) for one in kinesis.reads.values()), default=0) > READS

        return StreamReader("s", begin, to_the_tip, read_enough, cast(Any, kinesis), limiter=limiter)

    return limiter, open_reader


def test_a_reader_keeps_to_five_reads_a_second_on_each_shard() -> None:
    kinesis = Kinesis()
    _, open_reader = readers(kinesis)
    assert sum(1 for _ in open_reader().pages()) > 3 * READS
    assert len(kinesis.reads) == 3
    assert 1.0 - 1e-9 <= kinesis.closest() < 1.01, "no faster, and no slower when nothing fails"


def test_readers_one_after_the_other_and_a_probe_count_together() -> None:
    """``tail -n`` opens a new reader each time it looks further back."""
    kinesis = Kinesis()
    limiter, open_reader = readers(kinesis)
    probe = Probe("s", cast(Any, kinesis), limiter)
    while min((len(one) for one in kinesis.reads.values()), default=0) < READS:
        for number in range(3):
            probe.read_from(f"shardId-{number}", StartPosition.at(datetime.now(UTC) - timedelta(minutes=1)), 3)
        last_changes(lambda begin: Feed(open_reader(begin), Selection()), 1000, None, probe)
    assert kinesis.closest() >= 1.0 - 1e-9
