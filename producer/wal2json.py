"""Reads wal2json's format-version 2 messages: their kind, transaction boundaries and logical messages; pure.

Every message starts with ``{"action":"X"``, so its kind is one byte at a fixed offset. Of a transaction's boundaries
only the commit LSN is read at once; the position that acknowledges it is read for the last of many acknowledged
together.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from cdckit.envelope import DECODE_ERRORS
from cdckit.errors import SourceError
from cdckit.position import Lsn

ACTION_OFFSET = len(b'{"action":"')
BEGIN, COMMIT, MESSAGE = ord("B"), ord("C"), ord("M")
INSERT, UPDATE, DELETE, TRUNCATE = ord("I"), ord("U"), ord("D"), ord("T")
ROW_ACTIONS = frozenset((INSERT, UPDATE, DELETE, TRUNCATE))


@dataclass(frozen=True, slots=True)
class LogicalMessage:
    """A ``pg_logical_emit_message``. `lsn` is its own position; outside a transaction it has no other."""

    prefix: str
    content: str
    transactional: bool
    lsn: str
    payload: bytes


class _Boundary(msgspec.Struct):
    nextlsn: str
    timestamp: str


class _Message(msgspec.Struct):
    prefix: str
    content: str
    transactional: bool
    lsn: str


_LSN = b',"lsn":"'
_boundary_decoder = msgspec.json.Decoder(_Boundary)
_message_decoder = msgspec.json.Decoder(_Message)


def commit_lsn(payload: bytes) -> bytes:
    """Return the commit LSN, as text, of the transaction that a B message starts. Raises SourceError without one."""
    start = payload.find(_LSN, ACTION_OFFSET)
    if start < 0:
        raise unreadable_message(payload, "a transaction's start without lsn")
    start += len(_LSN)
    return payload[start : payload.find(b'"', start)]


def end_and_time(payload: bytes) -> tuple[Lsn, str]:
    """Return a B message's position that acknowledges the transaction, and its commit time. Raises SourceError."""
    try:
        boundary = _boundary_decoder.decode(payload)
        return Lsn.parse(boundary.nextlsn), boundary.timestamp
    except DECODE_ERRORS as error:
        raise unreadable_message(payload, error) from error


def logical_message(payload: bytes) -> LogicalMessage:
    """Parse an M message. Raises SourceError when it is none."""
    try:
        message = _message_decoder.decode(payload)
    except DECODE_ERRORS as error:
        raise unreadable_message(payload, error) from error
    return LogicalMessage(message.prefix, message.content, message.transactional, message.lsn, payload)


def unreadable_message(payload: bytes, reason: object) -> SourceError:
    """Return the error for a payload that is not wal2json; it shows the start of the text."""
    start = payload[:200].decode(errors="replace")
    return SourceError(
        f"the slot sent a message that is not wal2json format 2 ({reason}): {start}", "is the slot's plugin wal2json?"
    )
