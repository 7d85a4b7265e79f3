"""Law 1, acknowledge late: the position never passes a transaction that the stream has not wholly accepted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdckit.errors import SourceError
from cdckit.position import Lsn
from producer.ack_tracker import Ledger, Ticket


def begin(end: int) -> bytes:
    text = '{"action":"B","xid":1,"timestamp":"2026-11-24 10:00:46+00","lsn":"0/1","nextlsn":"%s"}'
    return (text % Lsn(end)).encode()


def commit(ledger: Ledger, end: int) -> None:
    ledger.begun = begin(end)
    ledger.commit(b"")


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=20), st.data())
def test_never_past_what_is_unaccepted(transactions: list[tuple[int, bool]], data: st.DataObject) -> None:
    """Each has so many records; where it says so, what is read from its middle on is counted by another ticket."""
    ledger, records = Ledger(), list[tuple[int, Ticket]]()
    for number, (size, parted) in enumerate(transactions, 1):
        ledger.begun = begin(number * 10)
        for record in range(size):
            if parted and record == size // 2:
                ledger.turn()
            ledger.ticket.outstanding += 1
            records.append((number * 10, ledger.ticket))
            assert ledger.settle() <= min(end - 10 for end, _ in records)
        ledger.commit(b"")
    waiting = list(records)
    for accepted in data.draw(st.permutations(records)):
        waiting.remove(accepted)
        accepted[1].outstanding -= 1
        assert all(ledger.settle() < end for end, _ in waiting)
    assert ledger.settle() == len(transactions) * 10


def test_an_open_transaction_holds_the_position() -> None:
    ledger = Ledger()
    ledger.begun = begin(100)
    assert ledger.caught_up(Lsn(500)) == 0
    ledger.commit(b"")
    assert ledger.settle() == 100
    assert ledger.newest_time == "2026-11-24 10:00:46+00"


def test_the_end_of_the_wal_counts_only_when_nothing_is_pending() -> None:
    ledger = Ledger()
    ticket = ledger.turn()
    ticket.outstanding = 1
    commit(ledger, 100)
    ledger.settle()
    assert ledger.caught_up(Lsn(900)) == 0
    ticket.outstanding = 0
    ledger.settle()
    assert ledger.caught_up(Lsn(900)) == 900


def test_transactions_without_records_take_no_memory_behind_one_that_waits() -> None:
    ledger = Ledger()
    waiting = ledger.turn()
    waiting.outstanding = 1
    commit(ledger, 10)
    for number in range(2, 10_000):
        ledger.turn()
        commit(ledger, number * 10)
    assert len(ledger) == 1
    assert ledger.settle() == 0
    waiting.outstanding = 0
    assert ledger.settle() == 99_990


def test_many_small_transactions_share_a_ticket_and_are_acknowledged_when_all_are_accepted() -> None:
    ledger = Ledger()
    ticket = ledger.turn()
    for number in range(1, 101):
        ticket.outstanding += 1
        commit(ledger, number * 10)
    ticket.outstanding = 1
    assert ledger.settle() == 0
    ticket.outstanding = 0
    assert ledger.settle() == 1000


def test_a_message_outside_any_transaction_is_acknowledged_by_its_own_place() -> None:
    ledger = Ledger()
    ledger.turn().outstanding = 1
    ledger.message(Lsn(70))
    assert ledger.settle() == 0
    ledger.ticket.outstanding = 0
    assert ledger.settle() == 70


def test_a_commit_outside_any_transaction_is_refused() -> None:
    ledger = Ledger()
    with pytest.raises(SourceError, match="outside a transaction"):
        ledger.commit(b'{"action":"C"}')


def test_a_start_without_its_end_is_refused() -> None:
    ledger = Ledger()
    ledger.begun = b'{"action":"B","nextlsn":"nowhere","timestamp":""}'
    ledger.commit(b"")
    with pytest.raises(SourceError, match="not wal2json"):
        ledger.settle()
