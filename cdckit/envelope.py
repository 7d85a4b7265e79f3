"""Bytes on the stream <-> `Change`; sole owner of the wire's keys and of its version.

A record is the wal2json format-version 2 object, keys and values verbatim, plus one key ``cdc``::

    {"action":"U","xid":752,"timestamp":"2026-11-23 10:00:00.1+00","lsn":"0/1A2B3C0","schema":"public","table":"orders",
     "columns":[{"name":"id","type":"integer","value":42},...],"identity":[...],"pk":[{"name":"id","type":"integer"}],
     "cdc":{"v":1,"epoch":1,"commit_lsn":"0/1A2B400","index":0,"source":"main","system":"7312...","timeline":1,
            "slot":"cdc","annotation":{"actor":"alice"},"key_change":true}}

``annotation`` and ``key_change`` appear only where they apply.
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
from cdckit.position import Lsn, Position

VERSION = 1


class Column(msgspec.Struct, frozen=True, gc=False):
    """One column of wal2json's ``columns``, ``identity`` or ``pk``."""

    name: str
    type: str = ""
    value: Any = None


class Row(msgspec.Struct, frozen=True):
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


class Stamp(msgspec.Struct, frozen=True, omit_defaults=True):
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


class _Record(Row, frozen=True, kw_only=True):
    cdc: Stamp


_stamp_encoder = msgspec.json.Encoder(decimal_format="number")
_record_decoder = msgspec.json.Decoder(_Record, float_hook=Decimal)
_row_decoder = msgspec.json.Decoder(Row, float_hook=Decimal)


def decode_row(payload: bytes) -> Row:
    """Read a wal2json format 2 row record (I, U, D or T). Raises EnvelopeError when it is none."""
    try:
        return _row_decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EnvelopeError(f"not a wal2json row record: {error}") from error


def splice(payload: bytes, stamp: Stamp) -> bytes:
    """wal2json's object with the key ``cdc`` added; the object's own text is not touched."""
    return payload.rstrip()[:-1] + b',"cdc":' + _stamp_encoder.encode(stamp) + b"}"


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
        record = _record_decoder.decode(data)
        return _change(record)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise EnvelopeError(f"unreadable record: {error}", "see `cdcctl tail` for what is on the stream") from error


def _change(record: _Record) -> Change:
    stamp = record.cdc
    if stamp.v != VERSION:
        raise EnvelopeError(f"envelope version {stamp.v}, this program reads {VERSION}", "upgrade the consumers first")
    op = _OPS.get(record.action) or Op(record.action)
    after = None if op in (Op.DELETE, Op.TRUNCATE) else {column.name: column.value for column in record.columns}
    before = {column.name: column.value for column in record.identity} if record.identity else None
    return Change(
        op=op,
        source=stamp.source,
        table=_table(record.schema, record.table),
        position=Position(stamp.epoch, Lsn.parse(stamp.commit_lsn), stamp.index),
        commit_time=_commit_time(record.timestamp),
        key=_key(record, op, after or {}, before or {}),
        after=after,
        before=before,
        types=_types(record),
        lsn=Lsn.parse(record.lsn) if record.lsn else NO_LSN,
        xid=record.xid,
        annotation=stamp.annotation,
        key_change=stamp.key_change,
    )


_OPS = {op.value: op for op in Op}
_table = lru_cache(maxsize=4096)(Table)


def _key(record: Row, op: Op, after: Mapping[str, Value], before: Mapping[str, Value]) -> Mapping[str, Value]:
    # what key_columns and old_key_columns say, from the dictionaries that are made anyway
    if op is Op.TRUNCATE:
        return {}
    first, second = (before, after) if op is Op.DELETE else (after, before)
    if record.pk:
        return {
            column.name: first[column.name] if column.name in first else second.get(column.name) for column in record.pk
        }
    return dict(first or second)


def _types(record: Row) -> Mapping[str, str]:
    types = {column.name: column.type for column in record.columns or record.identity}
    for column in (*record.identity, *record.pk):
        if column.name not in types:
            types[column.name] = column.type
    return types


def _commit_time(text: str | None) -> datetime:
    if text is None:
        raise EnvelopeError("the record has no commit timestamp", "ask wal2json for include-timestamp")
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC)
