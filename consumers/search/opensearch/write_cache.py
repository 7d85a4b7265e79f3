"""A cache of this process's last writes: a row that changes again soon need not be read, which costs more than a write.

An entry may be out of date at any time, because others write too. This loses nothing: a write over an old version is
refused, and then the row is read; and a change that has no effect on an old state has none on a newer one (states only
ever join, and every batch reads the tables' watermarks themselves).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import msgspec

from consumers.search.opensearch.bulk import DocumentVersion

MAX_BYTES = 32 * 1024 * 1024
"""The size of the cached documents as JSON. The oldest writes are discarded first."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_OVERHEAD = 300  # bytes per entry, in addition to its body


class WriteCache:
    """Documents as this process last wrote them, by id."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        """Start empty."""
        self._max_bytes, self._size = max_bytes, 0
        self._entries: OrderedDict[str, tuple[bytes, DocumentVersion]] = OrderedDict()

    def get(self, name: str) -> tuple[Mapping[str, Any], DocumentVersion] | None:
        """A document's source and version, if it is cached."""
        found = self._entries.get(name)
        return None if found is None else (_decode(found[0]), found[1])

    def __contains__(self, name: str) -> bool:
        """Whether a document is cached."""
        return name in self._entries

    def put(self, name: str, body: bytes, version: DocumentVersion) -> None:
        """Store a write. An empty body is a delete: nothing is cached for it."""
        self.discard(name)
        if body:
            self._entries[name] = (body, version)
            self._size += len(body) + _OVERHEAD
        while self._size > self._max_bytes:
            self.discard(next(iter(self._entries)))

    def discard(self, name: str) -> None:
        """Remove a document: it is read the next time."""
        if (found := self._entries.pop(name, None)) is not None:
            self._size -= len(found[0]) + _OVERHEAD
