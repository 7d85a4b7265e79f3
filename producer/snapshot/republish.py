"""Publishes some rows of a table anew, by their keys: those that are there as they are now, the others as deleted.

A deletion is read as a row is: an insert that its reading did not see is above its watermark, and wins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import msgspec

from cdckit.change import Table
from cdckit.errors import UsageError
from cdckit.runtime.settings import Settings
from producer.ack_tracker import Ticket
from producer.kinesis.publisher import Publisher
from producer.masking.rules import rule_of
from producer.postgres.catalog import Shape, quoted, shapes
from producer.postgres.connection import Source
from producer.records import Record
from producer.snapshot.backfill import opened
from producer.snapshot.chunks import literals
from producer.snapshot.coordinator import Where
from producer.snapshot.copy_encoder import Image, Under, stamper_of
from producer.snapshot.watermark import Watermarks, snapshot

_AT_ONCE = 500
_BYTEA = 17
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_DELETION = b'{"action":"D"'
_string = msgspec.json.Decoder(str)


@dataclass(frozen=True, slots=True)
class Repaired:
    """How many rows were published, and how many deletions of rows that are not there."""

    rows: int = 0
    deletions: int = 0


def republish(settings: Settings, table: Table, keys: Sequence[str]) -> Repaired:
    """Publish the rows of these keys (`cdckit.change.key_text`); what the stream accepted when it returns.

    Raises UsageError for a table without a primary key or with a masked one, SourceError, StreamError.
    """
    with opened(settings) as where, closing(Source(where.dsn())) as source:
        shape = next(iter(shapes(source, table.__eq__)), None)
        if shape is None or not shape.key:
            raise UsageError(f"{table} is no table with a primary key", "backfill publishes whole tables")
        if any(rule_of(where.masks.masks, table, name) for name in shape.key):
            raise UsageError(
                f"the key of {table} is masked: rows cannot be found by it", "use cdcctl producer backfill"
            )
        marks, waiting, done = Watermarks(), iter(dict.fromkeys(keys)), Repaired()
        while some := list(islice(waiting, _AT_ONCE)):
            found = list(_records(where, source, shape, marks, some))
            _publish(where, found)
            gone = sum(record.data.startswith(_DELETION) for record in found)
            done = Repaired(done.rows + len(found) - gone, done.deletions + gone)
        return done


def _records(where: Where, source: Source, shape: Shape, marks: Watermarks, keys: Sequence[str]) -> Iterator[Record]:
    image, lines = Image(shape, where.origin.source, where.masks), list[bytes]()
    mark = snapshot(source, marks, f"repair {shape.table}", lambda: False)
    assert mark is not None
    names = ", ".join(map(quoted, shape.key))
    wanted = ", ".join(literals(shape.keys, _cells(shape, key)) for key in keys)
    source.copy(f"SELECT {image.select} FROM ONLY {shape.table} WHERE ({names}) IN ({wanted})", lines.extend)  # noqa: S608
    source.query("COMMIT")
    under = Under(stamper_of(where.origin, "repair"), str(mark.lsn), mark.time)
    found = list(image.rows(lines, under, mark.take(len(lines))).records())
    yield from found
    there = {record.partition_key for record in found}
    for key in keys:
        record = image.deletion(key, under, mark.take(1))
        if record.partition_key not in there:
            yield record


def _cells(shape: Shape, key: str) -> list[str]:
    return [_cell(bytes(raw), cell.oid) for raw, cell in zip(_raws.decode(key), shape.keys, strict=True)]


def _cell(raw: bytes, oid: int) -> str:
    text = _string.decode(raw) if raw[:1] == b'"' else raw.decode()
    return f"\\x{text}" if oid == _BYTEA else text


def _publish(where: Where, records: Sequence[Record]) -> None:
    publisher, ticket = Publisher(where.target), Ticket()
    try:
        for record in records:
            publisher.submit(record, ticket)
        publisher.flush(ticket)
    finally:
        publisher.close()
