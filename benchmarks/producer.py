"""The producer against the server's own decoding, Debezium Server, pg_recvlogical and the naive loop.

There are two backlogs: many small transactions (one row each) and one large one; every producer drains the same backlog
into the same stub. Debezium runs with default and with tuned settings, and the better of its figures counts (QUICK:
only small transactions and default settings). Then latency at a steady 200 changes per second, from just
before each INSERT to the request that contains it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from benchmarks import Row
from benchmarks.backlogs import HUGE, connected, copied_slot, database, running_cluster
from benchmarks.producer_peers import (
    DEBEZIUM,
    Run,
    bare,
    debezium,
    measured,
    naive,
    ours,
    peeked,
    recvlogical,
    stub,
)  # fmt: skip
from cdcctl.sandbox import postgres as stack

_TUNED = {"max_batch_size": "16384", "max_queue_size": "65536", "poll_interval_ms": "50"}
_RATE = 200


def rows(quick: bool) -> Iterator[Row]:
    """All comparisons; takes a minute when `quick`, else about eight."""
    changes, seconds = (60_000, 4) if quick else (250_000, 15)
    with running_cluster() as cluster:
        backlogs = [("", "CALL fill(%s)"), ("huge_", HUGE)]
        peers: list[dict[str, str]] = [{}] if quick else [{}, _TUNED]
        for name, fill in backlogs[:1] if quick else backlogs:
            yield from _throughput(cluster, name, fill, changes, peers)
        yield from _latency(cluster, seconds)


def _throughput(
    cluster: stack.Cluster, name: str, fill: str, changes: int, peers: Sequence[Mapping[str, str]]
) -> Iterator[Row]:
    where = "small" if not name else "huge"
    dsn = database(cluster, where)
    with connected(dsn) as cursor:
        cursor.execute(fill.replace("%s", str(changes)))
        cursor.execute("CHECKPOINT")
        cursor.execute("SELECT pg_current_wal_lsn()")
        end = cursor.fetchone()[0]

        def drain(
            plugin: str, start: Callable[..., AbstractContextManager[int]], count: int = changes, **how: str
        ) -> Run:
            with (
                copied_slot(cursor, f"{where}_{plugin}") as slot,
                stub(*(["--unpack"] if "aggregate" in how else [])) as counting,
                start(dsn, slot, counting.port, **how) as pid,
            ):
                return measured(pid, counting, count)

        limit = max(peeked(cursor, f"{where}_wal2json", changes) for _ in range(2))
        best = max((drain("wal2json", ours) for _ in range(2)), key=lambda run: run.rate)
        packed = drain("wal2json", ours, aggregate="yes")
        with copied_slot(cursor, f"{where}_wal2json") as slot:
            client = recvlogical(stack.binaries() / "pg_recvlogical", dsn, slot, end, changes)
        with copied_slot(cursor, f"{where}_wal2json") as slot:
            reading = bare(dsn, slot, changes)
        yield Row(
            f"producer.{name}throughput_vs_decoding", best.rate, limit, "changes/s", note="the limit: peek_changes"
        )
        yield Row(f"producer.{name}aggregate_throughput_vs_decoding", packed.rate, limit, "changes/s")
        yield Row(f"producer.{name}throughput_vs_pg_recvlogical", best.rate, client, "changes/s")
        yield Row(
            f"producer.{name}throughput_vs_reading", best.rate, reading, "changes/s",
            note="the limit of any client: a bare loop that only reads the same slot",
        )  # fmt: skip
        naive_count = min(changes // 20, 3_000)
        loop = drain("wal2json", naive, naive_count)
        yield Row(
            f"producer.{name}throughput_vs_naive",
            best.rate,
            loop.rate,
            "changes/s",
            note=f"naive: {naive_count} changes",
        )
        if (DEBEZIUM / ".installed").exists():
            yield from _against_debezium(name, best, [drain("pgoutput", debezium, changes, **how) for how in peers])


def _against_debezium(name: str, best: Run, peers: list[Run]) -> Iterator[Row]:
    shown = "; ".join(
        f"{how}: {run.rate:,.0f}/s {run.cpu:.0f} CPU-s/M {run.rss:.0f} MB"
        for how, run in zip(("default", "tuned")[: len(peers)], peers, strict=True)
    )
    yield Row(
        f"producer.{name}throughput_vs_debezium", best.rate, max(run.rate for run in peers), "changes/s", note=shown
    )
    cpu, rss = min(run.cpu for run in peers), min(run.rss for run in peers)
    yield Row(f"producer.{name}cpu_vs_debezium", best.cpu, cpu, "CPU-s/million", "lower")
    yield Row(f"producer.{name}rss_vs_debezium", best.rss, rss, "MB", "lower")


def _latency(cluster: stack.Cluster, seconds: int) -> Iterator[Row]:
    dsn = database(cluster, "steady")
    with connected(dsn) as cursor:
        mine = _steady(cursor, dsn, "wal2json", ours, seconds)
        note = f"p50 {_quantile(mine, 0.5):.1f}, p99 {_quantile(mine, 0.99):.1f} ms"
        if not (DEBEZIUM / ".installed").exists():
            return
        peer = _steady(cursor, dsn, "pgoutput", debezium, seconds, poll_interval_ms="5")
    p50, p99 = _quantile(peer, 0.5), _quantile(peer, 0.99)
    note += f"; Debezium (poll 5 ms) p50 {p50:.1f}, p99 {p99:.1f} ms"
    yield Row("producer.latency_p99_vs_debezium", _quantile(mine, 0.99), p99, "ms", "lower", note)
    yield Row("producer.latency_p99_vs_debezium_p50", _quantile(mine, 0.99), p50, "ms", "lower", "ours p99, theirs p50")


def _steady(
    cursor: Any, dsn: str, plugin: str, start: Callable[..., AbstractContextManager[int]], seconds: int, **how: str
) -> list[float]:
    """Milliseconds from just before each INSERT to the arrival of the request that contains it."""
    cursor.execute("TRUNCATE orders")
    with (
        copied_slot(cursor, f"steady_{plugin}") as slot,
        stub("--keep") as counting,
        start(dsn, slot, counting.port, **how),
    ):
        cursor.execute("INSERT INTO orders (id, customer) VALUES (0, 0)")
        deadline = time.monotonic() + 90
        while not counting.get("count") and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(2)
        sent = _insert(cursor, seconds)
        deadline = time.monotonic() + 60
        while counting.get("count") <= len(sent) and time.monotonic() < deadline:
            time.sleep(0.1)
        records = counting.get("records")
    arrived = {_id(text): arrival for arrival, text in records}
    missing = sent.keys() - arrived.keys()
    assert not missing, f"{len(missing)} of {len(sent)} changes did not arrive"
    return sorted((arrived[number] - at) * 1000 for number, at in sent.items())


def _insert(cursor: Any, seconds: int) -> dict[int, float]:
    sent: dict[int, float] = {}
    started = time.monotonic()
    for number in range(1, _RATE * seconds + 1):
        time.sleep(max(0.0, started + number / _RATE - time.monotonic()))
        sent[number] = time.time()
        cursor.execute("INSERT INTO orders (id, customer, note) VALUES (%s, 1, 'steady')", (number,))
    return sent


def _id(text: str) -> int:
    record = json.loads(text)
    if "after" in record:
        return int((record["after"] or {}).get("id", -1))
    columns = record.get("columns") or [{"value": -1}]
    return int(columns[0]["value"])


def _quantile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))]
