"""Maps PostgreSQL's type names, as wal2json writes them, to the kinds of column that the lake has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of column: its unique name, its Arrow type, and how the views restore the SQL type.

    `family` selects the codec. `cast` is the DuckDB type to which the views cast if Delta has no such type.
    """

    name: str
    arrow: Any
    family: str
    cast: str = ""
    element: Kind | None = None


_UTC = pa.timestamp("us", "UTC")
_NAIVE = pa.timestamp("us")
TEXT = Kind("text", pa.string(), "text")

_FIXED = {
    "smallint": Kind("smallint", pa.int16(), "int"),
    "integer": Kind("integer", pa.int32(), "int"),
    "bigint": Kind("bigint", pa.int64(), "int"),
    "oid": Kind("bigint", pa.int64(), "int"),
    "boolean": Kind("boolean", pa.bool_(), "bool"),
    "real": Kind("real", pa.float32(), "float"),
    "double precision": Kind("double", pa.float64(), "float"),
    "numeric": Kind("numeric", pa.string(), "number"),
    "date": Kind("date", pa.date32(), "time"),
    "timestamp without time zone": Kind("timestamp", _NAIVE, "time"),
    "timestamp with time zone": Kind("timestamptz", _UTC, "instant"),
    "bytea": Kind("bytea", pa.binary(), "bytes"),
    "uuid": Kind("uuid", pa.string(), "text", cast="UUID"),
    "json": Kind("json", pa.string(), "text", cast="JSON"),
    "jsonb": Kind("jsonb", pa.string(), "text", cast="JSON"),
    "time without time zone": Kind("time", pa.string(), "text", cast="TIME"),
    "interval": Kind("interval", pa.string(), "text", cast="INTERVAL"),
}
_NO_LISTS = ("box[]", "[][]")
"""``box[]`` is the only array type whose delimiter is ';'. ``x[][]`` is not a type name of PostgreSQL."""
_NUMERIC = re.compile(r"numeric\((\d{1,4}),(-?\d{1,4})\)")
_PRECISION = re.compile(r"(timestamp|time)(.*)\(\d\)")


@lru_cache(maxsize=4096)
def kind_of(pg_type: str) -> Kind:
    """The kind of column for a type name such as ``numeric(10,2)`` or ``integer[]``; text for an unknown type."""
    if pg_type.endswith("[]") and not pg_type.endswith(_NO_LISTS):
        return _list_of(kind_of(pg_type.removesuffix("[]")))
    if match := _NUMERIC.fullmatch(pg_type):
        return _decimal(int(match[1]), int(match[2]))
    name = "interval" if pg_type.startswith("interval") else _PRECISION.sub(r"\1\2", pg_type)
    return _FIXED.get(name, TEXT)


def _decimal(precision: int, scale: int) -> Kind:
    if not 1 <= precision <= 38 or not 0 <= scale <= precision:
        return _FIXED["numeric"]
    return Kind(f"numeric_{precision}_{scale}", pa.decimal128(precision, scale), "decimal")


def _list_of(element: Kind) -> Kind:
    # an interval's text needs mending before DuckDB takes it, which a list's cast cannot do
    cast = f"{element.cast}[]" if element.cast and element.cast != "INTERVAL" else ""
    return Kind(f"{element.name}_list", list_type(element), "list", cast, element=element)


def list_type(element: Kind) -> Any:
    """The Arrow type of a list of these elements, as Delta names its parts."""
    return pa.list_(pa.field("element", element.arrow))
