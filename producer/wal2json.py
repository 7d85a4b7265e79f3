"""wal2json's format-version 2 messages: which kind one is, and what stands in those that are no rows; pure.

Every message starts with ``{"action":"X"``, so its kind is one byte at a fixed place. Of a transaction's boundaries
only the commit LSN is wanted at once; what acknowledges it is read for the last of many acknowledged together.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from cdckit.envelope import UNREADABLE
from cdckit.errors import SourceError
from cdckit.position import Lsn

ACTION_AT = len(b'{"action":"')
BEGIN, COMMIT, MESSAGE = ord("B"), ord("C"), ord("M")
INSERT, UPDATE, DELETE, TRUNCATE = ord("I"), ord("U"), ord("D"), ord("T")
ROWS = frozenset((INSERT, UPDATE, DELETE, TRUNCATE))


@dataclass(frozen=True, slots=True)
class LogicalMessage:
    """What ``pg_logical_emit_message`` sent. `lsn` is its own place; outside a transaction it has no other."""

    prefix: str
    content: str
    transactional: bool
    lsn: str
    payload: bytes


class _Boundary(msgspec.Struct):
    nextlsn: str
    timestamp: str


class _Logical(msgspec.Struct):
    prefix: str
    content: str
    transactional: bool
    lsn: str


_LSN = b',"lsn":"'
_boundary = msgspec.json.Decoder(_Boundary)
_logical = msgspec.json.Decoder(_Logical)


def commit_lsn(payload: bytes) -> bytes:
    """The commit LSN of the transaction that a B message starts, as its text. Raises SourceError when it has none."""
    at = payload.find(_LSN, ACTION_AT)
    if at < 0:
        raise unreadable(payload, "a transaction's start without lsn")
    at += len(_LSN)
    return payload[at : payload.find(b'"', at)]


def end_and_time(payload: bytes) -> tuple[Lsn, str]:
    """From a B message: the position that acknowledges the transaction, and its commit time. Raises SourceError."""
    try:
        boundary = _boundary.decode(payload)
        return Lsn.parse(boundary.nextlsn), boundary.timestamp
    except UNREADABLE as error:
        raise unreadable(payload, error) from error


def logical_message(payload: bytes) -> LogicalMessage:
    """Read an M message. Raises SourceError when it is none."""
    try:
        read = _logical.decode(payload)
    except UNREADABLE as error:
        raise unreadable(payload, error) from error
    return LogicalMessage(read.prefix, read.content, read.transactional, read.lsn, payload)


def unreadable(payload: bytes, why: object) -> SourceError:
    """The error for what is no wal2json; it shows the text's start."""
    start = payload[:200].decode(errors="replace")
    return SourceError(
        f"the slot sent what is not wal2json format 2 ({why}): {start}", "is the slot's plugin wal2json?"
    )
