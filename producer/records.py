"""What the producer's parts hand each other: where changes come from, and one record for the stream."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import msgspec

from cdckit.change import Table, key_text

MAX_KEY = 256
"""Characters of a partition key that Kinesis takes."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What every envelope says of where it comes from."""

    source: str
    epoch: int
    system: str
    timeline: int
    slot: str


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record for the stream. ``every_shard`` asks for a copy on each open shard (a truncate)."""

    partition_key: str
    data: bytes
    table: Table
    every_shard: bool = False


def fit_key(text: str) -> str:
    """A partition key within Kinesis' 256 characters: a longer one's start and a SHA-256 of the whole."""
    return text if len(text) <= MAX_KEY else f"{text[:128]}…{hashlib.sha256(text.encode()).hexdigest()}"


def partition_key(source: str, table: Table, key: Any) -> str:
    """``main/public.orders/[42]``; over Kinesis' 256 characters, its start and a SHA-256 of the whole."""
    return fit_key(f"{source}/{table}/{'' if key is None else key_text(key)}")
