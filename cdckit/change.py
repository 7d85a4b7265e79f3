"""A change of one row (or the truncation of one table), as every satellite sees it.

msgspec's structs rather than dataclasses: they are made several times as fast, once a record (`msgspec.structs.replace`
makes a changed copy).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache

import msgspec

from cdckit.position import Lsn, Position

Value = None | bool | int | Decimal | str
"""A column's value. Numbers are exact (int or Decimal); all else is PostgreSQL's own text (see docs/wire-format.md)."""

_PART = r'(?:"((?:[^"]|"")+)"|([^".]+))'
_TABLE = re.compile(rf"{_PART}(?:\.{_PART})?")
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_$]*")
NO_LSN = Lsn(0)
_ENCODER = msgspec.json.Encoder(decimal_format="number")


class Op(StrEnum):
    """What happened, by wal2json's letter."""

    INSERT = "I"
    UPDATE = "U"
    DELETE = "D"
    TRUNCATE = "T"


def quote_name(name: str) -> str:
    """An identifier as PostgreSQL writes it: bare where that is unambiguous, else in double quotes."""
    return name if _PLAIN_NAME.fullmatch(name) else '"' + name.replace('"', '""') + '"'


class Table(msgspec.Struct, frozen=True, order=True, cache_hash=True):
    """A table's schema and name, as stored in the catalogue (unquoted)."""

    schema: str
    name: str

    def __str__(self) -> str:
        return _table_text(self.schema, self.name)

    @classmethod
    def parse(cls, text: str) -> Table:
        """Read ``public.orders``, ``orders`` (schema public) or quoted names. Raises ValueError otherwise."""
        match = _TABLE.fullmatch(text)
        if match is None:
            raise ValueError(f"not a table's name: {text!r} (expected like public.orders)")
        names = [
            quoted.replace('""', '"') if quoted else bare
            for quoted, bare in ((match[1], match[2]), (match[3], match[4]))
            if quoted or bare
        ]
        return cls("public", names[0]) if len(names) == 1 else cls(names[0], names[1])


@lru_cache(maxsize=4096)
def _table_text(schema: str, name: str) -> str:
    return f"{quote_name(schema)}.{quote_name(name)}"


def key_text(values: Mapping[str, Value]) -> str:
    """A key's values as compact JSON, ``[42]`` or ``["a","b"]``: the canonical text of a row's key."""
    return _ENCODER.encode(list(values.values())).decode()


class Change(msgspec.Struct, frozen=True, gc=False):
    """One row's insert, update or delete, or one table's truncate. Immutable.

    `after` holds the new values of an insert or update; an unchanged TOAST column is *absent* from it, which is not
    NULL (None). `before` holds what the replica identity gave of the old row: just the key by default, every column
    under REPLICA IDENTITY FULL. `key` holds the primary key (a table without one: the replica identity of the row,
    else all its columns) and is empty for a truncate. `types` maps each column seen to its PostgreSQL type.
    """

    op: Op
    source: str
    table: Table
    position: Position
    commit_time: datetime
    key: Mapping[str, Value]
    after: Mapping[str, Value] | None = None
    before: Mapping[str, Value] | None = None
    types: Mapping[str, str] = msgspec.field(default_factory=dict)
    lsn: Lsn = NO_LSN
    xid: int | None = None
    annotation: Mapping[str, object] | None = None
    key_change: bool = False
    """True on the delete and on the insert that one UPDATE of a primary key was split into."""

    @property
    def key_text(self) -> str:
        """The key's canonical text, ``[42]``."""
        return key_text(self.key)

    @property
    def row_id(self) -> str:
        """One row of one source, ``main/public.orders/[42]``: the document id and (when short) the partition key."""
        return f"{self.source}/{self.table}/{self.key_text}"
