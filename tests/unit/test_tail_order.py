"""Commit order across shards: exact while the disorder is within the window; nothing is lost or held for ever."""

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from cdcctl.tail.order import Orderer, transaction
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


def seen(shard: str, one: Change, arrived: float) -> FeedItem:
    return FeedItem(shard, RawRecord(b"", "", "0"), second(arrived), one)


# per transaction: how late each of its changes arrives, and where
LATE = st.lists(
    st.lists(st.tuples(st.sampled_from(SHARDS), st.integers(0, WINDOW)), min_size=1, max_size=3), max_size=20
)


def pages(late: list[list[tuple[str, int]]], sizes: list[int]) -> list[tuple[ShardPage, list[FeedItem]]]:
    """What the shards hold, read in turns of these many records each; at the end every shard's tip."""
    held: dict[str, list[FeedItem]] = {shard: [] for shard in SHARDS}
    for at, group in enumerate(late):
        for index, (shard, delay) in enumerate(group):
            held[shard].append(seen(shard, change("I", 1, at=at, index=index), at + delay))
    for found in held.values():
        found.sort(key=lambda one: one.arrived)
    made: list[tuple[ShardPage, list[FeedItem]]] = []
    turn = 0
    while any(held.values()):
        shard, count = SHARDS[turn % 3], sizes[turn // 3 % len(sizes)]
        part, held[shard] = held[shard][:count], held[shard][count:]
        made.append((ShardPage(shard, [], [one.arrived for one in part], 1 if held[shard] else 0), part))
        turn += 1
    return made


@given(LATE, st.lists(st.integers(0, 4), min_size=1, max_size=7).filter(any), st.booleans())
def test_the_order_is_that_of_the_commits_and_nothing_is_lost(
    late: list[list[tuple[str, int]]], sizes: list[int], whole: bool
) -> None:
    orderer, given_out = Orderer(timedelta(seconds=WINDOW), whole), list[FeedItem]()
    end = second(len(late) + WINDOW)
    batches = list[list[FeedItem]]()
    for page, found in pages(late, sizes):
        batches.append(orderer.take(page, found, SHARDS, end))
        given_out += batches[-1]
    batches.append(orderer.rest())
    given_out += batches[-1]
    places = [one.change.position for one in given_out if one.change is not None]
    assert places == sorted(places)
    assert len(places) == sum(map(len, late))
    if whole:
        parts = [{transaction(one.change) for one in batch if one.change} for batch in batches]
        assert sum(map(len, parts)) == len(late), "each transaction comes at once"


def test_a_live_change_waits_for_the_window_and_no_longer() -> None:
    orderer = Orderer(timedelta(seconds=WINDOW))
    tip = ShardPage("a", [], [], 0)
    assert orderer.take(tip, [seen("a", change("I", 1), 10)], ["a"], second(11)) == []
    assert orderer.take(tip, [], ["a"], second(14)) == []
    assert len(orderer.take(tip, [], ["a"], second(15))) == 1


def test_an_unread_shard_holds_everything_back() -> None:
    orderer = Orderer(timedelta(seconds=WINDOW))
    tip = ShardPage("a", [], [], 0)
    assert orderer.take(tip, [seen("a", change("I", 1), 1)], ["a", "b"], second(99)) == []
    assert len(orderer.take(ShardPage("b", [], [], 0), [], ["a", "b"], second(99))) == 1


def test_a_row_is_known_from_what_went_by() -> None:
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


def test_a_range_ends_beyond_the_slack_or_at_the_tip() -> None:
    until = Point(second(100))
    ending = StopCondition(until, lambda: second(500))
    beyond = int(SLACK.total_seconds()) + 101
    assert not ending.done(ShardPage("a", [], [], 9), [change("I", 1, at=101)])
    assert ending.done(ShardPage("a", [], [], 9), [change("I", 1, at=beyond)])
    assert not ending.done(ShardPage("b", [], [], 0), []), "the first look at the tip may have been under way"
    assert ending.done(ShardPage("b", [], [], 0), [])
    early = StopCondition(until, lambda: second(99))
    assert not any(early.done(ShardPage("a", [], [], 0), []) for _ in range(5)), "the end has not come yet"


def test_a_range_to_an_lsn_ends_when_something_later_was_seen_anywhere() -> None:
    ending = StopCondition(Point(lsn=change("I", 1, at=7).position.commit_lsn), lambda: second(500))
    assert not any(ending.done(ShardPage("a", [], [], 0), [change("I", 1, at=7)]) for _ in range(5))
    assert not ending.done(ShardPage("b", [], [], 5), [change("I", 1, at=8)])
    assert [ending.done(ShardPage("a", [], [], 0), []) for _ in range(2)] == [False, True]
