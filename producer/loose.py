"""Records without an order: rows that were read, each in a place of its own in the log; taken by the hundred, pure.

An object a row costs more than the row's text. So rows travel as two lists, their requests as ready entries, and only
what the stream refused is looked at one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import msgspec
from pybase64 import b64encode

from producer.lanes import Bounds
from producer.ledger import Ticket
from producer.put import data_of, entry
from producer.routing import Rows

SHEAF_BYTES = 2 * 1024 * 1024
_numbers = count()


class Loose(msgspec.Struct, gc=False):
    """One row on its way, by itself."""

    gate_key: int
    ticket: Ticket
    size: int
    entry: bytes
    partition_key: str
    shard: None = None


@dataclass(frozen=True, slots=True, eq=False)
class Sheaf:
    """One request's rows, as entries' texts; `size` as PutRecords counts it."""

    entries: Sequence[bytes]
    size: int
    ticket: Ticket

    def __len__(self) -> int:
        """How many records."""
        return len(self.entries)

    def untied(self) -> Iterator[Loose]:
        """Each by itself."""
        for text in self.entries:
            key = msgspec.json.decode(text, type=_Keyed).PartitionKey
            yield Loose(next(_numbers), self.ticket, len(data_of(text)) + len(key.encode()), text, key)


def sheaves(rows: Rows, ticket: Ticket, bounds: Bounds) -> Iterator[Sheaf]:
    """The requests that these rows are."""
    entries: list[bytes] = []
    size, most = 0, min(SHEAF_BYTES, bounds.request)
    for text, length in _entries(rows):
        if entries and (size + length > most or len(entries) == bounds.entries):
            yield Sheaf(entries, size, ticket)
            entries, size = [], 0
        entries.append(text)
        size += length
    if entries:
        yield Sheaf(entries, size, ticket)


def _entries(rows: Rows) -> Iterator[tuple[bytes, int]]:
    keys, datas, join = rows.keys, rows.datas, b"".join
    together = join(keys)
    if b'"' in together or b"\\" in together:
        for key, data in zip(keys, datas, strict=True):
            yield entry(data, key.decode()), len(data) + len(key)
        return
    for key, data in zip(keys, datas, strict=True):
        yield join((b'{"Data":"', b64encode(data), b'","PartitionKey":"', key, b'"}')), len(data) + len(key)


class _Keyed(msgspec.Struct):
    PartitionKey: str
