"""What a row's document becomes when a change arrives, in whatever order changes arrive; pure.

The state of a row is a function of the *set* of its changes: the newest one gives every column that it carries; a
column that it left out (unchanged TOAST) comes from the newest earlier change that carries it, back to the row's last
insert or delete (the `base`). So every order, with any duplicates, converges on one document.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from cdckit.change import Change, Op, Value

NOWHERE = ""
"""Sorts below every position's sort key."""


class Document(msgspec.Struct, frozen=True, gc=False):
    """One row as far as it is known. Positions are sort keys.

    `fills` names the columns of `values` that come from a change older than `position`, with that change's position.
    `base` is the newest insert or delete known, at or below `position`; without one the row may lack columns.
    """

    position: str
    deleted: bool = False
    base: str = NOWHERE
    values: Mapping[str, Value] = msgspec.field(default_factory=dict)
    fills: Mapping[str, str] = msgspec.field(default_factory=dict)


def merge(held: Document | None, change: Change, floor: str = NOWHERE) -> Document | None:
    """The document after the change, or None when the change is superseded.

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


def above(held: Document, floor: str) -> Document | None:
    """The document after a truncate at `floor`: None when it is gone, else without what came from below."""
    if held.position <= floor:
        return None
    kept = _drop_below(held, floor)
    return replace(kept, base=held.base if held.base > floor else NOWHERE)


def join(one: Document, other: Document) -> Document:
    """The document that knows the changes of both: what two indexes of the same row have seen, put together."""
    older, newer = sorted((one, other), key=lambda document: document.position)
    base = max(newer.base, older.base)
    if newer.deleted or base == newer.position:
        return newer
    columns: dict[str, tuple[str, Value]] = {}
    for document in () if older.deleted else (older, newer):
        for name, value in document.values.items():
            position = document.fills.get(name, document.position)
            if name not in columns or columns[name][0] <= position:
                columns[name] = (position, value)
    if older.deleted:
        columns = {name: (newer.fills.get(name, newer.position), value) for name, value in newer.values.items()}
    fills = {name: position for name, (position, _) in columns.items() if position != newer.position}
    values = {name: value for name, (_, value) in columns.items()}
    return _drop_below(Document(newer.position, False, base, values, fills), base)


def ordered(document: Document) -> Mapping[str, Value]:
    """The values in the order of their change; by name when several changes carried them, for they arrive in any."""
    return dict(sorted(document.values.items())) if document.fills else document.values


def _fresh(change: Change, position: str) -> Document:
    base = NOWHERE if change.op is Op.UPDATE else position
    return Document(position, change.op is Op.DELETE, base, change.after or {})


def _newer(held: Document, change: Change, position: str) -> Document:
    if change.op is not Op.UPDATE:
        return _fresh(change, position)
    assert change.after is not None
    if held.values.keys() <= change.after.keys():
        return Document(position, False, held.base, change.after)
    # a deleted row's column values are gone; an update after a delete can only be one whose insert is still to come
    kept = {} if held.deleted else {name: value for name, value in held.values.items() if name not in change.after}
    fills = {name: held.fills.get(name, held.position) for name in kept}
    return Document(position, False, held.base, {**kept, **change.after} if kept else change.after, fills)


def _older(held: Document, change: Change, position: str) -> Document | None:
    if position <= held.base or held.base == held.position:
        return None
    merged = _filled(held, change, position) if change.after is not None else held
    if change.op is not Op.UPDATE:
        merged = _drop_below(replace(merged, base=position), position)
    return None if merged == held else merged


def _filled(held: Document, change: Change, position: str) -> Document:
    assert change.after is not None
    better = {
        name: value
        for name, value in change.after.items()
        if name not in held.values or (name in held.fills and held.fills[name] < position)
    }
    fills = {**held.fills, **dict.fromkeys(better, position)}
    return replace(held, values={**held.values, **better}, fills=fills)


def _drop_below(held: Document, floor: str) -> Document:
    stale = {name for name, position in held.fills.items() if position < floor}
    values = {name: value for name, value in held.values.items() if name not in stale}
    fills = {name: position for name, position in held.fills.items() if name not in stale}
    return replace(held, values=values, fills=fills)
