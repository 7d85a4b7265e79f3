"""The full pipeline at 200 changes per second: commit to durable in each satellite, and its first change after a start.

Latencies are the consumers' own figures, for every change from its commit to the flush that made it durable. The
reference is a bare GetRecords loop that sees the same changes, with five reads per second on each shard.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import Row
from benchmarks.search_latency import at_share, milliseconds, running, wait_until_watched, watch
from consumers.worker.status import merged_latencies, quantile, read_reports
from producer.postgres.connection import Source
from tests.support.postgres import open_folder

_SATELLITES = ("search", "parquet", "audit", "replica")
_RATE = 200


def rows(quick: bool) -> Iterator[Row]:
    """p50 and p99 of each satellite, and the seconds from its start to its first change."""
    seconds = 5 if quick else 40
    with open_folder() as folder:
        started = time.time()
        with running(folder, *_SATELLITES) as source:
            source.query("INSERT INTO notes VALUES (-1, 'first')")
            first = {name: _first_change(folder, name) - started for name in _SATELLITES}
            seen = _steady(source, seconds)
            time.sleep(6)  # the columnar writer flushes every few seconds
        for name in _SATELLITES:
            yield from _latencies(folder, name, seen)
            yield Row(f"way.{name}_first_change", first[name], min(first.values()), "s", "lower", "against the fastest")


def _latencies(folder: Path, name: str, seen: list[float]) -> Iterator[Row]:
    counted = merged_latencies(read_reports(folder, name))
    note = f"{sum(counted.values())} changes at {_RATE} per second; against a GetRecords loop"
    for share in (0.50, 0.99):
        ours = quantile(counted, share)
        assert ours is not None
        yield Row(f"way.{name}_commit_to_durable_p{share * 100:.0f}", ours, at_share(seen, share), "ms", "lower", note)


def _steady(source: Source, seconds: int) -> list[float]:
    """Insert rows; the milliseconds from each commit until the bare loop had the change."""
    committed: dict[int, float] = {}
    seen: dict[int, float] = {}
    done = threading.Event()
    watcher = threading.Thread(target=watch, args=(seen, done.is_set))
    watcher.start()
    wait_until_watched(source, seen)
    started = time.monotonic()
    for number in range(seconds * _RATE):
        source.query("INSERT INTO notes VALUES (%s, %s)", (number, f"probe{number}x and some words beside it " * 5))
        committed[number] = time.monotonic()
        time.sleep(max(0.0, started + number / _RATE - time.monotonic()))
    time.sleep(3)
    done.set()
    watcher.join()
    return [milliseconds(seen[number] - at) for number, at in committed.items()]


def _first_change(folder: Path, name: str, seconds: float = 120) -> float:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for report in read_reports(folder, name):
            if report.first_change is not None:
                return report.first_change
        time.sleep(0.1)
    raise TimeoutError(f"{name} applied nothing, see {folder / 'logs'}")
