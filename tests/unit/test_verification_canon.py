"""What makes two rows equal for `cdcctl verify`, and that nothing else does."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdcctl.verify.canonical import RangeSums, RowComparer, SourceColumn
from cdckit.change import Value, key_text

NUMBER, TEXT, TIME, BYTES, TRUTH = (
    SourceColumn("c", kind, kind) for kind in ("numeric", "text", "timestamptz", "bytea", "bool")
)
numbers = st.one_of(
    st.integers(-(10**40), 10**40), st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), places=5)
)


def same(column: SourceColumn, one: Value, other: Value) -> bool:
    comparer = RowComparer([column])
    return comparer.text({"c": one}) == comparer.text({"c": other})


@given(numbers, numbers)
def test_numbers_are_equal_when_their_values_are(one: int | Decimal, other: int | Decimal) -> None:
    assert same(NUMBER, one, other) == (Decimal(one) == Decimal(other))
    assert same(NUMBER, one, format(Decimal(one), "f"))


@given(st.text(), st.text())
def test_texts_are_equal_when_they_are_the_same(one: str, other: str) -> None:
    assert same(TEXT, one, other) == (one == other)
    assert not same(TEXT, one, None)


@pytest.mark.parametrize(
    ("column", "one", "other", "equal"),
    [
        (NUMBER, Decimal("1.50"), Decimal("1.5"), True),
        (NUMBER, -1, -2, False),  # their Python hashes are one
        (NUMBER, 0, Decimal("-0.00"), True),
        (NUMBER, 0, None, False),
        (TIME, "2026-11-24 10:00:00.120+00", "2026-11-24 10:00:00.12+00", True),
        (TIME, "2026-11-24 10:00:00.000+00", "2026-11-24 10:00:00+00", True),
        (TIME, "2026-11-24 10:00:00.12+00", "2026-11-24 10:00:00.13+00", False),
        (TEXT, "1.50", "1.5", False),
        (TEXT, "", None, False),
        (BYTES, "00ff", "\\x00ff", True),
        (TRUTH, True, 1, True),
        (TRUTH, False, "f", True),
        (TRUTH, True, False, False),
    ],
)
def test_what_a_satellite_may_write_otherwise(column: SourceColumn, one: Value, other: Value, equal: bool) -> None:
    assert same(column, one, other) is equal


def test_numbers_beyond_what_python_prints() -> None:
    assert same(NUMBER, 10**5000 + 1, 10**5000 + 1)
    assert not same(NUMBER, 10**5000, 10**5000 + 1)


def test_a_column_that_the_satellite_never_heard_of_is_null_and_one_that_the_source_dropped_is_ignored() -> None:
    comparer = RowComparer([TEXT, SourceColumn("added", "text", "text")])
    assert comparer.text({"c": "x", "added": None}) == comparer.text({"c": "x", "dropped": "y"})
    assert comparer.text({"c": "x", "added": "default"}) != comparer.text({"c": "x"})
    assert comparer.differing({"c": "x", "added": "default"}, {"c": "z"}) == ["c", "added"]


@given(st.dictionaries(st.integers(0, 500), st.text(max_size=3), min_size=1), st.data())
def test_range_sums_find_one_changed_cell_and_know_no_order(rows: dict[int, str], data: st.DataObject) -> None:
    comparer, changed = RowComparer([TEXT]), data.draw(st.sampled_from(sorted(rows)))

    def sums(of: dict[int, str], order: list[int]) -> RangeSums:
        made = RangeSums()
        for at in order:
            key = key_text({"id": at})
            made.add(key, comparer.digest(key, {"c": of[at]}))
        return made

    mine = sums(rows, sorted(rows))
    assert not mine.differing(sums(rows, sorted(rows, reverse=True)))
    assert len(mine.differing(sums({**rows, changed: rows[changed] + "!"}, sorted(rows)))) == 1
    assert len(mine.differing(sums(rows, [at for at in rows if at != changed]))) == 1
