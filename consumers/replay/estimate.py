"""How much a replay has to read, from a few samples of each shard; what the samples hold to the end is exact."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from consumers.stream.probe import Probe, Sample
from consumers.stream.shards import Shard, parents
from consumers.stream.start import StartPosition

_SAMPLES = 8  # of a shard, a page each: some two seconds
_MOMENT = timedelta(milliseconds=1)
_PAGE = 10_000
READ_LIMIT = 2 * 1024 * 1024
"""Bytes a second that a shard gives to all its readers together."""


@dataclass(frozen=True, slots=True)
class Part:
    """One shard's share: records as Kinesis counts them, and their bytes; `first` is where reading begins."""

    shard: str
    first: str
    records: int
    bytes: int
    exact: bool


def estimate(probe: Probe, shards: Iterable[str], begin: StartPosition, end: datetime) -> list[Part]:
    """The shards that hold anything between `begin` and `end`."""
    found = [_part(probe, shard, begin, end) for shard in shards]
    return [part for part in found if part.records]


def seconds_to_read(parts: Iterable[Part], shards: Sequence[Shard]) -> float:
    """At the read limit: shards side by side, children after their parents."""
    own = {part.shard: part.bytes / READ_LIMIT for part in parts}
    known = {shard["ShardId"]: shard for shard in shards}
    done: dict[str, float] = {}
    for shard in known:
        _until_done(shard, own, known, done)
    return max(done.values(), default=0.0)


def _until_done(shard: str, own: Mapping[str, float], known: Mapping[str, Shard], done: dict[str, float]) -> float:
    """`done` remembers: after many splits and merges the ways from a shard to its ancestors are beyond counting."""
    if shard not in done:
        before = (_until_done(one, own, known, done) for one in parents(known[shard]) if one in known)
        done[shard] = own.get(shard, 0.0) + max(before, default=0.0)
    return done[shard]


@dataclass(slots=True)
class _Stretch:
    """The time up to `until`, which `sample` begins; what it leaves is taken to be as dense as its second half."""

    until: datetime
    sample: Sample

    @property
    def inside(self) -> list[Any]:
        return [one for one in self.sample.records if one["ApproximateArrivalTimestamp"] < self.until]

    @property
    def exact(self) -> bool:
        return self.sample.at_end or len(self.inside) < len(self.sample.records)

    @property
    def unread(self) -> timedelta:
        return self.until - _arrived(self.sample, -1)

    @property
    def half(self) -> timedelta:
        """How long the second half of the sample took to arrive."""
        return max(_MOMENT, _arrived(self.sample, -1) - _arrived(self.sample, len(self.sample.records) // 2))

    @property
    def factor(self) -> float:
        return 1.0 if self.exact else 1.0 + self.unread / self.half / 2

    @property
    def records(self) -> float:
        return self.factor * len(self.inside)

    @property
    def bytes(self) -> float:
        return self.factor * sum(len(one["Data"]) for one in self.inside)

    def between(self) -> datetime:
        """Where to look next: as many times the sample's length away as it is then still to the end.

        A burst's end is found so in a few looks, were it a second in a week.
        """
        return _arrived(self.sample, -1) + self.half * math.sqrt(self.unread / self.half)


def _part(probe: Probe, shard: str, begin: StartPosition, end: datetime) -> Part:
    """Each further sample is from where most is guessed."""
    sample = probe.since(shard, begin, _PAGE)
    if not sample.records:
        return Part(shard, "", 0, 0, exact=True)
    stretches = [_Stretch(end + _MOMENT, sample)]
    for _ in range(_SAMPLES - 1):
        guessed = [one for one in stretches if not one.exact]
        if not guessed:
            break
        largest = max(guessed, key=lambda one: one.records)
        middle = largest.between()
        stretches.append(_Stretch(largest.until, probe.since(shard, StartPosition.at(middle), _PAGE)))
        largest.until = middle
    records, size = sum(one.records for one in stretches), sum(one.bytes for one in stretches)
    exact = all(one.exact for one in stretches)
    return Part(shard, sample.records[0]["SequenceNumber"], round(records), round(size), exact)


def _arrived(sample: Sample, number: int) -> datetime:
    moment: datetime = sample.records[number]["ApproximateArrivalTimestamp"]
    return moment
