"""The audit log's appends, compared with bare SQLite: the same rows, indexes, hashes and durability, nothing else."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from benchmarks import Row
from cdckit.change import Change, Value
from cdckit.sink import Batch, Received, SinkContext
from cdckit.testing import change
from consumers.audit.log import open_log
from consumers.audit.proof.chain import GENESIS, AuditEntry, link
from consumers.audit.query import EntryFilter, find, history
from consumers.audit.query import RowRef as Key
from consumers.audit.sink import open_sink
from consumers.audit.store import _INSERT, STORE_FILE, AuditStore, entry_of

BATCH = 1000
SHARD = "shardId-000000000000"


def rows(quick: bool) -> Iterator[Row]:
    """Appends, then verification and queries of the appended entries."""
    count = 50_000 if quick else 500_000
    changes = [_change(number) for number in range(1, count + 1)]
    with tempfile.TemporaryDirectory() as name:
        reference = _ceiling(Path(name) / "reference", changes)
        ours = _ours(Path(name) / "ours", changes)
        yield Row("audit.throughput_vs_sqlite", ours, reference, "entries/s", note=f"durable, batches of {BATCH}")
        seconds = _seconds(lambda: _verify(Path(name) / "ours"))
        yield Row("audit.verification_vs_append", count / seconds, ours, "entries/s")
        table = changes[0].table
        queries = {
            "history": lambda: history(Path(name) / "ours", Key("main", table, "[42]")),
            "search": lambda: find(Path(name) / "ours", EntryFilter(actor="alice", limit=20)),
        }
        for what, query in queries.items():
            note = f"of {count:,} entries; a second is the limit"
            yield Row(f"audit.{what}_vs_a_second", _seconds(query), 1.0, "s", "lower", note)


def _ours(folder: Path, changes: list[Change]) -> float:
    sink = open_sink(SinkContext("audit", SHARD, folder, {}))
    items = [Received(item, str(10**55 + number)) for number, item in enumerate(changes)]
    started = time.monotonic()
    for start in range(0, len(items), BATCH):
        sink.apply(Batch(SHARD, items[start : start + BATCH]))
        sink.flush()
    seconds = time.monotonic() - started
    sink.close()
    return len(changes) / seconds


def _ceiling(folder: Path, changes: list[Change]) -> float:
    """The rows are prepared: SQLite only inserts them, and SHA-256 chains them."""
    AuditStore(folder, create=True).close()
    items = [Received(one, str(10**55 + number)) for number, one in enumerate(changes)]
    entries: list[AuditEntry] = [entry_of(SHARD, number, item) for number, item in enumerate(items, 1)]
    ready = [msgspec.structs.astuple(entry) for entry in entries]
    connection = sqlite3.connect(folder / STORE_FILE, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    started, digest = time.monotonic(), GENESIS
    for start in range(0, len(entries), BATCH):
        connection.execute("BEGIN IMMEDIATE")
        linked = []
        for entry, cells in zip(entries[start : start + BATCH], ready[start : start + BATCH], strict=True):
            digest = link(digest, entry)
            linked.append((*cells, digest))
        connection.executemany(_INSERT, linked)
        connection.execute("COMMIT")
    seconds = time.monotonic() - started
    connection.close()
    return len(changes) / seconds


def _verify(folder: Path) -> None:
    with open_log(folder) as log:
        assert not any(proof.broken for proof in log.verify())


def _seconds(action: object) -> float:
    started = time.monotonic()
    action()  # type: ignore[operator]
    return time.monotonic() - started


def _change(number: int) -> Change:
    values: dict[str, Value] = {
        "customer": number % 977,
        "status": f"paid {number % 7}",
        "note": f"a few words about order {number}",
    }
    annotation = {"actor": "alice" if number % 500 == 0 else "bob"} if number % 3 == 0 else None
    return change("I" if number < 20_000 else "U", number % 20_000, values, at=number, annotation=annotation)
