"""Checks whether a lake can hold a change, before the sink accepts it, so that the kit can make it a dead letter."""

from __future__ import annotations

import struct
from functools import lru_cache

from cdckit.change import Change, Table
from cdckit.errors import PoisonChange
from consumers.parquet.names import table_path

_MAX_NAME_BYTES = 255
"""The limit of common file systems for one part of a path. A PostgreSQL name of 63 bytes needs at most 128."""


def validated_position(change: Change) -> str:
    """The sort key of the change's position.

    Raises PoisonChange when the position, the transaction id or the table's name cannot be stored.
    """
    _check_names(change.source, change.table)
    if change.xid is not None and not -(2**63) <= change.xid < 2**63:
        raise PoisonChange(f"{change.xid} is not a transaction id: it has more than 64 bits")
    try:
        return change.position.sort_key
    except struct.error as error:
        raise PoisonChange(f"{change.position!r} is not a valid position: {error}") from error


@lru_cache(maxsize=4096)
def _check_names(source: str, table: Table) -> None:
    parts = table_path(source, table).split("/")
    if not all(0 < len(part) <= _MAX_NAME_BYTES for part in parts):
        raise PoisonChange(
            f"the lake cannot hold a table named {source!r}, {table.schema[:80]!r}, {table.name[:80]!r}: "
            f"each name needs 1 to {_MAX_NAME_BYTES} bytes as a folder"
        )
