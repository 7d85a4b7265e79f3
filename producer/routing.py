"""From wal2json's messages to records for the stream: position, partition key, envelope; pure.

The index counts every row message of the transaction, published or not, so that a filter that changes between two runs
never gives one change two positions. A primary-key change takes two indexes.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from cdckit.change import Op, Table, Value, key_text
from cdckit.envelope import VERSION, Row, Stamp, key_columns, old_key_columns, splice
from cdckit.position import Lsn, Position
from producer.wal2json import Begin, LogicalMessage, RowMessage

ANNOTATION_PREFIX = "cdc.annotation"
MAX_KEY = 256
_MOVED = {"lsn", "xid", "timestamp", "schema", "table", "pk"}
_encoder = msgspec.json.Encoder(decimal_format="number")
_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raw_columns = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


@dataclass(frozen=True, slots=True)
class Origin:
    """What every envelope says of where it comes from."""

    source: str
    epoch: int
    system: str
    timeline: int
    slot: str


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One record for the stream. ``every_shard`` asks for a copy on each open shard (a truncate)."""

    partition_key: str
    data: bytes
    position: Position
    table: Table
    every_shard: bool = False


@dataclass(frozen=True, slots=True)
class TableFilter:
    """Globs over ``schema.table``: published when one of `include` matches (none given: all) and none of `exclude`."""

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()

    @classmethod
    def parse(cls, include: str, exclude: str) -> TableFilter:
        """Read comma-separated globs."""
        return cls(_globs(include), _globs(exclude))

    def wants(self, table: Table) -> bool:
        """Whether the table is published."""
        name = f"{table.schema}.{table.name}"
        included = not self.include or any(fnmatch.fnmatchcase(name, glob) for glob in self.include)
        return included and not any(fnmatch.fnmatchcase(name, glob) for glob in self.exclude)


class Router:
    """Turns the messages of one transaction after another into records."""

    def __init__(self, origin: Origin, tables: TableFilter | None = None) -> None:
        """`origin` stamps every envelope; `tables` leaves tables out."""
        self._origin = origin
        self._wants = lru_cache(maxsize=4096)((tables or TableFilter()).wants)
        self._commit_lsn = Lsn(0)
        self._index = 0
        self._annotation: dict[str, Any] | None = None

    def begin(self, begin: Begin) -> None:
        """A transaction starts: count its changes from 0, forget the last one's annotation."""
        self._commit_lsn, self._index, self._annotation = begin.commit_lsn, 0, None

    def annotate(self, message: LogicalMessage) -> None:
        """Attach ``cdc.annotation`` to the transaction's later changes; what is no JSON object is kept as text."""
        if message.prefix != ANNOTATION_PREFIX or not message.transactional:
            return
        try:
            self._annotation = msgspec.json.decode(message.content, type=dict[str, Any])
        except msgspec.DecodeError:
            self._annotation = {"text": message.content}

    def route(self, message: RowMessage) -> list[Record]:
        """The records of one row message: none (a table left out), one, or two (a primary-key change)."""
        row, table = message.row, Table(message.row.schema, message.row.table)
        moved = row.action == Op.UPDATE and _key_changed(row)
        first, self._index = self._index, self._index + (2 if moved else 1)
        if not self._wants(table):
            return []
        if not moved:
            return [self._record(message.payload, table, _key(row), first)]
        gone, come = _split(message.payload, row)
        return [
            self._record(gone, table, old_key_columns(row) if row.pk else None, first, key_change=True),
            self._record(come, table, key_columns(row) if row.pk else None, first + 1, key_change=True),
        ]

    def _record(
        self, payload: bytes, table: Table, key: dict[str, Value] | Any, index: int, *, key_change: bool = False
    ) -> Record:
        origin, position = self._origin, Position(self._origin.epoch, self._commit_lsn, index)
        stamp = Stamp(
            VERSION, origin.epoch, str(self._commit_lsn), index, origin.source, origin.system, origin.timeline,
            origin.slot, self._annotation, key_change,
        )  # fmt: skip
        truncate = payload.startswith(b'{"action":"T"')
        name = partition_key(origin.source, table, None if truncate else key)
        return Record(name, splice(payload, stamp), position, table, truncate)


def partition_key(source: str, table: Table, key: Any) -> str:
    """``main/public.orders/[42]``; over Kinesis' 256 characters, its start and a SHA-256 of the whole."""
    text = f"{source}/{table}/{'' if key is None else key_text(key)}"
    if len(text) <= MAX_KEY:
        return text
    return f"{text[:128]}…{hashlib.sha256(text.encode()).hexdigest()}"


def _key(row: Row) -> Any:
    if row.action == Op.TRUNCATE:
        return {}
    if not row.pk:
        return None  # partitioned by table: without a key, order is kept for the table as a whole
    return key_columns(row) if row.action in (Op.INSERT, Op.UPDATE) else old_key_columns(row)


def _key_changed(row: Row) -> bool:
    return bool(row.identity) and key_text(old_key_columns(row)) != key_text(key_columns(row))


def _split(payload: bytes, row: Row) -> tuple[bytes, bytes]:
    """One UPDATE of a primary key as a DELETE of the old key and an INSERT of the new, values verbatim."""
    parts = _raw_object.decode(payload)
    kept = {name: value for name, value in parts.items() if name in _MOVED}
    columns, identity = _raw_columns.decode(parts["columns"]), _raw_columns.decode(parts["identity"])
    present = {column.name for column in row.columns}
    # under REPLICA IDENTITY FULL the old row holds what the new one left out as unchanged TOAST
    filled = columns + [old for old, known in zip(identity, row.identity, strict=True) if known.name not in present]
    gone = _encoder.encode({"action": "D", **kept, "identity": parts["identity"]})
    return gone, _encoder.encode({"action": "I", **kept, "columns": filled})


def _globs(text: str) -> Sequence[str]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
