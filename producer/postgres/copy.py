"""Turns COPY's output, which arrives in pieces of any size, into batches of whole lines."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

MAX_LINES = 1_000
"""Lines per batch. Larger batches are hardly faster, and make a rate limit coarser."""
PIECE_BYTES = 64 * 1024
"""Buffer in front of `LineWriter`: psycopg2 writes each line with a call of its own."""
_MAX_BYTES = 512 * 1024


class LineWriter(io.RawIOBase):
    """A file to COPY into: calls `on_lines` with up to `MAX_LINES` whole lines, or with about half a MiB of them."""

    def __init__(self, on_lines: Callable[[Sequence[bytes]], object]) -> None:
        """`on_lines` is not called again after it raised."""
        self._on_lines, self._lines, self._size, self._rest = on_lines, list[bytes](), 0, b""
        self._failed = False

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, piece: Any) -> int:
        """Take a piece of the output."""
        if self._failed:  # when the BufferedWriter before this one is closed, it writes the failed piece again
            return len(piece)
        self._size += len(piece)
        lines = io.BytesIO(self._rest + piece).readlines()  # several times as fast as split
        self._rest = b"" if lines[-1].endswith(b"\n") else lines.pop()
        self._lines += lines
        while len(self._lines) >= MAX_LINES or self._size >= _MAX_BYTES:
            self._emit()
        return len(piece)

    def finish(self) -> None:
        """Emit the remaining lines."""
        while self._lines:
            self._emit()

    def _emit(self) -> None:
        lines, self._lines, self._size = self._lines[:MAX_LINES], self._lines[MAX_LINES:], 0
        if lines:  # empty while only a part of one long line has arrived
            self._failed = True  # until on_lines returns
            self._on_lines(lines)
            self._failed = False
