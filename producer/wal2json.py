"""wal2json's format-version 2 messages, parsed; pure."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from cdckit.envelope import Row, decode_row
from cdckit.errors import SourceError
from cdckit.position import Lsn


@dataclass(frozen=True, slots=True)
class Begin:
    """A transaction starts: all of its messages follow, no other transaction's between them."""

    xid: int
    commit_lsn: Lsn
    end: Lsn


@dataclass(frozen=True, slots=True)
class Commit:
    """The transaction is complete; acknowledging `end` gives it up."""

    end: Lsn


@dataclass(frozen=True, slots=True)
class RowMessage:
    """A row's insert, update or delete, or a table's truncate. `payload` is wal2json's own text."""

    payload: bytes
    row: Row


@dataclass(frozen=True, slots=True)
class LogicalMessage:
    """What ``pg_logical_emit_message`` sent."""

    prefix: str
    content: str
    transactional: bool


Message = Begin | Commit | RowMessage | LogicalMessage


class _Boundary(msgspec.Struct):
    lsn: str
    nextlsn: str
    xid: int = 0


class _Logical(msgspec.Struct):
    prefix: str
    content: str
    transactional: bool


_boundary = msgspec.json.Decoder(_Boundary)
_logical = msgspec.json.Decoder(_Logical)
_ACTION_AT = len(b'{"action":"')


def parse(payload: bytes) -> Message:
    """Read one message. Raises SourceError (with the text's start) when it is not wal2json format 2."""
    action = payload[_ACTION_AT : _ACTION_AT + 1]
    try:
        if action in (b"B", b"C"):
            boundary = _boundary.decode(payload)
            end = Lsn.parse(boundary.nextlsn)
            return Commit(end) if action == b"C" else Begin(boundary.xid, Lsn.parse(boundary.lsn), end)
        if action == b"M":
            logical = _logical.decode(payload)
            return LogicalMessage(logical.prefix, logical.content, logical.transactional)
    except (msgspec.DecodeError, ValueError) as error:
        raise _unreadable(payload, error) from error
    return RowMessage(payload, decode_row(payload))


def _unreadable(payload: bytes, error: Exception) -> SourceError:
    start = payload[:200].decode(errors="replace")
    return SourceError(
        f"the slot sent what is not wal2json format 2 ({error}): {start}", "is the slot's plugin wal2json?"
    )
