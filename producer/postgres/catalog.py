"""Reads tables from PostgreSQL's catalog: columns with their types, keys, size estimates, tables without a key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cdckit.change import Table
from producer.postgres.connection import Source

_RELATIONS = """
SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.atttypid::int,
  coalesce(array_position(i.indkey::int2[], a.attnum), -1), greatest(c.reltuples, 0)::float8,
  (pg_relation_size(c.oid) / current_setting('block_size')::int)::int
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated IN ('', 's')
LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
ORDER BY n.nspname, c.relname, a.attnum
"""
_WITHOUT_KEY = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND (c.relreplident = 'n' OR c.relreplident = 'd'
       AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary))
ORDER BY 1, 2
"""
_COLUMNS = """
SELECT n.nspname, c.relname, a.attname, coalesce(bool_or(a.attnum = ANY (i.indkey)), false)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_index i ON i.indrelid = c.oid AND (i.indisprimary OR i.indisreplident)
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
GROUP BY n.nspname, c.relname, a.attname, a.attnum ORDER BY n.nspname, c.relname, a.attnum
"""
_ROWS_PER_PAGE = 60  # for a table that was never analyzed


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name, its type as wal2json names it, and the type's OID."""

    name: str
    type: str
    oid: int


@dataclass(frozen=True, slots=True)
class Relation:
    """A table's columns in their order, the names of its primary key's columns (empty without one), and its size."""

    table: Table
    columns: Sequence[Column]
    key: Sequence[str]
    rows: int
    pages: int

    @property
    def key_columns(self) -> Sequence[Column]:
        """The key's columns."""
        by_name = {column.name: column for column in self.columns}
        return [by_name[name] for name in self.key]


def relations(source: Source, wanted: Callable[[Table], bool]) -> list[Relation]:
    """Return the wanted tables that can be decoded; sizes are estimates. Raises SourceError."""
    found: dict[Table, list[tuple[Column, int, float, int]]] = {}
    for schema, name, column, type_name, oid, key_index, rows, pages in source.query(_RELATIONS):
        table = Table(schema, name)
        if wanted(table):
            found.setdefault(table, []).append((Column(column, type_name, oid), key_index, rows, pages))
    return [_relation(table, columns) for table, columns in found.items()]


def _relation(table: Table, columns: list[tuple[Column, int, float, int]]) -> Relation:
    _, _, rows, pages = columns[0]
    key = [column.name for column, key_index, _, _ in columns if key_index >= 0]  # in table order, as in wal2json
    return Relation(table, [column for column, *_ in columns], key, round(rows) or pages * _ROWS_PER_PAGE, pages)


def tables_without_key(source: Source) -> list[Table]:
    """Return the tables whose updates and deletes wal2json drops: no primary key, no other replica identity."""
    return [Table(schema, name) for schema, name in source.query(_WITHOUT_KEY)]


def all_columns(source: Source) -> list[tuple[Table, str, bool]]:
    """Return every column of every table that can be decoded, and whether it is part of the table's key."""
    return [(Table(schema, name), column, key) for schema, name, column, key in source.query(_COLUMNS)]


def quote_identifier(name: str) -> str:
    """Quote a name always, so that a keyword can be one. `cdckit.change.quote_name` quotes only where needed."""
    return '"' + name.replace('"', '""') + '"'
