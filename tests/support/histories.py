"""Histories of changes as records for a stream, for tests that need no PostgreSQL."""

import gzip
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cdckit.change import Change
from cdckit.envelope import VERSION, Metadata, decode, inject
from cdckit.packing import decompress


@dataclass(frozen=True)
class Entry:
    """One change as the producer would write it to the stream."""

    partition_key: str
    data: bytes

    @property
    def change(self) -> Change:
        return decode(self.data)


def history(seed: int, keys: int) -> Iterator[Entry]:
    """Endless inserts, updates and deletes of `keys` rows, one change per transaction."""
    chance, alive, at = random.Random(seed), set[int](), 0
    while True:
        at += 1
        key = chance.randrange(1, keys + 1)
        op = "I" if key not in alive else chance.choice("UUUUD")
        (alive.discard if op == "D" else alive.add)(key)
        yield entry(op, key, f"value {at}", at)


def entry(
    op: str, key: int, value: str, at: int, *, table: str = "orders", committed: str = "2026-11-24 04:14:15+00"
) -> Entry:
    """One change of ``public.orders (id, value)``."""
    columns = (
        f'"columns":[{{"name":"id","type":"integer","value":{key}}},{{"name":"value","type":"text","value":"{value}"}}]'
    )
    identity = f'"identity":[{{"name":"id","type":"integer","value":{key}}}]'
    parts = {"I": columns, "U": f"{columns},{identity}", "D": identity}[op]
    row = (
        f'{{"action":"{op}","xid":{at},"timestamp":"{committed}","lsn":"0/{at:X}","schema":"public",'
        f'"table":"{table}",{parts},"pk":[{{"name":"id","type":"integer"}}]}}'
    )
    metadata = Metadata(VERSION, 1, f"0/{at:X}", 0, "main")
    return Entry(f"main/public.{table}/[{key}]", inject(row.encode(), metadata))


def folded(entries: Iterable[Entry]) -> bytes:
    """One record with all entries, as a snapshot's rows are sent."""
    return gzip.compress(b"".join(decompress(item.data) + b"\n" for item in entries), mtime=0)
