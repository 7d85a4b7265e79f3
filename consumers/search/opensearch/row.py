"""One row in hand: what shall be done to it, what comes of that, and the write that makes it so; pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import structs

from cdckit.change import Change, Op, Table
from consumers.search.document import apply_floor, join, merge
from consumers.search.engine import Held
from consumers.search.mapping import TableMapper
from consumers.search.opensearch.bulk import Write

Scope = tuple[str, Table]
"""A table of a source."""


@dataclass(slots=True)
class Row:
    """Either changes are to be applied to the row, or another generation's state of it is to be joined in.

    `applied` counts the changes that had an effect; `write` is what is to be written, None where nothing is.
    """

    scope: Scope
    key: str
    changes: list[Change] = field(default_factory=list)
    joined: Held | None = None
    applied: int = 0
    write: Write | None = None

    @property
    def is_new(self) -> bool:
        """Whether its first change is an insert: most likely nothing is held of it."""
        return bool(self.changes) and self.changes[0].op is Op.INSERT

    def after(self, before: Held | None, floor: str) -> Held | None:
        """The row as it is to be held, over the table's watermark; None: nothing is to be held of it."""
        return self._changed(before, floor) if self.joined is None else self._joined(before, self.joined, floor)

    def _changed(self, before: Held | None, floor: str) -> Held | None:
        document = None if before is None else apply_floor(before.document, floor)
        newest: Change | None = None
        self.applied = 0
        for change in self.changes:
            merged = merge(document, change, floor)
            if merged is not None:
                if document is None or document.position != merged.position:
                    newest = change
                document, self.applied = merged, self.applied + 1
        if document is None:
            return None
        commit_time = before.commit_time if before else ""
        if newest is not None:
            commit_time = newest.commit_time.isoformat()
        return Held(*self.scope, self.key, document, commit_time)

    def _joined(self, before: Held | None, other: Held, floor: str) -> Held | None:
        mine = None if before is None else apply_floor(before.document, floor)
        theirs = apply_floor(other.document, floor)
        document = join(mine, theirs) if mine is not None and theirs is not None else mine or theirs
        if document is None:
            return None
        newest = before if before is not None and mine is not None and document.position == mine.position else other
        return Held(*self.scope, self.key, document, newest.commit_time)


def kept(change: Change, mapper: TableMapper) -> Change:
    """The change without the columns that the index never sees."""
    if change.after is None or not mapper.excluded:
        return change
    return structs.replace(change, after=mapper.kept(change.after))
