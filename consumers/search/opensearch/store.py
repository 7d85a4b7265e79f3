"""Applies changes to an OpenSearch index: read, merge, write if no other process wrote meanwhile, else repeat.

Each write names the `_seq_no` and `_primary_term` that was read (or that the document must not exist). So a merge never
overwrites another writer's: after a lease changed hands, during a reindex, when a dead letter is redriven. See
docs/decisions/search-opensearch-versions.md for why it does not use external versions.

A table's watermark is written before the rows below it are deleted, and read again after rows were written. So of a
truncate and a late insert, the one that comes second sees the other.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from random import SystemRandom
from typing import Any

from msgspec import structs
from opensearchpy import OpenSearch
from opensearchpy.helpers import scan

from cdckit.change import Change, Op
from cdckit.errors import TransientSinkError
from cdckit.rows import NO_POSITION
from cdckit.sink import Outcome
from consumers.search.engine import StoredRow, TableWatermark
from consumers.search.exact_json import encode
from consumers.search.mapping import IndexMapping, Mapper
from consumers.search.opensearch import layout
from consumers.search.opensearch.bulk import BulkWriter, DocumentVersion, DocumentWrite, pipelined
from consumers.search.opensearch.client import write_errors
from consumers.search.opensearch.pending_row import PendingRow, TableKey, without_excluded
from consumers.search.opensearch.write_cache import WriteCache

_MAX_TRIES = 8
_CHUNK_ROWS = 1_000  # rows per request: while some chunks are written, the next one is merged
_JITTER = SystemRandom()  # not the shared generator: seeded or forked processes would all draw the same delays

Found = tuple[Mapping[str, Any], DocumentVersion]
"""A document's source, and the version that was read."""


class OpenSearchIndexStore:
    """One index, open for writing. Any number of other processes may write it too."""

    def __init__(self, client: OpenSearch, url: str, index: str, mapping: IndexMapping) -> None:
        """Prepare only: no request is sent."""
        self.index, self.mapping = index, mapping
        self._client, self._url, self._bulk, self._cache = client, url, BulkWriter(client, index), WriteCache()
        self._mapper = Mapper(mapping)
        self._columns: dict[TableKey, frozenset[str]] = {}
        self._assume_new = True  # that rows whose first change is an insert are not stored; false during a redelivery

    def apply(self, changes: Sequence[Change]) -> Outcome:
        """Apply all changes; durable on return (every bulk request is synced).

        Raises TransientSinkError and PoisonChange: a part may have been applied, and is superseded the next time.
        """
        applied = 0
        with write_errors(self._url):
            rows: dict[tuple[TableKey, str], PendingRow] = {}
            for change in changes:
                table_key = (change.source, change.table)
                mapper = self._mapper.table(change.table)
                if mapper is None:
                    applied += 1
                elif change.op is Op.TRUNCATE:
                    applied += self._write(list(rows.values())) + self._truncate(table_key, change.position.sort_key)
                    rows = {}
                else:
                    key = change.key_text
                    row = rows.get((table_key, key))
                    if row is None:
                        row = rows[table_key, key] = PendingRow(table_key, key)
                    row.changes.append(without_excluded(change, mapper))
            applied += self._write(list(rows.values()))
        return Outcome(applied, len(changes) - applied)

    def load(self, watermarks: Iterable[TableWatermark], rows: Iterable[StoredRow], size: int = 1_000) -> int:
        """Merge watermarks and rows of another generation into this one. Returns the number of rows that it indexes."""
        count = 0
        with write_errors(self._url):
            for watermark in watermarks:
                if mapper := self._mapper.table(watermark.table):
                    table_key = (watermark.source, watermark.table)
                    self._change_table(table_key, watermark.position, frozenset(watermark.columns) - mapper.excluded)
                    self._sweep(table_key, watermark.position)
            chunk: list[PendingRow] = []
            for row in rows:
                if mapper := self._mapper.table(row.table):
                    values = mapper.without_excluded(row.state.values)
                    joined = replace(row, state=structs.replace(row.state, values=values))
                    chunk.append(PendingRow((row.source, row.table), row.key, joined=joined))
                    count += 1
                if len(chunk) == size:
                    self._write(chunk)
                    chunk = []
            self._write(chunk)
        return count

    def _write(self, rows: Sequence[PendingRow]) -> int:
        """Merge and write the rows; repeat those that another process wrote. Returns how many changes had an effect."""
        self._learn_columns(rows)
        waiting, busy = list(rows), False
        for attempt in range(_MAX_TRIES):
            if not waiting:
                break
            if attempt:
                time.sleep(0.05 * 2**attempt * _JITTER.random())
            assumed_new = [row for row in waiting if row.is_new] if self._assume_new and not attempt else []
            self._assume_new = True  # unless this attempt shows otherwise
            watermarks = self._watermarks({row.table_key for row in waiting})
            retries, busy = self._send(waiting, assumed_new, watermarks)
            if assumed_new:
                self._assume_new = len(retries) <= len(assumed_new) // 10
            waiting = [*retries, *(row for row in assumed_new if row.write is None)]
            self._sweep_again(watermarks)
        if waiting:
            why = "is busy" if busy else "has other writers of the same rows"
            raise TransientSinkError(f"OpenSearch {why}: {len(waiting)} rows were not written in {_MAX_TRIES} tries")
        return sum(row.applied for row in rows)

    def _send(
        self, rows: Sequence[PendingRow], assumed_new: Sequence[PendingRow], watermarks: Mapping[TableKey, str]
    ) -> tuple[list[PendingRow], bool]:  # fmt: skip
        """Merge and write chunks of rows, overlapping. Any order is right: no key occurs twice.

        Returns the rows to try again, and whether the server was too busy for one.
        """
        unread = frozenset(map(id, assumed_new))
        chunks = [rows[start : start + _CHUNK_ROWS] for start in range(0, len(rows), _CHUNK_ROWS)]
        merged = (self._merge(chunk, unread, watermarks) for chunk in chunks)
        retries, busy = list[PendingRow](), False
        for chunk, results in zip(chunks, pipelined(self._bulk.write, merged), strict=True):
            written = [(row, row.write) for row in chunk if row.write is not None]
            for (row, write), result in zip(written, results, strict=True):
                if result.version is None:
                    self._cache.discard(write.name)
                    retries.append(row)
                    busy = busy or result.busy
                else:
                    self._cache.put(write.name, write.body, result.version)
        return retries, busy

    def _merge(
        self, rows: Sequence[PendingRow], unread: Collection[int], watermarks: Mapping[TableKey, str]
    ) -> Sequence[DocumentWrite]:  # fmt: skip
        """Read the stored rows and compute the writes.

        Rows in `unread` (by identity) are assumed to be new: OpenSearch refuses to create a document that exists.
        """
        ids = [layout.row_id(*row.table_key, row.key) for row in rows]
        wanted_ids = [name for row, name in zip(rows, ids, strict=True) if id(row) not in unread]
        found = self._cached(wanted_ids)
        found |= self._read([name for name in wanted_ids if name not in found])
        if not unread and any(row.is_new and name in found for row, name in zip(rows, ids, strict=True)):
            self._assume_new = False
        for row, name in zip(rows, ids, strict=True):
            self._merge_row(row, name, found.get(name), watermarks[row.table_key])
        return [row.write for row in rows if row.write is not None]

    def _watermarks(self, table_keys: Iterable[TableKey]) -> Mapping[TableKey, str]:
        """The current watermarks of these tables."""
        tables = {layout.table_id(*table_key): table_key for table_key in table_keys}
        found = self._read(list(tables))
        return {
            table_key: str(found[name][0]["floor"]) if name in found else NO_POSITION
            for name, table_key in tables.items()
        }

    def _merge_row(self, row: PendingRow, name: str, found: Found | None, watermark: str) -> None:
        before = None if found is None else layout.stored_row(found[0])
        after = row.merged(before, watermark)
        row.write = None
        if (after and after.state) == (before and before.state):
            return
        mapper = self._mapper.table(row.table_key[1])
        assert mapper is not None, "only rows of indexed tables get here"
        body = b"" if after is None else encode(layout.row_body(after, mapper))
        row.write = DocumentWrite(name, None if found is None else found[1], body)

    def _sweep_again(self, watermarks: Mapping[TableKey, str]) -> None:
        """Sweep the tables that another process truncated while rows were written."""
        for table_key, watermark in self._watermarks(watermarks).items():
            if watermark > watermarks[table_key]:
                self._sweep(table_key, watermark)

    def _truncate(self, table_key: TableKey, watermark: str) -> bool:
        """Raise the watermark, then sweep; also if it is equal, because the first sweep may have been interrupted."""
        before = self._change_table(table_key, watermark)
        if watermark >= before:
            self._sweep(table_key, watermark)
        return watermark > before

    def _sweep(self, table_key: TableKey, watermark: str) -> None:
        if watermark == NO_POSITION:
            return
        self._client.indices.refresh(index=self.index)
        own = [{"term": {"kind": "row"}}, {"term": {"source": table_key[0]}}, {"term": {"table": str(table_key[1])}}]
        truncated = {"bool": {"filter": [*own, {"range": {"position": {"lte": watermark}}}]}}
        self._client.delete_by_query(index=self.index, body={"query": truncated}, conflicts="proceed", refresh=True)
        older_base = {
            "query": {"bool": {"filter": [*own, {"range": {"base": {"lte": watermark}}}]}},
            "_source": ["key"],
        }
        keys = [hit["_source"]["key"] for hit in scan(self._client, index=self.index, query=older_base, size=1_000)]
        for start in range(0, len(keys), 1_000):
            self._write([PendingRow(table_key, key) for key in keys[start : start + 1_000]])

    def _learn_columns(self, rows: Sequence[PendingRow]) -> None:
        seen: dict[TableKey, set[str]] = {}
        for row in rows:
            for change in row.changes:
                seen.setdefault(row.table_key, set()).update(change.after or ())
        for table_key, columns in seen.items():
            if not self._columns.get(table_key, frozenset()).issuperset(columns):
                self._change_table(table_key, NO_POSITION, frozenset(columns))

    def _change_table(self, table_key: TableKey, watermark: str, columns: frozenset[str] = frozenset()) -> str:
        """Raise a table's watermark and add to its known columns. Returns the previous watermark."""
        name = layout.table_id(*table_key)
        for _ in range(_MAX_TRIES):
            found = self._read([name]).get(name)
            stored = layout.watermark_of(found[0]) if found else TableWatermark(*table_key, NO_POSITION, (), "")
            highest, known = max(stored.position, watermark), sorted(columns.union(stored.columns))
            wanted = replace(stored, position=highest, columns=known)
            write = DocumentWrite(name, found[1] if found else None, encode(layout.watermark_body(wanted)))
            if (found and wanted == stored) or self._bulk.write([write])[0].version:
                self._columns[table_key] = frozenset(wanted.columns)
                return stored.position
        raise TransientSinkError(f"OpenSearch has other writers of the watermark of {table_key[1]}")

    def _cached(self, names: Iterable[str]) -> dict[str, Found]:
        """The documents that are in this process's write cache."""
        return {name: found for name in names if (found := self._cache.get(name)) is not None}

    def _read(self, ids: Sequence[str]) -> Mapping[str, Found]:
        if not ids:
            return {}
        answer = self._client.mget(
            index=self.index, body={"ids": list(ids)}, _source_includes=",".join(layout.STATE_FIELDS)
        )
        return {
            item["_id"]: (item["_source"], DocumentVersion(item["_seq_no"], item["_primary_term"]))
            for item in answer["docs"]
            if item.get("found")
        }
