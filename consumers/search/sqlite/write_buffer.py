"""The rows that a transaction has read and not yet written back, as changes are merged into them; contains no SQL."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import msgspec
from msgspec import structs

from cdckit.change import Change, Table
from cdckit.rows import RowState, apply_floor, join, merge
from consumers.search.engine import StoredRow
from consumers.search.mapping import TableMapper


@dataclass(slots=True)
class TableState:
    """One table of one source in the current transaction. `changed` says that it must be stored."""

    number: int
    source: str
    table: Table
    watermark: str
    columns: frozenset[str]
    newest: float
    mapper: TableMapper
    changed: bool = False


class BufferedRow(msgspec.Struct, gc=False):
    """One row: the number of its document (None: not stored yet), its state, and whether the state has changed."""

    number: int | None = None
    visible: bool = False
    state: RowState | None = None
    commit_time: float = 0.0
    changed: bool = False


@dataclass(slots=True)
class WriteBuffer:
    """Rows of one table, by key: read from the index, changed here, then written back."""

    table: TableState
    rows: dict[str, BufferedRow] = field(default_factory=dict)

    def merge_change(self, key: str, change: Change) -> bool:
        """Merge a change into its row; whether it had an effect."""
        table, row = self.table, self.rows.get(key)
        if row is None:
            row = self.rows[key] = BufferedRow()
        if change.after is not None:
            kept = table.mapper.without_excluded(change.after)
            change = change if kept is change.after else structs.replace(change, after=kept)
            if not table.columns.issuperset(kept):
                table.columns, table.changed = table.columns.union(kept), True
        merged = merge(row.state, change, table.watermark)
        if merged is None:
            return False
        if row.state is None or merged.position != row.state.position:
            row.commit_time = commit_time = change.commit_time.timestamp()
            if commit_time > table.newest:
                table.newest, table.changed = commit_time, True
        row.state, row.changed = merged, True
        return True

    def join_row(self, other: StoredRow) -> None:
        """Join the state of the row in another generation into the row."""
        row = self.rows.setdefault(other.key, BufferedRow())
        kept = structs.replace(other.state, values=self.table.mapper.without_excluded(other.state.values))
        remaining = apply_floor(kept, self.table.watermark)
        if remaining is None:
            return
        state = remaining if row.state is None else join(row.state, remaining)
        if state != row.state:
            if row.state is None or state.position != row.state.position:
                row.commit_time = epoch_seconds(other.commit_time)
            row.state, row.changed = state, True


def epoch_seconds(time: str) -> float:
    """An ISO 8601 time in seconds since 1970; 0 for an empty text."""
    return datetime.fromisoformat(time).timestamp() if time else 0.0
