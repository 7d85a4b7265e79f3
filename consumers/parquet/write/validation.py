"""Whether a change can be part of a lake at all: found out before it is taken, so that the kit can set it aside."""

from __future__ import annotations

import struct
from functools import lru_cache

from cdckit.change import Change, Table
from cdckit.errors import PoisonChange
from consumers.parquet.names import table_path

_LONGEST = 255
"""Bytes in one part of a path, by the common file systems; a name of 63 bytes needs 128 at the most."""


def validated_position(change: Change) -> str:
    """The position's sort key. Raises PoisonChange when the change has none, or names that no folder can have."""
    _check_names(change.source, change.table)
    if change.xid is not None and not -(2**63) <= change.xid < 2**63:
        raise PoisonChange(f"{change.xid} is no transaction id")
    try:
        return change.position.sort_key
    except struct.error as error:
        raise PoisonChange(f"{change.position!r} is no position: {error}") from error


@lru_cache(maxsize=4096)
def _check_names(source: str, table: Table) -> None:
    parts = table_path(source, table).split("/")
    if not all(0 < len(part) <= _LONGEST for part in parts):
        raise PoisonChange(f"{source!r}, {table.schema[:80]!r}, {table.name[:80]!r} cannot name a table of the lake")
