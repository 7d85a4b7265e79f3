"""Repairs what wal2json writes wrongly: names of types that need quotes, and keys by the replica identity's index.

wal2json (to version 2.6) prints a type's name that begins with a double quote as it is, unless it ends with ``]``: for
``"App"."Mood"`` the message is no JSON. Outside of JSON strings such a text can only be a type's name: within one every
quote is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from cdckit.envelope import WireRow, decode_row
from cdckit.errors import EnvelopeError
from cdckit.relation import RelationColumn

_IDENTIFIER = rb'"(?:[^"]|"")+"'
_QUOTED_TYPE = re.compile(
    rb'"type":(' + _IDENTIFIER + rb"(?:\.(?:" + _IDENTIFIER + rb'|[^",.()]+))?(?:\([^")]*\))?)(?=[,}])'
)
_PK = b',"pk":['
_encode = msgspec.json.encode


def repair_types(payload: bytes) -> bytes:
    """The message with every type's name as a JSON string; for messages that cannot be decoded."""
    return _QUOTED_TYPE.sub(_as_json, payload)


def decode_repaired(payload: bytes) -> tuple[bytes, WireRow]:
    """Decode a row message; one that is not JSON is repaired first. Returns the message as it is valid.

    Raises EnvelopeError when that does not help.
    """
    try:
        return payload, decode_row(payload)
    except EnvelopeError:
        repaired = repair_types(payload)
        if repaired == payload:
            raise
        return repaired, decode_row(repaired)


def needs_repair(kind: str) -> bool:
    """Whether wal2json prints a type of this name such that the message is not JSON."""
    return kind.startswith('"') and not kind.endswith("]") and repair_types(_typed(kind)) != _typed(kind)


def _typed(kind: str) -> bytes:
    return b'"type":%b,' % kind.encode()


def _as_json(found: re.Match[bytes]) -> bytes:
    name = found[1]
    if name.count(b'"') == 2 and name[-1:] == b'"':  # one pair of quotes: it is valid JSON
        return found[0]
    return b'"type":' + _encode(name.decode())


def with_key(payload: bytes, key: Sequence[RelationColumn]) -> bytes:
    """The row message with these columns as its ``pk``."""
    columns = b",".join(b'{"name":%b,"type":%b}' % (_encode(column.name), _encode(column.type)) for column in key)
    at = payload.rfind(_PK)
    return b"%b%b%b]}" % (payload[:at], _PK, columns)
