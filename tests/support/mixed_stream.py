"""A stream with all that readers meet: plain, aggregated, folded and compressed records, junk, a split and a merge.

And the plain reading of it that everything else is compared with.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cdckit.aggregation import SubRecord, pack, unpack
from cdckit.change import Change
from cdckit.envelope import decode
from cdckit.errors import EnvelopeError
from cdckit.packing import compress, split_folded
from tests.support.histories import Entry, entry, folded
from tests.support.resharding_aws import ReshardingCloud

JUNK = b"\x00 no change of ours"


@dataclass
class MixedStream:
    """`put` adds changes; each is committed when it is put."""

    cloud: ReshardingCloud
    chance: random.Random
    shards: int = 2
    stream: str = field(init=False)
    at: int = 0
    alive: set[int] = field(default_factory=set)
    entries: list[Entry] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stream = self.cloud.make_stream(shards=self.shards)
        self._kinesis = self.cloud.client("kinesis")

    def fill(self, count: int = 60) -> None:
        """Changes, a split, changes, a merge, changes; junk in between."""
        self.put(count)
        self.cloud.split(self.stream)
        self.put(count)
        self.cloud.merge(self.stream, 1)
        self.put(count)

    def put(self, count: int) -> None:
        """So many changes, in runs of one shard's that are a record each or one aggregated record."""
        waiting: dict[str, list[Entry]] = {}
        for _ in range(count):
            made = self._entry()
            self.entries.append(made)
            run = waiting.setdefault(self.cloud.shard_of(self.stream, made.partition_key), [])
            run.append(made)
            if self.chance.random() < 0.3:
                self._put_run(run)
        for run in waiting.values():
            self._put_run(run)
        self._put(JUNK, f"junk {self.at}")

    def positions(self, wanted: Callable[[Change], bool] = lambda _: True) -> list[str]:
        """The plain reading: the positions of all changes on all shards, filtered here."""
        return sorted(str(change.position) for change in self.changes() if wanted(change))

    def changes(self) -> Iterator[Change]:
        """Every change on every shard, shard by shard."""
        for record in self.records():
            for one in unpack(record["Data"], record["PartitionKey"]):
                for line in split_folded(one.data):
                    try:
                        yield decode(line)
                    except EnvelopeError:
                        assert line == JUNK

    def records(self) -> Iterator[Any]:
        """Every record of every shard, as Kinesis gives them."""
        for shard in self._kinesis.list_shards(StreamName=self.stream)["Shards"]:
            iterator = self._kinesis.get_shard_iterator(
                StreamName=self.stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"]
            while iterator:
                answer = self._kinesis.get_records(ShardIterator=iterator)
                yield from answer["Records"]
                iterator = answer.get("NextShardIterator") if answer["MillisBehindLatest"] else None

    def _entry(self) -> Entry:
        self.at += 1
        key = self.chance.randrange(1, 30)
        op = "I" if key not in self.alive else self.chance.choice("UUUD")
        (self.alive.discard if op == "D" else self.alive.add)(key)
        committed = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f+00")
        table = self.chance.choice(["orders", "orders", "lines"])
        made = entry(op, key, f"value {self.at % 10}", self.at, table=table, committed=committed)
        if self.chance.random() < 0.1:
            return Entry(made.partition_key, compress(made.data))
        return made

    def _put_run(self, run: list[Entry]) -> None:
        way = self.chance.random()
        if len(run) > 1 and way < 0.3:
            self._put(folded(run), run[0].partition_key)
        elif len(run) > 1 and way < 0.8:
            data = pack(SubRecord(one.partition_key, one.data) for one in run)
            self._put(data, run[0].partition_key)
        else:
            for one in run:
                self._put(one.data, one.partition_key)
        run.clear()

    def _put(self, data: bytes, key: str) -> None:
        self._kinesis.put_record(StreamName=self.stream, Data=data, PartitionKey=key)
