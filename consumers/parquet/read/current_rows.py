"""Reads the current rows of one table exactly as PostgreSQL has them, for a row-by-row comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from cdckit.change import Op, Table, Value
from consumers.parquet.lake import Lake, TableRef
from consumers.parquet.read.scan import attach
from consumers.parquet.read.views import incomplete_sql, latest_sql, view_columns
from consumers.parquet.types.codecs import decode
from consumers.parquet.types.schema import LakeSchema

RowValues = dict[str, Value]
_exact = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)


def current_rows(location: Path | str, source: str, table: Table) -> Iterator[tuple[str, RowValues]]:
    """Stream the current rows, in no order, as pairs of key text (`cdckit.change.key_text`) and values.

    Values are as wal2json writes them, normalized: timestamps in UTC, floats as the shortest Decimal. A column is
    missing from a row if no change of that row carried it. Raises SatelliteError when the lake has no such table.
    """
    opened = Lake.at(location).open(TableRef(source, table))
    columns = LakeSchema.of(opened)
    connection = duckdb.connect()
    attach(connection, "log", opened)
    incomplete = incomplete_sql(len(view_columns(columns)))
    yield from _rows(
        connection, f"{latest_sql('log')} SELECT * FROM latest WHERE _op <> 'D' AND NOT {incomplete}", columns
    )
    yield from _replayed(connection, incomplete, columns)
    connection.close()


def _rows(connection: duckdb.DuckDBPyConnection, sql: str, columns: LakeSchema) -> Iterator[tuple[str, RowValues]]:
    for batch in connection.sql(sql).to_arrow_reader(10_000):
        for key, _op, row in _decoded(batch, columns):
            yield key, row


def _replayed(
    connection: duckdb.DuckDBPyConnection, incomplete: str, columns: LakeSchema
) -> Iterator[tuple[str, RowValues]]:
    # The newest change of these rows left out unchanged columns: their values are in earlier changes.
    sql = f"""{latest_sql("log")} SELECT * FROM alive WHERE _key IN (SELECT _key FROM latest WHERE {incomplete})
        ORDER BY _key, _position"""
    current: tuple[str, RowValues] | None = None
    for batch in connection.sql(sql).to_arrow_reader(10_000):
        for key, op, row in _decoded(batch, columns):
            if current is not None and current[0] != key:
                yield current
                current = None
            base = current[1] if current is not None and op is Op.UPDATE else {}
            current = (key, {} if op is Op.DELETE else {**base, **row})
    if current is not None:
        yield current


def _decoded(batch: Any, columns: LakeSchema) -> Iterator[tuple[str, Op, RowValues]]:
    cells = {column.name: decode(column.kind, batch.column(column.name)) for column in columns.by_source.values()}
    names = {column.name: column.pg_name for column in columns.by_source.values()}
    meta = (batch.column(name).to_pylist() for name in ("_key", "_op", "_columns", "_exact"))
    for at, (key, op, present, exact) in enumerate(zip(*meta, strict=True)):
        yield key, Op(op), _row(present.split(","), cells, names, _exact.decode(exact) if exact else {}, at)


def _row(
    present: Sequence[str],
    cells: Mapping[str, Sequence[Value]],
    names: Mapping[str, str],
    exact: Mapping[str, Value],
    at: int,
) -> RowValues:
    return {names[name]: exact[name] if name in exact else cells[name][at] for name in present if name}
