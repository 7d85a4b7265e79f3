"""PutRecord and PutRecords, with the limits of Kinesis on sizes and counts."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from cdcctl.sandbox.kinesis.errors import KinesisError, invalid_argument
from cdcctl.sandbox.kinesis.sequence import milliseconds
from cdcctl.sandbox.kinesis.shards import HASH_KEYS
from cdcctl.sandbox.kinesis.store import RecordStore, Stream, shard_of
from cdcctl.sandbox.kinesis.wire import Entry, Record, encode_record

_MAX_RECORDS, _MAX_RECORD_BYTES, _MAX_REQUEST_BYTES, _MAX_KEY_LENGTH = 500, 1024 * 1024, 5 * 1024 * 1024, 256


def put_records(store: RecordStore, stream: Stream, entries: list[Entry]) -> dict[str, Any]:
    """Store all entries; the answer has the shard and the sequence number of each."""
    _check(entries)
    store.open_logs(stream)
    records = []
    lines, numbers = defaultdict[str, list[bytes]](list), dict[str, tuple[str, str]]()
    for entry in entries:
        shard = shard_of(stream, entry.hash_key)
        number = store.sequence.next()
        lines[shard].append(encode_record(Record(number, milliseconds(number) / 1000, entry.Data, entry.PartitionKey)))
        numbers[shard] = (numbers.get(shard, (number,))[0], number)
        records.append({"SequenceNumber": number, "ShardId": shard})
    for shard, shard_lines in lines.items():
        store.append(stream, shard, shard_lines, numbers[shard])
    return {"FailedRecordCount": 0, "Records": records, "EncryptionType": stream.get("EncryptionType", "NONE")}


def put_record(store: RecordStore, stream: Stream, entry: Entry) -> dict[str, Any]:
    """Store one entry."""
    answer = put_records(store, stream, [entry])
    return {**answer["Records"][0], "EncryptionType": answer["EncryptionType"]}


def _check(entries: list[Entry]) -> None:
    if not 0 < len(entries) <= _MAX_RECORDS:
        raise _wrong_length("records", _MAX_RECORDS)
    if any(not 0 < len(entry.PartitionKey) <= _MAX_KEY_LENGTH for entry in entries):
        raise _wrong_length("partitionKey", _MAX_KEY_LENGTH)
    if any(not _is_hash_key(entry.ExplicitHashKey or "0") for entry in entries):
        raise invalid_argument("ExplicitHashKey must be a number below 2^128")
    if any(len(entry.Data) > _MAX_RECORD_BYTES for entry in entries):
        raise _wrong_length("data", _MAX_RECORD_BYTES)
    if sum(len(entry.Data) + len(entry.PartitionKey.encode()) for entry in entries) > _MAX_REQUEST_BYTES:
        raise KinesisError("ValidationException", "Records total payload size exceeds 5 MB limit")


def _is_hash_key(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 40 and int(text) < HASH_KEYS


def _wrong_length(member: str, maximum: int) -> KinesisError:
    return KinesisError(
        "ValidationException",
        f"1 validation error detected: Value at '{member}' failed to satisfy constraint: "
        f"Member must have length greater than or equal to 1 and less than or equal to {maximum}",
    )
