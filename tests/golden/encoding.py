"""The golden files, and each kind of record as the project's own encoder makes it today."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from cdckit.aggregation import SubRecord, pack
from cdckit.change import Change, Table
from cdckit.claim_check import ObjectReference, digest_of, encode_reference
from cdckit.envelope import VERSION, Metadata, MetadataWriter, inject
from cdckit.relation import RelationColumn
from producer.decoding.router import Router
from producer.masking.masker import Masker
from producer.postgres.catalog import SizedRelation
from producer.records import Origin, Record
from producer.snapshot.copy_encoder import CopyEncoder, SnapshotContext, metadata_writer

FOLDER = Path(__file__).parent / f"v{VERSION}"
ORIGIN = Origin("main", 1, "7312345678901234567", 1, "cdc")
PREFIX = "outbox"
OBJECT_URL = "s3://example-bucket/cdc/main/{digest}.json.gz"
_READ_TIME = re.compile(rb',"time":"[^"]*"')
_GOLDEN_TIME = b',"time":"2026-11-28T12:00:00.000001+00:00"'
_INTEGER, _TEXT, _NUMERIC = 23, 25, 1700
_SHAPE = SizedRelation(
    Table("public", "orders"),
    16_384,
    [
        RelationColumn(1, "id", "integer", _INTEGER),
        RelationColumn(2, "customer", "text", _TEXT),
        RelationColumn(3, "total", "numeric(30,2)", _NUMERIC),
    ],
    ["id"],
    rows=2,
    pages=1,
)
COPY_LINES = (b'1\tAda "Countess"\t12345678901234567890.10\n', b"2\tline\\nbreak\t\\N\n")


def read(name: str) -> bytes:
    """A golden file."""
    return (FOLDER / name).read_bytes()


def lines(name: str) -> list[bytes]:
    """The lines of a golden file."""
    return read(name).splitlines()


def records(messages: Sequence[bytes]) -> list[Record]:
    """What the producer publishes of these messages of a slot."""
    router = Router(ORIGIN, prefixes=[PREFIX])
    routed = [record for message in messages for record in router.handle(message)]
    return [msgspec.structs.replace(record, data=_READ_TIME.sub(_GOLDEN_TIME, record.data)) for record in routed]


def reinjected(record: bytes) -> bytes:
    """The record taken apart into wal2json's object and the metadata, and encoded again."""
    payload, _, tail = record.rpartition(b',"cdc":')
    return inject(payload + b"}", msgspec.json.decode(tail[:-1], type=Metadata))


def rewritten(record: bytes) -> bytes:
    """The same by the writer that the producer uses for a whole transaction."""
    payload, _, tail = record.rpartition(b',"cdc":')
    metadata = msgspec.json.decode(tail[:-1], type=Metadata)
    writer = MetadataWriter(metadata)
    writer.begin(metadata.commit_lsn.encode())
    return writer.inject(payload + b"}", metadata.index)


def snapshot_rows() -> bytes:
    """Rows that a snapshot read with COPY: the text inside a folded record, one line per row."""
    context = SnapshotContext(metadata_writer(ORIGIN, "snapshot"), "0/17", "2026-11-28 12:00:00.000001+00")
    return CopyEncoder(_SHAPE, ORIGIN.source, Masker()).rows(COPY_LINES, context, 0).text


def aggregated(records_: Sequence[Record]) -> bytes:
    """One KPL record of these; the last one has an explicit hash key, as the copies of a truncate do."""
    decompress = [SubRecord(record.partition_key, record.data) for record in records_[:-1]]
    return pack([*decompress, SubRecord(records_[-1].partition_key, records_[-1].data, "0")])


def claim_check_of(record: Record, body: bytes) -> bytes:
    """The reference to an oversized change whose stored object is `body`."""
    digest = digest_of(body)
    return encode_reference(
        record.data, record.table, ObjectReference(OBJECT_URL.format(digest=digest), digest, len(record.data))
    )


def as_json(change: Change) -> bytes:
    """A decoded change as one line of JSON, with every field."""
    names = ("source", "key", "after", "before", "types", "xid", "annotation", "key_change")
    fields: Mapping[str, Any] = {
        "op": change.op.value,
        "table": str(change.table),
        "position": str(change.position),
        "sort_key": change.position.sort_key,
        "commit_time": change.commit_time.isoformat(),
        "lsn": str(change.lsn),
        **{name: getattr(change, name) for name in names},
    }
    return msgspec.json.Encoder(decimal_format="number").encode(fields)
