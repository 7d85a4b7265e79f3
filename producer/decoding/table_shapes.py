"""What the router and the schema watcher share: shapes that the router meets, keys that it must write itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cdckit.change import Table
from cdckit.envelope import Row
from cdckit.relation import Relation, RelationColumn


class IndexKeys:
    """Keys of the tables that ``REPLICA IDENTITY USING INDEX`` identifies: wal2json prints their primary key instead.

    One thread replaces them, another one reads; `version` changes with them.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self.version = 0
        self._columns: Mapping[Table, Sequence[RelationColumn]] = {}

    def replace(self, relations: Iterable[Relation]) -> None:
        """Take the keys of these tables."""
        fresh = {one.table: one.key_columns for one in relations if list(one.key) != list(one.primary_key)}
        if fresh != self._columns:
            self._columns = fresh
            self.version += 1

    def of(self, table: Table) -> Sequence[RelationColumn] | None:
        """The key's columns; None where what wal2json prints is the key."""
        return self._columns.get(table)


@dataclass(frozen=True, slots=True)
class TableShapes:
    """Both directions: `seen` gets a row of each shape that is met, `index_keys` are those of the last look."""

    seen: Callable[[Row], object] = lambda _row: None
    index_keys: IndexKeys = field(default_factory=IndexKeys)
