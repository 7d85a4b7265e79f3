"""The search satellite, compared with its engines: documents/s, and the time from a commit until it is searchable.

Both sides are one process that writes the same documents in transactions of the same size, each durable. The
reference is the engine's own bulk load of rows in memory: encode and write, without positions and reads.
Ours starts from the records' bytes: decode, read the stored rows, merge, write, flush, checkpoint.
"""

from __future__ import annotations

import gc
import json
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import msgspec
from opensearchpy import OpenSearch

from benchmarks import Row
from benchmarks.search_latency import latency_rows
from cdckit.sink import SinkContext
from consumers.dead_letters import open_store
from consumers.search.mapping import IndexMapping
from consumers.search.opensearch.bulk import MAX_IN_FLIGHT
from consumers.search.opensearch.layout import index_body
from consumers.search.sink import open_sink
from consumers.search.sqlite.schema import PRAGMAS
from consumers.stream.record import RawRecord
from consumers.worker.shard import Cadence, ShardWorker
from consumers.worker.status import ShardReporter
from tests.support.opensearch import Node, running_opensearch

BATCH = 2_000
"""Documents per transaction (the default), or per bulk request of the reference."""
CALL = 10_000
"""Records that the KCL delivers at a time by default (`maxRecords`)."""
_ROUNDS = 3
_FIRST = ("blue", "red", "cotton", "silk", "north", "quick", "plain", "old")
_SECOND = ("shirt", "hat", "river", "stone", "paper", "glass", "house", "ring", "field", "light")
_WORDS = [first + second for first in _FIRST for second in _SECOND]


def rows(quick: bool) -> Iterator[Row]:
    """All comparisons, the default engine first."""
    documents = _documents(20_000 if quick else 200_000)
    gc.collect()
    gc.freeze()  # the corpus is not part of the measured work
    note = "two inserts per update, 2,000 per transaction or request, durable; best of three alternating rounds"
    bulk, own = _best(documents, _sqlite_bulk, lambda folder, some: _satellite(folder, some, {}))
    yield Row("search.throughput_vs_engine", own, bulk, "documents/s", note=f"SQLite FTS5; {note}")
    with tempfile.TemporaryDirectory() as folder, running_opensearch(Path(folder)) as node:
        some = documents[: 10_000 if quick else 60_000]
        ours: Side = lambda folder, some: _satellite(folder, some, node.options(refresh_seconds=1.0))  # noqa: E731
        one, rate = _best(some, lambda _, some: _opensearch_bulk(node, some, 1), ours)
        two, again = _best(some, lambda _, some: _opensearch_bulk(node, some, MAX_IN_FLIGHT), ours)
        yield Row("search.opensearch_throughput_vs_bulk", rate, one, "documents/s", note=f"OpenSearch; {note}")
        several = f"OpenSearch, {MAX_IN_FLIGHT} requests at a time on both sides; {note}"
        yield Row("search.opensearch_throughput_vs_parallel_bulk", again, two, "documents/s", note=several)
    if not quick:  # `way` measures it too
        yield from latency_rows()


Side = Callable[[Path, Sequence["Document"]], float]


def _best(documents: Sequence[Document], reference: Side, ours: Side) -> tuple[float, float]:
    """Documents/s of both sides, the best of three alternating rounds: other load of the machine affects both."""
    rates: dict[Side, list[float]] = {reference: [], ours: []}
    for side in (reference, ours) * _ROUNDS:
        with tempfile.TemporaryDirectory() as folder:
            rates[side].append(len(documents) / side(Path(folder), documents))
    return max(rates[reference]), max(rates[ours])


Document = tuple[int, str, dict[str, object]]


def _documents(count: int) -> list[Document]:
    """Two inserts, then an update of an earlier row, and so on; about 400 bytes per record."""
    chance = random.Random(7)
    made: list[Document] = []
    known = 0
    for number in range(count):
        update = number % 3 == 2
        key = chance.randint(1, known) if update else (known := known + 1)
        values: dict[str, object] = {
            "id": key,
            "name": " ".join(chance.choices(_WORDS, k=3)),
            "description": " ".join(chance.choices(_WORDS, k=12)),
            "status": chance.choice(["new", "sold", "old"]),
            "price": chance.randint(100, 99_999),
        }
        made.append((key, "U" if update else "I", values))
    return made


def _records(documents: Sequence[Document]) -> list[RawRecord]:
    types = {"id": "bigint", "price": "integer"}
    return [
        RawRecord(
            json.dumps({
                "action": op, "xid": 700 + at, "timestamp": "2026-11-23 10:00:00.1+00", "lsn": f"0/{at + 16:X}",
                "schema": "public", "table": "products",
                "columns": [{"name": n, "type": types.get(n, "text"), "value": v} for n, v in values.items()],
                "pk": [{"name": "id", "type": "bigint"}],
                "cdc": {"v": 1, "epoch": 1, "commit_lsn": f"0/{at + 16:X}", "index": 0, "source": "main"},
            }, separators=(",", ":")).encode(),
            f"main/public.products/[{key}]", str(at),
        )
        for at, (key, op, values) in enumerate(documents)
    ]  # fmt: skip


def _sqlite_bulk(folder: Path, documents: Sequence[Document]) -> float:
    """A bulk loader: encode, then two statements per batch, in the order in which FTS5 is fastest."""
    with closing(sqlite3.connect(folder / "bulk.sqlite", isolation_level=None)) as connection:
        for statement in (
            *(f"PRAGMA {pragma}" for pragma in PRAGMAS),
            "CREATE TABLE document (number INTEGER PRIMARY KEY, key TEXT UNIQUE, cells TEXT)",
            "CREATE VIRTUAL TABLE fulltext USING fts5(text, tokenize = 'unicode61 remove_diacritics 2')",
        ):
            connection.execute(statement)
        started = time.perf_counter()
        for at in range(0, len(documents), BATCH):
            chunk = [(key, values) for key, _, values in documents[at : at + BATCH]]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO document VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET cells = excluded.cells",
                [(key, f"[{key}]", msgspec.json.encode(values).decode()) for key, values in chunk],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO fulltext (rowid, text) VALUES (?, ?)",
                sorted((key, "\n".join(map(str, values.values()))) for key, values in chunk),
            )
            connection.execute("COMMIT")
        return time.perf_counter() - started


def _opensearch_bulk(node: Node, documents: Sequence[Document], at_a_time: int) -> float:
    """Bodies with the same fields, indexed without versions into an index with the same mapping."""
    client = OpenSearch(node.url, timeout=60)
    name = f"bulk{time.time_ns()}"
    client.indices.create(index=name, body=index_body(IndexMapping(), {}, 1.0, 0))

    def send(at: int) -> bool:
        body = b"".join(_bulk_lines(key, values) for key, _, values in documents[at : at + BATCH])
        return bool(client.bulk(index=name, body=body, filter_path="errors")["errors"])

    started = time.perf_counter()
    with ThreadPoolExecutor(at_a_time) as pool:
        assert not any(pool.map(send, range(0, len(documents), BATCH)))
    return time.perf_counter() - started


def _bulk_lines(key: int, values: dict[str, object]) -> bytes:
    body = {
        "kind": "row", "source": "main", "table": "public.products", "key": f"[{key}]", "visible": True,
        "deleted": False, "cells": msgspec.json.encode(values).decode(), "body": "\n".join(map(str, values.values())),
    }  # fmt: skip
    return (
        msgspec.json.encode({"index": {"_id": f"main/public.products/[{key}]"}})
        + b"\n"
        + msgspec.json.encode(body)
        + b"\n"
    )


def _satellite(folder: Path, documents: Sequence[Document], options: Mapping[str, object]) -> float:
    records = _records(documents)
    sink = open_sink(SinkContext("search", "shard-0", folder / "search", options))
    figures = ShardReporter(folder / "status", "search", "shard-0")
    worker = ShardWorker(sink, open_store("", "search", folder), figures, Cadence(), max_dead_share=0.5)
    started = time.perf_counter()
    for at in range(0, len(records), CALL):
        worker.process(records[at : at + CALL], 0, lambda _: None)
    worker.finish(lambda _: None)
    spent = time.perf_counter() - started
    worker.close()
    assert figures.report.applied == len(records)
    return spent
