"""Computes the checkpoints with which a consumer reads everything since a point again, across splits and merges too.

The *frontier* is one shard per part of the key space: the first that holds a wanted record. Its lease gets a checkpoint
before that record. The leases of its descendants are removed: the KCL makes them again when their parents are read to
their end. A checkpoint that is earlier already stays: nothing is ever skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from consumers.kcl.leases import Lease
from consumers.stream.points import SLACK
from consumers.stream.probe import Probe
from consumers.stream.reader import SHARD_END
from consumers.stream.shards import Shard, ancestors, is_open, parents
from consumers.stream.start import EARLIEST, StartPosition

# the steps by which to look further back, until a record is found before the wanted ones
_BACK = (*(timedelta(minutes=n) for n in (0, 10, 120)), *(timedelta(days=n) for n in (1, 7, 30, 366)))


@dataclass(frozen=True, slots=True)
class RewindPlan:
    """What to write: a checkpoint per shard, and the leases to remove."""

    checkpoints: Mapping[str, str]
    removed: Sequence[str]


def frontier(shards: Iterable[Shard], holds: Callable[[str], bool]) -> list[str]:
    """The first shards that hold wanted records, or can still get some; `holds` is called for closed shards."""
    known = {shard["ShardId"]: shard for shard in shards}
    first, passed = list[str](), set[str]()
    waiting = list(known)
    while ready := [shard for shard in waiting if passed.issuperset(_known_parents(known, shard))]:
        waiting = [shard for shard in waiting if shard not in ready]
        for shard in ready:
            if is_open(known[shard]) or holds(shard):
                first.append(shard)
            else:
                passed.add(shard)
    # the KCL makes a merged shard's lease only when both parents have one, or neither
    pairs = [_known_parents(known, shard) for shard in known]
    first += [parent for pair in pairs if set(pair).intersection(first) for parent in pair if parent in passed]
    return first


def rewind_plan(
    shards: Sequence[Shard], first: Iterable[str], leases: Mapping[str, Lease], checkpoint_of: Callable[[str], str]
) -> RewindPlan:
    """What to write for the frontier `first`. `checkpoint_of` returns the one before a shard's first wanted record."""
    known = {shard["ShardId"]: shard for shard in shards}
    checkpoints: dict[str, str] = {}
    for shard in first:
        behind = any(parent in leases and leases[parent].checkpoint != SHARD_END for parent in ancestors(shard, known))
        if not behind and _is_later(leases.get(shard), wanted := checkpoint_of(shard)):
            checkpoints[shard] = wanted
    rewound = checkpoints.keys()
    removed = [shard for shard in leases if shard in known and not rewound.isdisjoint(ancestors(shard, known))]
    return RewindPlan(checkpoints, removed)


def resume_plan(shards: Sequence[Shard], read_to: Mapping[str, str], leases: Mapping[str, Lease]) -> RewindPlan:
    """What to write so that a consumer continues where a reader of the whole stream ended, at `read_to`."""
    known = {shard["ShardId"]: shard for shard in shards}
    unfinished = {shard for shard, reached in read_to.items() if reached != SHARD_END}
    checkpoints = {shard: reached for shard, reached in read_to.items() if shard in unfinished or shard in leases}
    unread = [shard for shard in leases if shard in known and shard not in read_to]
    removed = [shard for shard in unread if not unfinished.isdisjoint(ancestors(shard, known))]
    return RewindPlan(checkpoints | {shard: EARLIEST.kind for shard in unread if shard not in removed}, removed)


def checkpoint_before(probe: Probe, shard: str, start: StartPosition) -> str:
    """A checkpoint before `start`, as new as can be found: a record's sequence number, otherwise TRIM_HORIZON."""
    if start.moment is None:
        return EARLIEST.kind
    for distance in _BACK:
        found = probe.read_from(shard, StartPosition.at(start.moment - distance)).records
        # the KCL resumes *after* it, so it must be a record that is not wanted
        if found and found[0]["ApproximateArrivalTimestamp"] < start.moment + SLACK / 2:
            return str(found[0]["SequenceNumber"])
    return EARLIEST.kind


def has_records_since(probe: Probe, start: StartPosition) -> Callable[[str], bool]:
    """A function that returns whether a shard holds a record from `start` on."""
    return lambda shard: start == EARLIEST or bool(probe.read_from(shard, start).records)


def _is_later(lease: Lease | None, checkpoint: str) -> bool:
    if lease is None or not lease.checkpoint.isdigit():
        return lease is None or lease.checkpoint != EARLIEST.kind
    return not checkpoint.isdigit() or int(checkpoint) < int(lease.checkpoint)


def _known_parents(known: Mapping[str, Shard], shard: str) -> list[str]:
    return [parent for parent in parents(known[shard]) if parent in known]
