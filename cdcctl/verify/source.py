"""Reads the source: its tables, all rows of one table as a stream, and rows by key."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice

import msgspec

from cdcctl.verify.canonical import NUMBERS, RowValues, SourceColumn
from cdckit.change import Table, Value, key_text
from cdckit.errors import SourceError
from producer.postgres.catalog import quote_identifier, quote_table, shape_of
from producer.postgres.connection import Source

_ROWS_PER_FETCH, _KEYS_PER_LOOKUP = 2_000, 200
_NON_FINITE = frozenset(("NaN", "Infinity", "-Infinity"))
_MAX_INT_DIGITS = 4_000  # Python limits the conversion of longer texts to int
_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
ORDER BY 1, 2
"""
_COLUMNS = """
SELECT a.attname, t.typname, format_type(a.atttypid, a.atttypmod)
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = %s::oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum
"""
_values = msgspec.json.Decoder(list[msgspec.Raw])
_exact = msgspec.json.Decoder(float_hook=Decimal)


def tables(source: Source) -> list[Table]:
    """Every ordinary, permanent table of the database. Raises SourceError."""
    return [Table(schema, name) for schema, name in source.query(_TABLES)]


@dataclass(slots=True)
class SourceTable:
    """One table with a primary key. Generated columns are excluded, because logical decoding omits them."""

    source: Source
    table: Table
    columns: Sequence[SourceColumn]
    key: Sequence[SourceColumn]
    rate: float | None = None
    """Maximum rows read per second; None for no limit."""
    unverifiable: int = 0
    """Cells of the last scan that cannot be compared: wal2json writes NaN and infinities as null."""
    _started: float = field(default_factory=time.monotonic)

    @classmethod
    def open(cls, source: Source, table: Table, rate: float | None = None) -> SourceTable:
        """Read the columns of a table; `key` is empty when only the whole row identifies a row. Raises SourceError."""
        relation = shape_of(source, table)
        if relation is None:
            raise SourceError(f"there is no table {table} that can be decoded", "cdcctl doctor")
        columns = [SourceColumn(*found) for found in source.query(_COLUMNS, (relation.oid,))]
        by_name = {column.name: column for column in columns}
        return cls(source, table, columns, [by_name[name] for name in relation.key if name in by_name], rate)

    def rows(self) -> Iterator[tuple[str, RowValues]]:
        """All rows of one snapshot with the text of their key; a few thousand are in memory. Raises SourceError."""
        self.unverifiable, self._started, read = 0, time.monotonic(), 0
        self.source.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            self.source.query(f"DECLARE verified NO SCROLL CURSOR FOR {self._select()}")
            while chunk := self.source.query(f"FETCH {_ROWS_PER_FETCH} FROM verified"):
                for values in chunk:
                    yield self._row(values)
                read += len(chunk)
                self._throttle(read)
        finally:
            self.source.query("ROLLBACK")

    def lookup(self, keys: Iterable[str]) -> dict[str, tuple[RowValues, str]]:
        """The current rows of these keys, each with a version that changes with every update. Raises SourceError."""
        marks = ", ".join(f"%s::{column.type}" for column in self.key)
        names = ", ".join(quote_identifier(column.name) for column in self.key)
        found: dict[str, tuple[RowValues, str]] = {}
        remaining = (key for key in keys if len(_values.decode(key)) == len(self.key))  # others are of an older key
        while batch := list(islice(remaining, _KEYS_PER_LOOKUP)):
            tuples = ", ".join(f"({marks})" for _ in batch)
            selected = f"{self._select('xmin::text || ctid::text')} WHERE ({names}) IN ".replace("%", "%%")
            query = f"{selected}({tuples})"
            for *values, version in self.source.query(query, [cell for key in batch for cell in self._cells(key)]):
                key, row = self._row(values)
                found[key] = (row, version)
        return found

    def _select(self, *more: str) -> str:
        shown = ", ".join([*map(_expression, self.columns), *more])
        return f"SELECT {shown} FROM ONLY {quote_table(self.table)}"  # noqa: S608 -- quoted names from the catalog

    def _row(self, values: Sequence[str | bool | None]) -> tuple[str, RowValues]:
        row: Mapping[str, Value] = {
            column.name: self._value(value, column.kind) for column, value in zip(self.columns, values, strict=True)
        }
        return key_text({column.name: row[column.name] for column in self.key}), row

    def _value(self, value: str | bool | None, kind: str) -> Value:
        if not isinstance(value, str) or kind not in NUMBERS:
            return value
        if value in _NON_FINITE:
            self.unverifiable += 1
            return None  # as wal2json writes it
        return int(value) if len(value) < _MAX_INT_DIGITS and value.lstrip("-").isdigit() else Decimal(value)

    def _cells(self, key: str) -> list[str]:
        texts = [bytes(raw) for raw in _values.decode(key)]  # numbers in their original text, of any length
        cells = [str(_exact.decode(text)) if text[:1] in b'"tf' else text.decode() for text in texts]
        return [f"\\x{cell}" if column.kind == "bytea" else cell for cell, column in zip(cells, self.key, strict=True)]

    def _throttle(self, read: int) -> None:
        if self.rate:
            time.sleep(max(0.0, read / self.rate - (time.monotonic() - self._started)))


def _expression(column: SourceColumn) -> str:
    name = quote_identifier(column.name)
    if column.kind == "bytea":
        return f"encode({name}, 'hex')"
    if column.kind == "bpchar":  # a cast to text strips the blanks that wal2json writes
        return f"CASE WHEN {name} IS NOT NULL THEN concat({name}) END"
    return name if column.kind == "bool" else f"{name}::text"
