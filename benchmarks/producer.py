"""The producer against the server's own decoding, Debezium Server, pg_recvlogical and the naive loop.

Two backlogs: many small transactions (a row each) and one huge one; every producer drains the same one into the same
stub. Debezium runs by default and tuned, and the better of its figures is taken, each for itself. Then a steady 200
changes a second, from just before each INSERT to the request that carries it.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psycopg2

from benchmarks import Row
from benchmarks.producer_peers import (
    DEBEZIUM,
    Run,
    debezium,
    measured,
    naive,
    ours,
    peeked,
    recvlogical,
    stub,
)  # fmt: skip
from cdcctl.stack import postgres as stack

_SETTINGS = "max_wal_size = '8GB'\nmax_slot_wal_keep_size = '-1'\nmax_replication_slots = 20\nautovacuum = off\n"
_TABLE = """
CREATE TABLE orders (id bigint PRIMARY KEY, customer integer NOT NULL, status text, amount numeric(12,2), note text,
                     at timestamptz DEFAULT now())
"""
_ROW = "i, i % 1000, 'pending', i * 1.5, repeat('x', 160) || i, now()"
_SMALL = f"""
CREATE PROCEDURE fill(n integer) LANGUAGE plpgsql AS $$
BEGIN FOR i IN 1..n LOOP INSERT INTO orders SELECT {_ROW}; COMMIT; END LOOP; END $$
"""
_HUGE = f"INSERT INTO orders SELECT {_ROW} FROM generate_series(1, %s) i"
_TUNED = {"max_batch_size": "16384", "max_queue_size": "65536", "poll_interval_ms": "50"}
_RATE = 200


def rows(quick: bool) -> Iterator[Row]:
    """Every comparison; a minute when `quick`, else about eight."""
    changes, seconds = (60_000, 4) if quick else (250_000, 15)
    with _cluster() as cluster:
        for name, fill in (("", "CALL fill(%s)"), ("huge_", _HUGE)):
            yield from _throughput(cluster, name, fill, changes)
        yield from _latency(cluster, seconds)


@contextlib.contextmanager
def _cluster() -> Iterator[stack.Cluster]:
    with tempfile.TemporaryDirectory(prefix="cdc-bench-") as folder:
        Path(folder).chmod(0o755)
        made = stack.create(Path(folder) / "cluster")
        with (made.folder / "data" / "postgresql.conf").open("a") as conf:
            conf.write(_SETTINGS)
        made.start()
        try:
            yield made
        finally:
            made.stop("immediate")


def _database(cluster: stack.Cluster, name: str) -> str:
    """A fresh database with the table, and two slots at its beginning: `wal2json` and `pgoutput`."""
    with _cursor(cluster.dsn) as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    dsn = cluster.dsn.replace(f"/{stack.DATABASE}", f"/{name}")
    with _cursor(dsn) as cursor:
        cursor.execute(_TABLE)
        cursor.execute(_SMALL)
        cursor.execute("CREATE PUBLICATION pub FOR TABLE orders")
        for plugin in ("wal2json", "pgoutput"):
            cursor.execute("SELECT pg_create_logical_replication_slot(%s, %s)", (f"{name}_{plugin}", plugin))
    return dsn


@contextlib.contextmanager
def _cursor(dsn: str) -> Iterator[Any]:
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    try:
        yield connection.cursor()
    finally:
        connection.close()


def _throughput(cluster: stack.Cluster, name: str, fill: str, changes: int) -> Iterator[Row]:
    database = f"{name}small" if not name else "huge"
    dsn = _database(cluster, database)
    with _cursor(dsn) as cursor:
        cursor.execute(fill.replace("%s", str(changes)))
        cursor.execute("CHECKPOINT")
        cursor.execute("SELECT pg_current_wal_lsn()")
        end = cursor.fetchone()[0]

        def drain(
            plugin: str, start: Callable[..., AbstractContextManager[int]], most: int = changes, **how: str
        ) -> Run:
            with (
                _slot(cursor, f"{database}_{plugin}") as slot,
                stub(*(["--unpack"] if "aggregate" in how else [])) as counting,
                start(dsn, slot, counting.port, **how) as pid,
            ):
                return measured(pid, counting, most)

        limit = max(peeked(cursor, f"{database}_wal2json", changes) for _ in range(2))
        best = max((drain("wal2json", ours) for _ in range(2)), key=lambda run: run.rate)
        packed = drain("wal2json", ours, aggregate="yes")
        with _slot(cursor, f"{database}_wal2json") as slot:
            client = recvlogical(stack.binaries() / "pg_recvlogical", dsn, slot, end, changes)
        yield Row(
            f"producer.{name}throughput_vs_decoding", best.rate, limit, "changes/s", note="the limit: peek_changes"
        )
        yield Row(f"producer.{name}aggregate_throughput_vs_decoding", packed.rate, limit, "changes/s")
        yield Row(f"producer.{name}throughput_vs_pg_recvlogical", best.rate, client, "changes/s")
        few = min(changes, 3_000)
        loop = drain("wal2json", naive, few)
        yield Row(
            f"producer.{name}throughput_vs_naive", best.rate, loop.rate, "changes/s", note=f"naive: {few} changes"
        )
        if (DEBEZIUM / ".installed").exists():
            yield from _against_debezium(
                name, best, [drain("pgoutput", debezium, changes, **how) for how in ({}, _TUNED)]
            )


def _against_debezium(name: str, best: Run, peers: list[Run]) -> Iterator[Row]:
    shown = "; ".join(
        f"{how}: {run.rate:,.0f}/s {run.cpu:.0f} CPU-s/M {run.rss:.0f} MB"
        for how, run in zip(("default", "tuned"), peers, strict=True)
    )
    yield Row(
        f"producer.{name}throughput_vs_debezium", best.rate, max(run.rate for run in peers), "changes/s", note=shown
    )
    cpu, rss = min(run.cpu for run in peers), min(run.rss for run in peers)
    yield Row(f"producer.{name}cpu_vs_debezium", best.cpu, cpu, "CPU-s/million", "lower")
    yield Row(f"producer.{name}rss_vs_debezium", best.rss, rss, "MB", "lower")


@contextlib.contextmanager
def _slot(cursor: Any, pattern: str) -> Iterator[str]:
    """A copy of the slot, so that the next producer finds the same backlog."""
    name = f"{pattern}_run"
    cursor.execute("SELECT pg_copy_logical_replication_slot(%s, %s)", (pattern, name))
    try:
        yield name
    finally:
        for _ in range(100):
            cursor.execute("SELECT active FROM pg_replication_slots WHERE slot_name = %s", (name,))
            if not cursor.fetchone()[0]:
                break
            time.sleep(0.1)
        cursor.execute("SELECT pg_drop_replication_slot(%s)", (name,))


def _latency(cluster: stack.Cluster, seconds: int) -> Iterator[Row]:
    dsn = _database(cluster, "steady")
    with _cursor(dsn) as cursor:
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
    """Milliseconds from just before each INSERT to the arrival of the request that carries it."""
    cursor.execute("TRUNCATE orders")
    with (
        _slot(cursor, f"steady_{plugin}") as slot,
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
