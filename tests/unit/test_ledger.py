"""Law 1, acknowledge late: the position never passes a transaction that the stream has not wholly accepted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdckit.errors import SourceError
from cdckit.position import Lsn
from producer.ledger import Ledger


def begin(end: int) -> bytes:
    text = '{"action":"B","xid":1,"timestamp":"2026-11-24 10:00:46+00","lsn":"0/1","nextlsn":"%s"}'
    return (text % Lsn(end)).encode()


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.data())
def test_never_past_what_is_unaccepted(sizes: list[int], data: st.DataObject) -> None:
    ledger, tickets = Ledger(), []
    for number, size in enumerate(sizes, 1):
        ticket = ledger.open(begin(number * 10))
        ticket.outstanding = size
        ledger.commit(ticket)
        tickets.append((number * 10, ticket))
    pending = [ticket for _, ticket in tickets for _ in range(ticket.outstanding)]
    for ticket in data.draw(st.permutations(pending)):
        ticket.outstanding -= 1
        flushed = ledger.settle()
        assert all(flushed < end for end, one in tickets if one.outstanding)
    assert ledger.settle() == len(sizes) * 10


def test_an_open_transaction_holds_the_position() -> None:
    ledger = Ledger()
    open_one = ledger.open(begin(100))
    assert ledger.caught_up(Lsn(500)) == 0
    ledger.commit(open_one)
    assert ledger.settle() == 100
    assert ledger.newest_time == "2026-11-24 10:00:46+00"


def test_the_end_of_the_wal_counts_only_when_nothing_is_pending() -> None:
    ledger = Ledger()
    ticket = ledger.open(begin(100))
    ticket.outstanding = 1
    ledger.commit(ticket)
    ledger.settle()
    assert ledger.caught_up(Lsn(900)) == 0
    ticket.outstanding = 0
    ledger.settle()
    assert ledger.caught_up(Lsn(900)) == 900


def test_transactions_without_records_take_no_memory_behind_one_that_waits() -> None:
    ledger = Ledger()
    waiting = ledger.open(begin(10))
    waiting.outstanding = 1
    ledger.commit(waiting)
    for number in range(2, 10_000):
        ledger.commit(ledger.open(begin(number * 10)))
    assert len(ledger) == 1
    assert ledger.settle() == 0
    waiting.outstanding = 0
    assert ledger.settle() == 99_990


def test_a_start_without_its_end_is_refused() -> None:
    ledger = Ledger()
    ledger.commit(ledger.open(b'{"action":"B","nextlsn":"nowhere","timestamp":""}'))
    with pytest.raises(SourceError, match="not wal2json"):
        ledger.settle()
