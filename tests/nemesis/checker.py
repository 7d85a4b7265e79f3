"""Checks the laws of docs/reliability.md on the evidence collected in a run; pure.

A second replication slot of the same database, which no part under test reads, shows what was committed; so do the
transaction ids whose commit PostgreSQL confirmed to the workload. So the checker does not depend on the producer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from cdckit.change import Op
from cdckit.position import Lsn, Position
from consumers.worker.status import Report
from tests.support.stream_audit import StreamAudit

LOST, DUPLICATED, REORDERED, WRONG = "lost", "duplicated", "reordered", "wrong"
KINDS = (LOST, DUPLICATED, REORDERED, WRONG)


@dataclass(frozen=True)
class Committed:
    """One change as the second slot shows it. `end` acknowledges its transaction; `content` is wal2json's object.

    `content` is None for the delete and the insert that the producer makes of a key change.
    """

    position: Position
    op: Op
    table: str
    key: str
    xid: int
    end: Lsn
    content: Mapping[str, Any] | None


@dataclass(frozen=True)
class Published:
    """A change at its first place in the stream, with its commit time and the time when Kinesis accepted it.

    Both are Unix seconds, but of two clocks.
    """

    position: Position
    op: Op
    table: str
    key: str
    committed: float
    arrived: float
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Sample:
    """The slot's confirmed position, read at `moment` (Unix seconds) or shortly before."""

    moment: float
    confirmed: Lsn


@dataclass(frozen=True)
class Satellite:
    """One satellite at the end: its differences from the source, and how often it has each change if it stores all.

    `reports` are the reports of its shards during the run. `broken` lists the failures of its own proof.
    """

    name: str
    differences: Sequence[str] = ()
    holds: Mapping[Position, int] | None = None
    reports: Sequence[Report] = ()
    dead_letters: Sequence[str] = ()
    broken: Sequence[str] = ()


@dataclass(frozen=True)
class Evidence:
    """Everything that was collected. `known` are the transactions whose commit PostgreSQL confirmed to the workload."""

    committed: Sequence[Committed] = ()
    known: Collection[int] = ()
    stream: StreamAudit = field(default_factory=StreamAudit)
    seen: Mapping[Position, Published] = field(default_factory=dict)
    samples: Sequence[Sample] = ()
    satellites: Sequence[Satellite] = ()


@dataclass(frozen=True)
class Finding:
    """A violation: its kind, the number of the law, and a description."""

    kind: str
    law: int
    text: str


def check(evidence: Evidence) -> list[Finding]:
    """Every violation of every law."""
    return [
        *_whole(evidence),
        *_ordered(evidence.stream),
        *_acknowledged_late(evidence),
        *(finding for satellite in evidence.satellites for finding in _satellite(satellite, evidence)),
    ]


def count(findings: Iterable[Finding]) -> Mapping[str, int]:
    """The number of findings of each kind, including zeros."""
    found = Counter(finding.kind for finding in findings)
    return {kind: found[kind] for kind in KINDS}


def _whole(evidence: Evidence) -> Iterator[Finding]:
    """Law 1: the stream has each committed change unaltered, and nothing else."""
    expected = {change.position: change for change in evidence.committed}
    for xid in sorted(set(evidence.known) - {change.xid for change in evidence.committed}):
        yield Finding(LOST, 1, f"transaction {xid} was committed, and the database's own log does not have it")
    for position, change in expected.items():
        seen = evidence.seen.get(position)
        if seen is None:
            yield Finding(LOST, 1, f"{_name(change)} was committed and is not in the stream")
        elif (seen.op, seen.table, seen.key) != (change.op, change.table, change.key):
            yield Finding(WRONG, 1, f"{_name(change)} is in the stream as {_name(seen)}")
        elif change.content is not None and change.content != seen.content:
            yield Finding(WRONG, 1, f"{_name(change)} has other values in the stream")
    for position in evidence.seen.keys() - expected.keys():
        yield Finding(WRONG, 1, f"{_name(evidence.seen[position])} is in the stream and was never committed")


def _ordered(stream: StreamAudit) -> Iterator[Finding]:
    """Law 3: the changes of a key are in the order of their commits."""
    for row, changes in stream.by_key.items():
        for one, other in pairwise(changes):
            if other.position < one.position:
                yield Finding(REORDERED, 3, f"{row}: {one.position} came before {other.position}")


def _acknowledged_late(evidence: Evidence) -> Iterator[Finding]:
    """Law 1: when the slot was acknowledged up to a position, Kinesis had everything up to there.

    The clock of Kinesis may be ahead of ours: kinesis-local's by 34 ms, because node reads two clocks at its start, and
    may be delayed between them. No change arrives before its commit, so the smallest delay bounds the difference.
    """
    ahead = max(0.0, min((seen.arrived - seen.committed for seen in evidence.seen.values()), default=0.0))
    ordered = sorted(evidence.committed, key=lambda change: change.end)
    samples = sorted(evidence.samples, key=lambda sample: sample.confirmed)
    at, latest, worst = 0, 0.0, None
    reported = set[Position]()
    for sample in samples:
        while at < len(ordered) and ordered[at].end <= sample.confirmed:
            seen = evidence.seen.get(ordered[at].position)
            if seen is not None and seen.arrived - ahead > latest:
                latest, worst = seen.arrived - ahead, ordered[at]
            at += 1
        if worst is not None and latest > sample.moment and worst.position not in reported:
            reported.add(worst.position)
            late = latest - sample.moment
            yield Finding(
                WRONG,
                1,
                f"the slot was acknowledged to {sample.confirmed} {late:.3f} s before the stream had {_name(worst)}",
            )


def _satellite(satellite: Satellite, evidence: Evidence) -> Iterator[Finding]:
    name = satellite.name
    for difference in satellite.differences:
        yield Finding(WRONG, 5, f"{name} does not equal the source: {difference}")
    for broken in satellite.broken:
        yield Finding(WRONG, 5, f"{name}: {broken}")
    for letter in satellite.dead_letters:
        yield Finding(WRONG, 4, f"{name} gave up a change that can be applied: {letter}")
    yield from _accounts(name, satellite.reports)
    if satellite.holds is not None:
        yield from _log(name, satellite.holds, evidence.seen)


def _accounts(name: str, reports: Iterable[Report]) -> Iterator[Finding]:
    """Law 4: read = applied + superseded + dead-lettered, in each report."""
    for report in reports:
        accounted = report.applied + report.superseded + report.dead_lettered
        if report.read != accounted:
            yield Finding(WRONG, 4, f"{name} {report.shard}: {report.read} read, {accounted} accounted for")
        if report.stopped:
            yield Finding(WRONG, 4, f"{name} {report.shard} gave up: {report.stopped}")


def _log(name: str, holds: Mapping[Position, int], seen: Mapping[Position, Published]) -> Iterator[Finding]:
    """Laws 2 and 5: a satellite that stores every change has each change of the stream exactly once."""
    for position in seen.keys() - holds.keys():
        yield Finding(LOST, 2, f"{name} never got {_name(seen[position])}, which is in the stream")
    for position in holds.keys() - seen.keys():
        yield Finding(WRONG, 5, f"{name} has {position}, which is not in the stream")
    for position, times in holds.items():
        if times > 1:
            yield Finding(DUPLICATED, 5, f"{name} has {position} {times} times")


def _name(change: Committed | Published) -> str:
    return f"{change.op} {change.table} {change.key} at {change.position}"
