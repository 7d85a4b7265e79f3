"""Maps each kind of column to the DuckDB type in which the views show it."""

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
    """The name of the DuckDB type; VARCHAR if no type is exact."""
    return kind.cast or raw_type(kind)


def raw_type(kind: Kind) -> str:
    """The DuckDB type that the column has in the files."""
    if kind.element is not None:
        return f"{raw_type(kind.element)}[]"
    if kind.family == "decimal":
        return f"DECIMAL({kind.arrow.precision},{kind.arrow.scale})"
    return _TYPES.get(kind.name, "VARCHAR")
