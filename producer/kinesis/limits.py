"""The limits of Kinesis, and of what the producer holds in memory."""

from __future__ import annotations

from dataclasses import dataclass

MAX_ENTRIES = 500
"""Entries of one PutRecords request."""
MAX_REQUEST_BYTES = 5 * 1024 * 1024
"""Bytes (data and partition keys) of one PutRecords request, unless the stream takes larger records."""
MAX_PENDING = 6_000
"""Records submitted and not yet accepted: at this many, the producer reads no more."""
MAX_PENDING_BYTES = 12 * 1024 * 1024
"""The same limit in bytes."""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The limits of one request."""

    entries: int = MAX_ENTRIES
    size: int = MAX_REQUEST_BYTES


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """A stream's limits: bytes of a record (data and key) and of a request, and entries of a request."""

    record: int = 1024 * 1024
    request: int = MAX_REQUEST_BYTES
    entries: int = MAX_ENTRIES
