"""One record of the stream."""

from __future__ import annotations

import msgspec


class RawRecord(msgspec.Struct, frozen=True, gc=False):
    """A record as the stream holds it; aggregated records are already unpacked."""

    data: bytes
    partition_key: str
    sequence_number: str
    sub_sequence_number: int = 0
