"""Reads tables from PostgreSQL's catalog: the one place where relations, and so rows' keys, come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from cdckit.change import Table
from cdckit.relation import Identity, Relation, RelationColumn
from producer.postgres.connection import Source

# indkey also holds INCLUDE columns, after the first indnkeyatts; an index that is not valid or not immediate
# identifies no row for logical decoding (relcache.c, RelationGetIndexList)
_RELATIONS = """
SELECT n.nspname, c.relname, c.oid::bigint, c.relreplident, p.indimmediate IS FALSE,
  CASE WHEN p.indimmediate AND p.indisvalid THEN (p.indkey::int2[])[0:p.indnkeyatts - 1] ELSE '{}' END,
  CASE WHEN r.indimmediate AND r.indisvalid THEN (r.indkey::int2[])[0:r.indnkeyatts - 1] ELSE '{}' END,
  rn.nspname, rc.relname, coalesce(pg_relation_filenode(c.oid), 0)::bigint,
  greatest(c.reltuples, 0)::float8, (pg_relation_size(c.oid) / current_setting('block_size')::int)::int,
  a.numbers, a.names, a.types, a.oids, a.not_nulls, a.missing
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
_IN_ORDER = " ORDER BY n.nspname, c.relname"
_BY_NAME = " AND n.nspname = %s AND c.relname = %s"
_ROWS_PER_PAGE = 60  # for a table that was never analyzed


class SizedRelation(Relation, frozen=True):
    """A relation with an estimate of its size in rows and pages."""

    rows: int = 0
    pages: int = 0

    @classmethod
    def of(cls, relation: Relation, rows: int, pages: int) -> SizedRelation:
        """The relation with these sizes."""
        return cls(**msgspec.structs.asdict(relation), rows=rows, pages=pages)


def relations(source: Source, wanted: Callable[[Table], bool] = lambda _table: True) -> list[SizedRelation]:
    """Return the wanted tables that can be decoded; sizes are estimates. Raises SourceError."""
    found = []
    for row in source.query(_RELATIONS + _IN_ORDER):
        relation = _relation(row)
        if wanted(relation.table):
            rows, pages = row[10:12]
            found.append(SizedRelation.of(relation, round(rows) or pages * _ROWS_PER_PAGE, pages))
    return found


def shapes(source: Source) -> dict[Table, Relation]:
    """Return every table that can be decoded, without its size. Raises SourceError."""
    found = map(_relation, source.query(_RELATIONS + _IN_ORDER))
    return {relation.table: relation for relation in found}


def shape_of(source: Source, table: Table) -> Relation | None:
    """Return one table's relation; None when there is no such table that can be decoded. Raises SourceError."""
    rows = source.query(_RELATIONS + _BY_NAME, (table.schema, table.name))
    return _relation(rows[0]) if rows else None


def unfollowable(source: Source) -> list[Relation]:
    """Return the tables whose updates and deletes PostgreSQL does not decode; see `Relation.problem`."""
    return [relation for relation in shapes(source).values() if relation.problem]


def all_columns(source: Source) -> list[tuple[Table, str, bool]]:
    """Return every column of every table that can be decoded, and whether it is part of the table's key."""
    return [
        (relation.table, column.name, column.name in {*relation.primary_key, *relation.identity_key})
        for relation in shapes(source).values()
        for column in relation.columns
    ]


def quote_identifier(name: str) -> str:
    """Quote a name always, so that a keyword can be one. `cdckit.change.quote_name` quotes only where needed."""
    return '"' + name.replace('"', '""') + '"'


def quote_table(table: Table) -> str:
    """Quote a table's schema and name for SQL."""
    return f"{quote_identifier(table.schema)}.{quote_identifier(table.name)}"


def _relation(row: Sequence[Any]) -> Relation:
    schema, name, oid, identity, deferrable, primary, index, root_schema, root, storage, _, _, numbers, *columns = row
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
