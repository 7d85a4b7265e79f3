"""PutRecord and PutRecords, within Kinesis's limits."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from cdcctl.sandbox.kinesis.refused import Refused, invalid
from cdcctl.sandbox.kinesis.sequence import milliseconds
from cdcctl.sandbox.kinesis.shards import KEYS
from cdcctl.sandbox.kinesis.store import Store, Stream, shard_of
from cdcctl.sandbox.kinesis.wire import Entry, Record, line

_RECORDS, _RECORD_BYTES, _REQUEST_BYTES, _KEY = 500, 1024 * 1024, 5 * 1024 * 1024, 256


def put_records(store: Store, stream: Stream, entries: list[Entry]) -> dict[str, Any]:
    """Store all; the answer names each one's shard and number."""
    _check(entries)
    for name in stream["shards"]:
        store.log(stream, name)  # an earlier process's numbers are seen before the next one is taken
    found = []
    lines, numbers = defaultdict[str, list[bytes]](list), dict[str, tuple[str, str]]()
    for entry in entries:
        shard = shard_of(stream, entry.hash_key)
        number = store.sequence.next()
        lines[shard].append(line(Record(number, milliseconds(number) / 1000, entry.Data, entry.PartitionKey)))
        numbers[shard] = (numbers.get(shard, (number,))[0], number)
        found.append({"SequenceNumber": number, "ShardId": shard})
    for shard, own in lines.items():
        store.append(stream, shard, own, numbers[shard])
    return {"FailedRecordCount": 0, "Records": found, "EncryptionType": stream.get("EncryptionType", "NONE")}


def put_record(store: Store, stream: Stream, entry: Entry) -> dict[str, Any]:
    """Store one."""
    answer = put_records(store, stream, [entry])
    return {**answer["Records"][0], "EncryptionType": answer["EncryptionType"]}


def _check(entries: list[Entry]) -> None:
    if not 0 < len(entries) <= _RECORDS:
        raise _too_long("records", _RECORDS)
    if any(not 0 < len(entry.PartitionKey) <= _KEY for entry in entries):
        raise _too_long("partitionKey", _KEY)
    if any(not _is_hash_key(entry.ExplicitHashKey or "0") for entry in entries):
        raise invalid("an ExplicitHashKey is a number below 2^128")
    if any(len(entry.Data) > _RECORD_BYTES for entry in entries):
        raise _too_long("data", _RECORD_BYTES)
    if sum(len(entry.Data) + len(entry.PartitionKey.encode()) for entry in entries) > _REQUEST_BYTES:
        raise Refused("ValidationException", "Records total payload size exceeds 5 MB limit")


def _is_hash_key(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 40 and int(text) < KEYS


def _too_long(what: str, most: int) -> Refused:
    return Refused(
        "ValidationException",
        f"1 validation error detected: Value at '{what}' failed to satisfy constraint: "
        f"Member must have length greater than or equal to 1 and less than or equal to {most}",
    )
