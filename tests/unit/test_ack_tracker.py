"""Law 1, acknowledge late: the position never passes a transaction whose records are not all accepted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdckit.errors import SourceError
from cdckit.position import Lsn
from producer.ack_tracker import AckGroup, AckTracker


def begin(end: int) -> bytes:
    text = '{"action":"B","xid":1,"timestamp":"2026-11-24 10:00:46+00","lsn":"0/1","nextlsn":"%s"}'
    return (text % Lsn(end)).encode()


def commit(tracker: AckTracker, end: int) -> None:
    tracker.open_begin = begin(end)
    tracker.commit(b"")


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=20), st.data())
def test_never_past_what_is_unaccepted(transactions: list[tuple[int, bool]], data: st.DataObject) -> None:
    """`read` holds each transaction's record count; with a True, its second half is counted by another group."""
    tracker, records = AckTracker(), list[tuple[int, AckGroup]]()
    for number, (size, parted) in enumerate(transactions, 1):
        tracker.open_begin = begin(number * 10)
        for record in range(size):
            if parted and record == size // 2:
                tracker.next_group()
            tracker.group.outstanding += 1
            records.append((number * 10, tracker.group))
            assert tracker.advance() <= min(end - 10 for end, _ in records)
        tracker.commit(b"")
    waiting = list(records)
    for accepted in data.draw(st.permutations(records)):
        waiting.remove(accepted)
        accepted[1].outstanding -= 1
        assert all(tracker.advance() < end for end, _ in waiting)
    assert tracker.advance() == len(transactions) * 10


def test_an_open_transaction_holds_the_position() -> None:
    tracker = AckTracker()
    tracker.open_begin = begin(100)
    assert tracker.caught_up(Lsn(500)) == 0
    tracker.commit(b"")
    assert tracker.advance() == 100
    assert tracker.newest_commit_time == "2026-11-24 10:00:46+00"


def test_the_end_of_the_wal_counts_only_when_nothing_is_pending() -> None:
    tracker = AckTracker()
    group = tracker.next_group()
    group.outstanding = 1
    commit(tracker, 100)
    tracker.advance()
    assert tracker.caught_up(Lsn(900)) == 0
    group.outstanding = 0
    tracker.advance()
    assert tracker.caught_up(Lsn(900)) == 900


def test_transactions_without_records_take_no_memory_behind_one_that_waits() -> None:
    tracker = AckTracker()
    waiting = tracker.next_group()
    waiting.outstanding = 1
    commit(tracker, 10)
    for number in range(2, 10_000):
        tracker.next_group()
        commit(tracker, number * 10)
    assert len(tracker) == 1
    assert tracker.advance() == 0
    waiting.outstanding = 0
    assert tracker.advance() == 99_990


def test_many_small_transactions_share_a_group_and_are_acknowledged_when_all_are_accepted() -> None:
    tracker = AckTracker()
    group = tracker.next_group()
    for number in range(1, 101):
        group.outstanding += 1
        commit(tracker, number * 10)
    group.outstanding = 1
    assert tracker.advance() == 0
    group.outstanding = 0
    assert tracker.advance() == 1000


def test_a_message_outside_any_transaction_is_acknowledged_by_its_own_place() -> None:
    tracker = AckTracker()
    tracker.next_group().outstanding = 1
    tracker.standalone_message(Lsn(70))
    assert tracker.advance() == 0
    tracker.group.outstanding = 0
    assert tracker.advance() == 70


def test_a_commit_outside_any_transaction_is_refused() -> None:
    tracker = AckTracker()
    with pytest.raises(SourceError, match="outside a transaction"):
        tracker.commit(b'{"action":"C"}')


def test_a_start_without_its_end_is_refused() -> None:
    tracker = AckTracker()
    tracker.open_begin = b'{"action":"B","nextlsn":"nowhere","timestamp":""}'
    tracker.commit(b"")
    with pytest.raises(SourceError, match="not wal2json"):
        tracker.advance()
