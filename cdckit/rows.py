"""What is known of a row when changes arrive in whatever order: the hard part of a satellite that holds rows; pure.

The state of a row is a function of the *set* of its changes: the newest one gives every column that it carries; a
column that it left out (unchanged TOAST) comes from the newest earlier change that carries it, back to the row's last
insert or delete (the `base`). So every order, with any duplicates, converges on one row. A sink stores a
`RowState` a key (its values may lie elsewhere: see `KEPT`) and a truncate watermark a table, and asks `merge`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from cdckit.change import Change, Op, Value

NOWHERE = ""
"""Sorts below every position's sort key."""
KEPT = "\x00kept"
"""Stands for a value that the satellite has stored already: `merge` looks at names and positions, not at values. What
`merge` returns holds KEPT where the stored value stays, and the new value where it is to be written."""


class RowState(msgspec.Struct, frozen=True, gc=False):
    """One row as far as it is known. Positions are sort keys.

    `fills` names the columns of `values` that come from a change older than `position`, with that change's position.
    `base` is the newest insert or delete known, at or below `position`; without one the row may lack columns.
    """

    position: str
    deleted: bool = False
    base: str = NOWHERE
    values: Mapping[str, Value] = msgspec.field(default_factory=dict)
    fills: Mapping[str, str] = msgspec.field(default_factory=dict)


def merge(held: RowState | None, change: Change, floor: str = NOWHERE) -> RowState | None:
    """The row after the change, or None when the change is superseded.

    `floor` is the table's truncate watermark: what is at or below it has no effect.
    """
    position = change.position.sort_key
    if position <= floor:
        return None
    if held is None:
        return _fresh(change, position)
    if position == held.position:
        return None
    return _newer(held, change, position) if position > held.position else _older(held, change, position)


def above(held: RowState, floor: str) -> RowState | None:
    """The row after a truncate at `floor`: None when it is gone, else without what came from below."""
    if floor == NOWHERE:
        return held
    if held.position <= floor:
        return None
    kept = _drop_below(held, floor)
    return replace(kept, base=held.base if held.base > floor else NOWHERE)


def join(one: RowState, other: RowState) -> RowState:
    """The row that knows the changes of both: what two stores of the same row have seen, put together."""
    older, newer = sorted((one, other), key=lambda state: state.position)
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


def ordered(state: RowState) -> Mapping[str, Value]:
    """The values in the order of their change; by name when several changes carried them, for they arrive in any."""
    return dict(sorted(state.values.items())) if state.fills else state.values


def _fresh(change: Change, position: str) -> RowState:
    base = NOWHERE if change.op is Op.UPDATE else position
    return RowState(position, change.op is Op.DELETE, base, change.after or {})


def _newer(held: RowState, change: Change, position: str) -> RowState:
    if change.op is not Op.UPDATE:
        return _fresh(change, position)
    assert change.after is not None
    # a deleted row's column values are gone; an update after a delete can only be one whose insert is still to come
    kept = {} if held.deleted else {name: value for name, value in held.values.items() if name not in change.after}
    fills = {name: held.fills.get(name, held.position) for name in kept}
    return RowState(position, False, held.base, {**kept, **change.after} if kept else change.after, fills)


def _older(held: RowState, change: Change, position: str) -> RowState | None:
    if position <= held.base or held.base == held.position:
        return None
    merged = _filled(held, change, position) if change.after is not None else held
    if change.op is not Op.UPDATE:
        merged = _drop_below(replace(merged, base=position), position)
    return None if merged == held else merged


def _filled(held: RowState, change: Change, position: str) -> RowState:
    assert change.after is not None
    better = {
        name: value
        for name, value in change.after.items()
        if name not in held.values or (name in held.fills and held.fills[name] < position)
    }
    fills = {**held.fills, **dict.fromkeys(better, position)}
    return replace(held, values={**held.values, **better}, fills=fills)


def _drop_below(held: RowState, floor: str) -> RowState:
    stale = {name for name, position in held.fills.items() if position < floor}
    values = {name: value for name, value in held.values.items() if name not in stale}
    fills = {name: position for name, position in held.fills.items() if name not in stale}
    return replace(held, values=values, fills=fills)
