"""Rows that were read go by the hundred: whatever the stream refuses, each arrives once and is counted."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
import pytest

from cdckit.aggregation import unpack
from cdckit.change import Table
from producer.aggregate import AggregateLanes
from producer.kinesis import Publisher, Target
from producer.lanes import Bounds, MakeLanes
from producer.ledger import Ticket
from producer.plain import PlainLanes
from producer.put import Answer, RequestFailed, data_of
from producer.routing import Record, Rows
from producer.shards import Shard, ShardMap

TABLE = Table("public", "docs")
_raws = msgspec.json.Decoder(list[msgspec.Raw])
SHARDS = ShardMap([Shard("low", 0), Shard("high", 2**127)])


class Stream:
    """Accepts what it is told to; may be called by several threads."""

    def __init__(self, refuses: Callable[[str, int], bool], fails: Callable[[int], bool] = lambda _: False) -> None:
        self.refuses, self.fails = refuses, fails
        self.accepted: list[tuple[str, bytes]] = []
        self.requests: list[int] = []
        self._entries = 0
        self._lock = threading.Lock()

    def __call__(self, entries: bytes, count: int) -> Sequence[Answer]:
        with self._lock:
            self.requests.append(count)
            if self.fails(len(self.requests)):
                raise RequestFailed("ConnectionClosedError", "as told")
            return [self._answer(bytes(entry)) for entry in _raws.decode(b"[%b]" % entries)]

    def _answer(self, entry: bytes) -> Answer:
        self._entries += 1
        record = msgspec.json.decode(entry)
        key, place = str(record["PartitionKey"]), record.get("ExplicitHashKey")
        shard = SHARDS.of(key).id if place is None else SHARDS.shards[int(place) // 2**127].id
        if self.refuses(shard, self._entries):
            return Answer(code="ProvisionedThroughputExceededException")
        self.accepted += [(one.partition_key, one.data) for one in unpack(data_of(entry), key)]
        return Answer(shard=shard)


def rows(first: int, count: int, size: int = 10) -> Rows:
    numbers = range(first, first + count)
    return Rows(TABLE, [f'main/public.docs/["ä{n}"]'.encode() for n in numbers], [b"%0*d" % (size, n) for n in numbers])


def published(
    stream: Stream, parts: Sequence[Rows], bounds: Bounds | None = None, lanes: MakeLanes = PlainLanes
) -> Publisher:
    publisher, ticket = Publisher(Target("s", stream, lambda: SHARDS, bounds or Bounds()), lanes), Ticket()
    try:
        for part in parts:
            publisher.submit_rows(part, ticket)
            publisher.pump(eager=False)
        publisher.submit(Record("main/public.docs/[0]", b"a change", TABLE), ticket)
        assert ticket.outstanding == publisher.pending
        while ticket.outstanding:
            publisher.pump()
            publisher.wait(min(0.05, publisher.pause or 0.05))
    finally:
        publisher.close()
    assert (publisher.pending, publisher.pending_bytes, ticket.outstanding) == (0, 0, 0)
    return publisher


@pytest.mark.parametrize("lanes", [PlainLanes, AggregateLanes])
def test_each_row_arrives_once_though_entries_are_refused_and_requests_fail(lanes: MakeLanes) -> None:
    stream = Stream(lambda _shard, number: number % 7 == 0, lambda request: request % 3 == 0)
    parts = [rows(n, 400) for n in range(0, 2_000, 400)]
    publisher = published(stream, parts, lanes=lanes)
    assert publisher.figures.accepted == 2_001
    wanted = [(key.decode(), data) for part in parts for key, data in zip(part.keys, part.datas, strict=True)]
    assert Counter(stream.accepted) == Counter([*wanted, ("main/public.docs/[0]", b"a change")])


def test_a_shard_that_is_throttled_holds_up_no_other() -> None:
    """At its end the other shard has everything: what waits for the throttled one was taken out of its request."""
    throttled = True

    def refuses(shard: str, _number: int) -> bool:
        nonlocal throttled
        throttled = throttled and sum(SHARDS.of(key).id == "high" for key, _ in stream.accepted) < wanted
        return throttled and shard == "low"

    parts = [rows(n, 300) for n in range(0, 3_000, 300)]
    wanted = sum(SHARDS.of_bytes(key).id == "high" for part in parts for key in part.keys)
    stream = Stream(refuses)
    published(stream, parts)
    assert len(stream.accepted) == len(set(stream.accepted)) == 3_001
    assert not throttled


def test_requests_keep_to_what_the_stream_takes() -> None:
    stream = Stream(lambda *_: False)
    published(stream, [rows(0, 1_200), rows(1_200, 30, size=200_000)], Bounds(entries=250))
    assert max(stream.requests) == 250
    assert len(stream.accepted) == 1_231
    assert len(stream.requests) == 5 + 3 + 1


def test_a_row_too_large_for_a_record_goes_compressed_among_the_others() -> None:
    stream = Stream(lambda *_: False)
    publisher = published(stream, [rows(0, 3), Rows(TABLE, [b"big", b"small"], [b"x" * 3_000_000, b"y"])])
    assert publisher.figures.compressed == 1
    assert {len(data) < 1024 * 1024 for _, data in stream.accepted} == {True}
    assert len(stream.accepted) == 6
