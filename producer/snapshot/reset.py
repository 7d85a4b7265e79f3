"""Publishes resets: a table's rows are to be forgotten by every satellite, as if the source had truncated it.

A reset is wal2json's truncate at a watermark's position, on every shard: satellites drop what is at or below it, in
whatever order it arrives. Its annotation says why, so that the audit log does not take it for a user's statement.
"""

from __future__ import annotations

from contextlib import closing

import msgspec

from cdckit.change import Table
from producer.ack_tracker import AckGroup
from producer.kinesis.publisher import Publisher
from producer.postgres.connection import Source
from producer.records import Record
from producer.snapshot.coordinator import Endpoints
from producer.snapshot.copy_encoder import annotation_writer
from producer.snapshot.watermark import Watermarks

_encode = msgspec.json.encode


def publish_reset(endpoints: Endpoints, source: Source, table: Table, reason: str) -> None:
    """Publish one table's reset; every shard has it when this returns.

    The rows that are published afterwards have later watermarks, so they stand above it.

    Raises:
        SourceError: The server did not answer.
        StreamError: The stream refused it permanently.

    """
    mark = Watermarks().add(source, _encode({"reset": str(table), "reason": reason}).decode())
    payload = b'{"action":"T","xid":null,"timestamp":%b,"lsn":"%b","schema":%b,"table":%b}' % (
        _encode(mark.time), str(mark.lsn).encode(), _encode(table.schema), _encode(table.name),
    )  # fmt: skip
    writer = annotation_writer(endpoints.origin, {"reset": reason})
    writer.begin(str(mark.lsn).encode())
    with closing(Publisher(endpoints.target)) as publisher:
        group = AckGroup()
        key = f"{endpoints.origin.source}/{table}/"
        publisher.submit(Record(key, writer.inject(payload, mark.take(1)), table, every_shard=True), group)
        publisher.flush(group)
