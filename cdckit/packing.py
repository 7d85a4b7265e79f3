"""How a record's text is packed: as it is, as gzip (RFC 1952), or folded; its first two bytes tell.

A change too large for the stream is the gzip of its text. Rows that a snapshot or backfill read come folded: one gzip
of many changes of one shard's keys, a line each (docs/decisions/folded-rows.md).
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence

from cdckit.errors import EnvelopeError

MOST_BYTES = 64 * 1024 * 1024
"""A compressed record may unfold to this at the most; what claims more is refused before it takes the memory."""
MOST_FOLDED = 10_000
"""A compressed record holds so many changes at the most; one that claims more is refused."""
GZIP = b"\x1f\x8b"
"""How a compressed record begins."""
_WBITS = zlib.MAX_WBITS | 16  # gzip's own header


def compress(data: bytes) -> bytes:
    """A record as gzip, for one that is over the stream's limit. `plain` undoes it."""
    return gzip.compress(data, compresslevel=6, mtime=0)


def plain(data: bytes, most: int = MOST_BYTES) -> bytes:
    """The record's JSON text, unfolded when it is compressed. Raises EnvelopeError when it cannot be, or is a bomb."""
    if data[:2] != GZIP:
        return data
    unfolding = zlib.decompressobj(_WBITS)
    try:
        text = unfolding.decompress(data, most)
    except zlib.error as error:
        raise EnvelopeError(f"a compressed record that cannot be unfolded: {error}") from error
    if not unfolding.eof:
        why = "unfolds to more than" if unfolding.unconsumed_tail else "ends before its end; limit"
        raise EnvelopeError(f"a compressed record of {len(data):,} bytes {why} {most:,} bytes")
    if unfolding.unused_data:
        raise EnvelopeError(f"a compressed record has {len(unfolding.unused_data):,} bytes more after its end")
    return text


def unfold(data: bytes) -> Sequence[bytes]:
    """The records that a stream's record stands for: the many of a folded one, of any other that itself.

    Raises EnvelopeError when it is compressed and cannot be unfolded, is a bomb, or holds too many.
    """
    if data[:2] != GZIP:
        return (data,)
    text = plain(data).removesuffix(b"\n")
    if text.count(b"\n") >= MOST_FOLDED:
        raise EnvelopeError(f"a compressed record of more than {MOST_FOLDED:,} changes")
    lines = text.split(b"\n")
    return lines if len(lines) > 1 else (data,)


def unfolded_size(data: bytes) -> int:
    """The bytes that the record has unfolded, as a compressed one claims at its end; cheap, for bounds."""
    if data[:2] != GZIP:
        return len(data)
    return max(len(data), min(MOST_BYTES, int.from_bytes(data[-4:], "little")))
