"""One, two and four shards: one child process of a satellite per shard, each fed as by a daemon."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import Row
from benchmarks.kit import child_environ
from benchmarks.stdio import BATCH, Measured, lines, run
from cdcctl.sandbox import aws


def rows(quick: bool) -> Iterator[Row]:
    """Changes per second of all shards, compared with one shard."""
    count = 10_000 if quick else 40_000
    with tempfile.TemporaryDirectory() as name:
        cloud = aws.create(Path(name))
        daemon = cloud.start()
        try:
            for satellite in ("search", "parquet", "audit"):
                one = _together(satellite, 1, count, cloud.environ)
                for shards in (2, 4):
                    rate = _together(satellite, shards, count, cloud.environ)
                    note = f"{shards} children, one store; {os.cpu_count()} cores for them and for their feeders"
                    yield Row(f"shards.{satellite}_{shards}_vs_1", rate, one, "changes/s", note=note)
        finally:
            daemon.stop()


def _together(name: str, shards: int, count: int, aws_environ: dict[str, str]) -> float:
    """The sum of the children's rates while all run."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(shards) as pool:
        ids = [f"shardId-{number:012}" for number in range(shards)]
        environ = child_environ(name, folder, aws_environ, ids)
        fed = [list(lines(count, first=1 + number * count, keys=count * shards)) for number in range(shards)]

        def child(number: int) -> Measured:
            command = [sys.executable, "-m", "consumers.main", name]
            return run(command, environ, fed[number], len(fed[number]) * BATCH, ids[number])

        return sum(found.rate for found in pool.map(child, range(shards)))
