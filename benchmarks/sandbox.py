"""The sandbox under a real workload: a million changes are stored, four consumers follow 2,000 a second.

The changes that are stored come first, through the producer, while no consumer runs; the consumers then begin with what
is new. Lag is sampled four times a second: the age of the newest change that each shard's process has applied, which
the report of that process, written twice a second, makes half a second older. The limit is five seconds. How long a
change takes until it is durable is beside it: the lake's writer flushes every five seconds.
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
from cdckit.settings import Settings
from consumers.worker.status import merged_latencies, quantile, read_reports
from producer.postgres.connection import Source
from producer.postgres.server import identify_server
from producer.postgres.slots import find_slot
from tests.support.postgres import open_folder

_SATELLITES = ("search", "parquet", "audit", "replica")
_RATE, _LIMIT_SECONDS, _A_TRANSACTION = 2000, 5.0, 20


def rows(quick: bool) -> Iterator[Row]:
    """The worst consumer's p99, and the local AWS's memory."""
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
        kept = local.cloud.stored.bytes // 1024**2
        yield Row(
            "sandbox.rss_at_2000", _rss(local), at_rest, "MB", "lower",
            f"the local AWS after {stored + seconds * _RATE:,} changes ({kept:,} MB in files), beside {stored:,}",
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
    """Put so many changes on the stream, and wait until the slot is read to its end."""
    for first in range(0, count, 50_000):
        source.query(f"INSERT INTO notes SELECT n, {_TEXT} FROM generate_series({first}, {first + 49_999}) n")
    end = identify_server(source).lsn
    deadline = time.monotonic() + 900
    while (slot := find_slot(source, Settings().slot)) is None or slot.confirmed < end:
        assert time.monotonic() < deadline, "the producer does not catch up"
        time.sleep(0.5)
    assert local.cloud.stored.bytes > count * 200


_TEXT = "repeat('probe' || n || ' and some words beside it ', 3)"


def _follow(folder: Path, parts: ChildProcesses, source: Source) -> None:
    """Start the consumers at the stream's end; each has applied a change when this returns."""
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
    """Transactions of some updates and inserts, so many changes a second."""
    began = time.monotonic()
    for number in range(seconds * _RATE // _A_TRANSACTION):
        place = first + number * _A_TRANSACTION // 2
        source.query(
            f"WITH made AS (INSERT INTO notes SELECT n, {_TEXT} FROM generate_series({place}, "
            f"{place + _A_TRANSACTION // 2 - 1}) n) UPDATE notes SET text = text || '.' WHERE id BETWEEN "
            f"{number * _A_TRANSACTION // 2} AND {number * _A_TRANSACTION // 2 + _A_TRANSACTION // 2 - 1}"
        )
        time.sleep(max(0.0, began + (number + 1) * _A_TRANSACTION / _RATE - time.monotonic()))
    late = time.monotonic() - began - seconds
    assert late < 5, f"the source itself was {late:.0f} s late"


class _Samples:
    """The lags of every consumer while a block runs, but for its first two seconds."""

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
                applied = [one.commit_time for one in read_reports(self._folder, name) if one.commit_time]
                if applied:
                    lags.append(max((now - datetime.fromisoformat(commit)).total_seconds() for commit in applied))


def _latencies(folder: Path, name: str) -> Counter[int]:
    return Counter(merged_latencies(read_reports(folder, name)))


def _p99(found: Counter[int]) -> float:
    p99 = quantile(found, 0.99)
    assert p99 is not None
    return p99 / 1000


def _wait_until_applied(folder: Path, changes: int) -> None:
    deadline = time.monotonic() + 120
    while any(_latencies(folder, name).total() < changes for name in _SATELLITES):
        assert time.monotonic() < deadline, "a consumer does not catch up"
        time.sleep(0.5)


def _rss(local: state.Stack) -> float:
    """Megabytes that the local AWS's process has in memory."""
    status = Path(f"/proc/{local.daemon.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
