"""How rejected entries affect the order of a key's changes: our producer and Debezium Server, through the same proxy.

Kinesis rejects single entries of a PutRecords request, as a throttled shard does; the proxy rejects a fifth of them at
random. A change of a key that arrives after a later one of that key is an order violation: a reader that applies
changes as they come then has the older value.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from benchmarks import Row
from benchmarks.backlogs import connected, copied_slot, database, running_cluster
from benchmarks.producer_peers import DEBEZIUM, debezium, ours, stub
from tests.support.fault_proxy import FaultProxy, Faults

_KEYS = 50
_REJECTED = 0.2
_QUIET_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Delivered:
    """The distinct changes on the stream, and how many of them came after a later change of their key."""

    changes: int
    violations: int


def rows(quick: bool) -> Iterator[Row]:
    """The order violations of both; 0 is correct."""
    if not (DEBEZIUM / ".installed").exists():
        return
    turns = 20 if quick else 200
    with running_cluster() as made, connected(dsn := database(made, "hot")) as source:
        source.execute(f"INSERT INTO orders (id, customer) SELECT i, 0 FROM generate_series(1, {_KEYS}) i")
        for turn in range(1, turns):
            source.execute(f"UPDATE orders SET customer = {turn}")
        mine = _delivered(source, dsn, "wal2json", ours, turns)
        peer = _delivered(source, dsn, "pgoutput", debezium, turns)
    changes = turns * _KEYS
    note = (
        f"{changes:,} changes of {_KEYS} keys, {_REJECTED:.0%} of entries rejected; "
        f"missing when no more came: ours {changes - mine.changes}, Debezium {changes - peer.changes} "
        "(it ends after a number of tries per batch; after a restart it would send them)"
    )
    yield Row("order.violations_vs_debezium", mine.violations, peer.violations, "changes", "lower", note)


def _delivered(
    source: Any, dsn: str, plugin: str, start: Callable[..., AbstractContextManager[int]], turns: int
) -> Delivered:
    with (
        copied_slot(source, f"hot_{plugin}") as name,
        stub("--keep") as counting,
        FaultProxy(f"http://127.0.0.1:{counting.port}", seed=1) as proxy,
    ):
        proxy.faults = Faults(reject=_REJECTED)
        with start(dsn, name, int(proxy.url.rpartition(":")[2])):
            _until_quiet(lambda: int(counting.get("count")), turns * _KEYS)
        return _examined([text for _, text in counting.get("records")])


def _until_quiet(count: Callable[[], int], wanted: int) -> None:
    """Wait until all changes are there and no more come; repeated ones may follow."""
    seen, since, deadline = 0, time.monotonic(), time.monotonic() + 600
    while time.monotonic() < deadline:
        now = count()
        if now != seen:
            seen, since = now, time.monotonic()
        if now and time.monotonic() - since > (2 if now >= wanted else _QUIET_SECONDS):
            return
        time.sleep(0.2)


def _examined(texts: list[str]) -> Delivered:
    histories: dict[int, list[int]] = defaultdict(list)
    violations = 0
    for key, value in map(_key_and_value, texts):
        history = histories[key]
        if value in history:
            continue
        violations += bool(history) and value < max(history)
        history.append(value)
    return Delivered(sum(map(len, histories.values())), violations)


def _key_and_value(text: str) -> tuple[int, int]:
    record = json.loads(text)
    row = record.get("after") or {column["name"]: column["value"] for column in record["columns"]}
    return row["id"], row["customer"]
