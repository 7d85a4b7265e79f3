"""Reports what one shard's worker did and how far behind it is, in a small file that `cdcctl` reads."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from cdckit.change import Change
from cdckit.sink import Outcome

_WRITE_SECONDS = 0.5
BUCKETS_PER_DOUBLING = 16  # a quantile is exact to 4.4 %


class Report(msgspec.Struct):
    """One shard of one consumer since its process started (`started`, `updated`, `checkpointed` are Unix seconds).

    `latency_ms` counts changes by ``floor(log2(ms) * 16)``, from commit to durable. `recent_*` are kept over a restart:
    the share of dead letters uses them. `stopped` is the reason why the process stopped permanently.
    """

    consumer: str
    shard: str
    pid: int
    started: float
    updated: float = 0.0
    read: int = 0
    applied: int = 0
    superseded: int = 0
    dead_lettered: int = 0
    position: str = ""
    commit_time: str = ""
    first_change: float | None = None
    millis_behind: int | None = None
    ended: bool = False
    size: int = 0
    apply_seconds: float = 0.0
    flush_seconds: float = 0.0
    checkpointed: float | None = None
    recent_read: int = 0
    recent_dead: int = 0
    stopped: str = ""
    latency_ms: dict[int, int] = msgspec.field(default_factory=dict)


class ShardReporter:
    """Keeps a `Report` and writes it as a whole, at most twice per second."""

    def __init__(self, folder: Path, consumer: str, shard: str) -> None:
        """Makes the folder and writes the first report."""
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{shard}.json"
        previous = _read(self._path)
        self.report = Report(
            consumer, shard, os.getpid(), time.time(),
            recent_read=previous.recent_read if previous else 0, recent_dead=previous.recent_dead if previous else 0,
        )  # fmt: skip
        self._written = 0.0
        self.write()

    def record_poll(self, millis_behind: int | None) -> None:
        """Records that the shard was read, perhaps without records."""
        self.report.millis_behind = millis_behind
        if time.monotonic() - self._written >= _WRITE_SECONDS:
            self.write()

    def record_flush(self, read: int, size: int, dead: int, outcome: Outcome, newest: Change | None) -> None:
        """Records what became of the records of one flush; `size` is in bytes."""
        report = self.report
        report.read += read
        report.size += size
        report.applied += outcome.applied
        report.superseded += outcome.superseded
        report.dead_lettered += dead
        report.first_change = report.first_change or time.time()
        if newest is not None:
            report.position, report.commit_time = str(newest.position), newest.commit_time.isoformat()

    def record_latencies(self, commit_times: Iterable[datetime], durable: datetime) -> None:
        """Counts how long each change took from its commit until it was durable in the satellite."""
        counts = self.report.latency_ms
        for moment, count in Counter(commit_times).items():  # the changes of one transaction share it
            bucket = _bucket((durable - moment).total_seconds() * 1000)
            counts[bucket] = counts.get(bucket, 0) + count

    def record_recent(self, read: int, dead: int) -> None:
        """Records the counts from which the share of dead letters is computed."""
        self.report.recent_read, self.report.recent_dead = read, dead

    def record_stopped(self, reason: str) -> None:
        """Records that the process stops permanently: starting it again would not help."""
        self.report.stopped = reason
        self.write()

    def record_ended(self) -> None:
        """Records that the shard is closed and read to its end."""
        self.report.ended = True
        self.write()

    def write(self) -> None:
        """Replaces the file in one step."""
        self.report.updated = time.time()
        fresh = self._path.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(msgspec.json.encode(self.report))
        fresh.replace(self._path)
        self._written = time.monotonic()


def status_folder(data: Path, consumer: str) -> Path:
    """The folder of the reports of one consumer's shards."""
    return data / "status" / consumer


def read_reports(data: Path, consumer: str) -> list[Report]:
    """The last report of each shard of one consumer; none when it never ran here."""
    reports = map(_read, sorted(status_folder(data, consumer).glob("*.json")))
    return [report for report in reports if report is not None]


def _read(path: Path) -> Report | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report, strict=False)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def merged_latencies(reports: Iterable[Report]) -> Mapping[int, int]:
    """The latency counts of several shards, added up."""
    total: Counter[int] = Counter()
    for report in reports:
        total.update(report.latency_ms)
    return total


def quantile(latency_ms: Mapping[int, int], share: float) -> float | None:
    """The latency in ms that `share` of the changes did not exceed (within 4.4 %); None without changes."""
    wanted = share * sum(latency_ms.values())
    counted = 0
    for bucket in sorted(latency_ms):
        counted += latency_ms[bucket]
        if counted >= wanted > 0:
            return round(2 ** ((bucket + 1) / BUCKETS_PER_DOUBLING), 1)
    return None


def seconds_behind(report: Report) -> float | None:
    """Seconds from the newest applied commit until now; 0 when the shard is read to its end, None before a commit."""
    if report.millis_behind == 0:
        return 0.0
    if not report.commit_time:
        return None
    return (datetime.now(UTC) - datetime.fromisoformat(report.commit_time)).total_seconds()


def _bucket(milliseconds: float) -> int:
    return math.floor(math.log2(max(1.0, milliseconds)) * BUCKETS_PER_DOUBLING)
