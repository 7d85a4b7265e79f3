"""Encodes and decodes the records of the stream; the only owner of the wire format's keys and version.

A record is the wal2json format-version 2 object, keys and values verbatim, plus one key ``cdc``::

    {"action":"U","xid":752,"timestamp":"2026-11-23 10:00:00.1+00","lsn":"0/1A2B3C0","schema":"public","table":"orders",
     "columns":[{"name":"id","type":"integer","value":42},...],"identity":[...],"pk":[{"name":"id","type":"integer"}],
     "cdc":{"v":1,"epoch":1,"commit_lsn":"0/1A2B400","index":0,"source":"main","system":"7312...","timeline":1,
            "slot":"cdc","annotation":{"actor":"alice"},"key_change":true}}

``annotation`` and ``key_change`` appear only where they apply. A change too large for the stream, and rows that a
snapshot read, are this text compressed (`cdckit.packing`); what is too large even then is a reference
(`cdckit.claim_check`). A logical message (``"action":"M"``, an outbox) has ``cdc`` too; it is decoded as an insert into
a table with its prefix's name in the schema ``pg_logical_message``, with the columns lsn, content and transactional.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from cdckit.change import NO_LSN, Change, Op, Table, Value
from cdckit.errors import EnvelopeError
from cdckit.packing import decompress
from cdckit.position import Lsn, Position

VERSION = 1
MESSAGE_SCHEMA = "pg_logical_message"
"""The schema of logical messages, which have one table per prefix."""
REFERENCE_PREFIX = b'{"action":"R"'
"""How the record of an oversized change begins: see `cdckit.claim_check`."""
DECODE_ERRORS = (msgspec.DecodeError, ValueError, RecursionError)
"""What decoding JSON of unknown origin may raise: not JSON, another shape, not UTF-8, nested too deeply."""


class WireColumn(msgspec.Struct, frozen=True, gc=False):
    """One column of wal2json's ``columns``, ``identity`` or ``pk``."""

    name: str
    type: str = ""
    value: Any = None


class WireRow(msgspec.Struct, frozen=True, gc=False):
    """wal2json's part of a row record: table, key and values."""

    action: str
    schema: str
    table: str
    lsn: str | None = None
    xid: int | None = None
    timestamp: str | None = None
    columns: Sequence[WireColumn] = ()
    identity: Sequence[WireColumn] = ()
    pk: Sequence[WireColumn] = ()


class Metadata(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The ``cdc`` key: what the producer adds to wal2json's record."""

    v: int
    epoch: int
    commit_lsn: str
    index: int
    source: str
    system: str = ""
    timeline: int = 0
    slot: str = ""
    annotation: dict[str, Any] | None = None
    key_change: bool = False
    time: str = ""
    """When the producer read a message outside any transaction, which has no commit time."""


class _Record(WireRow, frozen=True, kw_only=True, gc=False):
    cdc: Metadata


class _Message(msgspec.Struct, frozen=True):
    """A ``pg_logical_emit_message`` with its metadata; ``timestamp`` is null outside a transaction."""

    prefix: str
    content: str
    transactional: bool
    lsn: str
    cdc: Metadata
    xid: int | None = None
    timestamp: str | None = None


class _Located(msgspec.Struct, frozen=True):
    """The part of any record that says where it belongs."""

    cdc: Metadata
    timestamp: str | None = None
    schema: str = ""
    table: str = ""


_located_decoder = msgspec.json.Decoder(_Located)
_metadata_encoder = msgspec.json.Encoder(decimal_format="number")
_record_decoder = msgspec.json.Decoder(_Record, float_hook=Decimal)
_message_decoder = msgspec.json.Decoder(_Message)
_row_decoder = msgspec.json.Decoder(WireRow, float_hook=Decimal)


def decode_row(payload: bytes) -> WireRow:
    """Decode a wal2json format 2 row message (I, U, D or T). Raises EnvelopeError when it is none."""
    try:
        return _row_decoder.decode(payload)
    except DECODE_ERRORS as error:
        raise EnvelopeError(f"not a wal2json row record: {error}") from error


def inject(payload: bytes, metadata: Metadata) -> bytes:
    """Add the key ``cdc`` to wal2json's object, whose own text is unchanged."""
    return payload.rstrip()[:-1] + b',"cdc":' + _metadata_encoder.encode(metadata) + b"}"


class MetadataWriter:
    """Writes the metadata of one transaction's changes: what they share is encoded once."""

    def __init__(self, metadata: Metadata) -> None:
        """`metadata` is the template; its commit_lsn and index are replaced."""
        head, tail = _metadata_encoder.encode(msgspec.structs.replace(metadata, commit_lsn="\f", index=0)).split(
            _VARIABLE_PART
        )
        self._head, self._tail = b',"cdc":' + head + b'"commit_lsn":"', tail + b"}"
        self._first = b'","index":0' + self._tail  # most transactions have one change
        self._commit_lsn = b""

    def begin(self, commit_lsn: bytes) -> None:
        """Start a transaction; `commit_lsn` is its LSN as wal2json wrote it."""
        self._commit_lsn = commit_lsn

    def inject(self, payload: bytes, index: int) -> bytes:
        """As `inject`, for the change of this index."""
        if index == 0:
            return b"".join((payload[:-1], self._head, self._commit_lsn, self._first))
        return b"".join((payload[:-1], self._head, self._commit_lsn, _INDEX, str(index).encode(), self._tail))


_VARIABLE_PART = b'"commit_lsn":"\\f","index":0'
_INDEX = b'","index":'


def key_columns(row: WireRow) -> Mapping[str, Value]:
    """Return the key of the row *after* the change: primary key, else replica identity, else every column."""
    values = {column.name: column.value for column in row.columns or row.identity}
    if row.pk:
        identity = {column.name: column.value for column in row.identity}
        return {column.name: values.get(column.name, identity.get(column.name)) for column in row.pk}
    return values if row.columns else {column.name: column.value for column in row.identity}


def old_key_columns(row: WireRow) -> Mapping[str, Value]:
    """Return the key of the row *before* an update or delete, from the replica identity."""
    identity = {column.name: column.value for column in row.identity}
    if not row.pk:
        return identity
    after = {column.name: column.value for column in row.columns}
    return {column.name: identity.get(column.name, after.get(column.name)) for column in row.pk}


def decode(data: bytes) -> Change:
    """Decode one record of the stream.

    Args:
        data: A record as the producer wrote it, compressed or not; of a folded one, a line (`packing.split_folded`).

    Returns:
        The change.

    Raises:
        EnvelopeError: It is not a change, or it is a reference to an oversized one (`cdckit.claim_check`).

    Example:
        >>> row = b'{"action":"D","timestamp":"2026-11-23 10:00:00+00","schema":"public","table":"orders",'
        >>> row += b'"identity":[{"name":"id","type":"integer","value":42}]}'
        >>> change = decode(inject(row, Metadata(VERSION, 1, "0/1A2B400", 0, "main")))
        >>> change.row_id, str(change.position)
        ('main/public.orders/[42]', '1:0/1A2B400:0')

    """
    try:
        if data.startswith(_ROW_PREFIXES):  # the usual case
            return _change(_record_decoder.decode(data))
        text = decompress(data)
        if text.startswith(REFERENCE_PREFIX):
            raise EnvelopeError(
                "a reference to an oversized change", "consumers.stream.claim_check.Fetcher fetches what it names"
            )
        if text.startswith(_MESSAGE_PREFIX):
            return _message(_message_decoder.decode(text))
        return _change(_record_decoder.decode(text))
    except DECODE_ERRORS as error:
        raise EnvelopeError(f"unreadable record: {error}", "see `cdcctl tail` for what is on the stream") from error


def position_and_time(data: bytes) -> tuple[Position, datetime]:
    """Return position and commit time of any record, also of a reference. Raises EnvelopeError."""
    try:
        found = _located_decoder.decode(decompress(data))
        return _position(found.cdc), _commit_time(found.timestamp or found.cdc.time or None)
    except DECODE_ERRORS as error:
        raise EnvelopeError(f"unreadable record: {error}") from error


def describe(data: bytes) -> tuple[str, str]:
    """Return position and table of a record that cannot be applied, as texts; empty where they cannot be read."""
    try:
        found = _located_decoder.decode(decompress(data))
        return str(_position(found.cdc)), str(Table(found.schema, found.table)) if found.table else ""
    except (EnvelopeError, *DECODE_ERRORS):
        return "", ""


_ROW_PREFIXES = tuple(b'{"action":"%b"' % op.value.encode() for op in Op)
_MESSAGE_PREFIX = b'{"action":"M"'


def _message(record: _Message) -> Change:
    key = {"lsn": record.lsn}
    return Change(
        op=Op.INSERT,
        source=record.cdc.source,
        table=Table(MESSAGE_SCHEMA, record.prefix),
        position=_position(record.cdc),
        commit_time=_commit_time(record.timestamp or record.cdc.time or None),
        key=key,
        after={**key, "content": record.content, "transactional": record.transactional},
        types={"lsn": "pg_lsn", "content": "text", "transactional": "boolean"},
        lsn=Lsn.parse(record.lsn),
        xid=record.xid,
        annotation=record.cdc.annotation,
    )


def _position(metadata: Metadata) -> Position:
    if metadata.v != VERSION:
        raise EnvelopeError(
            f"envelope version {metadata.v}, this program reads {VERSION}", "upgrade the consumers first"
        )
    return Position(metadata.epoch, Lsn.parse(metadata.commit_lsn), metadata.index)


def _change(record: _Record) -> Change:
    metadata = record.cdc
    op = _OPS.get(record.action) or Op(record.action)
    after = None if op in (Op.DELETE, Op.TRUNCATE) else {column.name: column.value for column in record.columns}
    before = {column.name: column.value for column in record.identity} if record.identity else None
    return Change(  # positional: keyword arguments take a third longer
        op, metadata.source, _table(record.schema, record.table), _position(metadata), _commit_time(record.timestamp),
        _key(record, op, after or {}, before or {}), after, before, _types(record),
        Lsn.parse(record.lsn) if record.lsn else NO_LSN, record.xid, metadata.annotation, metadata.key_change,
    )  # fmt: skip


_OPS = {op.value: op for op in Op}
_table = lru_cache(maxsize=4096)(Table)


def _key(record: WireRow, op: Op, after: Mapping[str, Value], before: Mapping[str, Value]) -> Mapping[str, Value]:
    # the same as key_columns and old_key_columns, from dictionaries that exist already
    if op is Op.TRUNCATE:
        return {}
    first, second = (before, after) if op is Op.DELETE else (after, before)
    if len(record.pk) == 1:
        name = record.pk[0].name
        return {name: first[name] if name in first else second.get(name)}
    if record.pk:
        return {
            column.name: first[column.name] if column.name in first else second.get(column.name) for column in record.pk
        }
    return dict(first or second)


def _types(record: WireRow) -> Mapping[str, str]:
    types = {column.name: column.type for column in record.columns or record.identity}
    for column in (*record.identity, *record.pk) if record.identity else record.pk:
        if column.name not in types:
            types[column.name] = column.type
    return types


def _commit_time(text: str | None) -> datetime:
    if text is None:
        raise EnvelopeError("the record has no commit timestamp", "ask wal2json for include-timestamp")
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)
