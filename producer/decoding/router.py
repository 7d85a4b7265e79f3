"""From wal2json's messages to records for the stream: position, partition key, envelope; pure.

The index counts every row and logical message of the transaction, published or not, so that a filter that changes
between two runs never gives one change two positions. A primary-key change takes two indexes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from cdckit.change import Table, key_text
from cdckit.envelope import (
    MESSAGES,
    UNREADABLE,
    VERSION,
    Column,
    Metadata,
    MetadataWriter,
    Row,
    decode_row,
    inject,
    key_columns,
    old_key_columns,
)
from cdckit.errors import EnvelopeError
from cdckit.runtime.settings import Settings
from producer.decoding.key_scanner import Layouts
from producer.decoding.repair import decodable, with_key
from producer.decoding.table_filter import TableFilter
from producer.decoding.table_shapes import TableShapes
from producer.masking.masker import Masks
from producer.records import MAX_KEY, Origin, Record, fit_key, partition_key
from producer.wal2json import (
    ACTION_AT,
    BEGIN,
    DELETE,
    MESSAGE,
    ROWS,
    TRUNCATE,
    UPDATE,
    LogicalMessage,
    commit_lsn,
    logical_message,
    unreadable,
)

ANNOTATION_PREFIX = "cdc.annotation"
_MAX_SHAPES = 65_536
_PERHAPS_BROKEN = b'".'
"""In a message that is no JSON a quoted name is followed by a dot; within JSON only an escaped quote is."""
_NO_ANNOTATION: dict[str, Any] | None = None
_MOVED = {"lsn", "xid", "timestamp", "schema", "table", "pk"}
_encoder = msgspec.json.Encoder(decimal_format="number")
_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raw_columns = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


class Router:
    """Turns the messages of one transaction after another into records."""

    def __init__(
        self,
        origin: Origin,
        tables: TableFilter | None = None,
        prefixes: Sequence[str] = (),
        masks: Masks | None = None,
        shapes: TableShapes | None = None,
    ) -> None:
        """`origin` stamps every envelope; `tables` leaves tables out; `prefixes`: logical messages to publish.

        `masks` hide values before anything else is made of a row. `shapes` hears of each shape that is
        met, so that DDL is noticed, and knows the tables whose key is not what wal2json prints.
        """
        self._origin, self._prefixes = origin, frozenset(prefixes)
        self._masks = masks or None
        self._tables = tables or TableFilter()
        self._shapes = set[object]()
        self._schema = shapes or TableShapes()
        self._layouts, self._keys_version = (
            Layouts(self._name, self._met, self._prints_key),
            self._schema.index_keys.version,
        )
        self._plain, self._moved = MetadataWriter(_stamp(origin)), MetadataWriter(_stamp(origin, key_change=True))
        self._stamper, self._annotation = self._plain, _NO_ANNOTATION
        self._commit_lsn, self._index = b"", 0

    @classmethod
    def by(
        cls,
        settings: Settings,
        origin: Origin,
        masks: Masks,
        shapes: TableShapes | None = None,
    ) -> Router:
        """The router that the settings ask for."""
        prefixes = [prefix.strip() for prefix in settings.message_prefixes.split(",") if prefix.strip()]
        return cls(origin, TableFilter.parse(settings.table, settings.exclude_table), prefixes, masks, shapes)

    def begin(self, payload: bytes) -> None:
        """A transaction starts (a B message): count its changes from 0, forget the last one's annotation."""
        self._commit_lsn, self._index = commit_lsn(payload), 0
        if self._schema.index_keys.version != self._keys_version:
            self._layouts, self._keys_version = (
                Layouts(self._name, self._met, self._prints_key),
                self._schema.index_keys.version,
            )
        if self._annotation is not None:
            self._annotation, self._stamper = None, self._plain
        self._stamper.begin(self._commit_lsn)

    def take(self, payload: bytes) -> Sequence[Record]:
        """The records of any message, commits and starts included, for those who read a slot without a relay."""
        if len(payload) <= ACTION_AT:
            raise unreadable(payload, "too short")
        action = payload[ACTION_AT]
        if action == BEGIN:
            self.begin(payload)
        elif action == MESSAGE:
            return self.message(logical_message(payload))
        return self.route(payload) if action in ROWS else ()

    def route(self, payload: bytes) -> Sequence[Record]:
        """The records of one row message: none (a table left out), one, or two (a primary-key change).

        Raises EnvelopeError when `payload` is no row message, UsageError when a mask does not hide what it should.
        """
        if _PERHAPS_BROKEN in payload:
            payload = decodable(payload)
        if self._masks is not None:
            payload = self._masks.payload(payload)
        found = self._layouts.key(payload)
        if found is None:
            return self._parsed(payload)
        layout, key = found
        index = self._index
        self._index = index + 1
        if layout.name is None:
            return ()
        name = f"{layout.name}[{key.decode()}]"
        if len(name) > MAX_KEY:
            name = fit_key(name)
        return (Record(name, self._stamper.inject(payload, index), layout.table),)

    def message(self, message: LogicalMessage) -> Sequence[Record]:
        """A logical message: an annotation stays with the transaction, one that is asked for is a record."""
        index = self._index
        self._index = index + 1 if message.transactional else index
        if message.prefix == ANNOTATION_PREFIX and message.transactional:
            self._annotate(message.content)
        if message.prefix not in self._prefixes:
            return ()
        table = Table(MESSAGES, message.prefix)
        name = fit_key(f"{self._origin.source}/{table}/{_message_key(message.content)}")
        if not message.transactional:
            return (Record(name, inject(message.payload, _outside(self._origin, message.lsn)), table),)
        return (Record(name, self._stamper.inject(message.payload, index), table),)

    def _met(self, row: Row) -> None:
        """Report a shape once: its table, its key and, of an insert, all its columns."""
        columns = [(column.name, column.type) for column in row.columns] if row.action == "I" else []
        shape = (row.schema, row.table, tuple((column.name, column.type) for column in row.pk), tuple(columns))
        if shape not in self._shapes:
            if len(self._shapes) >= _MAX_SHAPES:
                self._shapes.clear()
            self._shapes.add(shape)
            masked = self._masks is not None and self._masks.covers(Table(row.schema, row.table))
            self._schema.seen(_without_types(row) if masked else row)

    def _prints_key(self, table: Table) -> bool:
        return self._schema.index_keys.of(table) is None

    def _name(self, table: Table) -> str | None:
        return f"{self._origin.source}/{table}/" if self._tables.wants(table) else None

    def _annotate(self, content: str) -> None:
        """Attach it to the transaction's later changes; what is no JSON object is kept as text."""
        try:
            self._annotation = msgspec.json.decode(content, type=dict[str, Any])
        except UNREADABLE:
            self._annotation = {"text": content}
        self._stamper = MetadataWriter(_stamp(self._origin, self._annotation))
        self._stamper.begin(self._commit_lsn)

    def _parsed(self, payload: bytes) -> Sequence[Record]:
        """As `route`, for a row whose text does not plainly show its key, or whose key changed."""
        row = decode_row(payload)
        self._met(row)
        table, action = Table(row.schema, row.table), payload[ACTION_AT]
        key = self._schema.index_keys.of(table)
        if key is not None and action != TRUNCATE:
            payload = with_key(payload, key)
            row = decode_row(payload)
        moved = action == UPDATE and _key_changed(row)
        index, self._index = self._index, self._index + (2 if moved else 1)
        if not self._tables.wants(table):
            return ()
        if action == DELETE and not _identified(row):
            return ()  # it was written under another identity: the table is filled again
        if moved:
            return self._split(payload, row, table, index)
        name = partition_key(self._origin.source, table, _key(row))
        return (Record(name, self._stamper.inject(payload, index), table, action == TRUNCATE),)

    def _split(self, payload: bytes, row: Row, table: Table, index: int) -> Sequence[Record]:
        stamper = (
            MetadataWriter(_stamp(self._origin, self._annotation, key_change=True)) if self._annotation else self._moved
        )
        stamper.begin(self._commit_lsn)
        old, new = (old_key_columns(row), key_columns(row)) if row.pk else (None, None)
        source = self._origin.source
        try:
            gone, come = _split(payload, row)
        except (*UNREADABLE, KeyError) as error:
            raise EnvelopeError(f"not a wal2json row record: {error}") from error
        return (
            Record(partition_key(source, table, old), stamper.inject(gone, index), table),
            Record(partition_key(source, table, new), stamper.inject(come, index + 1), table),
        )


def _stamp(origin: Origin, annotation: dict[str, Any] | None = None, *, key_change: bool = False) -> Metadata:
    return Metadata(
        VERSION, origin.epoch, "", 0, origin.source, origin.system, origin.timeline, origin.slot, annotation, key_change
    )


def _outside(origin: Origin, lsn: str) -> Metadata:
    """The stamp of a message that belongs to no transaction: its own place, and the time at which it was read."""
    return msgspec.structs.replace(_stamp(origin), commit_lsn=lsn, time=datetime.now(UTC).isoformat())


def _message_key(content: str) -> str:
    """Messages of one prefix keep their order; where each is a JSON object with a ``key``, those of one key do."""
    try:
        return key_text({"key": msgspec.json.decode(content, type=_Keyed).key})
    except UNREADABLE:
        return ""


def _without_types(row: Row) -> Row:
    """The row's names alone: a masked value has another type than its column."""
    columns, pk = ([Column(column.name) for column in part] for part in (row.columns, row.pk))
    return msgspec.structs.replace(row, columns=columns, pk=pk, identity=())


class _Keyed(msgspec.Struct):
    key: str | int


def _key(row: Row) -> Any:
    if not row.pk:
        return None  # partitioned by table: without a key, order is kept for the table as a whole
    return key_columns(row) if row.columns else old_key_columns(row)


def _identified(row: Row) -> bool:
    """Whether a delete shows every column of its key."""
    shown = {column.name for column in row.identity}
    return all(column.name in shown for column in row.pk)


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
