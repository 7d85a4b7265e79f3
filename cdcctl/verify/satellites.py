"""Reads every row of one table from each satellite, as a stream."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from cdcctl.verify.canonical import RowValues, SourceColumn
from cdckit.change import Table
from cdckit.errors import SatelliteError
from cdckit.runtime.settings import Settings
from consumers.audit import query as audit
from consumers.audit.options import AuditOptions
from consumers.replica.dialect import quoted
from consumers.replica.postgres import PostgresDialect
from consumers.replica.sqlite import REPLICA_FILE
from consumers.search import query as search
from consumers.search.mapping import Mapper

KeyedRows = Iterable[tuple[str, RowValues]]


def rows(settings: Settings, satellite: str, table: Table, columns: Sequence[SourceColumn]) -> KeyedRows:
    """Every row with the text of its key, unordered. Raises SatelliteError when the satellite lacks the table."""
    return _READERS[satellite](settings, table, columns)


def compared_columns(
    settings: Settings, satellite: str, table: Table, columns: Sequence[SourceColumn]
) -> Sequence[SourceColumn] | None:
    """The columns that the satellite stores: a search mapping may exclude some. None when it excludes the table."""
    if satellite != "search":
        return columns
    with closing(search.open_index(settings.satellite(satellite), settings.options(satellite))) as index:
        mapper = Mapper(index.mapping).table(table)
    if mapper is None:
        return None
    names = mapper.without_excluded({column.name: None for column in columns})
    return [column for column in columns if column.name in names]


def _search(settings: Settings, table: Table, columns: Sequence[SourceColumn]) -> KeyedRows:  # noqa: ARG001
    found = search.documents(settings.satellite("search"), settings.source, table, settings.options("search"))
    return ((key, values) for key, values, _ in found)


def _parquet(settings: Settings, table: Table, columns: Sequence[SourceColumn]) -> KeyedRows:  # noqa: ARG001
    from consumers.parquet.options import ParquetOptions  # noqa: PLC0415
    from consumers.parquet.read.current_rows import current_rows  # noqa: PLC0415 -- pyarrow, DuckDB: slow to import

    options = ParquetOptions.read(settings.options("parquet"))
    return current_rows(options.url or settings.satellite("parquet"), settings.source, table)


def _audit(settings: Settings, table: Table, columns: Sequence[SourceColumn]) -> KeyedRows:  # noqa: ARG001
    options = AuditOptions.read(settings.options("audit"))
    return audit.current_rows(settings.satellite("audit"), settings.source, table, options).items()


def _replica(settings: Settings, table: Table, columns: Sequence[SourceColumn]) -> KeyedRows:
    dsn = settings.options("replica").get("dsn", "")
    return _postgres(str(dsn), settings, table, columns) if dsn else _sqlite(settings, table, columns)


def _sqlite(settings: Settings, table: Table, columns: Sequence[SourceColumn]) -> Iterator[tuple[str, RowValues]]:
    path = settings.satellite("replica") / REPLICA_FILE
    plain = table.name if table.schema == "public" else f"{table.schema}.{table.name}"
    name = quoted(plain if settings.source == "main" else f"{settings.source}/{plain}")
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=30)) as connection:
            existing = {row[1] for row in connection.execute(f"PRAGMA table_info({name})")}
            yield from _selected(
                connection.execute, name, [column.name for column in columns if column.name in existing]
            )
    except sqlite3.Error as error:
        raise SatelliteError(f"the replica {path} cannot be read: {error}", "cdcctl consumer run replica") from error


def _postgres(
    dsn: str, settings: Settings, table: Table, columns: Sequence[SourceColumn]
) -> Iterator[tuple[str, RowValues]]:
    with closing(PostgresDialect(dsn)) as dialect:
        name = dialect.table_name(settings.source, table)
        existing = dialect.columns(name)
        if existing is None:
            raise SatelliteError(f"the replica has no table {name}", "cdcctl consumer run replica")
        shown = [column.name for column in columns if column.name in existing]
        dialect.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        dialect.execute("SET LOCAL timezone = 'UTC'")
        listed = "".join(f", {quoted(column)}::text" for column in shown)
        dialect.execute(f"DECLARE verified NO SCROLL CURSOR FOR SELECT _cdc_key{listed} FROM {name}")  # noqa: S608
        while chunk := dialect.execute("FETCH 2000 FROM verified"):
            for key, *values in chunk:
                yield key, dict(zip(shown, values, strict=True))


def _selected(
    execute: Callable[[str], Iterable[Any]], name: str, shown: Sequence[str]
) -> Iterator[tuple[str, RowValues]]:
    listed = "".join(f", {quoted(column)}" for column in shown)
    for key, *values in execute(f"SELECT _cdc_key{listed} FROM {name}"):  # noqa: S608 -- quoted
        yield key, dict(zip(shown, values, strict=True))


_READERS: Mapping[str, Callable[[Settings, Table, Sequence[SourceColumn]], KeyedRows]] = {
    "search": _search, "parquet": _parquet, "audit": _audit, "replica": _replica,
}  # fmt: skip
SATELLITES = tuple(_READERS)
"""The satellites that can be verified."""
