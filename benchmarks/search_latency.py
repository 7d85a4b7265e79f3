"""The time from a commit in PostgreSQL until a search finds it, through the real parts, at 200 changes per second.

The reference is the time until a bare GetRecords loop sees the same change, with five reads per second on each shard:
every reader of the stream must wait for that.
"""

from __future__ import annotations

import os
import re
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from benchmarks import Row
from cdcctl.demo.child_processes import ChildProcesses
from cdcctl.sandbox import state
from cdckit.errors import SatelliteError
from cdckit.runtime.settings import Settings
from consumers.search.query import open_index, request
from consumers.stream.reader import StreamReader
from consumers.stream.start import LATEST
from producer.postgres.connection import Source
from tests.support.postgres import open_folder

_CHANGES_PER_SECOND = 200
_PROBE_EVERY = 20  # changes: one search each tenth of a second
_POLL_SECONDS = 0.002
_WORD = re.compile(rb"probe(\d+)x")


def latency_rows() -> Iterator[Row]:
    """p50 and p99 in milliseconds; lower is better."""
    with open_folder() as folder, running(folder, "search") as source:
        _wait_until_found(folder, source)
        found, seen = _measure(folder, source, 40)
    note = (
        f"SQLite FTS5, full pipeline at {_CHANGES_PER_SECOND} changes/s, {len(found)} probes; against a GetRecords loop"
    )
    for name, share in (("p50", 0.50), ("p99", 0.99)):
        yield Row(
            f"search.commit_to_searchable_{name}", at_share(found, share), at_share(seen, share), "ms", "lower", note
        )


@contextmanager
def running(folder: Path, *consumers: str) -> Iterator[Source]:
    """A sandbox with the producer, these consumers and a table ``notes``; sets this process's environment to it."""
    with ExitStack() as stack:
        local = state.up(folder / "local", Settings())
        stack.callback(local.stop)
        environ = {"CDC_DATA": str(folder), "CDC_CONFIG": str(folder / "cdc.toml"), **local.environ}
        (folder / "cdc.toml").write_text("")
        stack.enter_context(environment(environ))
        parts = ChildProcesses(folder / "logs", environ)
        stack.callback(parts.stop)
        parts.start("producer", ["producer", "run"])
        for name in consumers:
            parts.start(name, ["consumer", "run", name])
        source = stack.enter_context(closing(Source(local.cluster.dsn)))
        source.query("CREATE TABLE notes (id bigint PRIMARY KEY, text text NOT NULL)")
        yield source


def _measure(folder: Path, source: Source, seconds: int) -> tuple[list[float], list[float]]:
    """Each probe's time from its commit until a search found it, and until the stream had it."""
    committed: dict[int, float] = {}
    found: dict[int, float] = {}
    seen: dict[int, float] = {}
    done = threading.Event()
    watchers = [
        threading.Thread(target=_search, args=(folder, committed, found, done.is_set)),
        threading.Thread(target=watch, args=(seen, done.is_set)),
    ]
    for watcher in watchers:
        watcher.start()
    wait_until_watched(source, seen)
    started = time.monotonic()
    for number in range(seconds * _CHANGES_PER_SECOND):
        word = f"probe{number}x" if number % _PROBE_EVERY == 0 else "other"
        source.query("INSERT INTO notes VALUES (%s, %s)", (number, f"{word} and some words beside it " * 5))
        if number % _PROBE_EVERY == 0:
            committed[number] = time.monotonic()
        time.sleep(max(0.0, started + number / _CHANGES_PER_SECOND - time.monotonic()))
    time.sleep(3)
    done.set()
    for watcher in watchers:
        watcher.join()
    assert found.keys() == seen.keys() & committed.keys() == committed.keys(), "every probe arrives"
    return [milliseconds(found[number] - at) for number, at in committed.items()], [
        milliseconds(seen[number] - at) for number, at in committed.items()
    ]


def _search(folder: Path, committed: Mapping[int, float], found: dict[int, float], done: Callable[[], bool]) -> None:
    with closing(open_index(folder / "search")) as index:
        while not done():
            for number in [probe for probe in list(committed) if probe not in found]:
                if index.search(request(f"probe{number}x", limit=1)).total:
                    found[number] = time.monotonic()
            time.sleep(_POLL_SECONDS)


def watch(seen: dict[int, float], done: Callable[[], bool]) -> None:
    for page in StreamReader(Settings().stream, LATEST, stop_requested=done).pages():
        now = time.monotonic()
        for record in page.records:
            for number in _WORD.findall(record.data):
                seen.setdefault(int(number), now)


def wait_until_watched(source: Source, seen: Mapping[int, float]) -> None:
    """Insert until `watch` sees a row: it starts at the end of the stream and misses earlier rows."""
    for number in range(1_000_000, 1_000_600):
        if seen:
            return
        source.query("INSERT INTO notes VALUES (%s, %s)", (number, f"probe{number}x"))
        time.sleep(0.2)
    raise TimeoutError("no record arrived on the stream")


def _wait_until_found(folder: Path, source: Source, seconds: float = 120) -> None:
    source.query("INSERT INTO notes VALUES (-1, 'ready')")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with closing(open_index(folder / "search")) as index:
                if index.search(request("ready")).total:
                    return
        except SatelliteError:
            pass  # the consumer has not created it yet
        time.sleep(0.2)
    raise TimeoutError(f"nothing became searchable, see {folder / 'logs'}")


@contextmanager
def environment(changed: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(changed)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def at_share(times: list[float], share: float) -> float:
    return statistics.quantiles(times, n=100, method="inclusive")[round(share * 100) - 1]


def milliseconds(seconds: float) -> float:
    return max(0.0, seconds * 1000)
