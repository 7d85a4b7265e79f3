"""Stores the records of all shards below one folder, and deletes old ones: by retention and by size."""

from __future__ import annotations

import logging
import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cdcctl.sandbox.kinesis.record_log import SEGMENT_BYTES, Log, LogPosition
from cdcctl.sandbox.kinesis.sequence import Sequence, at_millisecond, milliseconds
from cdcctl.sandbox.kinesis.shards import Shard, high, is_open, low

logger = logging.getLogger("sandbox.kinesis")

DEFAULT_MAX_BYTES = 4 * 1024**3
MAX_BYTES_VARIABLE = "CDC_SANDBOX_KEEP_BYTES"
Stream = dict[str, Any]
"""Ministack's: StreamARN, RetentionPeriodHours, shards and more."""


def max_stream_bytes() -> int:
    """The size limit of a stream: ``CDC_SANDBOX_KEEP_BYTES``, or 4 GiB."""
    return int(os.environ.get(MAX_BYTES_VARIABLE) or DEFAULT_MAX_BYTES)


@dataclass(slots=True)
class RecordStore:
    """Stores at most `max_bytes` per stream: beyond that it deletes the oldest files before their retention ends."""

    folder: Path
    max_bytes: int = field(default_factory=max_stream_bytes)
    sequence: Sequence = field(default_factory=Sequence)
    _logs: dict[tuple[str, str], Log] = field(default_factory=dict)

    def log(self, stream: Stream, name: str) -> Log:
        """The records of one shard.

        The folder's name contains the shard's first sequence number: a deleted stream of the same name had another one.
        """
        shard = stream["shards"][name]
        key = (stream["StreamARN"], f"{name}-{shard['starting_sequence_number']}")
        if key not in self._logs:
            segment_bytes = max(1, min(SEGMENT_BYTES, self.max_bytes // 16))
            self._logs[key] = Log.open(self.folder / quote(key[0], safe="") / key[1], segment_bytes)
            self.sequence.advance_past(self._logs[key].last or "0")
        return self._logs[key]

    def open_logs(self, stream: Stream) -> None:
        """Open the logs of all shards, so that the next sequence number is above all numbers in them."""
        for name in stream["shards"]:
            self.log(stream, name)

    def append(self, stream: Stream, name: str, lines: list[bytes], numbers: tuple[str, str]) -> None:
        """Append records, with their first and last number; delete old records when a new file starts."""
        log = self.log(stream, name)
        files = len(log.segments)
        log.append(lines, *numbers)
        if len(log.segments) != files:
            self.trim(stream)

    def horizon(self, stream: Stream, name: str) -> LogPosition:
        """The position of the oldest record within the retention."""
        return self.log(stream, name).find(at_millisecond(retention_start(stream)))

    def trim(self, stream: Stream) -> None:
        """Delete files and closed shards whose retention is over, then the oldest files beyond `max_bytes`."""
        limit = retention_start(stream)
        for name, shard in list(stream["shards"].items()):
            self.log(stream, name).drop_before(at_millisecond(limit))
            if not is_open(shard) and milliseconds(shard["ending_sequence_number"]) < limit:
                self._drop_shard(stream, name)
        self._enforce_max_bytes(stream)

    def delete_stream(self, arn: str) -> None:
        """Delete all records of a stream."""
        self._logs = {key: log for key, log in self._logs.items() if key[0] != arn}
        shutil.rmtree(self.folder / quote(arn, safe=""), ignore_errors=True)

    def _enforce_max_bytes(self, stream: Stream) -> None:
        logs = [self.log(stream, name) for name in stream["shards"]]
        total, dropped = sum(log.total_bytes() for log in logs), 0
        while total - dropped > self.max_bytes and (full := [log for log in logs if len(log.segments) > 1]):
            dropped += min(full, key=lambda log: log.segments[0].first).drop_oldest()
        if dropped:
            logger.warning(
                "%s: deleted the oldest %d bytes of records before their retention ended; the limit is %d (%s)",
                stream["StreamName"], dropped, self.max_bytes, MAX_BYTES_VARIABLE,
            )  # fmt: skip

    def _drop_shard(self, stream: Stream, name: str) -> None:
        log = self.log(stream, name)
        while log.segments:
            log.drop_oldest()
        del stream["shards"][name]


def retention_start(stream: Stream) -> int:
    """The start of the retention period, in milliseconds since 1970."""
    return max(0, int((time.time() - stream["RetentionPeriodHours"] * 3600) * 1000))


def shard_of(stream: Stream, key: int) -> str:
    """The open shard that stores records of a hash key."""
    shards: dict[str, Shard] = stream["shards"]
    return next(name for name, shard in shards.items() if is_open(shard) and low(shard) <= key <= high(shard))
