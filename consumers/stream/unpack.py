"""One record of the stream may stand for many: KPL's aggregated ones, and the folded ones of rows that were read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cdckit.aggregation import MAGIC, unpack
from cdckit.claim_check import memory_size
from cdckit.errors import EnvelopeError
from cdckit.packing import split_folded
from consumers.stream.record import RawRecord

MOST_BYTES = 32 * 1024 * 1024
"""Bytes, unfolded, that are held at once: a page of folded records may be a gigabyte."""


def unfolded(record: RawRecord) -> Sequence[RawRecord]:
    """The records in a folded one, numbered as an aggregated one's; any other as it is, for `decode` to judge."""
    try:
        lines = split_folded(record.data)
    except EnvelopeError:
        return (record,)
    if len(lines) == 1 or record.sub_sequence_number:  # those within an aggregated one have their numbers already
        return (record,)
    key, sequence = record.partition_key, record.sequence_number
    return [RawRecord(line, key, sequence, number) for number, line in enumerate(lines)]


def inside(item: Any) -> Sequence[RawRecord]:
    """The records in one that Kinesis gave, unpacked as the KCL does it, or unfolded."""
    data, key, sequence = item["Data"], item["PartitionKey"], item["SequenceNumber"]
    if not data.startswith(MAGIC):
        return unfolded(RawRecord(data, key, sequence))
    return [RawRecord(one.data, one.partition_key, sequence, number) for number, one in enumerate(unpack(data, key))]


def runs(items: Sequence[Any], most: int = MOST_BYTES) -> Iterator[Sequence[Any]]:
    """Kinesis' records in runs of about so many bytes once they are unfolded; one run of none when there are none."""
    start = size = 0
    for at, item in enumerate(items):
        heavy = memory_size(item["Data"])
        if at > start and size + heavy > most:
            yield items[start:at]
            start, size = at, 0
        size += heavy
    yield items[start:]
