"""GetShardIterator and GetRecords. An iterator is its own state: nothing is remembered of it."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cdcctl.sandbox.kinesis.refused import Refused, invalid, not_found
from cdcctl.sandbox.kinesis.segments import Place
from cdcctl.sandbox.kinesis.sequence import FIRST, at_millisecond, milliseconds, normal
from cdcctl.sandbox.kinesis.shards import children, is_open
from cdcctl.sandbox.kinesis.store import Store, Stream

PAGE_BYTES = 10 * 1024 * 1024
_IN_BASE64 = 4 / 3
_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Page:
    """Records and what follows them; no `place` at the end of a closed shard."""

    lines: list[bytes]
    place: Place | None
    behind: int
    number: str


def start(store: Store, stream: Stream, shard: str, asked: dict[str, Any]) -> Place:
    """The place that a position names: {"Type", "SequenceNumber", "Timestamp"}. Raises Refused."""
    if shard not in stream["shards"]:
        raise not_found(f"Shard {shard}")
    log, kind = store.log(stream, shard), asked.get("Type")
    try:
        number = normal(asked.get("SequenceNumber") or "0")
        moment = at_millisecond(int(float(asked.get("Timestamp") or 0) * 1000))
    except ValueError:
        raise invalid(f"not a sequence number or a time: {asked}") from None
    places: dict[str | None, Callable[[], Place]] = {
        "TRIM_HORIZON": lambda: store.horizon(stream, shard),
        "LATEST": log.end,
        "AT_SEQUENCE_NUMBER": lambda: log.find(number),
        "AFTER_SEQUENCE_NUMBER": lambda: log.find(f"{int(number) + 1:0{len(number)}d}"),
        "AT_TIMESTAMP": lambda: log.find(moment),
    }
    if kind not in places:
        raise invalid(f"Invalid ShardIteratorType: {kind}")
    return max(places[kind](), store.horizon(stream, shard))


def page(store: Store, stream: Stream, shard: str, place: Place, limit: int, most_bytes: int = PAGE_BYTES) -> Page:
    """The next records."""
    log = store.log(stream, shard)
    place = max(place, store.horizon(stream, shard))
    lines, after = log.read(place, limit, int(most_bytes * _IN_BASE64))
    following = log.number_at(after)
    behind = 0 if following is None else max(0, int(time.time() * 1000) - milliseconds(following))
    ended = following is None and not is_open(stream["shards"][shard])
    return Page(lines, None if ended else after, behind, lines[-1][19 : 19 + len(FIRST)].decode() if lines else "")


def get_shard_iterator(store: Store, stream: Stream, asked: dict[str, Any]) -> dict[str, Any]:
    """GetShardIterator."""
    shard, kind = str(asked.get("ShardId")), asked.get("ShardIteratorType")
    position = {
        "Type": kind, "SequenceNumber": asked.get("StartingSequenceNumber"), "Timestamp": asked.get("Timestamp")
    }  # fmt: skip
    if kind == "AT_TIMESTAMP" and asked.get("Timestamp") is None:
        raise invalid("Timestamp is required for AT_TIMESTAMP")
    return {"ShardIterator": _token(stream["StreamARN"], shard, start(store, stream, shard, position))}


def get_records(
    store: Store, find: Callable[[str], Stream | None], asked: dict[str, Any]
) -> tuple[list[bytes], dict[str, Any]]:
    """GetRecords: the lines, and the rest of the answer."""
    arn, shard, place = _read(str(asked.get("ShardIterator")))
    stream = find(arn)
    if stream is None or shard not in stream["shards"]:
        raise not_found(f"Shard {shard} of {arn}")
    found = page(store, stream, shard, place, min(int(asked.get("Limit") or 10_000), 10_000))
    if found.place is None:
        return found.lines, {"MillisBehindLatest": 0, "ChildShards": children(stream["shards"], shard)}
    return found.lines, {"NextShardIterator": _token(arn, shard, found.place), "MillisBehindLatest": found.behind}


def _token(arn: str, shard: str, place: Place) -> str:
    text = json.dumps([arn, shard, place.segment, place.offset, int(time.time())])
    return base64.b64encode(text.encode()).decode()


def _read(token: str) -> tuple[str, str, Place]:
    try:
        arn, shard, segment, offset, made = json.loads(base64.b64decode(token, validate=True))
        place = Place(str(segment), int(offset))
    except (ValueError, TypeError):
        raise invalid("the ShardIterator is none of this stream's") from None
    if time.time() - made > _SECONDS:
        raise Refused("ExpiredIteratorException", f"the iterator is older than {_SECONDS} s")
    return arn, shard, place
