"""Positions are a total order, and their text keeps it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdckit.position import Lsn, Position

lsns = st.integers(0, 2**64 - 1).map(Lsn)
positions = st.builds(Position, st.integers(0, 2**32 - 1), lsns, st.integers(0, 2**32 - 1))


@given(lsns)
def test_lsn_prints_and_parses(lsn: Lsn) -> None:
    assert Lsn.parse(str(lsn)) == lsn


def test_lsn_prints_as_postgresql_does() -> None:
    assert str(Lsn.parse("16/B374D848")) == "16/B374D848"


@pytest.mark.parametrize("text", ["", "16", "16/", "/1", "G/1", "1/123456789", "1/2/3"])
def test_what_is_no_lsn_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an LSN"):
        Lsn.parse(text)


@given(positions, positions)
def test_sort_key_orders_as_positions_do(one: Position, other: Position) -> None:
    assert (one < other) == (one.sort_key < other.sort_key)


@given(positions)
def test_position_survives_both_texts(position: Position) -> None:
    assert Position.parse(str(position)) == position
    assert Position.from_sort_key(position.sort_key) == position


def test_a_higher_epoch_stands_above_every_position_of_a_lower() -> None:
    assert Position(2, Lsn(0), 0) > Position(1, Lsn(2**64 - 1), 2**32 - 1)
