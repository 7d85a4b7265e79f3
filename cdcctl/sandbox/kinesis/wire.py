"""Requests and answers as they travel: JSON, or the CBOR of AWS's Java SDK. Stored records are lines of JSON."""

from __future__ import annotations

import hashlib
import json
from typing import Any, TypeVar

import cbor2
import msgspec

T = TypeVar("T")


class Entry(msgspec.Struct, frozen=True):
    """One record of a PutRecords."""

    Data: bytes
    PartitionKey: str
    ExplicitHashKey: str | None = None

    @property
    def hash_key(self) -> int:
        """Which shard takes it."""
        if self.ExplicitHashKey:
            return int(self.ExplicitHashKey)
        return int.from_bytes(hashlib.md5(self.PartitionKey.encode(), usedforsecurity=False).digest())


class Put(msgspec.Struct, frozen=True):
    """PutRecords."""

    Records: list[Entry]
    StreamName: str | None = None
    StreamARN: str | None = None


class Record(msgspec.Struct, frozen=True):
    """A stored record; a line begins with its number, by which it is found."""

    SequenceNumber: str
    ApproximateArrivalTimestamp: float
    Data: bytes
    PartitionKey: str


_encode = msgspec.json.Encoder().encode
_record = msgspec.json.Decoder(Record).decode


def line(record: Record) -> bytes:
    """A record as it is stored."""
    return _encode(record) + b"\n"


def decode(body: bytes, kind: type[T], *, cbor: bool) -> T:
    """A request. Raises ValueError when it is none."""
    if cbor:
        return msgspec.convert(cbor2.loads(body) if body else {}, kind)
    return msgspec.json.decode(body or b"{}", type=kind)


def plain(body: bytes, *, cbor: bool) -> dict[str, Any]:
    """A request as a dictionary. Raises ValueError when it is none."""
    found = cbor2.loads(body) if cbor and body else json.loads(body or b"{}")
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def encode(answer: dict[str, Any], *, cbor: bool) -> bytes:
    """An answer without records."""
    return cbor2.dumps(answer) if cbor else _encode(answer)


def with_records(lines: list[bytes], answer: dict[str, Any], *, cbor: bool) -> bytes:
    """An answer with records: the lines as they are, or in CBOR with bytes, and moments in milliseconds."""
    if not cbor:
        return b'{"Records":[' + b",".join(lines) + b"]," + _encode(answer)[1:]
    return cbor2.dumps({"Records": [in_cbor(found) for found in lines], **answer})


def in_cbor(found: bytes) -> dict[str, Any]:
    """One stored record for CBOR."""
    record = _record(found)
    moment = round(record.ApproximateArrivalTimestamp * 1000)
    return {**msgspec.structs.asdict(record), "ApproximateArrivalTimestamp": moment}
