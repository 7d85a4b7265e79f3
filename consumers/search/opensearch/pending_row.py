"""One row with changes to apply: computes its new state and the write that stores it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import structs

from cdckit.change import Change, Op, Table
from cdckit.rows import apply_floor, join, merge
from consumers.search.engine import StoredRow
from consumers.search.mapping import TableMapper
from consumers.search.opensearch.bulk import DocumentWrite

TableKey = tuple[str, Table]
"""A source's id and a table."""


@dataclass(slots=True)
class PendingRow:
    """A row with changes to apply, or with its state in another generation to join.

    `applied` counts the changes that had an effect; `write` stores the new state; None if it is stored.
    """

    table_key: TableKey
    key: str
    changes: list[Change] = field(default_factory=list)
    joined: StoredRow | None = None
    applied: int = 0
    write: DocumentWrite | None = None

    @property
    def is_new(self) -> bool:
        """Whether its first change is an insert: then most likely the row is not stored yet."""
        return bool(self.changes) and self.changes[0].op is Op.INSERT

    def merged(self, before: StoredRow | None, watermark: str) -> StoredRow | None:
        """The row to store, given the stored row and the table's watermark; None: no row is to be stored."""
        return self._changed(before, watermark) if self.joined is None else self._joined(before, self.joined, watermark)

    def _changed(self, before: StoredRow | None, watermark: str) -> StoredRow | None:
        state = None if before is None else apply_floor(before.state, watermark)
        newest: Change | None = None
        self.applied = 0
        for change in self.changes:
            merged = merge(state, change, watermark)
            if merged is not None:
                if state is None or state.position != merged.position:
                    newest = change
                state, self.applied = merged, self.applied + 1
        if state is None:
            return None
        commit_time = before.commit_time if before else ""
        if newest is not None:
            commit_time = newest.commit_time.isoformat()
        return StoredRow(*self.table_key, self.key, state, commit_time)

    def _joined(self, before: StoredRow | None, other: StoredRow, watermark: str) -> StoredRow | None:
        own = None if before is None else apply_floor(before.state, watermark)
        others = apply_floor(other.state, watermark)
        state = join(own, others) if own is not None and others is not None else own or others
        if state is None:
            return None
        newest = before if before is not None and own is not None and state.position == own.position else other
        return StoredRow(*self.table_key, self.key, state, newest.commit_time)


def without_excluded(change: Change, mapper: TableMapper) -> Change:
    """The change without the columns that the index never stores."""
    if change.after is None or not mapper.excluded:
        return change
    return structs.replace(change, after=mapper.without_excluded(change.after))
