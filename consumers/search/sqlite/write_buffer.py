"""What a transaction has in hand: a table's state, and rows as changes are merged into them; knows no SQL."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import msgspec
from msgspec import structs

from cdckit.change import Change, Table
from consumers.search.document import Document, apply_floor, join, merge
from consumers.search.engine import Held
from consumers.search.mapping import TableMapper


@dataclass(slots=True)
class Scope:
    """One table of one source as the transaction sees it."""

    number: int
    source: str
    table: Table
    floor: str
    columns: frozenset[str]
    newest: float
    mapper: TableMapper
    changed: bool = False


class Slot(msgspec.Struct, gc=False):
    """One row in hand: where it is stored (None: nowhere yet), what is stored, and whether that was changed."""

    number: int | None = None
    visible: bool = False
    document: Document | None = None
    commit_time: float = 0.0
    changed: bool = False


def merged_in(scope: Scope, slots: dict[str, Slot], key: str, change: Change) -> bool:
    """Merge one change into the rows in hand; whether it had an effect."""
    slot = slots.get(key)
    if slot is None:
        slot = slots[key] = Slot()
    if change.after is not None:
        kept = scope.mapper.kept(change.after)
        change = change if kept is change.after else structs.replace(change, after=kept)
        if not scope.columns.issuperset(kept):
            scope.columns, scope.changed = scope.columns.union(kept), True
    merged = merge(slot.document, change, scope.floor)
    if merged is None:
        return False
    if slot.document is None or merged.position != slot.document.position:
        slot.commit_time = commit_time = change.commit_time.timestamp()
        if commit_time > scope.newest:
            scope.newest, scope.changed = commit_time, True
    slot.document, slot.changed = merged, True
    return True


def joined_in(scope: Scope, slot: Slot, other: Held) -> None:
    """Join one row of another generation into the row in hand."""
    kept = structs.replace(other.document, values=scope.mapper.kept(other.document.values))
    standing = apply_floor(kept, scope.floor)
    if standing is None:
        return
    document = standing if slot.document is None else join(slot.document, standing)
    if document != slot.document:
        if slot.document is None or document.position != slot.document.position:
            slot.commit_time = seconds(other.commit_time)
        slot.document, slot.changed = document, True


def seconds(moment: str) -> float:
    """Unix seconds of an ISO 8601 moment; 0 for none."""
    return datetime.fromisoformat(moment).timestamp() if moment else 0.0
