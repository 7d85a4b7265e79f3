"""Commit order across shards: exact while changes arrive within the window; no change is lost or delayed forever."""

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from cdcctl.tail.order import ReorderBuffer, transaction
from cdckit.change import Change
from cdckit.testing import START, change
from consumers.filters.feed import FeedItem, RowHistory
from consumers.stream.points import SLACK, Point
from consumers.stream.reader import ShardPage
from consumers.stream.record import RawRecord
from consumers.stream.stop import StopCondition

WINDOW = 5
SHARDS = ["a", "b", "c"]


def second(number: float) -> datetime:
    return START + timedelta(seconds=number)


def seen(shard: str, shown: Change, arrived: float) -> FeedItem:
    return FeedItem(shard, RawRecord(b"", "", "0"), second(arrived), shown)


# per transaction: the shard and the delay of each of its changes
LATE = st.lists(
    st.lists(st.tuples(st.sampled_from(SHARDS), st.integers(0, WINDOW)), min_size=1, max_size=3), max_size=20
)


def pages(late: list[list[tuple[str, int]]], sizes: list[int]) -> list[tuple[ShardPage, list[FeedItem]]]:
    """The pages of all shards, read in turns of `sizes` records, up to the tip of every shard."""
    unread: dict[str, list[FeedItem]] = {shard: [] for shard in SHARDS}
    for at, group in enumerate(late):
        for index, (shard, delay) in enumerate(group):
            unread[shard].append(seen(shard, change("I", 1, at=at, index=index), at + delay))
    for records in unread.values():
        records.sort(key=lambda item: item.arrived)
    result: list[tuple[ShardPage, list[FeedItem]]] = []
    turn = 0
    while any(unread.values()):
        shard, count = SHARDS[turn % 3], sizes[turn // 3 % len(sizes)]
        part, unread[shard] = unread[shard][:count], unread[shard][count:]
        result.append((ShardPage(shard, [], [item.arrived for item in part], 1 if unread[shard] else 0), part))
        turn += 1
    return result


@given(LATE, st.lists(st.integers(0, 4), min_size=1, max_size=7).filter(any), st.booleans())
def test_the_order_is_the_commit_order_and_nothing_is_lost(
    late: list[list[tuple[str, int]]], sizes: list[int], by_transaction: bool
) -> None:
    buffer, emitted = ReorderBuffer(timedelta(seconds=WINDOW), by_transaction), list[FeedItem]()
    end = second(len(late) + WINDOW)
    batches = list[list[FeedItem]]()
    for page, records in pages(late, sizes):
        batches.append(buffer.add(page, records, SHARDS, end))
        emitted += batches[-1]
    batches.append(buffer.drain())
    emitted += batches[-1]
    places = [item.change.position for item in emitted if item.change is not None]
    assert places == sorted(places)
    assert len(places) == sum(map(len, late))
    if by_transaction:
        parts = [{transaction(item.change) for item in batch if item.change} for batch in batches]
        assert sum(map(len, parts)) == len(late), "a transaction is emitted in one batch"


def test_a_live_change_waits_for_the_window_and_no_longer() -> None:
    buffer = ReorderBuffer(timedelta(seconds=WINDOW))
    tip = ShardPage("a", [], [], 0)
    assert buffer.add(tip, [seen("a", change("I", 1), 10)], ["a"], second(11)) == []
    assert buffer.add(tip, [], ["a"], second(14)) == []
    assert len(buffer.add(tip, [], ["a"], second(15))) == 1


def test_an_unread_shard_delays_everything() -> None:
    buffer = ReorderBuffer(timedelta(seconds=WINDOW))
    tip = ShardPage("a", [], [], 0)
    assert buffer.add(tip, [seen("a", change("I", 1), 1)], ["a", "b"], second(99)) == []
    assert len(buffer.add(ShardPage("b", [], [], 0), [], ["a", "b"], second(99))) == 1


def test_the_previous_row_comes_from_earlier_changes() -> None:
    rows = RowHistory()
    assert rows.before(change("I", 1, {"status": "new", "total": 1})) is None
    assert rows.before(change("U", 1, {"status": "paid"})) == {"id": 1, "status": "new", "total": 1}
    assert rows.before(change("U", 1, {"status": "sent"}, before={"id": 1, "status": "PAID"})) == {
        "id": 1, "status": "PAID",
    }  # fmt: skip
    assert rows.before(change("D", 1)) == {"id": 1, "status": "sent", "total": 1}
    assert rows.before(change("I", 1, {"status": "new"})) is None
    rows.before(change("T"))
    assert rows.before(change("U", 1, {"status": "new"})) is None


def test_a_range_ends_after_the_slack_or_at_the_tip() -> None:
    until = Point(second(100))
    condition = StopCondition(until, lambda: second(500))
    beyond = int(SLACK.total_seconds()) + 101
    assert not condition.done(ShardPage("a", [], [], 9), [change("I", 1, at=101)])
    assert condition.done(ShardPage("a", [], [], 9), [change("I", 1, at=beyond)])
    assert not condition.done(ShardPage("b", [], [], 0), []), (
        "the first read at the tip may have started before the end"
    )
    assert condition.done(ShardPage("b", [], [], 0), [])
    early = StopCondition(until, lambda: second(99))
    assert not any(early.done(ShardPage("a", [], [], 0), []) for _ in range(5)), "the end is in the future"


def test_a_range_to_an_lsn_ends_when_any_shard_has_a_later_change() -> None:
    condition = StopCondition(Point(lsn=change("I", 1, at=7).position.commit_lsn), lambda: second(500))
    assert not any(condition.done(ShardPage("a", [], [], 0), [change("I", 1, at=7)]) for _ in range(5))
    assert not condition.done(ShardPage("b", [], [], 5), [change("I", 1, at=8)])
    assert [condition.done(ShardPage("a", [], [], 0), []) for _ in range(2)] == [False, True]
