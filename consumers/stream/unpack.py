"""Expands records that contain many: KPL's aggregated records, and the folded records of a snapshot's rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cdckit.aggregation import MAGIC, unpack
from cdckit.claim_check import memory_size
from cdckit.errors import EnvelopeError
from cdckit.packing import split_folded
from consumers.stream.record import RawRecord

MAX_UNPACKED_BYTES = 32 * 1024 * 1024
"""Expanded bytes that are held in memory at once: a page of folded records may be a gigabyte."""


def expand_folded(record: RawRecord) -> Sequence[RawRecord]:
    """The records in a folded record, numbered like an aggregated one's; any other record unchanged."""
    try:
        lines = split_folded(record.data)
    except EnvelopeError:
        return (record,)
    if len(lines) == 1 or record.sub_sequence_number:  # a record from an aggregated one already has its number
        return (record,)
    key, sequence = record.partition_key, record.sequence_number
    return [RawRecord(line, key, sequence, number) for number, line in enumerate(lines)]


def expand_record(item: Any) -> Sequence[RawRecord]:
    """The records in one record of a GetRecords answer: unpacked as the KCL does it, or expanded."""
    data, key, sequence = item["Data"], item["PartitionKey"], item["SequenceNumber"]
    if not data.startswith(MAGIC):
        return expand_folded(RawRecord(data, key, sequence))
    return [RawRecord(part.data, part.partition_key, sequence, number) for number, part in enumerate(unpack(data, key))]


def split_by_size(items: Sequence[Any], max_bytes: int = MAX_UNPACKED_BYTES) -> Iterator[Sequence[Any]]:
    """Splits Kinesis' records into runs of about `max_bytes` expanded bytes; yields one empty run for no records."""
    start = size = 0
    for at, item in enumerate(items):
        item_size = memory_size(item["Data"])
        if at > start and size + item_size > max_bytes:
            yield items[start:at]
            start, size = at, 0
        size += item_size
    yield items[start:]
