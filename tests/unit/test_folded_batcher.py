"""Folded rows: whatever the stream refuses or redistributes, each row arrives in its shard."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
import pytest

from cdckit.change import Table
from cdckit.envelope import Metadata, decode, inject
from cdckit.packing import MAX_FOLDED_CHANGES, decompress, split_folded
from producer.ack_tracker import AckGroup
from producer.kinesis.batching.folded import MAX_FOLDED_BYTES, FoldedBatcher
from producer.kinesis.batching.row_batch import RowBatch
from producer.kinesis.limits import StreamLimits
from producer.kinesis.publisher import Publisher
from producer.kinesis.put_records import EntryResult, RequestFailed, decode_entry
from producer.kinesis.shard_map import Shard, ShardMap
from producer.kinesis.target import Target
from producer.records import Record, partition_key

TABLE = Table("public", "docs")
ONE = ShardMap([Shard("all", 0)])
TWO = ShardMap([Shard("low", 0), Shard("high", 2**127)])
_raws = msgspec.json.Decoder(list[msgspec.Raw])


class Stream:
    """Answers as planned; several threads may call it. `shards` are the stream's real ones."""

    def __init__(
        self,
        refuses: Callable[[str, int], bool] = lambda *_: False,
        fails: Callable[[int], bool] = lambda _: False,
        shards: ShardMap = TWO,
    ) -> None:
        self.refuses, self.fails, self.shards = refuses, fails, shards
        self.accepted: list[tuple[str, bytes]] = []
        self.requests: list[int] = []
        self.sizes: list[int] = []
        self._entries = 0
        self._lock = threading.Lock()

    def __call__(self, entries: bytes, count: int) -> Sequence[EntryResult]:
        with self._lock:
            self.requests.append(count)
            if self.fails(len(self.requests)):
                raise RequestFailed("ConnectionClosedError", "as planned")
            return [self._answer(bytes(entry)) for entry in _raws.decode(b"[%b]" % entries)]

    def _answer(self, entry: bytes) -> EntryResult:
        self._entries += 1
        record = msgspec.json.decode(entry)
        key, place = str(record["PartitionKey"]), record.get("ExplicitHashKey")
        within = [one for one in self.shards.shards if place is None or one.low <= int(place)]
        shard = self.shards.of(key).id if place is None else within[-1].id
        if self.refuses(shard, self._entries):
            return EntryResult(code="ProvisionedThroughputExceededException")
        self.sizes.append(len(decode_entry(entry)) + len(key.encode()))
        self.accepted += [(shard, line) for line in split_folded(decode_entry(entry))]
        return EntryResult(shard=shard)


def line(number: int, size: int = 10) -> bytes:
    noise = random.Random(number).randbytes(size // 2).hex()
    row = (
        b'{"action":"I","xid":null,"timestamp":"2026-11-24 10:00:00+00","lsn":"0/17","schema":"public","table":"docs",'
        b'"columns":[{"name":"id","type":"text","value":"\xc3\xa4%d"},{"name":"body","type":"text","value":"%b"}],'
        b'"pk":[{"name":"id","type":"text"}]}' % (number, noise.encode())
    )
    return inject(row, Metadata(1, 1, "0/17", number, "main"))


def key(number: int) -> str:
    return partition_key("main", TABLE, {"id": f"ä{number}"})


def rows(first: int, count: int, size: int = 10) -> RowBatch:
    numbers = range(first, first + count)
    return RowBatch.from_lines(TABLE, [key(n).encode() for n in numbers], [line(n, size) + b"\n" for n in numbers])


def published(stream: Stream, parts: Sequence[RowBatch], bounds: StreamLimits | None = None) -> Publisher:
    """Publish all rows with a publisher that only knows the stream's first shards; one row goes by itself."""
    known = [stream.shards]
    target = Target("s", stream, lambda: known.pop() if known else stream.shards, bounds or StreamLimits())
    lanes, ticket = target.batcher(FoldedBatcher), AckGroup()
    publisher = Publisher(target, lanes)
    try:
        for part in parts:
            for large in lanes.add_rows(part, ticket):
                publisher.submit(large, ticket)
            publisher.pump(eager=False)
        publisher.submit(Record(key(-1), line(-1), TABLE), ticket)
        assert ticket.outstanding == publisher.pending
        while ticket.outstanding:
            publisher.pump()
            publisher.wait(min(0.05, publisher.pause or 0.05))
    finally:
        publisher.close()
    assert (publisher.pending, publisher.pending_bytes, ticket.outstanding, lanes.sendable) == (0, 0, 0, 0)
    return publisher


def belongs(stream: Stream, record: bytes) -> str:
    return stream.shards.of(partition_key("main", TABLE, decode(record).key)).id


@pytest.mark.parametrize("shards", [ONE, TWO])
def test_each_row_arrives_once_though_records_are_refused_and_requests_fail(shards: ShardMap) -> None:
    stream = Stream(lambda _shard, number: number % 7 == 0, lambda request: request % 3 == 0, shards)
    publisher = published(stream, [rows(n, 40) for n in range(0, 2_000, 40)])
    assert publisher.counts.accepted == 2_001
    assert publisher.counts.accepted_records < 120
    assert Counter(text for _, text in stream.accepted) == Counter(map(line, range(-1, 2_000)))
    assert all(shard == belongs(stream, text) for shard, text in stream.accepted)


def test_a_shard_that_is_throttled_holds_up_no_other() -> None:
    throttled = True

    def refuses(shard: str, _number: int) -> bool:
        nonlocal throttled
        throttled = throttled and sum(shard == "high" for shard, _ in stream.accepted) < wanted
        return throttled and shard == "low"

    wanted = sum(TWO.of(key(n)).id == "high" for n in range(3_000))
    stream = Stream(refuses)
    published(stream, [rows(n, 30) for n in range(0, 3_000, 30)])
    assert len(stream.accepted) == len(set(stream.accepted)) == 3_001
    assert not throttled


@pytest.mark.parametrize(("before", "after"), [(ONE, TWO), (TWO, ONE)])
def test_rows_that_a_split_or_merge_sent_elsewhere_are_sent_again_to_their_shards(
    before: ShardMap, after: ShardMap
) -> None:
    def resharded(_shard: str, number: int) -> bool:
        if number == 20:
            stream.shards = after
        return False

    stream = Stream(resharded, shards=before)
    publisher = published(stream, [rows(n, 50) for n in range(0, 3_000, 50)])
    assert publisher.counts.misrouted
    assert {text for _, text in stream.accepted} == set(map(line, range(-1, 3_000)))
    arrived = {text for shard, text in stream.accepted if shard == belongs(stream, text)}
    early = {text for shard, text in stream.accepted if shard in {one.id for one in before.shards}}
    assert arrived | early == set(map(line, range(-1, 3_000)))
    assert len(arrived) > 1_500


def test_records_and_requests_keep_to_what_the_stream_takes() -> None:
    stream = Stream(shards=ONE)
    bounds = StreamLimits(record=100_000, request=150_000, entries=3)
    published(stream, [rows(0, 1_200), rows(1_200, 60, size=60_000)], bounds)
    assert max(stream.sizes) <= 100_000
    assert max(stream.requests) <= 3
    assert {text for _, text in stream.accepted} == {
        *map(line, range(-1, 1_200)), *(line(n, 60_000) for n in range(1_200, 1_260))
    }  # fmt: skip


def test_no_record_holds_more_rows_than_its_readers_take() -> None:
    stream = Stream(shards=ONE)
    published(stream, [rows(0, 2 * MAX_FOLDED_CHANGES)])
    assert len(stream.accepted) == 2 * MAX_FOLDED_CHANGES + 1
    assert len(stream.sizes) > 2


def test_a_row_too_large_for_a_folded_record_goes_by_itself() -> None:
    stream = Stream(shards=ONE)
    publisher = published(
        stream, [rows(0, 3), RowBatch.from_lines(TABLE, [b"big", b"small"], [line(7, 1_500_000) + b"\n", b"y\n"])]
    )
    assert publisher.counts.compressed == 1
    [large] = [data for _, data in stream.accepted if len(data) > MAX_FOLDED_BYTES]
    assert decompress(large) == line(7, 1_500_000)
    assert len(stream.accepted) == 6
