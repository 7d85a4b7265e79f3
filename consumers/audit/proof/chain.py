"""Tamper evidence: what an entry hashes to, and the chain of hashes of one shard; pure.

An entry's hash is ``SHA-256(previous hash || canonical bytes)``: the canonical bytes are the JSON array of all its
fields in a fixed order, exactly as stored, so that anyone with the file can recompute it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgspec

GENESIS = bytes(32)
"""The hash before a chain's first entry."""


class AuditEntry(msgspec.Struct, frozen=True, array_like=True):
    """One change as the log keeps it; the order of the fields is the canonical encoding's. Texts are as on the wire."""

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
    """The first bad place of a chain: the entry's number and what is wrong with it."""

    chain: str
    number: int
    reason: str


def link(previous: bytes, entry: AuditEntry) -> bytes:
    """The entry's hash, 32 bytes."""
    return hashlib.sha256(previous + msgspec.json.encode(entry)).digest()
