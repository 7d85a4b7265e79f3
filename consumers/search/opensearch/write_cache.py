"""What this process wrote last: a row that changes again soon need not be read, which costs more than to write it.

It may be out of date at any time, for others write too. Nothing is lost by that: a write over an old version is
refused, and then the row is read; and a change that has no effect on an old state has none on a newer one either
(states only ever join, and each batch reads the tables' watermarks themselves).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import msgspec

from consumers.search.opensearch.bulk import DocumentVersion

MAX_BYTES = 32 * 1024 * 1024
"""Of documents as JSON; the oldest writes are forgotten first."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_OVERHEAD = 300  # bytes an entry, beside its body


class WriteCache:
    """Documents as they were written, by id."""

    def __init__(self, most_bytes: int = MAX_BYTES) -> None:
        """Empty."""
        self._most, self._size = most_bytes, 0
        self._known: OrderedDict[str, tuple[bytes, DocumentVersion]] = OrderedDict()

    def get(self, name: str) -> tuple[Mapping[str, Any], DocumentVersion] | None:
        """A document's source and version, if it is remembered."""
        found = self._known.get(name)
        return None if found is None else (_decode(found[0]), found[1])

    def __contains__(self, name: str) -> bool:
        """Whether it is remembered."""
        return name in self._known

    def wrote(self, name: str, body: bytes, version: DocumentVersion) -> None:
        """Remember a write; without a body the document was deleted, and nothing is remembered of it."""
        self.forget(name)
        if body:
            self._known[name] = (body, version)
            self._size += len(body) + _OVERHEAD
        while self._size > self._most:
            self.forget(next(iter(self._known)))

    def forget(self, name: str) -> None:
        """It must be read the next time."""
        if (found := self._known.pop(name, None)) is not None:
            self._size -= len(found[0]) + _OVERHEAD
