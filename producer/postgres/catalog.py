"""What a table looks like to whoever reads its rows: columns with their types, key, and how much there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cdckit.change import Table
from producer.postgres.connection import Source

_SHAPES = """
SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.atttypid::int,
  coalesce(array_position(i.indkey::int2[], a.attnum), -1), greatest(c.reltuples, 0)::float8,
  (pg_relation_size(c.oid) / current_setting('block_size')::int)::int
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated IN ('', 's')
LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
ORDER BY n.nspname, c.relname, a.attnum
"""
_ROWS_A_PAGE = 60  # where the table was never analysed


@dataclass(frozen=True, slots=True)
class Cell:
    """A column: its name, its type as wal2json names it, and the type's OID."""

    name: str
    type: str
    oid: int


@dataclass(frozen=True, slots=True)
class Shape:
    """A table's columns in their order, the names of its primary key's columns (none: it has no such key), its size."""

    table: Table
    cells: Sequence[Cell]
    key: Sequence[str]
    rows: int
    pages: int

    @property
    def keys(self) -> Sequence[Cell]:
        """The key's columns."""
        by_name = {cell.name: cell for cell in self.cells}
        return [by_name[name] for name in self.key]


def shapes(source: Source, wanted: Callable[[Table], bool]) -> list[Shape]:
    """The tables that can be decoded and are wanted; sizes are estimates. Raises SourceError."""
    found: dict[Table, list[tuple[Cell, int, float, int]]] = {}
    for schema, name, column, kind, oid, at, rows, pages in source.query(_SHAPES):
        table = Table(schema, name)
        if wanted(table):
            found.setdefault(table, []).append((Cell(column, kind, oid), at, rows, pages))
    return [_shape(table, columns) for table, columns in found.items()]


def _shape(table: Table, columns: list[tuple[Cell, int, float, int]]) -> Shape:
    _, _, rows, pages = columns[0]
    key = [cell.name for cell, at, _, _ in columns if at >= 0]  # in the table's order, as wal2json has it
    return Shape(table, [cell for cell, *_ in columns], key, round(rows) or pages * _ROWS_A_PAGE, pages)


def quoted(name: str) -> str:
    """A name in double quotes, so that one that is a keyword is none."""
    return '"' + name.replace('"', '""') + '"'
