"""The hash of an entry, and the chain of hashes of one shard. Pure.

An entry's hash is ``SHA-256(previous hash || canonical bytes)``. The canonical bytes are the JSON array of all its
fields in a fixed order, exactly as stored, so that anyone with the file can compute it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgspec

GENESIS = bytes(32)
"""The hash before the first entry of a chain."""


class AuditEntry(msgspec.Struct, frozen=True, array_like=True):
    """One change in the log. The order of the fields is the canonical encoding; texts are as in the stream."""

    chain: str
    number: int
    source: str
    position: str
    op: str
    table: str
    key: str
    commit_time: str
    xid: int | None
    before: str | None
    after: str | None
    annotation: str | None
    key_change: bool
    sequence_number: str
    sub_sequence_number: int


@dataclass(frozen=True, slots=True)
class ChainBreak:
    """The first invalid place of a chain: the entry's number, and what is wrong with it."""

    chain: str
    number: int
    reason: str


def link(previous: bytes, entry: AuditEntry) -> bytes:
    """The hash of an entry, 32 bytes."""
    return hashlib.sha256(previous + msgspec.json.encode(entry)).digest()
