"""The producer's shared types: where changes come from, and one record for the stream."""

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
    """Where changes come from: what every envelope says about their source."""

    source: str
    epoch: int
    system: str
    timeline: int
    slot: str


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record for the stream. ``every_shard`` requests a copy on each open shard (a truncate)."""

    partition_key: str
    data: bytes
    table: Table
    every_shard: bool = False


def fit_key(text: str) -> str:
    """Fit a partition key into Kinesis' 256 characters: a longer one becomes its start and a SHA-256 of the whole."""
    return text if len(text) <= MAX_KEY else f"{text[:128]}…{hashlib.sha256(text.encode()).hexdigest()}"


def partition_key(source: str, table: Table, key: Any) -> str:
    """Return ``main/public.orders/[42]``, fitted by `fit_key`; `key` is None for a table without one."""
    return fit_key(f"{source}/{table}/{'' if key is None else key_text(key)}")
