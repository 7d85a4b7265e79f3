"""What a condition is made of: values of a row, and tests that are true, false or, as in SQL, unknown; pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from cdckit.change import Change, Value

Truth = bool | None
Getter = Callable[[Change], Value]
Test = Callable[[Change], Truth]


def constant(value: Value) -> Getter:
    """The same for every change."""
    return lambda _: value


def column(name: str, side: str = "") -> Getter:
    """The row's value of a column: the new one (of a delete the old one), or that of the side ``old`` or ``new``."""
    if side == "old":
        return lambda change: _in(change.before, name)
    if side == "new":
        return lambda change: _in(change.after, name)
    return lambda change: _now(change, name)


def _in(row: Any, name: str) -> Value:
    return None if row is None else row.get(name)


def _now(change: Change, name: str) -> Value:
    if change.after is not None and name in change.after:
        return change.after[name]
    value = _in(change.before, name)  # of a delete; or of a large value that did not change
    return change.key.get(name) if value is None else value


def compare(how: Callable[[Any, Any], bool], left: Getter, right: Getter) -> Test:
    """Two values side by side; with NULL, or kinds that do not compare, unknown."""

    def test(change: Change) -> Truth:
        one, other = left(change), right(change)
        if isinstance(one, str) != isinstance(other, str):
            one, other = _number(one), _number(other)
        if one is None or other is None or isinstance(one, bool) != isinstance(other, bool):
            return None
        return how(one, other)

    return test


def _number(value: Value) -> Value:
    """A text that stands beside a number, as a number (NULL when it is none)."""
    if not isinstance(value, str):
        return value
    try:
        found = Decimal(value)
    except InvalidOperation:
        return None
    return None if found.is_nan() else found


def like(left: Getter, pattern: re.Pattern[str]) -> Test:
    """Whether the value's text fits the pattern."""

    def test(change: Change) -> Truth:
        value = left(change)
        return None if value is None else pattern.fullmatch(str(value)) is not None

    return test


def is_null(value: Getter) -> Test:
    """Whether there is no value."""
    return lambda change: value(change) is None


def is_true(value: Getter) -> Test:
    """A boolean column by itself."""

    def test(change: Change) -> Truth:
        found = value(change)
        return found if isinstance(found, bool) else None

    return test


def negated(test: Test) -> Test:
    """SQL's NOT."""

    def test_not(change: Change) -> Truth:
        found = test(change)
        return None if found is None else not found

    return test_not


def every(tests: list[Test]) -> Test:
    """SQL's AND."""
    return lambda change: _least([test(change) for test in tests])


def some(tests: list[Test]) -> Test:
    """SQL's OR."""
    return lambda change: _most([test(change) for test in tests])


def _least(found: list[Truth]) -> Truth:
    return False if False in found else None if None in found else True


def _most(found: list[Truth]) -> Truth:
    return True if True in found else None if None in found else False
