"""A change of one row, or the truncation of one table, as every satellite receives it.

These are msgspec structs and not dataclasses: one is created per record, several times as fast.
`msgspec.structs.replace` makes a changed copy.
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
"""A column's value: exact numbers (int or Decimal), else PostgreSQL's own text (see docs/wire-format.md)."""

_PART = r'(?:"((?:[^"]|"")+)"|([^".]+))'
_TABLE = re.compile(rf"{_PART}(?:\.{_PART})?")
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_$]*")
NO_LSN = Lsn(0)
_ENCODER = msgspec.json.Encoder(decimal_format="number")


class Op(StrEnum):
    """What happened to the row or table; the values are wal2json's."""

    INSERT = "I"
    UPDATE = "U"
    DELETE = "D"
    TRUNCATE = "T"


def quote_name(name: str) -> str:
    """Quote an identifier as PostgreSQL does: only where it is necessary.

    Example:
        >>> quote_name("orders"), quote_name("Order Items")
        ('orders', '"Order Items"')

    """
    return name if _PLAIN_NAME.fullmatch(name) else '"' + name.replace('"', '""') + '"'


class Table(msgspec.Struct, frozen=True, order=True, cache_hash=True):
    """A table's schema and name, as stored in the catalog (unquoted). `str` quotes where necessary."""

    schema: str
    name: str

    def __str__(self) -> str:
        return _table_text(self.schema, self.name)

    @classmethod
    def parse(cls, text: str) -> Table:
        """Parse a table's name, quoted where necessary; the schema defaults to public.

        Raises:
            ValueError: `text` is not a table's name.

        Example:
            >>> str(Table.parse("orders")), str(Table.parse('sales."Order Items"'))
            ('public.orders', 'sales."Order Items"')

        """
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
    """Return a key's values as compact JSON: the canonical text of a row's key.

    Example:
        >>> key_text({"tenant": "acme", "id": 42})
        '["acme",42]'

    """
    return _ENCODER.encode(list(values.values())).decode()


class Change(msgspec.Struct, frozen=True, gc=False):
    """One row's insert, update or delete, or one table's truncate. Immutable.

    `after` holds the new values of an insert or update; an unchanged TOAST column is *absent* from it, which is not
    NULL (None). `before` holds the old row's columns that the replica identity includes: only the key by default, every
    column under REPLICA IDENTITY FULL. `key` holds the primary key (without one: the row's replica identity, else all
    its columns) and is empty for a truncate. `types` maps each column in the record to its PostgreSQL type.
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
    """True for the delete and for the insert that one UPDATE of a primary key was split into."""

    @property
    def key_text(self) -> str:
        """The key's canonical text, ``[42]``."""
        return key_text(self.key)

    @property
    def row_id(self) -> str:
        """The row's id, ``main/public.orders/[42]``: the document id and (when short) the partition key."""
        return f"{self.source}/{self.table}/{self.key_text}"
