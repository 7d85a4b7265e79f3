"""The cost per change when the backlog is 10 and 100 times as large; it stays flat unless something grows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import Row
from benchmarks.backlogs import HUGE, connected, copied_slot, database, running_cluster
from benchmarks.kit import measure_satellite
from benchmarks.producer_peers import measured, ours, stub
from benchmarks.stdio import lines
from cdcctl.sandbox import aws

_TIMES = (1, 10, 100)


def rows(quick: bool) -> Iterator[Row]:
    """Microseconds per change of the producer and of satellites, each size compared with the smallest."""
    yield from _grown("producer", _producer(2_000 if quick else 30_000), "CPU-us/change")
    with tempfile.TemporaryDirectory() as name:
        cloud = aws.create(Path(name))
        daemon = cloud.start()
        try:
            for satellite in ("search", "audit"):
                taken = _satellite(satellite, 1_000 if quick else 5_000, cloud.environ)
                yield from _grown(satellite, taken, "us/change")
        finally:
            daemon.stop()


def _grown(name: str, costs: Iterator[tuple[int, float]], unit: str) -> Iterator[Row]:
    _, first = next(costs)
    for (changes, cost), times in zip(costs, _TIMES[1:], strict=True):
        yield Row(f"backlog.{name}_{times}x", cost, first, unit, "lower", f"{changes:,} changes")


def _producer(smallest: int) -> Iterator[tuple[int, float]]:
    """CPU time, not wall time: the smallest backlog is drained in a fraction of a second."""
    with running_cluster() as cluster:
        for times in _TIMES:
            changes, name = smallest * times, f"backlog{times}"
            with connected(dsn := database(cluster, name)) as cursor:
                _fill(cursor, changes)
                with (
                    copied_slot(cursor, f"{name}_wal2json") as slot,
                    stub() as counting,
                    ours(dsn, slot, counting.port) as pid,
                ):
                    yield changes, measured(pid, counting, changes).cpu


def _fill(cursor: Any, changes: int, per_transaction: int = 1_000) -> None:
    for start in range(0, changes, per_transaction):
        cursor.execute(HUGE.replace("(1, %s)", f"({start + 1}, {start + per_transaction})"))


def _satellite(name: str, smallest: int, environ: dict[str, str]) -> Iterator[tuple[int, float]]:
    for times in _TIMES:
        changes = smallest * times
        found = measure_satellite(name, list(lines(changes, keys=changes // 2)), environ)
        yield changes, 1e6 / found.rate
