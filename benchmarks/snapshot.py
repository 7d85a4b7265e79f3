"""Rows per second from a table to the stream, compared with `COPY … TO STDOUT` of the same table; and memory.

Short rows of six columns and rows with 2 kB of text, each also with random digits, which hardly compress. The stub
discards the records. The benchmark runs a backfill: a snapshot works in the same way, from one exported snapshot.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from benchmarks import Row
from benchmarks.backlogs import connected, running_cluster
from benchmarks.producer_peers import ROOT, stub

_NOISE = "(SELECT string_agg(md5(i::text || j), '') FROM generate_series(1, {}) j)"
_TABLES = {
    "short": "repeat('x', 160) || i",
    "short_noise": _NOISE.format(5),
    "long": "repeat(md5(i::text), 62)",
    "long_noise": _NOISE.format(62),
}
_FILL = """
import json, resource, sys
from cdckit.runtime.settings import Settings
from producer.snapshot.backfill import WORKERS, Asked, backfill, chosen
settings = Settings(dsn=sys.argv[1], stream="bench", data=sys.argv[2])
figures, done = backfill(settings, Asked(chosen(settings, [sys.argv[3]])), lambda: False, lambda _: None)
own, largest = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
memory = (own + WORKERS * largest) / 1024
print(json.dumps({"rate": figures.rate, "rows": figures.rows, "done": done, "memory": memory}))
"""


class _Nowhere:
    def write(self, line: bytes) -> None:
        """Discard a line of COPY."""


def rows(quick: bool) -> Iterator[Row]:
    """One row per table, and the memory for a table four times as large, compared with the smaller one."""
    count = 400_000 if quick else 2_000_000  # enough that the start of the processes is a small part
    with running_cluster() as cluster, connected(cluster.dsn) as cursor, stub() as counting:
        cursor.execute("SELECT pg_create_logical_replication_slot('cdc', 'wal2json')")
        for name, text in _TABLES.items():
            number = count // 4 if name.startswith("long") else count
            _create(cursor, name, text, number)
            copied = max(_copied(cursor, name) for _ in range(2))
            counting.get("figures")
            filled, memory = _filled(cluster.dsn, name, counting.port)
            sent = counting.get("figures")["bytes"] / number
            note = f"{sent:.0f} bytes of request per row; peak RSS {memory:.0f} MB of all processes"
            yield Row(f"snapshot.{name}_rows_vs_copy", filled, copied, "rows/s", note=note)
        _create(cursor, "less", _TABLES["short"], count // 4)
        _, less = _filled(cluster.dsn, "less", counting.port)
        _, more = _filled(cluster.dsn, "short", counting.port)
        yield Row(
            "snapshot.rss_of_four_times_the_rows", more, less, "MB", "lower", "memory does not grow with the table"
        )


def _create(cursor: Any, name: str, text: str, count: int) -> None:
    cursor.execute(
        f"CREATE TABLE {name} (id bigint PRIMARY KEY, customer integer NOT NULL, status text, amount numeric(12,2), "
        "note text, at timestamptz DEFAULT now())"
    )
    cursor.execute(
        f"INSERT INTO {name} SELECT i, i % 1000, 'pending', i * 1.5, {text}, now() FROM generate_series(1, {count}) i"
    )
    cursor.execute(f"ALTER TABLE {name} ALTER note SET STORAGE PLAIN")
    cursor.execute(f"VACUUM ANALYZE {name}")


def _copied(cursor: Any, name: str) -> float:
    started = time.perf_counter()
    cursor.copy_expert(f"COPY {name} TO STDOUT", _Nowhere())
    return float(cursor.rowcount / (time.perf_counter() - started))


def _filled(dsn: str, name: str, port: int) -> tuple[float, float]:
    environ = {
        **os.environ, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-c", _FILL, dsn, data, name]
        text = subprocess.run(command, env=environ, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    result = json.loads(text)
    assert result["done"]
    return float(result["rate"]), float(result["memory"])
