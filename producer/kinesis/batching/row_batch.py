"""A batch of rows of one table, read for a snapshot: their records as one text, and their partition keys on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO

from cdckit.change import Table
from cdckit.envelope import decode, decode_row, key_columns
from producer.records import Record, partition_key


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Rows without an order, one record per line of `text`.

    `keys` computes the partition keys (UTF-8). For short rows that costs more than the text; a stream of one shard does
    not need them.
    """

    table: Table
    text: bytes
    count: int
    keys: Callable[[], Sequence[bytes]]

    @classmethod
    def from_lines(cls, table: Table, keys: Sequence[bytes], lines: Sequence[bytes]) -> RowBatch:
        """Build a batch of lines (with their ends)."""
        return cls(table, b"".join(lines), len(lines), lambda: keys)

    @classmethod
    def from_records(cls, records: Sequence[bytes]) -> RowBatch:
        """Build a batch of the records of a folded one; parses each to find its key."""
        row = decode_row(records[0])
        return cls.from_lines(
            Table(row.schema, row.table), [*map(_key, records)], [b"%b\n" % record for record in records]
        )

    def lines(self) -> Sequence[bytes]:
        """The records, with their line ends."""
        return lines_of(self.text)

    def records(self) -> Iterator[Record]:
        """The records one by one."""
        pairs = zip(self.keys(), self.lines(), strict=True)
        return (Record(key.decode(), line[:-1], self.table) for key, line in pairs)

    def halves(self) -> Sequence[RowBatch]:
        """The first half and the rest."""
        keys, lines, middle = self.keys(), self.lines(), self.count // 2
        return [
            RowBatch.from_lines(self.table, keys[part], lines[part]) for part in (slice(middle), slice(middle, None))
        ]


def lines_of(text: bytes) -> Sequence[bytes]:
    """Split into lines with their ends; several times as fast as `split`."""
    return BytesIO(text).readlines()


def _key(record: bytes) -> bytes:
    row = decode_row(record)
    key = key_columns(row) if row.pk else None
    return partition_key(decode(record).source, Table(row.schema, row.table), key).encode()
