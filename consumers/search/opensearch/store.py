"""Applies changes to an OpenSearch index: read, merge, write only if nobody wrote in between, else again.

Each write names the `_seq_no` and `_primary_term` that was read (or that the document must not exist), so a row's
merge is never lost to another writer: a shard that changes hands, a reindex, a redriven dead letter. See
docs/decisions/search-opensearch-versions.md for why not external versions.

A table's watermark is written before rows below it are swept away, and looked at again after rows were written: of a
truncate and a late insert, whoever comes second sees the other.
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
from cdckit.sink import Outcome
from consumers.search.document import NO_POSITION
from consumers.search.engine import Floor, Held
from consumers.search.mapping import IndexMapping, Mapper
from consumers.search.opensearch import layout
from consumers.search.opensearch.bulk import Bulk, Version, Write, overlapped
from consumers.search.opensearch.client import writing
from consumers.search.opensearch.row import Row, Scope, kept
from consumers.search.opensearch.write_cache import Recent

_TRIES = 8
_AT_ONCE = 1_000  # rows a request: so many are merged while others are written
_JITTER = SystemRandom()  # no state that is shared: a seeded process, or one that was forked, jitters too

Found = tuple[Mapping[str, Any], Version]
"""A document's source as it was read, and the version that this was."""


class Store:
    """One index, open for writing. Any number of other processes may write it too."""

    def __init__(self, client: OpenSearch, url: str, index: str, mapping: IndexMapping) -> None:
        """Nothing is asked of the server yet."""
        self.index, self.mapping = index, mapping
        self._client, self._url, self._bulk, self._recent = client, url, Bulk(client, index), Recent()
        self._mapper = Mapper(mapping)
        self._columns: dict[Scope, frozenset[str]] = {}
        self._trusting = True  # that a row which begins with an insert is new; not so while a range comes again

    def apply(self, changes: Sequence[Change]) -> Outcome:
        """Apply all; durable when this returns (every bulk request is synced).

        Raises TransientSinkError and PoisonChange: a part may have been applied, which is superseded the next time.
        """
        applied = 0
        with writing(self._url):
            rows: dict[tuple[Scope, str], Row] = {}
            for change in changes:
                scope = (change.source, change.table)
                mapper = self._mapper.table(change.table)
                if mapper is None:
                    applied += 1
                elif change.op is Op.TRUNCATE:
                    applied += self._write(list(rows.values())) + self._truncate(scope, change.position.sort_key)
                    rows = {}
                else:
                    key = change.key_text
                    row = rows.get((scope, key))
                    if row is None:
                        row = rows[scope, key] = Row(scope, key)
                    row.changes.append(kept(change, mapper))
            applied += self._write(list(rows.values()))
        return Outcome(applied, len(changes) - applied)

    def load(self, floors: Iterable[Floor], rows: Iterable[Held], size: int = 1_000) -> int:
        """Join another generation's watermarks and rows into this one; how many rows of tables that it follows."""
        count = 0
        with writing(self._url):
            for floor in floors:
                if mapper := self._mapper.table(floor.table):
                    scope = (floor.source, floor.table)
                    self._change_table(scope, floor.position, frozenset(floor.columns) - mapper.excluded)
                    self._sweep(scope, floor.position)
            chunk: list[Row] = []
            for held in rows:
                if mapper := self._mapper.table(held.table):
                    values = mapper.kept(held.document.values)
                    joined = replace(held, document=structs.replace(held.document, values=values))
                    chunk.append(Row((held.source, held.table), held.key, joined=joined))
                    count += 1
                if len(chunk) == size:
                    self._write(chunk)
                    chunk = []
            self._write(chunk)
        return count

    def _write(self, rows: Sequence[Row]) -> int:
        """Merge and write these rows, each until nobody else came in between; how many changes had an effect."""
        self._learn_columns(rows)
        waiting, busy = list(rows), False
        for attempt in range(_TRIES):
            if not waiting:
                break
            if attempt:
                time.sleep(0.05 * 2**attempt * _JITTER.random())
            blind = [row for row in waiting if row.is_new] if self._trusting and not attempt else []
            self._trusting = True  # unless it turns out otherwise
            floors = self._floors({row.scope for row in waiting})
            again, busy = self._send(waiting, blind, floors)
            if blind:
                self._trusting = len(again) <= len(blind) // 10
            waiting = [*again, *(row for row in blind if row.write is None)]
            self._look_again(floors)
        if waiting:
            why = "is busy" if busy else "has other writers of the same rows"
            raise TransientSinkError(f"OpenSearch {why}: {len(waiting)} rows were not written in {_TRIES} tries")
        return sum(row.applied for row in rows)

    def _send(
        self, rows: Sequence[Row], blind: Sequence[Row], floors: Mapping[Scope, str]
    ) -> tuple[list[Row], bool]:  # fmt: skip
        """Merge and write them, the next while some are on their way: their keys differ, so their order is free.

        Returns those to be tried again, and whether the server was too busy for one.
        """
        unread = frozenset(map(id, blind))
        chunks = [rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE)]
        merged = (self._merge(chunk, unread, floors) for chunk in chunks)
        again, busy = list[Row](), False
        for chunk, results in zip(chunks, overlapped(self._bulk.write, merged), strict=True):
            written = [(row, row.write) for row in chunk if row.write is not None]
            for (row, write), result in zip(written, results, strict=True):
                if result.version is None:
                    self._recent.forget(write.name)
                    again.append(row)
                    busy = busy or result.busy
                else:
                    self._recent.wrote(write.name, write.body, result.version)
        return again, busy

    def _merge(
        self, rows: Sequence[Row], unread: Collection[int], floors: Mapping[Scope, str]
    ) -> Sequence[Write]:  # fmt: skip
        """Read what is held and work out what to write.

        Rows of these identities are taken for new without a look: OpenSearch refuses to create one that is there.
        """
        ids = [layout.row_id(*row.scope, row.key) for row in rows]
        asked = [name for row, name in zip(rows, ids, strict=True) if id(row) not in unread]
        found = self._held(asked)
        found |= self._read([name for name in asked if name not in found])
        if not unread and any(row.is_new and name in found for row, name in zip(rows, ids, strict=True)):
            self._trusting = False
        for row, name in zip(rows, ids, strict=True):
            self._merge_row(row, name, found.get(name), floors[row.scope])
        return [row.write for row in rows if row.write is not None]

    def _floors(self, scopes: Iterable[Scope]) -> Mapping[Scope, str]:
        """The tables' watermarks that are in force."""
        tables = {layout.table_id(*scope): scope for scope in scopes}
        found = self._read(list(tables))
        return {scope: str(found[name][0]["floor"]) if name in found else NO_POSITION for name, scope in tables.items()}

    def _merge_row(self, row: Row, name: str, found: Found | None, floor: str) -> None:
        before = None if found is None else layout.held(found[0])
        after = row.after(before, floor)
        row.write = None
        if (after and after.document) == (before and before.document):
            return
        mapper = self._mapper.table(row.scope[1])
        assert mapper is not None, "rows of tables that are not followed were left out"
        body = b"" if after is None else layout.encode(layout.row_body(after, mapper))
        row.write = Write(name, None if found is None else found[1], body)

    def _look_again(self, floors: Mapping[Scope, str]) -> None:
        """Rows were written: where a table was truncated meanwhile, sweep once more."""
        for scope, floor in self._floors(floors).items():
            if floor > floors[scope]:
                self._sweep(scope, floor)

    def _truncate(self, scope: Scope, floor: str) -> bool:
        """Raise the watermark, then sweep: also when it stands there already, for the sweep may have been cut off."""
        before = self._change_table(scope, floor)
        if floor >= before:
            self._sweep(scope, floor)
        return floor > before

    def _sweep(self, scope: Scope, floor: str) -> None:
        if floor == NO_POSITION:
            return
        self._client.indices.refresh(index=self.index)
        own = [{"term": {"kind": "row"}}, {"term": {"source": scope[0]}}, {"term": {"table": str(scope[1])}}]
        gone = {"bool": {"filter": [*own, {"range": {"position": {"lte": floor}}}]}}
        self._client.delete_by_query(index=self.index, body={"query": gone}, conflicts="proceed", refresh=True)
        late = {"query": {"bool": {"filter": [*own, {"range": {"base": {"lte": floor}}}]}}, "_source": ["key"]}
        keys = [hit["_source"]["key"] for hit in scan(self._client, index=self.index, query=late, size=1_000)]
        for start in range(0, len(keys), 1_000):
            self._write([Row(scope, key) for key in keys[start : start + 1_000]])

    def _learn_columns(self, rows: Sequence[Row]) -> None:
        seen: dict[Scope, set[str]] = {}
        for row in rows:
            for change in row.changes:
                seen.setdefault(row.scope, set()).update(change.after or ())
        for scope, columns in seen.items():
            if not self._columns.get(scope, frozenset()).issuperset(columns):
                self._change_table(scope, NO_POSITION, frozenset(columns))

    def _change_table(self, scope: Scope, floor: str, columns: frozenset[str] = frozenset()) -> str:
        """Raise a table's watermark, add to its columns; returns the watermark as it was before."""
        name = layout.table_id(*scope)
        for _ in range(_TRIES):
            found = self._read([name]).get(name)
            held = layout.floor_of(found[0]) if found else Floor(*scope, NO_POSITION, (), "")
            wanted = replace(held, position=max(held.position, floor), columns=sorted(columns.union(held.columns)))
            write = Write(name, found[1] if found else None, layout.encode(layout.floor_body(wanted)))
            if (found and wanted == held) or self._bulk.write([write])[0].version:
                self._columns[scope] = frozenset(wanted.columns)
                return held.position
        raise TransientSinkError(f"OpenSearch has other writers of {scope[1]}'s watermark")

    def _held(self, names: Iterable[str]) -> dict[str, Found]:
        """Those of them that this process wrote last, as far as it remembers."""
        return {name: found for name in names if (found := self._recent.get(name)) is not None}

    def _read(self, ids: Sequence[str]) -> Mapping[str, Found]:
        if not ids:
            return {}
        answer = self._client.mget(index=self.index, body={"ids": list(ids)}, _source_includes=",".join(layout.STATE))
        return {
            one["_id"]: (one["_source"], Version(one["_seq_no"], one["_primary_term"]))
            for one in answer["docs"]
            if one.get("found")
        }
