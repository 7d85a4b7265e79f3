"""How much a replay has to read, from a few samples of each shard; what a page holds to its end is exact."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from consumers.begin import EARLIEST, Begin
from consumers.probe import Probe, Sample
from consumers.shards import Shard, parents

_SAMPLES = 5
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


def estimate(probe: Probe, shards: Iterable[str], begin: Begin, end: datetime) -> list[Part]:
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


def _part(probe: Probe, shard: str, begin: Begin, end: datetime) -> Part:
    sample = probe.since(shard, begin, _PAGE)
    if not sample.records:
        return Part(shard, "", 0, 0, exact=True)
    first, at = sample.records[0]["SequenceNumber"], begin.moment or _arrived(sample, 0)
    if begin == EARLIEST:
        at = _arrived(sample, 0)
    records, size, exact = 0.0, 0.0, True
    step = max((end - at) / _SAMPLES, timedelta(seconds=1))
    while at < end:
        inside = [one for one in sample.records if one["ApproximateArrivalTimestamp"] <= end]
        read_to = end if sample.at_end or len(inside) < len(sample.records) else _arrived(sample, -1)
        share = 1.0 if read_to >= min(at + step, end) else step / max(read_to - at, timedelta(milliseconds=1))
        exact = exact and share == 1.0
        records += share * len(inside)
        size += share * sum(len(one["Data"]) for one in inside)
        at = max(read_to, at + step) if share == 1.0 else at + step
        if at >= end or sample.at_end:
            break
        sample = probe.since(shard, Begin.at(at), _PAGE)
    return Part(shard, first, round(records), round(size), exact)


def _arrived(sample: Sample, number: int) -> datetime:
    moment: datetime = sample.records[number]["ApproximateArrivalTimestamp"]
    return moment
