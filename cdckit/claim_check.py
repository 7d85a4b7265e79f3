"""A change that no record of the stream can hold: what the stream carries in its place, and how it is checked; pure.

The record is a reference, ``{"action":"R",…}``: the change's own place and table, and where the change is kept::

    {"action":"R","xid":752,"timestamp":"2026-11-23 10:00:00.1+00","lsn":"0/1A2B3C0","schema":"public","table":"docs",
     "cdc":{"v":1,"epoch":1,…},"kept":{"url":"s3://BUCKET/PREFIX/main/SHA256.json.gz","sha256":"…","bytes":9437310}}

The object is the whole record as gzip; `sha256` is of the object, `bytes` the record's size unfolded. The kit fetches
and checks it before a sink sees the change.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from cdckit.change import Table
from cdckit.envelope import REFERENCE, UNREADABLE
from cdckit.errors import EnvelopeError
from cdckit.packing import plain, unfolded_size

MOST_BYTES = 1024 * 1024 * 1024
"""A value of PostgreSQL's has a gigabyte at the most."""


class Kept(msgspec.Struct, frozen=True):
    """Where a change is kept, the SHA-256 of the object there, and the change's bytes."""

    url: str
    sha256: str
    bytes: int


class _Reference(msgspec.Struct):
    kept: Kept


class _Change(msgspec.Struct):
    cdc: msgspec.Raw
    lsn: msgspec.Raw
    xid: msgspec.Raw = msgspec.Raw(b"null")
    timestamp: msgspec.Raw = msgspec.Raw(b"null")


_change = msgspec.json.Decoder(_Change)
_reference = msgspec.json.Decoder(_Reference)


def digest_of(body: bytes) -> str:
    """The SHA-256 that a reference names."""
    return hashlib.sha256(body).hexdigest()


def reference(data: bytes, table: Table, kept: Kept) -> bytes:
    """The record that stands for this one. Raises EnvelopeError when `data` is no record of ours."""
    try:
        change = _change.decode(plain(data, MOST_BYTES))
    except UNREADABLE as error:
        raise EnvelopeError(f"not a record: {error}") from error
    parts: dict[str, Any] = {
        "action": "R", "xid": change.xid, "timestamp": change.timestamp, "lsn": change.lsn, "schema": table.schema,
        "table": table.name, "cdc": change.cdc, "kept": kept,
    }  # fmt: skip
    return msgspec.json.encode(parts)


def kept_in(data: bytes) -> Kept | None:
    """Where the change is kept that this record stands for; None of a record that is the change itself.

    Raises EnvelopeError when it is a reference that cannot be read.
    """
    if not data.startswith(REFERENCE):
        return None
    try:
        kept = _reference.decode(data).kept
    except UNREADABLE as error:
        raise EnvelopeError(f"unreadable reference to an oversized change: {error}") from error
    if not 0 < kept.bytes <= MOST_BYTES:
        raise EnvelopeError(f"a reference to a change of {kept.bytes:,} bytes: PostgreSQL has no such value")
    return kept


def weight(data: bytes) -> int:
    """The bytes that the record's change takes in memory, about; for bounds."""
    if not data.startswith(REFERENCE):
        return unfolded_size(data)
    try:
        kept = kept_in(data)
    except EnvelopeError:
        kept = None
    return len(data) if kept is None else kept.bytes


def most_packed(kept: Kept) -> int:
    """The bytes that the object can have: gzip makes nothing larger by more than a little."""
    return kept.bytes + kept.bytes // 1000 + 1024


def restored(kept: Kept, body: bytes) -> bytes:
    """The record in the object. Raises EnvelopeError when it is not what was kept."""
    found = digest_of(body)
    if found != kept.sha256:
        raise EnvelopeError(
            f"the oversized change at {kept.url} was altered: its SHA-256 is {found[:16]}…, not {kept.sha256[:16]}…",
            "restore the object, then cdcctl dlq redrive; or publish the row anew: cdcctl producer backfill TABLE",
        )
    return plain(body, kept.bytes)
