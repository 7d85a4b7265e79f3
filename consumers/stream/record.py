"""One record as the stream holds it."""

from __future__ import annotations

import msgspec


class RawRecord(msgspec.Struct, frozen=True, gc=False):
    """A record as the stream holds it (an aggregated one already unpacked)."""

    data: bytes
    partition_key: str
    sequence_number: str
    sub_sequence_number: int = 0
