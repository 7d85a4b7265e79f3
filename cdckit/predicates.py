"""Predicates over a row with SQL's three truth values; does no I/O.

A predicate returns True, False, or None for unknown. A comparison with NULL is unknown, and only True selects a row.
Two syntaxes compile to these predicates: ``--where`` (`consumers.filters.expression`) and the conditions in
``cdc.toml`` (`consumers.search.column_filter`). They differ in what they do with values of different kinds: the caller
chooses `align_numbers` or `align_numbers_or_text`, and what incomparable values mean.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

Truth = bool | None
Row = TypeVar("Row")
Getter = Callable[[Row], Any]
"""Returns one value of a row; None is NULL."""
Predicate = Callable[[Row], Truth]
Align = Callable[[Any, Any], tuple[Any, Any] | None]
"""Converts two values that are not NULL so that they can be compared; None when they cannot."""


def constant(value: Any) -> Getter[Any]:
    """A getter that returns the same value for every row."""
    return lambda _: value


def as_number(value: Any) -> Decimal | None:
    """The value as an exact number; None when it is not a number (NaN is none)."""
    try:
        number = Decimal(value) if isinstance(value, int | Decimal) else Decimal(str(value))
    except InvalidOperation:
        return None
    return None if number.is_nan() else number


def align_numbers(left: Any, right: Any) -> tuple[Any, Any] | None:
    """SQL's way: a text beside a number is read as a number, and cannot be compared when it is none."""
    if isinstance(left, str) != isinstance(right, str):
        left, right = (as_number(value) if isinstance(value, str) else value for value in (left, right))
    if left is None or right is None or isinstance(left, bool) != isinstance(right, bool):
        return None
    return left, right


def align_numbers_or_text(left: Any, right: Any) -> tuple[Any, Any] | None:
    """Two numbers where both can be read as numbers, so that ``1.0`` equals ``1``; otherwise two texts.

    A boolean compares only with a boolean.
    """
    if isinstance(left, bool) or isinstance(right, bool):
        return (left, right) if type(left) is type(right) else None
    if isinstance(left, int | Decimal) or isinstance(right, int | float):
        numbers = as_number(left), as_number(right)
        return numbers if None not in numbers else (str(left), str(right))
    return (left, right) if type(left) is type(right) else None


def compare(
    operator: Callable[[Any, Any], bool],
    left: Getter[Row],
    right: Getter[Row],
    align: Align = align_numbers,
    incomparable: Truth = None,
) -> Predicate[Row]:
    """Compares two values; unknown when one is NULL, `incomparable` when `align` cannot convert them."""

    def predicate(row: Row) -> Truth:
        values = left(row), right(row)
        if None in values:
            return None
        aligned = align(*values)
        return incomparable if aligned is None else operator(*aligned)

    return predicate


def like(value: Getter[Row], pattern: re.Pattern[str]) -> Predicate[Row]:
    """Whether the whole text of the value matches the pattern."""

    def predicate(row: Row) -> Truth:
        found = value(row)
        return None if found is None else pattern.fullmatch(str(found)) is not None

    return predicate


def is_null(value: Getter[Row]) -> Predicate[Row]:
    """Whether the value is NULL; never unknown."""
    return lambda row: value(row) is None


def is_true(value: Getter[Row]) -> Predicate[Row]:
    """A boolean value by itself; any other value is unknown."""

    def predicate(row: Row) -> Truth:
        found = value(row)
        return found if isinstance(found, bool) else None

    return predicate


def negate(predicate: Predicate[Row]) -> Predicate[Row]:
    """SQL's NOT: unknown stays unknown."""

    def negated(row: Row) -> Truth:
        truth = predicate(row)
        return None if truth is None else not truth

    return negated


def all_of(predicates: Sequence[Predicate[Row]]) -> Predicate[Row]:
    """SQL's AND: False wins over unknown, unknown over True."""
    return _combine(predicates, decisive=False)


def any_of(predicates: Sequence[Predicate[Row]]) -> Predicate[Row]:
    """SQL's OR: True wins over unknown, unknown over False."""
    return _combine(predicates, decisive=True)


def _combine(predicates: Sequence[Predicate[Row]], *, decisive: bool) -> Predicate[Row]:
    def predicate(row: Row) -> Truth:
        result: Truth = not decisive
        for part in predicates:
            truth = part(row)
            if truth is decisive:
                return decisive
            if truth is None:
                result = None
        return result

    return predicate
