"""The current rows of one table, exactly as PostgreSQL has them: for a verifier that compares row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa

from cdckit.change import Op, Table, Value
from consumers.parquet.lake import Lake, TableRef
from consumers.parquet.read.scan import attach
from consumers.parquet.read.views import incomplete_sql, latest_sql, view_columns
from consumers.parquet.types.codecs import decode
from consumers.parquet.types.schema import LakeSchema

Row = dict[str, Value]
_exact = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)


def current_rows(location: Path | str, source: str, table: Table) -> Iterator[tuple[str, Row]]:
    """Each row's key text (`cdckit.change.key_text`) and its values, in no order, by streaming.

    Values are what wal2json wrote, normalised: instants in UTC, floats as their shortest Decimal. A column is missing
    from a row when no change of that row ever had it. Raises SatelliteError when the lake has no such table.
    """
    opened = Lake.at(location).open(TableRef(source, table))
    columns = LakeSchema.read(pa.schema(opened.schema().to_arrow()))
    connection = duckdb.connect()
    attach(connection, "log", opened)
    lacking = incomplete_sql(len(view_columns(columns)))
    yield from _rows(
        connection, f"{latest_sql('log')} SELECT * FROM latest WHERE _op <> 'D' AND NOT {lacking}", columns
    )
    yield from _replayed(connection, lacking, columns)
    connection.close()


def _rows(connection: duckdb.DuckDBPyConnection, sql: str, columns: LakeSchema) -> Iterator[tuple[str, Row]]:
    for batch in connection.sql(sql).to_arrow_reader(10_000):
        for key, _op, row in _decoded(batch, columns):
            yield key, row


def _replayed(connection: duckdb.DuckDBPyConnection, lacking: str, columns: LakeSchema) -> Iterator[tuple[str, Row]]:
    # Rows whose newest change left columns out as unchanged: their history tells the rest.
    sql = f"""{latest_sql("log")} SELECT * FROM alive WHERE _key IN (SELECT _key FROM latest WHERE {lacking})
        ORDER BY _key, _position"""
    held: tuple[str, Row] | None = None
    for batch in connection.sql(sql).to_arrow_reader(10_000):
        for key, op, row in _decoded(batch, columns):
            if held is not None and held[0] != key:
                yield held
                held = None
            base = held[1] if held is not None and op is Op.UPDATE else {}
            held = (key, {} if op is Op.DELETE else {**base, **row})
    if held is not None:
        yield held


def _decoded(batch: Any, columns: LakeSchema) -> Iterator[tuple[str, Op, Row]]:
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
) -> Row:
    return {names[name]: exact[name] if name in exact else cells[name][at] for name in present if name}
