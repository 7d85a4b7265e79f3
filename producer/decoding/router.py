"""Turns wal2json's messages into records for the stream: position, partition key, envelope; pure.

The index counts every row and logical message of the transaction, published or not: a filter that changes between two
runs never gives one change two positions. A primary-key change takes two indexes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from cdckit.change import Table, key_text
from cdckit.envelope import (
    DECODE_ERRORS,
    MESSAGE_SCHEMA,
    VERSION,
    Metadata,
    MetadataWriter,
    inject,
)
from cdckit.errors import EnvelopeError
from cdckit.runtime.settings import Settings
from producer.decoding.key_scanner import KeyScanner
from producer.decoding.parsed_row import ParsedRow, parse_row
from producer.decoding.repair import decode_repaired
from producer.decoding.table_filter import TableFilter
from producer.decoding.table_shapes import ShapeReporter, TableShapes
from producer.masking.masker import Masker
from producer.records import MAX_KEY, Origin, Record, fit_key, partition_key
from producer.wal2json import (
    ACTION_OFFSET,
    BEGIN,
    MESSAGE,
    ROW_ACTIONS,
    LogicalMessage,
    commit_lsn,
    logical_message,
    unreadable_message,
)

ANNOTATION_PREFIX = "cdc.annotation"
_NO_ANNOTATION: dict[str, Any] | None = None


class Router:
    """Turns the messages of one transaction after another into records."""

    def __init__(
        self,
        origin: Origin,
        tables: TableFilter | None = None,
        prefixes: Sequence[str] = (),
        masker: Masker | None = None,
        shapes: TableShapes | None = None,
    ) -> None:
        """`origin` goes into every envelope; `tables` selects tables; `prefixes`: logical messages to publish.

        `masker` hides values before anything else reads a row. `shapes` hears of each shape that is met, so that DDL is
        noticed, and knows the tables whose key wal2json does not print.
        """
        self._origin, self._prefixes = origin, frozenset(prefixes)
        self._masker = masker or None
        self._tables = tables or TableFilter()
        self._shapes = ShapeReporter(shapes or TableShapes(), masker.covers if masker else lambda _table: False)
        self._special = self._shapes.special
        self._scanner, self._version = KeyScanner(self._key_prefix, self._shapes), self._special.version
        self._plain_metadata = MetadataWriter(_metadata(origin))
        self._key_change_metadata = MetadataWriter(_metadata(origin, key_change=True))
        self._metadata, self._annotation = self._plain_metadata, _NO_ANNOTATION
        self._commit_lsn, self._index = b"", 0

    @classmethod
    def from_settings(
        cls, settings: Settings, origin: Origin, masker: Masker, shapes: TableShapes | None = None
    ) -> Router:
        """Build the router that the settings ask for."""
        prefixes = [prefix.strip() for prefix in settings.message_prefixes.split(",") if prefix.strip()]
        return cls(origin, TableFilter.parse(settings.table, settings.exclude_table), prefixes, masker, shapes)

    def begin(self, payload: bytes) -> None:
        """Start a transaction (a B message): count its changes from 0, drop the last one's annotation."""
        self._commit_lsn, self._index = commit_lsn(payload), 0
        if self._special.version != self._version:
            self._scanner, self._version = KeyScanner(self._key_prefix, self._shapes), self._special.version
        if self._annotation is not None:
            self._annotation, self._metadata = None, self._plain_metadata
        self._metadata.begin(self._commit_lsn)

    def handle(self, payload: bytes) -> Sequence[Record]:
        """Return the records of any message, B and C included; for callers that read a slot without a relay."""
        if len(payload) <= ACTION_OFFSET:
            raise unreadable_message(payload, "too short")
        action = payload[ACTION_OFFSET]
        if action == BEGIN:
            self.begin(payload)
        elif action == MESSAGE:
            return self.message(logical_message(payload))
        return self.route(payload) if action in ROW_ACTIONS else ()

    def route(self, payload: bytes) -> Sequence[Record]:
        """Return the records of one row message: none (table not published), one, or two (a primary-key change).

        Raises EnvelopeError when `payload` is not a row message, UsageError when a masked column is missing.
        """
        if self._masker is not None:
            payload = self._mask(payload)
        found = self._scanner.scan(payload)
        if found is None:
            return self._route_parsed(payload)
        layout, key = found
        index = self._index
        self._index = index + 1
        if layout.key_prefix is None:
            return ()
        name = f"{layout.key_prefix}[{key.decode()}]"
        if len(name) > MAX_KEY:
            name = fit_key(name)
        return (Record(name, self._metadata.inject(payload, index), layout.table),)

    def _mask(self, payload: bytes) -> bytes:
        assert self._masker is not None
        try:
            return self._masker.mask_payload(payload)
        except EnvelopeError:
            return self._masker.mask_payload(decode_repaired(payload)[0])

    def message(self, message: LogicalMessage) -> Sequence[Record]:
        """Handle a logical message: keep an annotation for the transaction; return a record if it is published."""
        index = self._index
        self._index = index + 1 if message.transactional else index
        if message.prefix == ANNOTATION_PREFIX and message.transactional:
            self._annotate(message.content)
        if message.prefix not in self._prefixes:
            return ()
        table = Table(MESSAGE_SCHEMA, message.prefix)
        name = fit_key(f"{self._origin.source}/{table}/{_message_key(message.content)}")
        if not message.transactional:
            return (Record(name, inject(message.payload, _standalone_metadata(self._origin, message.lsn)), table),)
        return (Record(name, self._metadata.inject(message.payload, index), table),)

    def _key_prefix(self, table: Table) -> str | None:
        return f"{self._origin.source}/{table}/" if self._tables.wants(table) else None

    def _annotate(self, content: str) -> None:
        """Attach the annotation to the transaction's later changes; content that is not a JSON object as text."""
        try:
            self._annotation = msgspec.json.decode(content, type=dict[str, Any])
        except DECODE_ERRORS:
            self._annotation = {"text": content}
        self._metadata = MetadataWriter(_metadata(self._origin, self._annotation))
        self._metadata.begin(self._commit_lsn)

    def _route_parsed(self, payload: bytes) -> Sequence[Record]:
        """As `route`, for a row that the key scanner cannot read, or whose key changed."""
        payload, row = decode_repaired(payload)
        self._shapes.report(row)
        parsed = parse_row(payload, row, self._special.index_key(Table(row.schema, row.table)))
        index, self._index = self._index, self._index + (2 if parsed.key_changed else 1)
        if not self._tables.wants(parsed.table):
            return ()
        if not parsed.identified:
            return ()  # it was written under another replica identity: the table is filled again
        if parsed.key_changed:
            return self._route_key_change(parsed, index)
        name = partition_key(self._origin.source, parsed.table, parsed.key)
        return (Record(name, self._metadata.inject(parsed.payload, index), parsed.table, parsed.truncates),)

    def _route_key_change(self, parsed: ParsedRow, index: int) -> Sequence[Record]:
        metadata = self._key_change_metadata
        if self._annotation:
            metadata = MetadataWriter(_metadata(self._origin, self._annotation, key_change=True))
        metadata.begin(self._commit_lsn)
        source, table, (delete, insert) = self._origin.source, parsed.table, parsed.split()
        return (
            Record(partition_key(source, table, parsed.old_key), metadata.inject(delete, index), table),
            Record(partition_key(source, table, parsed.key), metadata.inject(insert, index + 1), table),
        )


def _metadata(origin: Origin, annotation: dict[str, Any] | None = None, *, key_change: bool = False) -> Metadata:
    return Metadata(
        VERSION, origin.epoch, "", 0, origin.source, origin.system, origin.timeline, origin.slot, annotation, key_change
    )


def _standalone_metadata(origin: Origin, lsn: str) -> Metadata:
    """The metadata of a message outside any transaction: its own position, and the time at which it was read."""
    return msgspec.structs.replace(_metadata(origin), commit_lsn=lsn, time=datetime.now(UTC).isoformat())


def _message_key(content: str) -> str:
    """The ``key`` of a message that is a JSON object with one: order is kept per key, else per prefix."""
    try:
        return key_text({"key": msgspec.json.decode(content, type=_Keyed).key})
    except DECODE_ERRORS:
        return ""


class _Keyed(msgspec.Struct):
    key: str | int
