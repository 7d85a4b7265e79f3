"""Loose lanes: rows that were read, each in a place of its own in the log; they have no order, and go folded.

A record of the stream holds some hundred rows of one shard as gzip, a line each (`cdckit.packing.unfold`): a shard
takes 1,000 records and a MiB a second, and rows of one table are alike. Each goes by an explicit hash key to the shard
of its rows' keys, and the answer must name that; what a split or merge sent elsewhere is divided anew and sent again
(whoever has a row twice sees equal positions).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence

import msgspec
from isal import igzip

from cdckit.packing import MOST_FOLDED, unfold
from producer.ack_tracker import Ticket
from producer.kinesis.batching.row_batch import Rows
from producer.kinesis.limits import StreamLimits
from producer.kinesis.put_records import data_of, entry
from producer.kinesis.shard_map import Shard, ShardMap
from producer.records import Record

FOLD_BYTES = 512 * 1024
"""A folded record has so many bytes at the most: small enough that a reader's page holds several."""
_LEVEL = 1  # a tenth of the bytes of most rows, at 1 GB/s and more
_KEY = "cdc"  # of a folded record; nobody reads it


class Loose(msgspec.Struct, eq=False, gc=False):
    """An entry on its way: many rows for the shard that they must reach, or one row by itself."""

    entry: bytes
    ticket: Ticket
    size: int
    partition_key: str
    rows: int = 1
    shard: str | None = None


class LooseLanes:
    """See `producer.kinesis.batching.protocol.Lanes`."""

    def __init__(self, shards: ShardMap, bounds: StreamLimits) -> None:
        """`bounds` are the stream's."""
        self._shards, self._bounds = shards, bounds
        self._most = min(FOLD_BYTES, bounds.record) - len(_KEY)
        self._waiting: deque[Loose] = deque()
        self._waiting_size = 0
        self.entries = self.size = 0

    @property
    def sendable(self) -> int:
        """Parcels that wait; as many as a request takes when they have half of its bytes."""
        return self._bounds.entries if 2 * self._waiting_size >= self._bounds.request else len(self._waiting)

    def add(self, record: Record, ticket: Ticket) -> None:
        """Queue a row by itself."""
        key = record.partition_key
        self._queue(Loose(entry(record.data, key), ticket, len(record.data) + len(key.encode()), key))

    def add_rows(self, rows: Rows, ticket: Ticket) -> Sequence[Record]:
        """Queue rows, folded; what is returned is alone, or too large even so: it is to go by itself."""
        if len(self._shards.shards) == 1:
            return self._fold(rows, self._shards.shards[0], ticket)
        large: list[Record] = []
        for shard, some in self._divided(rows):
            large += self._fold(some, shard, ticket)
        return large

    def take(self, closed: Collection[str]) -> Sequence[Loose]:
        """The next request's parcels."""
        taken: list[Loose] = []
        size = 0
        for _ in range(len(self._waiting)):
            parcel = self._waiting.popleft()
            if closed and self.shard_of(parcel) in closed:
                self._waiting.append(parcel)  # no matter that the others overtake it
                continue
            if taken and (size + parcel.size > self._bounds.request or len(taken) == self._bounds.entries):
                self._waiting.appendleft(parcel)
                break
            taken.append(parcel)
            size += parcel.size
        self._waiting_size -= size
        return taken

    def accepted(self, parcels: Sequence[Loose]) -> int:
        """The stream has these; how many rows that are."""
        for parcel in parcels:
            self._forget(parcel)
        return sum(parcel.rows for parcel in parcels)

    def refused(self, parcels: Sequence[Loose]) -> None:
        """They go again before all others."""
        self._waiting.extendleft(parcels)
        self._waiting_size += sum(parcel.size for parcel in parcels)

    def strayed(self, parcel: Loose) -> None:
        """Its rows will be divided anew."""
        self.refused([parcel])

    def reshard(self, shards: ShardMap) -> None:
        """Divide what waits among the new shards."""
        waiting, self._waiting, self._waiting_size = self._waiting, deque(), 0
        self._shards = shards
        for parcel in waiting:
            if parcel.shard is None:
                self.refused([parcel])
            else:
                for record in self.add_rows(Rows.read_back(unfold(data_of(parcel.entry))), parcel.ticket):
                    self.add(record, parcel.ticket)
                self._forget(parcel)

    def shard_of(self, parcel: Loose) -> str:
        """A folded record's is known, another's follows from its key."""
        return parcel.shard or self._shards.of(parcel.partition_key).id

    def _divided(self, rows: Rows) -> Iterator[tuple[Shard, Rows]]:
        found = {shard.id: (shard, list[bytes](), list[bytes]()) for shard in self._shards.shards}
        of_bytes = self._shards.of_bytes
        for key, line in zip(rows.keys(), rows.lines(), strict=True):
            _, keys, lines = found[of_bytes(key).id]
            keys.append(key)
            lines.append(line)
        for shard, keys, lines in found.values():
            if lines:
                yield shard, Rows.of(rows.table, keys, lines)

    def _fold(self, rows: Rows, shard: Shard, ticket: Ticket) -> Sequence[Record]:
        if rows.count == 1:
            return list(rows.records())
        data = igzip.compress(rows.text, _LEVEL, mtime=0)
        if len(data) <= self._most and rows.count <= MOST_FOLDED:
            text = entry(data, _KEY, str(shard.low))
            self._queue(Loose(text, ticket, len(data) + len(_KEY), _KEY, rows.count, shard.id))
            return ()
        return [large for half in rows.halves() for large in self._fold(half, shard, ticket)]

    def _queue(self, parcel: Loose) -> None:
        parcel.ticket.outstanding += 1
        self.entries += 1
        self.size += parcel.size
        self._waiting.append(parcel)
        self._waiting_size += parcel.size

    def _forget(self, parcel: Loose) -> None:
        parcel.ticket.outstanding -= 1
        self.entries -= 1
        self.size -= parcel.size
