"""Law 1, acknowledge late: the position never passes a transaction that the stream has not wholly accepted."""

from hypothesis import given
from hypothesis import strategies as st

from cdckit.position import Lsn
from producer.ledger import Ledger, Ticket


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.data())
def test_never_past_what_is_unaccepted(sizes: list[int], data: st.DataObject) -> None:
    ledger, tickets = Ledger(), []
    for number, size in enumerate(sizes, 1):
        ticket = ledger.open()
        ticket.outstanding = size
        ticket.end = Lsn(number * 10)
        tickets.append(ticket)
    pending = [ticket for ticket in tickets for _ in range(ticket.outstanding)]
    for ticket in data.draw(st.permutations(pending)):
        ticket.outstanding -= 1
        flushed = ledger.settle()
        unfinished = [one.end for one in tickets if one.outstanding]
        assert all(flushed < end for end in unfinished if end is not None)
    assert ledger.settle() == len(sizes) * 10


def test_an_open_transaction_holds_the_position() -> None:
    ledger = Ledger()
    open_one = ledger.open()
    assert ledger.caught_up(Lsn(500)) == 0
    open_one.end = Lsn(100)
    assert ledger.settle() == 100


def test_the_end_of_the_wal_counts_only_when_nothing_is_pending() -> None:
    ledger = Ledger()
    ticket: Ticket = ledger.open()
    ticket.outstanding, ticket.end = 1, Lsn(100)
    ledger.settle()
    assert ledger.caught_up(Lsn(900)) == 0
    ticket.outstanding = 0
    ledger.settle()
    assert ledger.caught_up(Lsn(900)) == 900
