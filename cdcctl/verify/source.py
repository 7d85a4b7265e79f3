"""The source's side: which tables there are, all rows of one by streaming, and some rows by key."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice

import msgspec

from cdcctl.verify.canonical import NUMBERS, Column, Row
from cdckit.change import Table, Value, key_text, quote_name
from producer.postgres.connection import Source

_CHUNK, _LOOKUP = 2_000, 200
_ENDLESS = frozenset(("NaN", "Infinity", "-Infinity"))
_MOST_DIGITS = 4_000  # Python makes no int of much more text
_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
ORDER BY 1, 2
"""
_COLUMNS = """
SELECT a.attname, t.typname, format_type(a.atttypid, a.atttypmod),
  coalesce(array_position(i.indkey::int2[], a.attnum), -1)
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum
"""
_values = msgspec.json.Decoder(list[msgspec.Raw])
_exact = msgspec.json.Decoder(float_hook=Decimal)


def tables(source: Source) -> list[Table]:
    """Every ordinary table of the database. Raises SourceError."""
    return [Table(schema, name) for schema, name in source.query(_TABLES)]


@dataclass(slots=True)
class SourceTable:
    """One table with a primary key. Generated columns are not decoded by PostgreSQL, so they are left out here too."""

    source: Source
    table: Table
    columns: Sequence[Column]
    key: Sequence[Column]
    rate: float | None = None
    """At most so many rows a second are read, or as fast as the server gives them."""
    unverifiable: int = 0
    """Cells seen by the last scan that no satellite can hold: NaN and the infinities are null in wal2json's text."""
    _began: float = field(default_factory=time.monotonic)

    @classmethod
    def open(cls, source: Source, table: Table, rate: float | None = None) -> SourceTable:
        """Read its columns; `key` is empty when it has no primary key. Raises SourceError."""
        found = source.query(_COLUMNS, (str(table),))
        columns = [Column(name, kind, full) for name, kind, full, _ in found]
        ordered = sorted((at, number) for number, (*_, at) in enumerate(found) if at >= 0)
        return cls(source, table, columns, [columns[number] for _, number in ordered], rate)

    def rows(self) -> Iterator[tuple[str, Row]]:
        """All rows with their key's text, of one snapshot, some thousands in memory. Raises SourceError."""
        self.unverifiable, self._began, read = 0, time.monotonic(), 0
        self.source.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            self.source.query(f"DECLARE verified NO SCROLL CURSOR FOR {self._select()}")
            while chunk := self.source.query(f"FETCH {_CHUNK} FROM verified"):
                for values in chunk:
                    yield self._row(values)
                read += len(chunk)
                self._pace(read)
        finally:
            self.source.query("ROLLBACK")

    def lookup(self, keys: Iterable[str]) -> dict[str, tuple[Row, str]]:
        """The rows of these keys as they are now, each with what changes when the row does. Raises SourceError."""
        marks = ", ".join(f"%s::{column.type}" for column in self.key)
        names = ", ".join(quote_name(column.name) for column in self.key)
        found: dict[str, tuple[Row, str]] = {}
        waiting = iter(keys)
        while some := list(islice(waiting, _LOOKUP)):
            wanted = ", ".join(f"({marks})" for _ in some)
            query = f"{self._select('xmin::text || ctid::text')} WHERE ({names}) IN ({wanted})"
            for *values, version in self.source.query(query, [cell for key in some for cell in self._cells(key)]):
                key, row = self._row(values)
                found[key] = (row, version)
        return found

    def _select(self, *more: str) -> str:
        shown = ", ".join([*map(_expression, self.columns), *more])
        return f"SELECT {shown} FROM ONLY {self.table}"  # noqa: S608 -- quoted names from the catalogue

    def _row(self, values: Sequence[str | bool | None]) -> tuple[str, Row]:
        row: Mapping[str, Value] = {
            column.name: self._value(value, column.kind) for column, value in zip(self.columns, values, strict=True)
        }
        return key_text({column.name: row[column.name] for column in self.key}), row

    def _value(self, value: str | bool | None, kind: str) -> Value:
        if not isinstance(value, str) or kind not in NUMBERS:
            return value
        if value in _ENDLESS:
            self.unverifiable += 1
            return None  # as wal2json writes it
        return int(value) if len(value) < _MOST_DIGITS and value.lstrip("-").isdigit() else Decimal(value)

    def _cells(self, key: str) -> list[str]:
        texts = [bytes(raw) for raw in _values.decode(key)]  # a number as it is written, whatever its length
        cells = [str(_exact.decode(text)) if text[:1] in b'"tf' else text.decode() for text in texts]
        return [f"\\x{one}" if column.kind == "bytea" else one for one, column in zip(cells, self.key, strict=True)]

    def _pace(self, read: int) -> None:
        if self.rate:
            time.sleep(max(0.0, read / self.rate - (time.monotonic() - self._began)))


def _expression(column: Column) -> str:
    name = '"' + column.name.replace('"', '""') + '"'
    if column.kind == "bytea":
        return f"encode({name}, 'hex')"
    return name if column.kind == "bool" else f"{name}::text"
