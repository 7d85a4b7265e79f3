"""Getters for the columns of a change: the row after it, the row before it, or the row that a condition means."""

from __future__ import annotations

from collections.abc import Mapping

from cdckit.change import Change, Value
from cdckit.predicates import Getter


def column(name: str, side: str = "") -> Getter[Change]:
    """The value of a column: of the new row (of a delete the old one), or of the side ``old`` or ``new``."""
    if side == "old":
        return lambda change: _value_in(change.before, name)
    if side == "new":
        return lambda change: _value_in(change.after, name)
    return lambda change: _current_value(change, name)


def _value_in(row: Mapping[str, Value] | None, name: str) -> Value:
    return None if row is None else row.get(name)


def _current_value(change: Change, name: str) -> Value:
    if change.after is not None and name in change.after:
        return change.after[name]
    value = _value_in(change.before, name)  # of a delete, or of a large value that the update did not change
    return change.key.get(name) if value is None else value
