"""What the router and the schema watcher share: shapes that the router meets, tables that wal2json prints wrongly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from cdckit.change import Table
from cdckit.envelope import WireColumn, WireRow
from cdckit.relation import Relation, RelationColumn
from producer.decoding.repair import needs_repair

_MAX_SHAPES = 65_536


class SpecialTables:
    """The tables whose messages must be parsed: wal2json prints another key than theirs, or text that is not JSON.

    One thread replaces them, another one reads; `version` changes with them.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self.version = 0
        self._keys: Mapping[Table, Sequence[RelationColumn]] = {}
        self._repaired: frozenset[Table] = frozenset()

    def replace(self, relations: Iterable[Relation]) -> None:
        """Find the special ones among all tables."""
        found = list(relations)
        keys = {one.table: one.key_columns for one in found if list(one.key) != list(one.primary_key)}
        repaired = frozenset(one.table for one in found if any(needs_repair(column.type) for column in one.columns))
        if (keys, repaired) != (self._keys, self._repaired):
            self._keys, self._repaired = keys, repaired
            self.version += 1

    def index_key(self, table: Table) -> Sequence[RelationColumn] | None:
        """The key's columns when the replica identity's index identifies rows; None where wal2json prints the key."""
        return self._keys.get(table)

    def must_parse(self, table: Table) -> bool:
        """Whether a message of the table cannot be scanned."""
        return table in self._keys or table in self._repaired


@dataclass(frozen=True, slots=True)
class TableShapes:
    """Both directions: `seen` gets a row of each new shape, `special` are those of the last look."""

    seen: Callable[[WireRow], object] = lambda _row: None
    special: SpecialTables = field(default_factory=SpecialTables)


class ShapeReporter:
    """The router's side: reports each shape once."""

    def __init__(self, shapes: TableShapes, is_masked: Callable[[Table], bool]) -> None:
        """`is_masked`: a masked value has another type than its column, so types of such tables are left out."""
        self.special = shapes.special
        self._shapes, self._is_masked = shapes, is_masked
        self._reported = set[object]()

    def report(self, row: WireRow) -> None:
        """Report the row when its table, its key or, in an insert, its columns were not met before."""
        columns = [(column.name, column.type) for column in row.columns] if row.action == "I" else []
        shape = (row.schema, row.table, tuple((column.name, column.type) for column in row.pk), tuple(columns))
        if shape in self._reported:
            return
        if len(self._reported) >= _MAX_SHAPES:
            self._reported.clear()
        self._reported.add(shape)
        self._shapes.seen(_without_types(row) if self._is_masked(Table(row.schema, row.table)) else row)


def _without_types(row: WireRow) -> WireRow:
    columns, pk = ([WireColumn(column.name) for column in part] for part in (row.columns, row.pk))
    return msgspec.structs.replace(row, columns=columns, pk=pk, identity=())
