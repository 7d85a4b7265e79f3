"""The logs of all shards below one folder, and the bounds on what they keep: the stream's retention, and bytes."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cdcctl.sandbox.kinesis.segments import SEGMENT_BYTES, Log, Place
from cdcctl.sandbox.kinesis.sequence import Sequence, at_millisecond, milliseconds
from cdcctl.sandbox.kinesis.shards import Shard, is_open

logger = logging.getLogger("sandbox.kinesis")

KEEP_BYTES = 4 * 1024**3
KEEP = "CDC_SANDBOX_KEEP_BYTES"
Stream = dict[str, Any]
"""Of ministack: StreamARN, RetentionPeriodHours, shards."""


def keep_bytes() -> int:
    """The bound on a stream: ``CDC_SANDBOX_KEEP_BYTES``, else 4 GiB."""
    return int(os.environ.get(KEEP) or KEEP_BYTES)


@dataclass(slots=True)
class Store:
    """Every stream keeps `keep_bytes` at most: then its oldest files go, before their retention ends."""

    folder: Path
    keep_bytes: int = field(default_factory=keep_bytes)
    sequence: Sequence = field(default_factory=Sequence)
    _logs: dict[tuple[str, str], Log] = field(default_factory=dict)

    def log(self, stream: Stream, name: str) -> Log:
        """The records of one shard. A shard of the same name of an earlier stream began at another number."""
        shard = stream["shards"][name]
        key = (stream["StreamARN"], f"{name}-{shard['starting_sequence_number']}")
        if key not in self._logs:
            segment_bytes = max(1, min(SEGMENT_BYTES, self.keep_bytes // 16))
            self._logs[key] = Log.open(self.folder / quote(key[0], safe="") / key[1], segment_bytes)
            self.sequence.seen(self._logs[key].last or "0")
        return self._logs[key]

    def append(self, stream: Stream, name: str, lines: list[bytes], numbers: tuple[str, str]) -> None:
        """Add records, whose first and last number these are; remove what is beyond the bounds."""
        log = self.log(stream, name)
        files = len(log.segments)
        log.append(lines, *numbers)
        if len(log.segments) != files:
            self.trim(stream)

    def horizon(self, stream: Stream, name: str) -> Place:
        """The oldest record that is kept."""
        return self.log(stream, name).find(at_millisecond(oldest(stream)))

    def trim(self, stream: Stream) -> None:
        """Remove files and closed shards whose retention is over, then the oldest files beyond `keep_bytes`."""
        limit = oldest(stream)
        for name, shard in list(stream["shards"].items()):
            self.log(stream, name).drop_before(at_millisecond(limit))
            if not is_open(shard) and milliseconds(shard["ending_sequence_number"]) < limit:
                self._drop_shard(stream, name)
        self._bound(stream)

    def forget(self, arn: str) -> None:
        """Remove all records of a stream that was deleted."""
        self._logs = {key: log for key, log in self._logs.items() if key[0] != arn}
        shutil.rmtree(self.folder / quote(arn, safe=""), ignore_errors=True)

    def _bound(self, stream: Stream) -> None:
        logs = [self.log(stream, name) for name in stream["shards"]]
        total, dropped = sum(log.bytes() for log in logs), 0
        while total - dropped > self.keep_bytes and (full := [log for log in logs if len(log.segments) > 1]):
            dropped += min(full, key=lambda log: log.segments[0].first).drop_oldest()
        if dropped:
            logger.warning(
                "%s: dropped its oldest %d bytes of records before their retention ended, to keep %d (%s)",
                stream["StreamName"], dropped, self.keep_bytes, KEEP,
            )  # fmt: skip

    def _drop_shard(self, stream: Stream, name: str) -> None:
        log = self.log(stream, name)
        while log.segments:
            log.drop_oldest()
        del stream["shards"][name]


def oldest(stream: Stream) -> int:
    """The moment, in milliseconds, from which on the stream keeps records."""
    return max(0, int((time.time() - stream["RetentionPeriodHours"] * 3600) * 1000))


def lines_of(log: Log) -> Iterator[bytes]:
    """Every record that is kept, the oldest first."""
    place = log.find("")
    while True:
        lines, place = log.read(place, 10_000, 1024 * 1024)
        if not lines:
            return
        yield from lines


def shard_of(stream: Stream, key: int) -> str:
    """The open shard that takes records of a hash key."""
    shards: dict[str, Shard] = stream["shards"]
    return next(
        name for name, one in shards.items()
        if is_open(one) and int(one["starting_hash_key"]) <= key <= int(one["ending_hash_key"])
    )  # fmt: skip
