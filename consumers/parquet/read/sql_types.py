"""The DuckDB type in which the views show each kind of column."""

from __future__ import annotations

from consumers.parquet.types.kinds import Kind

_TYPES = {
    "smallint": "SMALLINT",
    "integer": "INTEGER",
    "bigint": "BIGINT",
    "boolean": "BOOLEAN",
    "real": "FLOAT",
    "double": "DOUBLE",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMPTZ",
    "bytea": "BLOB",
}


def sql_type(kind: Kind) -> str:
    """The type's name in DuckDB; text where it has none that is exact."""
    return kind.cast or raw_type(kind)


def raw_type(kind: Kind) -> str:
    """The DuckDB type in which the files themselves hold the column."""
    if kind.element is not None:
        return f"{raw_type(kind.element)}[]"
    if kind.family == "decimal":
        return f"DECIMAL({kind.arrow.precision},{kind.arrow.scale})"
    return _TYPES.get(kind.name, "VARCHAR")
