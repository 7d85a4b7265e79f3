"""Packs and unpacks KPL aggregated records, as the KCL does, without a protobuf compiler.

An aggregated record is four magic bytes, a protobuf message, and the MD5 of the message::

    message AggregatedRecord {
      repeated string partition_key_table = 1;
      repeated string explicit_hash_key_table = 2;
      repeated Record records = 3;
    }
    message Record {
      required uint64 partition_key_index = 1;
      optional uint64 explicit_hash_key_index = 2;
      required bytes data = 3;
    }

The KCL silently drops an aggregated record as a whole when one of its records belongs to another shard.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import msgspec

MAGIC = b"\xf3\x89\x9a\xc2"
_DIGEST = 16
_KEYS, _HASH_KEYS, _RECORDS = 0x0A, 0x12, 0x1A  # field number << 3 | length-delimited
_KEY_INDEX, _HASH_KEY_INDEX, _DATA = 0x08, 0x10, 0x1A


class SubRecord(msgspec.Struct, frozen=True, gc=False):
    """One record inside an aggregated one. `hash_key` (decimal) overrides the partition key's hash."""

    partition_key: str
    data: bytes
    hash_key: str | None = None


OVERHEAD = len(MAGIC) + _DIGEST
"""Bytes of an aggregated record besides its records."""
OVERHEAD_PER_RECORD = 48
"""At most this many bytes of a record besides its data and keys."""


def pack(records: Iterable[SubRecord]) -> bytes:
    """Pack records, in this order, into one aggregated record.

    Args:
        records: The records; all of them must belong to one shard.

    Returns:
        The data of the aggregated record.

    Example:
        >>> unpack(pack([SubRecord("a", b"1"), SubRecord("b", b"2")]), "key")
        [SubRecord(partition_key='a', data=b'1', hash_key=None), SubRecord(partition_key='b', data=b'2', hash_key=None)]

    """
    keys: dict[str, int] = {}
    hash_keys: dict[str, int] = {}
    packed: list[bytes] = []
    for record in records:
        packed += (_before_data(record, keys, hash_keys), record.data)
    head = [_field(_KEYS, key.encode()) for key in keys] + [_field(_HASH_KEYS, key.encode()) for key in hash_keys]
    message = b"".join(head + packed)
    return MAGIC + message + hashlib.md5(message, usedforsecurity=False).digest()


def unpack(data: bytes, partition_key: str) -> Sequence[SubRecord]:
    """Unpack an aggregated record; return any other record itself, under its own key, as the KCL does.

    Args:
        data: The data of a record of the stream.
        partition_key: That record's partition key.

    Returns:
        The records inside, in order; at least one.

    Example:
        >>> unpack(b"plain", "key")
        [SubRecord(partition_key='key', data=b'plain', hash_key=None)]

    """
    message = data[len(MAGIC) : -_DIGEST]
    if not data.startswith(MAGIC) or len(data) <= OVERHEAD or not _intact(message, data[-_DIGEST:]):
        return [SubRecord(partition_key, data)]
    try:
        return _records(message)
    except (IndexError, ValueError, UnicodeDecodeError):
        return [SubRecord(partition_key, data)]


def _intact(message: bytes, digest: bytes) -> bool:
    return hashlib.md5(message, usedforsecurity=False).digest() == digest


def _before_data(record: SubRecord, keys: dict[str, int], hash_keys: dict[str, int]) -> bytes:
    """Return all of a record but its data, which comes last and is not copied until everything is joined."""
    size, number = len(record.data), _varint(keys.setdefault(record.partition_key, len(keys)))
    if record.hash_key is None:
        fields = b"\x08%b\x1a%b" % (number, _varint(size))
    else:
        place = _varint(hash_keys.setdefault(record.hash_key, len(hash_keys)))
        fields = b"\x08%b\x10%b\x1a%b" % (number, place, _varint(size))
    return b"\x1a%b%b" % (_varint(len(fields) + size), fields)


def _records(message: bytes) -> Sequence[SubRecord]:
    keys: list[str] = []
    hash_keys: list[str] = []
    found: list[dict[int, int | bytes]] = []
    for tag, value in _fields(message):
        if tag == _KEYS:
            keys.append(bytes(value).decode() if isinstance(value, bytes) else "")
        elif tag == _HASH_KEYS:
            hash_keys.append(bytes(value).decode() if isinstance(value, bytes) else "")
        elif tag == _RECORDS and isinstance(value, bytes):
            found.append(dict(_fields(value)))
    return [_record(fields, keys, hash_keys) for fields in found]


def _record(fields: dict[int, int | bytes], keys: list[str], hash_keys: list[str]) -> SubRecord:
    index, hash_index, data = fields.get(_KEY_INDEX), fields.get(_HASH_KEY_INDEX), fields.get(_DATA)
    if not isinstance(index, int) or not isinstance(data, bytes):
        raise ValueError("a record without key or data")
    return SubRecord(keys[index], data, hash_keys[hash_index] if isinstance(hash_index, int) else None)


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield tag and value of each field; knows only the two wire types that occur."""
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        number, at = _read_varint(message, at)
        if tag & 7 == 0:
            yield tag, number
        elif tag & 7 == 2 and at + number <= len(message):
            yield tag, message[at : at + number]
            at += number
        else:
            raise ValueError("not an aggregated record")


def _field(tag: int, value: bytes) -> bytes:
    return b"%c%b%b" % (tag, _varint(len(value)), value)


@lru_cache(maxsize=4096)
def _varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
        if shift > 63:
            raise ValueError("a varint of more than 64 bits")
