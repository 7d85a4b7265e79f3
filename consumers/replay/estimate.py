"""Estimates how much a replay must read, from a few samples per shard; exact where the samples reach the end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from consumers.stream.probe import Probe, Sample
from consumers.stream.shards import Shard, parents
from consumers.stream.start import StartPosition

_MAX_SAMPLES = 8  # per shard, one page each: about two seconds
_MIN_SPAN = timedelta(milliseconds=1)
_PAGE = 10_000
READ_LIMIT = 2 * 1024 * 1024
"""Bytes per second that Kinesis returns per shard, to all its readers together."""


@dataclass(frozen=True, slots=True)
class ShardEstimate:
    """One shard's share: records as Kinesis counts them, their bytes, and `first`, where reading starts."""

    shard: str
    first: str
    records: int
    bytes: int
    exact: bool


def estimate(probe: Probe, shards: Iterable[str], start: StartPosition, end: datetime) -> list[ShardEstimate]:
    """The estimates of the shards that hold records between `start` and `end`."""
    estimates = [_estimate_shard(probe, shard, start, end) for shard in shards]
    return [shard for shard in estimates if shard.records]


def seconds_to_read(estimates: Iterable[ShardEstimate], shards: Sequence[Shard]) -> float:
    """The time to read them at the read limit: shards in parallel, children after their parents."""
    own = {shard.shard: shard.bytes / READ_LIMIT for shard in estimates}
    known = {shard["ShardId"]: shard for shard in shards}
    done: dict[str, float] = {}
    for shard in known:
        _until_done(shard, own, known, done)
    return max(done.values(), default=0.0)


def _until_done(shard: str, own: Mapping[str, float], known: Mapping[str, Shard], done: dict[str, float]) -> float:
    """Caches results in `done`: after many splits and merges a shard has very many paths to its ancestors."""
    if shard not in done:
        before = (_until_done(parent, own, known, done) for parent in parents(known[shard]) if parent in known)
        done[shard] = own.get(shard, 0.0) + max(before, default=0.0)
    return done[shard]


@dataclass(slots=True)
class _Interval:
    """A time interval up to `until`, which starts with `sample`. The rest counts as dense as its second half."""

    until: datetime
    sample: Sample

    @property
    def inside(self) -> list[Any]:
        return [record for record in self.sample.records if record["ApproximateArrivalTimestamp"] < self.until]

    @property
    def exact(self) -> bool:
        return self.sample.at_end or len(self.inside) < len(self.sample.records)

    @property
    def unread(self) -> timedelta:
        return self.until - _arrival_time(self.sample, -1)

    @property
    def half(self) -> timedelta:
        """How long the second half of the sample took to arrive."""
        return max(
            _MIN_SPAN, _arrival_time(self.sample, -1) - _arrival_time(self.sample, len(self.sample.records) // 2)
        )

    @property
    def factor(self) -> float:
        return 1.0 if self.exact else 1.0 + self.unread / self.half / 2

    @property
    def records(self) -> float:
        return self.factor * len(self.inside)

    @property
    def bytes(self) -> float:
        return self.factor * sum(len(record["Data"]) for record in self.inside)

    def next_sample_time(self) -> datetime:
        """Where to sample next: at the geometric mean of the sample's length and the unread time.

        That finds the end of a burst in a few samples, even of one second in a week.
        """
        return _arrival_time(self.sample, -1) + self.half * math.sqrt(self.unread / self.half)


def _estimate_shard(probe: Probe, shard: str, start: StartPosition, end: datetime) -> ShardEstimate:
    """Takes each further sample in the interval with the largest extrapolated part."""
    sample = probe.read_from(shard, start, _PAGE)
    if not sample.records:
        return ShardEstimate(shard, "", 0, 0, exact=True)
    intervals = [_Interval(end + _MIN_SPAN, sample)]
    for _ in range(_MAX_SAMPLES - 1):
        inexact = [interval for interval in intervals if not interval.exact]
        if not inexact:
            break
        largest = max(inexact, key=lambda interval: interval.records)
        middle = largest.next_sample_time()
        intervals.append(_Interval(largest.until, probe.read_from(shard, StartPosition.at(middle), _PAGE)))
        largest.until = middle
    records, size = sum(part.records for part in intervals), sum(part.bytes for part in intervals)
    exact = all(part.exact for part in intervals)
    return ShardEstimate(shard, sample.records[0]["SequenceNumber"], round(records), round(size), exact)


def _arrival_time(sample: Sample, number: int) -> datetime:
    arrived: datetime = sample.records[number]["ApproximateArrivalTimestamp"]
    return arrived
