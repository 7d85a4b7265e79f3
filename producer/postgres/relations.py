"""Reads relations, the tables' shapes, from the catalogue: the one place where a table's key is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cdckit.change import Table
from cdckit.relation import Identity, Relation, RelationColumn
from producer.postgres.connection import Source

# indkey also holds INCLUDE columns, behind the first indnkeyatts; an index that is not valid or not immediate
# identifies no row for logical decoding (relcache.c, RelationGetIndexList)
_RELATIONS = """
SELECT n.nspname, c.relname, c.oid::bigint, c.relreplident, p.indimmediate IS FALSE,
  CASE WHEN p.indimmediate AND p.indisvalid THEN (p.indkey::int2[])[0:p.indnkeyatts - 1] ELSE '{}' END,
  CASE WHEN r.indimmediate AND r.indisvalid THEN (r.indkey::int2[])[0:r.indnkeyatts - 1] ELSE '{}' END,
  rn.nspname, rc.relname, coalesce(pg_relation_filenode(c.oid), 0)::bigint,
  coalesce(a.numbers, '{}'), a.names, a.types, a.oids, a.not_nulls, a.missing
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_index p ON p.indrelid = c.oid AND p.indisprimary
LEFT JOIN pg_index r ON r.indrelid = c.oid AND r.indisreplident
LEFT JOIN pg_class rc ON c.relispartition AND rc.oid = pg_partition_root(c.oid)
LEFT JOIN pg_namespace rn ON rn.oid = rc.relnamespace
CROSS JOIN LATERAL (
  SELECT array_agg(attnum ORDER BY attnum) AS numbers, array_agg(attname::text ORDER BY attnum) AS names,
    array_agg(format_type(atttypid, atttypmod) ORDER BY attnum) AS types,
    array_agg(atttypid::bigint ORDER BY attnum) AS oids, array_agg(attnotnull ORDER BY attnum) AS not_nulls,
    array_agg(atthasmissing ORDER BY attnum) AS missing
  FROM pg_attribute
  WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated IN ('', 's')
) a
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
"""


def relations(source: Source, wanted: Callable[[Table], bool] = lambda _table: True) -> dict[Table, Relation]:
    """Every table that can be decoded and is wanted, by schema and name. Raises SourceError."""
    found = (_relation(row) for row in source.query(_RELATIONS + "ORDER BY n.nspname, c.relname"))
    return {relation.table: relation for relation in found if wanted(relation.table)}


def relation_of(source: Source, table: Table) -> Relation | None:
    """One table's relation; None when there is no such table that can be decoded. Raises SourceError."""
    rows = source.query(_RELATIONS + "AND n.nspname = %s AND c.relname = %s", (table.schema, table.name))
    return _relation(rows[0]) if rows else None


def _relation(row: Sequence[Any]) -> Relation:
    schema, name, oid, identity, deferrable, primary, index, root_schema, root, storage, numbers, *columns = row
    read = [RelationColumn(*column) for column in zip(numbers, *columns, strict=True)] if numbers else []
    table = Table(schema, name)
    return Relation(
        table,
        oid,
        read,
        _names(read, primary),
        Identity(identity),
        _names(read, index),
        bool(deferrable),
        Table(root_schema, root) if root else table,
        storage,
    )


def _names(columns: Sequence[RelationColumn], numbers: Sequence[int]) -> Sequence[str]:
    """The columns of these numbers, in the table's order: the order in which wal2json prints a key."""
    return [column.name for column in columns if column.number in set(numbers)]
