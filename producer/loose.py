"""Records without an order: rows that were read, each in a place of its own in the log; taken by the hundred, pure.

An object a row costs more than the row's text. So rows travel as two lists, their requests as one ready text, and only
what the stream refused is looked at one by one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, count

import msgspec
from pybase64 import b64encode

from producer.lanes import Bounds
from producer.ledger import Ticket
from producer.put import data_of
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
    """One request's rows, as its entries' text; `size` as PutRecords counts it."""

    entries: bytes
    count: int
    size: int
    ticket: Ticket

    def __len__(self) -> int:
        """How many records."""
        return self.count

    def untied(self) -> Iterator[Loose]:
        """Each by itself."""
        for raw in _raws.decode(b"[%b]" % self.entries):
            text = bytes(raw)
            key = msgspec.json.decode(text, type=_Keyed).PartitionKey
            yield Loose(next(_numbers), self.ticket, len(data_of(text)) + len(key.encode()), text, key)


def sheaves(rows: Rows, ticket: Ticket, bounds: Bounds) -> Iterator[Sheaf]:
    """The requests that these rows are."""
    keys, datas, most = rows.keys, rows.datas, min(SHEAF_BYTES, bounds.request)
    totals = list(accumulate(map(len, keys), initial=0))
    totals = [size + total for size, total in zip(accumulate(map(len, datas), initial=0), totals, strict=True)]
    start = 0
    while start < len(keys):
        fits = bisect_right(totals, totals[start] + most) - 1
        end = max(start + 1, min(fits, start + bounds.entries))
        yield Sheaf(_entries(keys[start:end], datas[start:end]), end - start, totals[end] - totals[start], ticket)
        start = end


def _entries(keys: Sequence[bytes], datas: Sequence[bytes]) -> bytes:
    together = b"".join(keys)
    if b'"' in together or b"\\" in together:
        keys = [msgspec.json.encode(key.decode())[1:-1] for key in keys]
    parts = _ENTRY * len(keys)
    parts[1::4] = map(b64encode, datas)
    parts[3::4] = keys
    parts[-1:] = [parts[-1], b'"}']
    return b"".join(parts)[_BETWEEN:]


_ENTRY = [b'"},{"Data":"', b"", b'","PartitionKey":"', b""]
_BETWEEN = len(b'"},')
_raws = msgspec.json.Decoder(list[msgspec.Raw])


class _Keyed(msgspec.Struct):
    PartitionKey: str
