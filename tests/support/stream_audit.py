"""Reads a whole stream and counts a producer's errors: lost changes, and changes of a key out of order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from cdckit.change import Change, Op
from cdckit.envelope import decode
from cdckit.position import Position
from consumers.stream.reader import StreamReader
from consumers.stream.start import EARLIEST


@dataclass
class StreamAudit:
    """What the stream holds. A repeated change (same position) counts once, at its first place."""

    records: int = 0
    positions: set[Position] = field(default_factory=set)
    inversions: int = 0
    by_key: dict[str, list[Change]] = field(default_factory=lambda: defaultdict(list))

    @property
    def repeated(self) -> int:
        """The number of repeated changes."""
        return self.records - len(self.positions)

    def see(self, change: Change) -> None:
        """Add the next change of its shard; shards of one key are read parents first."""
        self.records += 1
        if change.position in self.positions:
            return
        self.positions.add(change.position)
        history = self.by_key[change.row_id]
        if history and history[-1].position > change.position:
            self.inversions += 1
        history.append(change)

    def values(self, column: str) -> dict[Any, list[Any]]:
        """Return, by row, the column's values in the stream's order."""
        return {
            changes[0].key_text: [change.after[column] for change in changes if change.after is not None]
            for changes in self.by_key.values()
            if changes[0].op is not Op.TRUNCATE
        }


def audit(changes: Iterable[Change]) -> StreamAudit:
    """Count these changes."""
    found = StreamAudit()
    for change in changes:
        found.see(change)
    return found


def audit_stream(stream: str, client: Any = None) -> StreamAudit:
    """Read the stream from its oldest record to its tip."""
    more = {} if client is None else {"client": client}
    reader = StreamReader(stream, EARLIEST, stop_when_caught_up=True, **more)
    return audit(decode(record.data) for page in reader.pages() for record in page.records)
