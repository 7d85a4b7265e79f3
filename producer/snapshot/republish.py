"""Publishes single rows of a table again, by their keys: existing rows as they are now, missing ones as deletions.

A deletion has the position of a read, as a row has: an insert that the read did not see is above it, and wins.
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
from producer.ack_tracker import AckGroup
from producer.kinesis.publisher import Publisher
from producer.masking.rules import rule_of
from producer.postgres.catalog import SizedRelation, quote_identifier, quote_table, relations
from producer.postgres.connection import Source
from producer.records import Record
from producer.snapshot.backfill import open_endpoints
from producer.snapshot.chunks import row_literal
from producer.snapshot.coordinator import Endpoints
from producer.snapshot.copy_encoder import CopyEncoder, SnapshotContext, metadata_writer
from producer.snapshot.watermark import Watermarks, begin_snapshot

_BATCH_KEYS = 500
_BYTEA = 17
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_DELETION = b'{"action":"D"'
_string = msgspec.json.Decoder(str)


@dataclass(frozen=True, slots=True)
class RepublishResult:
    """How many rows were published, and how many deletions of missing rows."""

    rows: int = 0
    deletions: int = 0


def republish(settings: Settings, table: Table, keys: Sequence[str]) -> RepublishResult:
    """Publish the rows of these keys, which the stream has accepted when this returns.

    Args:
        settings: The source, slot and stream, as for a producer. The slot must exist.
        table: A published table with a primary key.
        keys: Keys as `cdckit.change.key_text` writes them, ``[42]`` or ``["a","b"]``; repeats are ignored.

    Returns:
        How many rows and how many deletions were published.

    Raises:
        UsageError: The table has no primary key, or a mask applies to it.
        SourceError: PostgreSQL is unreachable, or the slot does not exist (SlotLost).
        StreamError: The stream is unreachable or refuses.

    Example (run by ``tests/integration/test_snapshot.py``)::

        republish(settings, Table.parse("public.orders"), ["[42]", "[43]"])

    """
    with open_endpoints(settings) as endpoints, closing(Source(endpoints.dsn())) as source:
        relation = next(iter(relations(source, table.__eq__)), None)
        if relation is None or not relation.key:
            raise UsageError(f"{table} is not a table with a primary key", "backfill publishes whole tables")
        if any(rule_of(endpoints.masker.masks, table, name) for name in relation.key):
            raise UsageError(
                f"the key of {table} is masked: rows cannot be found by it", "use cdcctl producer backfill"
            )
        watermarks, waiting, done = Watermarks(), iter(dict.fromkeys(keys)), RepublishResult()
        while batch := list(islice(waiting, _BATCH_KEYS)):
            found = list(_records(endpoints, source, relation, watermarks, batch))
            _publish(endpoints, found)
            deletions = sum(record.data.startswith(_DELETION) for record in found)
            done = RepublishResult(done.rows + len(found) - deletions, done.deletions + deletions)
        return done


def _records(
    endpoints: Endpoints, source: Source, relation: SizedRelation, watermarks: Watermarks, keys: Sequence[str]
) -> Iterator[Record]:
    encoder, lines = CopyEncoder(relation, endpoints.origin.source, endpoints.masker), list[bytes]()
    watermark = begin_snapshot(source, watermarks, f"repair {relation.table}", lambda: False)
    assert watermark is not None
    names = ", ".join(map(quote_identifier, relation.key))
    wanted = ", ".join(row_literal(relation.key_columns, _key_values(relation, key)) for key in keys)
    table = quote_table(relation.table)
    source.copy(f"SELECT {encoder.select} FROM ONLY {table} WHERE ({names}) IN ({wanted})", lines.extend)  # noqa: S608
    source.query("COMMIT")
    context = SnapshotContext(metadata_writer(endpoints.origin, "repair"), str(watermark.lsn), watermark.time)
    found = list(encoder.rows(lines, context, watermark.take(len(lines))).records())
    yield from found
    found_keys = {record.partition_key for record in found}
    for key in keys:
        record = encoder.deletion(key, context, watermark.take(1))
        if record.partition_key not in found_keys:
            yield record


def _key_values(relation: SizedRelation, key: str) -> list[str]:
    return [
        _key_value(bytes(raw), column.type_oid)
        for raw, column in zip(_raws.decode(key), relation.key_columns, strict=True)
    ]


def _key_value(raw: bytes, oid: int) -> str:
    text = _string.decode(raw) if raw[:1] == b'"' else raw.decode()
    return f"\\x{text}" if oid == _BYTEA else text


def _publish(endpoints: Endpoints, records: Sequence[Record]) -> None:
    publisher, group = Publisher(endpoints.target), AckGroup()
    try:
        for record in records:
            publisher.submit(record, group)
        while group.outstanding:
            publisher.pump()
            publisher.wait(min(0.1, publisher.pause or 0.1))
    finally:
        publisher.close()
