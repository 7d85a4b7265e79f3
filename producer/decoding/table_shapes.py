"""What the router and the schema watcher share: shapes that the router meets, keys that wal2json does not print."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from cdckit.change import Table
from cdckit.envelope import WireColumn, WireRow
from cdckit.relation import Relation, RelationColumn

_MAX_SHAPES = 65_536


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
        """The key's columns; None where wal2json prints the key."""
        return self._columns.get(table)


@dataclass(frozen=True, slots=True)
class TableShapes:
    """Both directions: `seen` gets a row of each new shape, `index_keys` are those of the last look."""

    seen: Callable[[WireRow], object] = lambda _row: None
    index_keys: IndexKeys = field(default_factory=IndexKeys)


class ShapeReporter:
    """The router's side: reports each shape once."""

    def __init__(self, shapes: TableShapes, is_masked: Callable[[Table], bool]) -> None:
        """`is_masked`: a masked value has another type than its column, so types of such tables are left out."""
        self._shapes, self._is_masked = shapes, is_masked
        self._reported = set[object]()

    @property
    def version(self) -> int:
        """Changes when `index_key` answers differently."""
        return self._shapes.index_keys.version

    def index_key(self, table: Table) -> Sequence[RelationColumn] | None:
        """The key's columns when wal2json prints another key."""
        return self._shapes.index_keys.of(table)

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
