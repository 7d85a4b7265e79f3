"""Measures the sandbox under a real workload: 1,000,000 changes are stored, then four consumers follow 2,000/s.

The producer stores the first changes while no consumer runs; the consumers then start at the end of the stream. Lag is
sampled four times per second: the age of the newest change that each shard's process has applied. The process writes
its report twice per second, which adds up to half a second. The limit is five seconds. The time until a change is
durable is reported too; it is longer, because the lake's writer flushes every five seconds.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from benchmarks import Row
from benchmarks.search_latency import at_share, environment
from cdcctl.demo.child_processes import ChildProcesses
from cdcctl.sandbox import state
from cdckit.runtime.settings import Settings
from consumers.worker.status import merged_latencies, quantile, read_reports
from producer.postgres.connection import Source
from producer.postgres.server import identify_server
from producer.postgres.slots import find_slot
from tests.support.postgres import open_folder
from tests.support.waiting import wait_until

_SATELLITES = ("search", "parquet", "audit", "replica")
_RATE, _LIMIT_SECONDS, _BATCH = 2000, 5.0, 20


def rows(quick: bool) -> Iterator[Row]:
    """The p99 of the slowest consumer's lag, and the memory of the local AWS."""
    stored, seconds = (100_000, 20) if quick else (1_000_000, 300)
    with open_folder() as folder, ExitStack() as stack:
        local = state.up(folder / "local", Settings())
        stack.callback(local.stop)
        parts = _parts(folder, local, stack)
        source = stack.enter_context(closing(Source(local.cluster.dsn)))
        source.query("CREATE TABLE notes (id bigint PRIMARY KEY, text text NOT NULL)")
        _store(local, source, stored)
        at_rest = _rss(local)
        _follow(folder, parts, source)
        before = {name: _latencies(folder, name) for name in _SATELLITES}
        with _Samples(folder) as samples:
            _work(source, stored, seconds)
        _wait_until_applied(folder, seconds * _RATE)
        lags = {name: at_share(found, 0.99) for name, found in samples.lags.items()}
        durable = {name: _p99(_latencies(folder, name) - before[name]) for name in _SATELLITES}
        figures = ", ".join(f"{name} {lags[name]:.1f} (durable {durable[name]:.1f})" for name in _SATELLITES)
        note = f"p99 of the worst consumer's lag, {stored:,} changes stored, {seconds} s: {figures}"
        yield Row("sandbox.lag_at_2000", max(lags.values()), _LIMIT_SECONDS, "s", "lower", note)
        stored_mb = local.cloud.stored.bytes // 1024**2
        yield Row(
            "sandbox.rss_at_2000", _rss(local), at_rest, "MB", "lower",
            f"the local AWS after {stored + seconds * _RATE:,} changes ({stored_mb:,} MB in files) vs {stored:,}",
        )  # fmt: skip


def _parts(folder: Path, local: state.Stack, stack: ExitStack) -> ChildProcesses:
    environ = {"CDC_DATA": str(folder), "CDC_CONFIG": str(folder / "cdc.toml"), **local.environ}
    (folder / "cdc.toml").write_text("")
    stack.enter_context(environment(environ))
    parts = ChildProcesses(folder / "logs", environ)
    stack.callback(parts.stop)
    parts.start("producer", ["producer", "run"])
    return parts


def _store(local: state.Stack, source: Source, count: int) -> None:
    """Put `count` changes on the stream, and wait until the producer has acknowledged all of them."""
    for first in range(0, count, 50_000):
        source.query(f"INSERT INTO notes SELECT n, {_TEXT} FROM generate_series({first}, {first + 49_999}) n")
    end = identify_server(source).lsn

    def is_acknowledged() -> bool:
        slot = find_slot(source, Settings().slot)
        return slot is not None and slot.confirmed >= end

    wait_until(is_acknowledged, 900, "the producer catches up", 0.5)
    assert local.cloud.stored.bytes > count * 200


_TEXT = "repeat('probe' || n || ' and some words beside it ', 3)"


def _follow(folder: Path, parts: ChildProcesses, source: Source) -> None:
    """Start the consumers at the stream's end, and wait until each has applied a change."""
    for name in _SATELLITES:
        parts.start(name, ["consumer", "run", name, "--from", "latest"])
    deadline = time.monotonic() + 180
    number = 0
    while not all(_latencies(folder, name).total() for name in _SATELLITES):
        assert time.monotonic() < deadline, f"a consumer applies nothing, see {folder / 'logs'}"
        number += 1
        source.query("INSERT INTO notes VALUES (%s, 'first')", (-number,))
        time.sleep(0.5)
    time.sleep(6)


def _work(source: Source, first: int, seconds: int) -> None:
    """Commit transactions of updates and inserts, `_RATE` changes per second, `_BATCH` per transaction."""
    began = time.monotonic()
    for number in range(seconds * _RATE // _BATCH):
        place = first + number * _BATCH // 2
        source.query(
            f"WITH made AS (INSERT INTO notes SELECT n, {_TEXT} FROM generate_series({place}, "
            f"{place + _BATCH // 2 - 1}) n) UPDATE notes SET text = text || '.' WHERE id BETWEEN "
            f"{number * _BATCH // 2} AND {number * _BATCH // 2 + _BATCH // 2 - 1}"
        )
        time.sleep(max(0.0, began + (number + 1) * _BATCH / _RATE - time.monotonic()))
    late = time.monotonic() - began - seconds
    assert late < 5, f"the source itself was {late:.0f} s late"


class _Samples:
    """Samples each consumer's lag while a block runs, except in its first two seconds."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._done = folder, threading.Event()
        self.lags: dict[str, list[float]] = {name: [] for name in _SATELLITES}
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        self._done.wait(2)
        while not self._done.wait(0.25):
            for name, lags in self.lags.items():
                now = datetime.now(UTC)
                reports = read_reports(self._folder, name)
                applied = [report.commit_time for report in reports if report.commit_time]
                if applied:
                    lags.append(max((now - datetime.fromisoformat(commit)).total_seconds() for commit in applied))


def _latencies(folder: Path, name: str) -> Counter[int]:
    return Counter(merged_latencies(read_reports(folder, name)))


def _p99(found: Counter[int]) -> float:
    p99 = quantile(found, 0.99)
    assert p99 is not None
    return p99 / 1000


def _wait_until_applied(folder: Path, changes: int) -> None:
    wait_until(
        lambda: all(_latencies(folder, name).total() >= changes for name in _SATELLITES),
        120, "the consumers catch up", 0.5,
    )  # fmt: skip


def _rss(local: state.Stack) -> float:
    """The resident memory of the local AWS's process in MiB."""
    status = Path(f"/proc/{local.daemon.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
