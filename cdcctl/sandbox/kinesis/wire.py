"""Encodes and decodes requests, answers (JSON, or the CBOR of AWS's Java SDK) and stored records (lines of JSON)."""

from __future__ import annotations

import hashlib
import json
from typing import Any, TypeVar

import cbor2
import msgspec

T = TypeVar("T")


class Entry(msgspec.Struct, frozen=True):
    """One record of a PutRecords request."""

    Data: bytes
    PartitionKey: str
    ExplicitHashKey: str | None = None

    @property
    def hash_key(self) -> int:
        """The hash key, which selects the shard."""
        if self.ExplicitHashKey:
            return int(self.ExplicitHashKey)
        return int.from_bytes(hashlib.md5(self.PartitionKey.encode(), usedforsecurity=False).digest())


class PutRecordsRequest(msgspec.Struct, frozen=True):
    """A PutRecords request."""

    Records: list[Entry]
    StreamName: str | None = None
    StreamARN: str | None = None


class Record(msgspec.Struct, frozen=True):
    """A stored record. Its line begins with the sequence number, which the binary search reads."""

    SequenceNumber: str
    ApproximateArrivalTimestamp: float
    Data: bytes
    PartitionKey: str


_encode = msgspec.json.Encoder().encode
_decode_record = msgspec.json.Decoder(Record).decode


def encode_record(record: Record) -> bytes:
    """The line that stores a record."""
    return _encode(record) + b"\n"


def decode(body: bytes, kind: type[T], *, cbor: bool) -> T:
    """Decode a request. Raises ValueError if it is not valid."""
    if cbor:
        return msgspec.convert(cbor2.loads(body) if body else {}, kind)
    return msgspec.json.decode(body or b"{}", type=kind)


def decode_object(body: bytes, *, cbor: bool) -> dict[str, Any]:
    """Decode a request into a dictionary. Raises ValueError if it is not an object."""
    decoded = cbor2.loads(body) if cbor and body else json.loads(body or b"{}")
    if not isinstance(decoded, dict):
        raise ValueError("not an object")
    return decoded


def encode(answer: dict[str, Any], *, cbor: bool) -> bytes:
    """Encode an answer without records."""
    return cbor2.dumps(answer) if cbor else _encode(answer)


def encode_with_records(lines: list[bytes], answer: dict[str, Any], *, cbor: bool) -> bytes:
    """Encode an answer with records: the stored lines, or CBOR with binary data and times in milliseconds."""
    if not cbor:
        return b'{"Records":[' + b",".join(lines) + b"]," + _encode(answer)[1:]
    return cbor2.dumps({"Records": [cbor_record(stored) for stored in lines], **answer})


def cbor_record(stored: bytes) -> dict[str, Any]:
    """One stored record in the form of a CBOR answer."""
    record = _decode_record(stored)
    millis = round(record.ApproximateArrivalTimestamp * 1000)
    return {**msgspec.structs.asdict(record), "ApproximateArrivalTimestamp": millis}
