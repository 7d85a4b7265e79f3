"""Audit logs for tests: a sink on a folder, and a log filled with entries and anchors."""

from pathlib import Path

from cdckit.sink import Sink, SinkContext
from cdckit.testing import change, deliver
from consumers.audit.sink import open_sink


def audit_sink(folder: Path, shard: str = "shard-0", **options: object) -> Sink:
    return open_sink(SinkContext("audit", shard, folder, {"anchor_seconds": 0, **options}))


def filled(folder: Path, count: int, shards: int = 2, anchor_every: int = 50) -> None:
    """Write a log of `count` entries, with an anchor after every `anchor_every` entries."""
    sinks = [audit_sink(folder, f"shard-{number}", anchor_seconds=3600) for number in range(shards)]
    for number, sink in enumerate(sinks):
        mine = [
            change("U", at % 97, {"n": at, "text": "x" * (at % 50)}, at=at) for at in range(1 + number, count, shards)
        ]
        for start in range(0, len(mine), anchor_every):
            deliver(sink, *mine[start : start + anchor_every], shard=f"shard-{number}")
            sink._anchorer.anchor(f"shard-{number}")  # type: ignore[attr-defined]
        sink.close()
