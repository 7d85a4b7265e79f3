"""Bytes on the stream <-> `Change`; sole owner of the wire's keys and of its version.

A record is the wal2json format-version 2 object, keys and values verbatim, plus one key ``cdc``::

    {"action":"U","xid":752,"timestamp":"2026-11-23 10:00:00.1+00","lsn":"0/1A2B3C0","schema":"public","table":"orders",
     "columns":[{"name":"id","type":"integer","value":42},...],"identity":[...],"pk":[{"name":"id","type":"integer"}],
     "cdc":{"v":1,"epoch":1,"commit_lsn":"0/1A2B400","index":0,"source":"main","system":"7312...","timeline":1,
            "slot":"cdc","annotation":{"actor":"alice"},"key_change":true}}

``annotation`` and ``key_change`` appear only where they apply. A change too large for the stream, and rows that were
read, are this text compressed (`cdckit.packing`); what is too large even so is a reference (`cdckit.claim_check`). A
logical message (``"action":"M"``, an outbox) carries ``cdc`` too; it is read as an insert into a table of its prefix's
name in the schema ``pg_logical_message``, with the columns lsn, content and transactional.
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
from cdckit.packing import plain
from cdckit.position import Lsn, Position

VERSION = 1
MESSAGES = "pg_logical_message"
"""The schema under which logical messages are seen, one table a prefix."""
REFERENCE = b'{"action":"R"'
"""How a record begins that stands for an oversized change: see `cdckit.claim_check`."""
UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError)
"""What reading JSON that others wrote may raise: no JSON or of another shape, no UTF-8, nested without end."""


class Column(msgspec.Struct, frozen=True, gc=False):
    """One column of wal2json's ``columns``, ``identity`` or ``pk``."""

    name: str
    type: str = ""
    value: Any = None


class Row(msgspec.Struct, frozen=True, gc=False):
    """wal2json's own part of a row record: what names the table, the key and the values."""

    action: str
    schema: str
    table: str
    lsn: str | None = None
    xid: int | None = None
    timestamp: str | None = None
    columns: Sequence[Column] = ()
    identity: Sequence[Column] = ()
    pk: Sequence[Column] = ()


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
    """When the producer read a message that belongs to no transaction, and so has no commit time."""


class _Record(Row, frozen=True, kw_only=True, gc=False):
    cdc: Metadata


class _Message(msgspec.Struct, frozen=True):
    """What ``pg_logical_emit_message`` sent, stamped; ``timestamp`` is null outside a transaction."""

    prefix: str
    content: str
    transactional: bool
    lsn: str
    cdc: Metadata
    xid: int | None = None
    timestamp: str | None = None


class _Place(msgspec.Struct, frozen=True):
    """Of any record, what says where it stands."""

    cdc: Metadata
    timestamp: str | None = None
    schema: str = ""
    table: str = ""


_place_decoder = msgspec.json.Decoder(_Place)
_stamp_encoder = msgspec.json.Encoder(decimal_format="number")
_record_decoder = msgspec.json.Decoder(_Record, float_hook=Decimal)
_message_decoder = msgspec.json.Decoder(_Message)
_row_decoder = msgspec.json.Decoder(Row, float_hook=Decimal)


def decode_row(payload: bytes) -> Row:
    """Read a wal2json format 2 row record (I, U, D or T). Raises EnvelopeError when it is none."""
    try:
        return _row_decoder.decode(payload)
    except UNREADABLE as error:
        raise EnvelopeError(f"not a wal2json row record: {error}") from error


def inject(payload: bytes, stamp: Metadata) -> bytes:
    """wal2json's object with the key ``cdc`` added; the object's own text is not touched."""
    return payload.rstrip()[:-1] + b',"cdc":' + _stamp_encoder.encode(stamp) + b"}"


class MetadataWriter:
    """Writes the stamps of one transaction's changes: what they share is encoded once."""

    def __init__(self, stamp: Metadata) -> None:
        """`stamp` is the pattern; its commit_lsn and index are replaced."""
        head, tail = _stamp_encoder.encode(msgspec.structs.replace(stamp, commit_lsn="\f", index=0)).split(_BETWEEN)
        self._head, self._tail = b',"cdc":' + head + b'"commit_lsn":"', tail + b"}"
        self._first = b'","index":0' + self._tail  # most transactions have one change
        self._commit_lsn = b""

    def begin(self, commit_lsn: bytes) -> None:
        """The transaction that the next changes belong to, as wal2json wrote its LSN."""
        self._commit_lsn = commit_lsn

    def inject(self, payload: bytes, index: int) -> bytes:
        """As `inject`, for the change of this index."""
        if index == 0:
            return b"".join((payload[:-1], self._head, self._commit_lsn, self._first))
        return b"".join((payload[:-1], self._head, self._commit_lsn, _INDEX, str(index).encode(), self._tail))


_BETWEEN = b'"commit_lsn":"\\f","index":0'
_INDEX = b'","index":'


def key_columns(row: Row) -> Mapping[str, Value]:
    """The key of the row *as it is after* the change: primary key, else replica identity, else every column."""
    values = {column.name: column.value for column in row.columns or row.identity}
    if row.pk:
        identity = {column.name: column.value for column in row.identity}
        return {column.name: values.get(column.name, identity.get(column.name)) for column in row.pk}
    return values if row.columns else {column.name: column.value for column in row.identity}


def old_key_columns(row: Row) -> Mapping[str, Value]:
    """The key of the row *as it was before* an update or delete, from the replica identity."""
    identity = {column.name: column.value for column in row.identity}
    if not row.pk:
        return identity
    after = {column.name: column.value for column in row.columns}
    return {column.name: identity.get(column.name, after.get(column.name)) for column in row.pk}


def decode(data: bytes) -> Change:
    """Read one record of the stream. Raises EnvelopeError when it is no change of ours."""
    try:
        if data.startswith(_ARE_ROWS):  # most are
            return _change(_record_decoder.decode(data))
        text = plain(data)
        if text.startswith(REFERENCE):
            raise EnvelopeError(
                "a reference to an oversized change", "consumers.stream.claim_check.Fetcher fetches what it names"
            )
        if text.startswith(_IS_MESSAGE):
            return _message(_message_decoder.decode(text))
        return _change(_record_decoder.decode(text))
    except UNREADABLE as error:
        raise EnvelopeError(f"unreadable record: {error}", "see `cdcctl tail` for what is on the stream") from error


def place(data: bytes) -> tuple[Position, datetime]:
    """Where a change stands and when it was committed, of any record, also of a reference. Raises EnvelopeError."""
    try:
        found = _place_decoder.decode(plain(data))
        return _position(found.cdc), _commit_time(found.timestamp or found.cdc.time or None)
    except UNREADABLE as error:
        raise EnvelopeError(f"unreadable record: {error}") from error


def named(data: bytes) -> tuple[str, str]:
    """The position and table of a record that cannot be applied, a reference say; each empty where it does not tell."""
    try:
        found = _place_decoder.decode(plain(data))
        return str(_position(found.cdc)), str(Table(found.schema, found.table)) if found.table else ""
    except (EnvelopeError, *UNREADABLE):
        return "", ""


_ARE_ROWS = tuple(b'{"action":"%b"' % op.value.encode() for op in Op)
_IS_MESSAGE = b'{"action":"M"'


def _message(record: _Message) -> Change:
    key = {"lsn": record.lsn}
    return Change(
        op=Op.INSERT,
        source=record.cdc.source,
        table=Table(MESSAGES, record.prefix),
        position=_position(record.cdc),
        commit_time=_commit_time(record.timestamp or record.cdc.time or None),
        key=key,
        after={**key, "content": record.content, "transactional": record.transactional},
        types={"lsn": "pg_lsn", "content": "text", "transactional": "boolean"},
        lsn=Lsn.parse(record.lsn),
        xid=record.xid,
        annotation=record.cdc.annotation,
    )


def _position(stamp: Metadata) -> Position:
    if stamp.v != VERSION:
        raise EnvelopeError(f"envelope version {stamp.v}, this program reads {VERSION}", "upgrade the consumers first")
    return Position(stamp.epoch, Lsn.parse(stamp.commit_lsn), stamp.index)


def _change(record: _Record) -> Change:
    stamp = record.cdc
    op = _OPS.get(record.action) or Op(record.action)
    after = None if op in (Op.DELETE, Op.TRUNCATE) else {column.name: column.value for column in record.columns}
    before = {column.name: column.value for column in record.identity} if record.identity else None
    return Change(  # in the order of its fields: names take a third longer
        op, stamp.source, _table(record.schema, record.table), _position(stamp), _commit_time(record.timestamp),
        _key(record, op, after or {}, before or {}), after, before, _types(record),
        Lsn.parse(record.lsn) if record.lsn else NO_LSN, record.xid, stamp.annotation, stamp.key_change,
    )  # fmt: skip


_OPS = {op.value: op for op in Op}
_table = lru_cache(maxsize=4096)(Table)


def _key(record: Row, op: Op, after: Mapping[str, Value], before: Mapping[str, Value]) -> Mapping[str, Value]:
    # what key_columns and old_key_columns say, from the dictionaries that are made anyway
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


def _types(record: Row) -> Mapping[str, str]:
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
