"""Where a consumer's checkpoints go so that everything since a point comes again, across splits and merges too.

The *frontier* is one shard for each part of the key space: the first that holds anything wanted. Its leases get a
checkpoint before that; the leases of all shards that came from it are removed: the KCL makes them anew when their
parents have been read to their end again. A checkpoint that is earlier already stays: nothing is ever skipped.
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

# the first record of a window that reaches further and further back, until it lies before what is wanted
_BACK = (*(timedelta(minutes=one) for one in (0, 10, 120)), *(timedelta(days=one) for one in (1, 7, 30, 366)))


@dataclass(frozen=True, slots=True)
class Rewind:
    """What is to be written: a checkpoint a shard, and the leases to remove."""

    marks: Mapping[str, str]
    dropped: Sequence[str]


def frontier(shards: Iterable[Shard], holds: Callable[[str], bool]) -> list[str]:
    """The first shards that hold anything wanted, or may still get it; `holds` is asked of closed ones."""
    known = {shard["ShardId"]: shard for shard in shards}
    first, passed = list[str](), set[str]()
    waiting = list(known)
    while ready := [one for one in waiting if passed.issuperset(_known_parents(known, one))]:
        waiting = [one for one in waiting if one not in ready]
        for one in ready:
            if is_open(known[one]) or holds(one):
                first.append(one)
            else:
                passed.add(one)
    # the KCL makes a merged shard's lease only when both parents have one, or neither
    couples = [_known_parents(known, one) for one in known]
    first += [one for couple in couples if set(couple).intersection(first) for one in couple if one in passed]
    return first


def plan(
    shards: Sequence[Shard], first: Iterable[str], leases: Mapping[str, Lease], mark: Callable[[str], str]
) -> Rewind:
    """What to write for the frontier `first`; `mark` names the checkpoint before the first wanted record of a shard."""
    known = {shard["ShardId"]: shard for shard in shards}
    marks: dict[str, str] = {}
    for shard in first:
        behind = any(one in leases and leases[one].checkpoint != SHARD_END for one in ancestors(shard, known))
        if not behind and _is_later(leases.get(shard), wanted := mark(shard)):
            marks[shard] = wanted
    dropped = [one for one in leases if one in known and not marks.keys().isdisjoint(ancestors(one, known))]
    return Rewind(marks, dropped)


def after(shards: Sequence[Shard], read_to: Mapping[str, str], leases: Mapping[str, Lease]) -> Rewind:
    """What to write so that reading goes on where a reader of the whole stream, which came to `read_to`, ended."""
    known = {shard["ShardId"]: shard for shard in shards}
    unfinished = {shard for shard, mark in read_to.items() if mark != SHARD_END}
    marks = {shard: mark for shard, mark in read_to.items() if shard in unfinished or shard in leases}
    unread = [shard for shard in leases if shard in known and shard not in read_to]
    dropped = [shard for shard in unread if not unfinished.isdisjoint(ancestors(shard, known))]
    return Rewind(marks | {shard: EARLIEST.kind for shard in unread if shard not in dropped}, dropped)


def mark_before(probe: Probe, shard: str, begin: StartPosition) -> str:
    """The newest checkpoint that we can find before `begin`: a record's number, or TRIM_HORIZON where there is none."""
    if begin.moment is None:
        return EARLIEST.kind
    for further in _BACK:
        found = probe.since(shard, StartPosition.at(begin.moment - further)).records
        # the KCL goes on *after* it, so it must be a record that is not wanted
        if found and found[0]["ApproximateArrivalTimestamp"] < begin.moment + SLACK / 2:
            return str(found[0]["SequenceNumber"])
    return EARLIEST.kind


def holds_since(probe: Probe, begin: StartPosition) -> Callable[[str], bool]:
    """Whether a shard holds a record from there on."""
    return lambda shard: begin == EARLIEST or bool(probe.since(shard, begin).records)


def _is_later(lease: Lease | None, mark: str) -> bool:
    if lease is None or not lease.checkpoint.isdigit():
        return lease is None or lease.checkpoint != EARLIEST.kind
    return not mark.isdigit() or int(mark) < int(lease.checkpoint)


def _known_parents(known: Mapping[str, Shard], shard: str) -> list[str]:
    return [one for one in parents(known[shard]) if one in known]
