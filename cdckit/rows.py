"""Merges the changes of a row that arrive in any order: the hard part of a satellite that stores rows; pure.

The state of a row is a function of the *set* of its changes: the newest one gives every column that it carries; a
column that it left out (unchanged TOAST) comes from the newest earlier change that carries it, back to the row's last
insert or delete (the `base`). So every order, with any duplicates, converges on one row. A sink stores a `RowState` per
key (its values may be elsewhere: see `STORED`) and a truncate watermark per table, and calls `merge`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from cdckit.change import Change, Op, Value

NO_POSITION = ""
"""Sorts below every position's sort key."""
STORED = "\x00kept"
"""Stands for a value that the satellite has stored already: `merge` uses names and positions, not values. Its result
has STORED where the stored value stays, and the new value where it must be written."""


class RowState(msgspec.Struct, frozen=True, gc=False):
    """One row as far as it is known. Positions are sort keys.

    `fills` names the columns of `values` that come from a change older than `position`, with that change's position.
    `base` is the newest known insert or delete, at or below `position`; without one the row may lack columns.
    """

    position: str
    deleted: bool = False
    base: str = NO_POSITION
    values: Mapping[str, Value] = msgspec.field(default_factory=dict)
    fills: Mapping[str, str] = msgspec.field(default_factory=dict)


def merge(stored: RowState | None, change: Change, floor: str = NO_POSITION) -> RowState | None:
    """Merge a change into the stored state.

    Args:
        stored: The state so far; None for an unknown row.
        change: An insert, update or delete of this row.
        floor: The table's truncate watermark; a change at or below it has no effect.

    Returns:
        The new state; None when the change is superseded.

    Example:
        >>> from cdckit.testing import change
        >>> insert, update = change("I", 1, {"a": 1, "b": 1}, at=1), change("U", 1, {"b": 2}, at=2)
        >>> state = merge(merge(None, update), insert)
        >>> state == merge(merge(None, insert), update), dict(state.values)
        (True, {'id': 1, 'b': 2, 'a': 1})

    """
    position = change.position.sort_key
    if position <= floor:
        return None
    if stored is None:
        return _fresh(change, position)
    if position == stored.position:
        return None
    return _newer(stored, change, position) if position > stored.position else _older(stored, change, position)


def apply_floor(stored: RowState, floor: str) -> RowState | None:
    """Apply a truncate at `floor`: None when the row is deleted, else the row without values from below it."""
    if floor == NO_POSITION:
        return stored
    if stored.position <= floor:
        return None
    remaining = _drop_below(stored, floor)
    return replace(remaining, base=stored.base if stored.base > floor else NO_POSITION)


def join(left: RowState, right: RowState) -> RowState:
    """Join two states of one row: the result knows the changes of both."""
    older, newer = sorted((left, right), key=lambda state: state.position)
    base = max(newer.base, older.base)
    if newer.deleted or base == newer.position:
        return newer
    columns: dict[str, tuple[str, Value]] = {}
    for state in () if older.deleted else (older, newer):
        for name, value in state.values.items():
            position = state.fills.get(name, state.position)
            if name not in columns or columns[name][0] <= position:
                columns[name] = (position, value)
    if older.deleted:
        columns = {name: (newer.fills.get(name, newer.position), value) for name, value in newer.values.items()}
    fills = {name: position for name, (position, _) in columns.items() if position != newer.position}
    values = {name: value for name, (_, value) in columns.items()}
    return _drop_below(RowState(newer.position, False, base, values, fills), base)


def ordered_values(state: RowState) -> Mapping[str, Value]:
    """Return the values in the order of their change; by name when several changes carried them."""
    return dict(sorted(state.values.items())) if state.fills else state.values


def _fresh(change: Change, position: str) -> RowState:
    base = NO_POSITION if change.op is Op.UPDATE else position
    return RowState(position, change.op is Op.DELETE, base, change.after or {})


def _newer(stored: RowState, change: Change, position: str) -> RowState:
    if change.op is not Op.UPDATE:
        return _fresh(change, position)
    assert change.after is not None
    # a deleted row has no values; an update after a delete means that an insert between them is still to come
    remaining = (
        {} if stored.deleted else {name: value for name, value in stored.values.items() if name not in change.after}
    )
    fills = {name: stored.fills.get(name, stored.position) for name in remaining}
    return RowState(position, False, stored.base, {**remaining, **change.after} if remaining else change.after, fills)


def _older(stored: RowState, change: Change, position: str) -> RowState | None:
    if position <= stored.base or stored.base == stored.position:
        return None
    merged = _fill(stored, change, position) if change.after is not None else stored
    if change.op is not Op.UPDATE:
        merged = _drop_below(replace(merged, base=position), position)
    return None if merged == stored else merged


def _fill(stored: RowState, change: Change, position: str) -> RowState:
    assert change.after is not None
    fresher = {
        name: value
        for name, value in change.after.items()
        if name not in stored.values or (name in stored.fills and stored.fills[name] < position)
    }
    fills = {**stored.fills, **dict.fromkeys(fresher, position)}
    return replace(stored, values={**stored.values, **fresher}, fills=fills)


def _drop_below(stored: RowState, floor: str) -> RowState:
    stale = {name for name, position in stored.fills.items() if position < floor}
    values = {name: value for name, value in stored.values.items() if name not in stale}
    fills = {name: position for name, position in stored.fills.items() if name not in stale}
    return replace(stored, values=values, fills=fills)
