"""When `cdcctl verify` treats two rows as equal."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdcctl.verify.canonical import RangeSums, RowComparer, SourceColumn
from cdckit.change import Value, key_text

NUMBER, TEXT, TIME, BYTES, BOOLEAN = (
    SourceColumn("c", kind, kind) for kind in ("numeric", "text", "timestamptz", "bytea", "bool")
)
numbers = st.one_of(
    st.integers(-(10**40), 10**40), st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), places=5)
)


def same(column: SourceColumn, first: Value, second: Value) -> bool:
    comparer = RowComparer([column])
    return comparer.text({"c": first}) == comparer.text({"c": second})


@given(numbers, numbers)
def test_numbers_are_equal_when_their_values_are(first: int | Decimal, second: int | Decimal) -> None:
    assert same(NUMBER, first, second) == (Decimal(first) == Decimal(second))
    assert same(NUMBER, first, format(Decimal(first), "f"))


@given(st.text(), st.text())
def test_texts_are_equal_when_they_are_the_same(first: str, second: str) -> None:
    assert same(TEXT, first, second) == (first == second)
    assert not same(TEXT, first, None)


@pytest.mark.parametrize(
    ("column", "first", "second", "equal"),
    [
        (NUMBER, Decimal("1.50"), Decimal("1.5"), True),
        (NUMBER, -1, -2, False),  # their Python hashes are equal
        (NUMBER, 0, Decimal("-0.00"), True),
        (NUMBER, 0, None, False),
        (TIME, "2026-11-24 10:00:00.120+00", "2026-11-24 10:00:00.12+00", True),
        (TIME, "2026-11-24 10:00:00.000+00", "2026-11-24 10:00:00+00", True),
        (TIME, "2026-11-24 10:00:00.12+00", "2026-11-24 10:00:00.13+00", False),
        (TEXT, "1.50", "1.5", False),
        (TEXT, "", None, False),
        (BYTES, "00ff", "\\x00ff", True),
        (BOOLEAN, True, 1, True),
        (BOOLEAN, False, "f", True),
        (BOOLEAN, True, False, False),
    ],
)
def test_formats_in_which_satellites_may_differ(column: SourceColumn, first: Value, second: Value, equal: bool) -> None:
    assert same(column, first, second) is equal


def test_numbers_that_python_cannot_print() -> None:
    assert same(NUMBER, 10**5000 + 1, 10**5000 + 1)
    assert not same(NUMBER, 10**5000, 10**5000 + 1)


def test_a_column_missing_in_the_satellite_is_null_and_a_dropped_column_is_ignored() -> None:
    comparer = RowComparer([TEXT, SourceColumn("added", "text", "text")])
    assert comparer.text({"c": "x", "added": None}) == comparer.text({"c": "x", "dropped": "y"})
    assert comparer.text({"c": "x", "added": "default"}) != comparer.text({"c": "x"})
    assert comparer.differing({"c": "x", "added": "default"}, {"c": "z"}) == ["c", "added"]


@given(st.dictionaries(st.integers(0, 500), st.text(max_size=3), min_size=1), st.data())
def test_range_sums_find_one_changed_cell_in_any_order_of_rows(rows: dict[int, str], data: st.DataObject) -> None:
    comparer, changed = RowComparer([TEXT]), data.draw(st.sampled_from(sorted(rows)))

    def sums(values: dict[int, str], order: list[int]) -> RangeSums:
        result = RangeSums()
        for number in order:
            key = key_text({"id": number})
            result.add(key, comparer.digest(key, {"c": values[number]}))
        return result

    original = sums(rows, sorted(rows))
    assert not original.differing(sums(rows, sorted(rows, reverse=True)))
    assert len(original.differing(sums({**rows, changed: rows[changed] + "!"}, sorted(rows)))) == 1
    assert len(original.differing(sums(rows, [number for number in rows if number != changed]))) == 1
