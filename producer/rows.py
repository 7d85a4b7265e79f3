"""A table's rows as they are now, each value as wal2json writes it: what a satellite must equal."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from cdckit.change import Table, Value, key_text
from producer.source import Source

_NUMBERS = {"int2", "int4", "int8", "float4", "float8", "numeric"}
_COLUMNS = """
SELECT a.attname, t.typname, coalesce(array_position(i.indkey::int2[], a.attnum), -1)
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""


def table_rows(source: Source, table: Table) -> dict[str, Mapping[str, Value]]:
    """All rows by `key_text`. Raises SourceError. For tables that fit in memory."""
    columns = source.query(_COLUMNS, (str(table),))
    shown = ", ".join(_expression(name, kind) for name, kind, _ in columns)
    key = [name for name, _, at in sorted(columns, key=lambda column: column[2]) if _is_key(columns, name)]
    rows: dict[str, Mapping[str, Value]] = {}
    for values in source.query(f"SELECT {shown} FROM {table}"):  # noqa: S608 -- quoted names from the catalogue
        row: Mapping[str, Value] = {
            name: _value(value, kind) for (name, kind, _), value in zip(columns, values, strict=True)
        }
        rows[key_text({name: row[name] for name in key or row})] = row
    return rows


def _is_key(columns: list[tuple[str, str, int]], name: str) -> bool:
    return any(column == name and at >= 0 for column, _, at in columns)


def _expression(name: str, kind: str) -> str:
    quoted = '"' + name.replace('"', '""') + '"'
    if kind == "bytea":
        return f"encode({quoted}, 'hex')"
    return quoted if kind == "bool" else f"{quoted}::text"


def _value(value: str | bool | None, kind: str) -> Value:
    if not isinstance(value, str) or kind not in _NUMBERS:
        return value
    if value in ("NaN", "Infinity", "-Infinity"):
        return None  # wal2json writes null
    return int(value) if value.lstrip("-").isdigit() else Decimal(value)
