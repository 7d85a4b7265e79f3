"""What Kinesis takes, and how much the producer holds at most."""

from __future__ import annotations

from dataclasses import dataclass

MAX_ENTRIES = 500
"""Entries of one PutRecords request."""
MAX_REQUEST_BYTES = 5 * 1024 * 1024
"""Bytes (data and partition keys) of one PutRecords request, unless the stream takes larger records."""
MAX_PENDING = 6_000
"""Records that were submitted and not yet accepted: above this many, nothing more is read."""
MAX_PENDING_BYTES = 12 * 1024 * 1024
"""The same bound in bytes."""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one request may hold."""

    entries: int = MAX_ENTRIES
    size: int = MAX_REQUEST_BYTES


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What a stream takes: bytes of a record (data and key) and of a request, and entries of a request."""

    record: int = 1024 * 1024
    request: int = MAX_REQUEST_BYTES
    entries: int = MAX_ENTRIES
