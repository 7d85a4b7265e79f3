"""The search satellite beside its engines: documents/s, and how long a commit takes to become searchable.

Both sides are one process that writes the same documents in batches of the same size, each batch durable. The
reference is the engine's own bulk load, with the documents ready in memory: nothing decoded, nothing merged, no
position. Ours starts from the records' bytes: decode, read what is held, merge, write, flush, checkpoint.
"""

from __future__ import annotations

import gc
import json
import random
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from opensearchpy import OpenSearch

from benchmarks import Row
from benchmarks.search_latency import latency_rows
from cdckit.sink import SinkContext
from consumers.dead_letters import RawRecord, open_store
from consumers.figures import ShardFigures
from consumers.search.mapping import IndexMapping
from consumers.search.opensearch.layout import index_body
from consumers.search.sink import open_sink
from consumers.search.sqlite.schema import PRAGMAS
from consumers.shard import Cadence, ShardWorker
from tests.opensearch import Node, running_opensearch

BATCH = 2_000
_FIRST = ("blue", "red", "cotton", "silk", "north", "quick", "plain", "old")
_SECOND = ("shirt", "hat", "river", "stone", "paper", "glass", "house", "ring", "field", "light")
_WORDS = [first + second for first in _FIRST for second in _SECOND]


def rows(quick: bool) -> Iterator[Row]:
    """Every comparison, the default engine first."""
    documents = _documents(40_000 if quick else 200_000)
    with tempfile.TemporaryDirectory() as folder:
        gc.collect()
        gc.freeze()  # the corpus is no part of either side's work
        reference = len(documents) / _sqlite_bulk(Path(folder), documents)
        ours = len(documents) / _satellite(Path(folder), documents, {})
    note = "two inserts an update, batches of 2,000, each durable"
    yield Row("search.throughput_vs_engine", ours, reference, "documents/s", note=f"SQLite FTS5; {note}")
    documents = documents[: 20_000 if quick else 60_000]
    with tempfile.TemporaryDirectory() as folder, running_opensearch(Path(folder)) as node:
        reference = len(documents) / _opensearch_bulk(node, documents)
        ours = len(documents) / _satellite(Path(folder), documents, node.options(refresh_seconds=1.0))
    yield Row("search.opensearch_throughput_vs_bulk", ours, reference, "documents/s", note=f"OpenSearch; {note}")
    yield from latency_rows(quick)


Document = tuple[int, str, str, dict[str, object]]


def _documents(count: int) -> list[Document]:
    """Two inserts, then an update of an earlier row, and so on; about 400 bytes a record."""
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
        made.append((key, "U" if update else "I", "\n".join(map(str, values.values())), values))
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
        for at, (key, op, _, values) in enumerate(documents)
    ]  # fmt: skip


def _sqlite_bulk(folder: Path, documents: Sequence[Document]) -> float:
    ready = [(key, f"[{key}]", json.dumps(values), text) for key, _, text, values in documents]
    with closing(sqlite3.connect(folder / "bulk.sqlite", isolation_level=None)) as connection:
        for statement in (
            *(f"PRAGMA {pragma}" for pragma in PRAGMAS),
            "CREATE TABLE document (number INTEGER PRIMARY KEY, key TEXT UNIQUE, cells TEXT)",
            "CREATE VIRTUAL TABLE fulltext USING fts5(text, tokenize = 'unicode61 remove_diacritics 2')",
        ):
            connection.execute(statement)
        started = time.perf_counter()
        for at in range(0, len(ready), BATCH):
            chunk = ready[at : at + BATCH]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO document VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET cells = excluded.cells",
                [row[:3] for row in chunk],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO fulltext (rowid, text) VALUES (?, ?)", sorted((row[0], row[3]) for row in chunk)
            )
            connection.execute("COMMIT")
        return time.perf_counter() - started


def _opensearch_bulk(node: Node, documents: Sequence[Document]) -> float:
    """Ready bodies of the same fields in an index of the same mapping, indexed over what is there: no version asked."""
    client = OpenSearch(node.url, timeout=60)
    client.indices.create(index="bulk", body=index_body(IndexMapping(), {}, 1.0, 0))
    ready = [
        (f'{{"index":{{"_id":"main/public.products/[{key}]"}}}}\n'
         + json.dumps({"kind": "row", "source": "main", "table": "public.products", "key": f"[{key}]", "visible": True,
                       "deleted": False, "cells": json.dumps(values), "body": text}) + "\n").encode()
        for key, _, text, values in documents
    ]  # fmt: skip
    started = time.perf_counter()
    for at in range(0, len(ready), BATCH):
        assert not client.bulk(index="bulk", body=b"".join(ready[at : at + BATCH]), filter_path="errors")["errors"]
    return time.perf_counter() - started


def _satellite(folder: Path, documents: Sequence[Document], options: Mapping[str, object]) -> float:
    records = _records(documents)
    sink = open_sink(SinkContext("search", "shard-0", folder / "search", options))
    figures = ShardFigures(folder / "status", "search", "shard-0")
    worker = ShardWorker(sink, open_store("", "search", folder), figures, Cadence(), max_dead_share=0.5)
    started = time.perf_counter()
    for at in range(0, len(records), BATCH):
        worker.process(records[at : at + BATCH], 0, lambda _: None)
    worker.finish(lambda _: None)
    spent = time.perf_counter() - started
    worker.close()
    assert figures.report.applied == len(records)
    return spent
