"""GetShardIterator and GetRecords. An iterator contains its position, so the server stores no iterators."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cdcctl.sandbox.kinesis.errors import KinesisError, invalid_argument, not_found
from cdcctl.sandbox.kinesis.record_log import LogPosition, number_of
from cdcctl.sandbox.kinesis.sequence import at_millisecond, milliseconds, normalize
from cdcctl.sandbox.kinesis.shards import children, is_open
from cdcctl.sandbox.kinesis.store import RecordStore, Stream

PAGE_BYTES = 10 * 1024 * 1024
_BASE64_FACTOR = 4 / 3
_EXPIRY_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Page:
    """A page of records. `position` is where the next page starts; None at the end of a closed shard."""

    lines: list[bytes]
    position: LogPosition | None
    millis_behind: int
    number: str
    """The sequence number of the last record; empty if there is none."""


def start(store: RecordStore, stream: Stream, shard: str, request: dict[str, Any]) -> LogPosition:
    """The log position of a starting position {"Type", "SequenceNumber", "Timestamp"}. Raises KinesisError."""
    if shard not in stream["shards"]:
        raise not_found(f"Shard {shard}")
    log, kind = store.log(stream, shard), request.get("Type")
    try:
        number = normalize(request.get("SequenceNumber") or "0")
        moment = at_millisecond(int(float(request.get("Timestamp") or 0) * 1000))
    except ValueError:
        raise invalid_argument(f"invalid sequence number or timestamp: {request}") from None
    positions: dict[str | None, Callable[[], LogPosition]] = {
        "TRIM_HORIZON": lambda: store.horizon(stream, shard),
        "LATEST": log.end,
        "AT_SEQUENCE_NUMBER": lambda: log.find(number),
        "AFTER_SEQUENCE_NUMBER": lambda: log.find(f"{int(number) + 1:0{len(number)}d}"),
        "AT_TIMESTAMP": lambda: log.find(moment),
    }
    if kind not in positions:
        raise invalid_argument(f"Invalid ShardIteratorType: {kind}")
    return max(positions[kind](), store.horizon(stream, shard))


def read_page(
    store: RecordStore, stream: Stream, shard: str, position: LogPosition, limit: int, max_bytes: int = PAGE_BYTES
) -> Page:
    """Read the records from `position` on: at most `limit` records and about `max_bytes` of data."""
    log = store.log(stream, shard)
    position = max(position, store.horizon(stream, shard))
    lines, after = log.read(position, limit, int(max_bytes * _BASE64_FACTOR))
    following = log.number_at(after)
    millis_behind = 0 if following is None else max(0, int(time.time() * 1000) - milliseconds(following))
    ended = following is None and not is_open(stream["shards"][shard])
    return Page(lines, None if ended else after, millis_behind, number_of(lines[-1]) if lines else "")


def get_shard_iterator(store: RecordStore, stream: Stream, request: dict[str, Any]) -> dict[str, Any]:
    """Answer GetShardIterator."""
    shard, kind = str(request.get("ShardId")), request.get("ShardIteratorType")
    starting = {
        "Type": kind, "SequenceNumber": request.get("StartingSequenceNumber"), "Timestamp": request.get("Timestamp")
    }  # fmt: skip
    if kind == "AT_TIMESTAMP" and request.get("Timestamp") is None:
        raise invalid_argument("Timestamp is required for AT_TIMESTAMP")
    return {"ShardIterator": _make_iterator(stream["StreamARN"], shard, start(store, stream, shard, starting))}


def get_records(
    store: RecordStore, find: Callable[[str], Stream | None], request: dict[str, Any]
) -> tuple[list[bytes], dict[str, Any]]:
    """Answer GetRecords: the lines of the records, and the rest of the answer."""
    arn, shard, position = _parse_iterator(str(request.get("ShardIterator")))
    stream = find(arn)
    if stream is None or shard not in stream["shards"]:
        raise not_found(f"Shard {shard} of {arn}")
    page = read_page(store, stream, shard, position, min(int(request.get("Limit") or 10_000), 10_000))
    if page.position is None:
        return page.lines, {"MillisBehindLatest": 0, "ChildShards": children(stream["shards"], shard)}
    following = _make_iterator(arn, shard, page.position)
    return page.lines, {"NextShardIterator": following, "MillisBehindLatest": page.millis_behind}


def _make_iterator(arn: str, shard: str, position: LogPosition) -> str:
    text = json.dumps([arn, shard, position.segment, position.offset, int(time.time())])
    return base64.b64encode(text.encode()).decode()


def _parse_iterator(token: str) -> tuple[str, str, LogPosition]:
    try:
        arn, shard, segment, offset, created = json.loads(base64.b64decode(token, validate=True))
        position = LogPosition(str(segment), int(offset))
    except (ValueError, TypeError):
        raise invalid_argument("the ShardIterator is not valid") from None
    if time.time() - created > _EXPIRY_SECONDS:
        raise KinesisError("ExpiredIteratorException", f"the iterator is older than {_EXPIRY_SECONDS} s")
    return arn, shard, position
