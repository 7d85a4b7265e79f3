"""References to changes that are too large for any record of the stream, and checks of the stored objects; pure.

The record on the stream is a reference, ``{"action":"R",…}``: the change's position and table, and where it is stored::

    {"action":"R","xid":752,"timestamp":"2026-11-23 10:00:00.1+00","lsn":"0/1A2B3C0","schema":"public","table":"docs",
     "cdc":{"v":1,"epoch":1,…},"kept":{"url":"s3://BUCKET/PREFIX/main/SHA256.json.gz","sha256":"…","bytes":9437310}}

The object is the whole record as gzip; `sha256` is the object's, `bytes` the record's decompressed size. The kit
fetches and checks it before a sink sees the change.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from cdckit.change import Table
from cdckit.envelope import DECODE_ERRORS, REFERENCE_PREFIX
from cdckit.errors import EnvelopeError
from cdckit.packing import decompress, decompressed_size

MAX_CHANGE_BYTES = 1024 * 1024 * 1024
"""PostgreSQL's values have at most a gigabyte."""


class ObjectReference(msgspec.Struct, frozen=True):
    """Where a change is stored (JSON key ``kept``), the object's SHA-256, and the change's size in bytes."""

    url: str
    sha256: str
    bytes: int


class _Reference(msgspec.Struct):
    kept: ObjectReference


class _Change(msgspec.Struct):
    cdc: msgspec.Raw
    lsn: msgspec.Raw
    xid: msgspec.Raw = msgspec.Raw(b"null")
    timestamp: msgspec.Raw = msgspec.Raw(b"null")


_change = msgspec.json.Decoder(_Change)
_reference = msgspec.json.Decoder(_Reference)


def digest_of(body: bytes) -> str:
    """Return the SHA-256 that a reference contains."""
    return hashlib.sha256(body).hexdigest()


def encode_reference(data: bytes, table: Table, kept: ObjectReference) -> bytes:
    """Encode the reference that replaces a record.

    Args:
        data: The record.
        table: Its table.
        kept: Where the record is stored.

    Returns:
        The data of the reference.

    Raises:
        EnvelopeError: `data` is not a record of this project.

    Example:
        >>> record = b'{"action":"I","lsn":"0/1","cdc":{"v":1}}'
        >>> stored = ObjectReference("file:///cdc/1.json.gz", digest_of(b"gzip"), len(record))
        >>> decode_reference(encode_reference(record, Table("public", "docs"), stored)) == stored
        True

    """
    try:
        change = _change.decode(decompress(data, MAX_CHANGE_BYTES))
    except DECODE_ERRORS as error:
        raise EnvelopeError(f"not a record: {error}") from error
    parts: dict[str, Any] = {
        "action": "R", "xid": change.xid, "timestamp": change.timestamp, "lsn": change.lsn, "schema": table.schema,
        "table": table.name, "cdc": change.cdc, "kept": kept,
    }  # fmt: skip
    return msgspec.json.encode(parts)


def decode_reference(data: bytes) -> ObjectReference | None:
    """Decode a reference; None for a record that is the change itself.

    Raises EnvelopeError when it is a reference that cannot be read.
    """
    if not data.startswith(REFERENCE_PREFIX):
        return None
    try:
        kept = _reference.decode(data).kept
    except DECODE_ERRORS as error:
        raise EnvelopeError(f"unreadable reference to an oversized change: {error}") from error
    if not 0 < kept.bytes <= MAX_CHANGE_BYTES:
        raise EnvelopeError(f"a reference to a change of {kept.bytes:,} bytes: PostgreSQL has no such value")
    return kept


def memory_size(data: bytes) -> int:
    """Estimate the bytes that the record's change takes in memory, to bound the memory of a batch."""
    if not data.startswith(REFERENCE_PREFIX):
        return decompressed_size(data)
    try:
        kept = decode_reference(data)
    except EnvelopeError:
        kept = None
    return len(data) if kept is None else kept.bytes


def max_object_bytes(kept: ObjectReference) -> int:
    """Return the largest plausible size of the object: gzip adds at most a little."""
    return kept.bytes + kept.bytes // 1000 + 1024


def restore(kept: ObjectReference, body: bytes) -> bytes:
    """Return the record in the object. Raises EnvelopeError when the object was altered."""
    actual = digest_of(body)
    if actual != kept.sha256:
        raise EnvelopeError(
            f"the oversized change at {kept.url} was altered: its SHA-256 is {actual[:16]}…, not {kept.sha256[:16]}…",
            "restore the object, then cdcctl dlq redrive; or publish the row again: cdcctl producer backfill TABLE",
        )
    return decompress(body, kept.bytes)
