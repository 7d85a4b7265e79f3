"""Packs a record's text: as it is, as gzip (RFC 1952), or folded; the first two bytes say which.

A change too large for the stream is the gzip of its text. Rows that a snapshot or backfill read are folded: one gzip
of many changes of one shard's keys, one per line (docs/decisions/folded-rows.md).
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence

from cdckit.errors import EnvelopeError

MAX_DECOMPRESSED_BYTES = 64 * 1024 * 1024
"""At most this many bytes after decompression; a larger record is refused before it takes the memory."""
MAX_FOLDED_CHANGES = 10_000
"""At most this many changes in a folded record; one with more is refused."""
GZIP = b"\x1f\x8b"
"""How a compressed record begins."""
_WBITS = zlib.MAX_WBITS | 16  # gzip's own header


def compress(data: bytes) -> bytes:
    """Compress a record that is over the stream's limit; `decompress` restores it.

    Example:
        >>> decompress(compress(b'{"action":"I"}'))
        b'{"action":"I"}'

    """
    return gzip.compress(data, compresslevel=6, mtime=0)


def decompress(data: bytes, max_bytes: int = MAX_DECOMPRESSED_BYTES) -> bytes:
    """Return the record's JSON text, decompressed if necessary.

    Args:
        data: A record, compressed or not.
        max_bytes: Refuse a text that is longer.

    Returns:
        The text.

    Raises:
        EnvelopeError: The record is damaged, or its text is too long.

    """
    if data[:2] != GZIP:
        return data
    decompressor = zlib.decompressobj(_WBITS)
    try:
        text = decompressor.decompress(data, max_bytes)
    except zlib.error as error:
        raise EnvelopeError(f"a compressed record that cannot be decompressed: {error}") from error
    if not decompressor.eof:
        reason = "decompresses to more than" if decompressor.unconsumed_tail else "ends before its end; limit"
        raise EnvelopeError(f"a compressed record of {len(data):,} bytes {reason} {max_bytes:,} bytes")
    if decompressor.unused_data:
        raise EnvelopeError(f"a compressed record has {len(decompressor.unused_data):,} bytes more after its end")
    return text


def split_folded(data: bytes) -> Sequence[bytes]:
    r"""Return the records that one record of the stream contains: many for a folded one, else itself.

    Raises EnvelopeError when it is compressed and damaged, too large, or holds too many changes.

    Example:
        >>> list(split_folded(compress(b'{"action":"I"}\n{"action":"I"}\n')))
        [b'{"action":"I"}', b'{"action":"I"}']

    """
    if data[:2] != GZIP:
        return (data,)
    text = decompress(data).removesuffix(b"\n")
    if text.count(b"\n") >= MAX_FOLDED_CHANGES:
        raise EnvelopeError(f"a compressed record of more than {MAX_FOLDED_CHANGES:,} changes")
    lines = text.split(b"\n")
    return lines if len(lines) > 1 else (data,)


def decompressed_size(data: bytes) -> int:
    """Return the size after decompression, as the record claims at its end; cheap, for memory bounds."""
    if data[:2] != GZIP:
        return len(data)
    return max(len(data), min(MAX_DECOMPRESSED_BYTES, int.from_bytes(data[-4:], "little")))
