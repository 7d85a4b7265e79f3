"""Applies changes to an OpenSearch index: read, merge, write only if nobody wrote in between, else again.

Each write names the `_seq_no` and `_primary_term` that was read (or that the document must not exist), so a row's
merge is never lost to another writer: a shard that changes hands, a reindex, a redriven dead letter. See
docs/decisions/search-opensearch-versions.md for why not external versions.

A table's watermark is written before rows below it are swept away, and looked at again after rows were written: of a
truncate and a late insert, whoever comes second sees the other.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import SystemRandom
from typing import Any

from msgspec import structs
from opensearchpy import OpenSearch
from opensearchpy.helpers import scan

from cdckit.change import Change, Op, Table
from cdckit.errors import TransientSinkError
from cdckit.sink import Outcome
from consumers.search.document import NOWHERE, Document, above, join, merge
from consumers.search.engine import Floor, Held
from consumers.search.mapping import IndexMapping, Mapper, TableMapper
from consumers.search.opensearch import layout
from consumers.search.opensearch.bulk import Bulk, Version, Write
from consumers.search.opensearch.client import writing
from consumers.search.opensearch.recent import Recent

_TRIES = 8
_JITTER = SystemRandom()  # no state that is shared: a seeded process, or one that was forked, jitters too

Scope = tuple[str, Table]


@dataclass(slots=True)
class _Row:
    """One row to be written: what shall be done to it, and after `merge` what came of it."""

    scope: Scope
    key: str
    changes: list[Change] = field(default_factory=list)
    joined: Held | None = None
    applied: int = 0
    write: Write | None = None

    @property
    def is_new(self) -> bool:
        """Whether its first change is an insert: most likely nothing is held of it."""
        return bool(self.changes) and self.changes[0].op is Op.INSERT


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
            rows: dict[tuple[Scope, str], _Row] = {}
            for change in changes:
                scope = (change.source, change.table)
                mapper = self._mapper.table(change.table)
                if mapper is None:
                    applied += 1
                elif change.op is Op.TRUNCATE:
                    applied += self._write(list(rows.values())) + self._truncate(scope, change.position.sort_key)
                    rows = {}
                else:
                    row = rows.setdefault((scope, change.key_text), _Row(scope, change.key_text))
                    row.changes.append(_kept(change, mapper))
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
            chunk: list[_Row] = []
            for held in rows:
                if mapper := self._mapper.table(held.table):
                    values = mapper.kept(held.document.values)
                    joined = replace(held, document=structs.replace(held.document, values=values))
                    chunk.append(_Row((held.source, held.table), held.key, joined=joined))
                    count += 1
                if len(chunk) == size:
                    self._write(chunk)
                    chunk = []
            self._write(chunk)
        return count

    def _write(self, rows: Sequence[_Row]) -> int:
        """Merge and write these rows, each until nobody else came in between; how many changes had an effect."""
        self._learn_columns(rows)
        waiting, busy = list(rows), False
        for attempt in range(_TRIES):
            if not waiting:
                break
            if attempt:
                time.sleep(0.05 * 2**attempt * _JITTER.random())
            blind = [row for row in waiting if row.is_new] if self._trusting and not attempt else []
            floors = self._merge(waiting, blind)
            again, busy = self._send(waiting)
            self._trusting = self._trusting and len(again) <= len(blind) // 10
            waiting = [*again, *(row for row in blind if row.write is None)]
            self._look_again(floors)
        if waiting:
            why = "is busy" if busy else "has other writers of the same rows"
            raise TransientSinkError(f"OpenSearch {why}: {len(waiting)} rows were not written in {_TRIES} tries")
        return sum(row.applied for row in rows)

    def _send(self, rows: Sequence[_Row]) -> tuple[list[_Row], bool]:
        """Write them; returns those to be tried again, and whether the server was too busy for one."""
        again, busy = list[_Row](), False
        writes = [(row, row.write) for row in rows if row.write is not None]
        for (row, write), result in zip(writes, self._bulk.write([write for _, write in writes]), strict=True):
            if result.version is None:
                self._recent.forget(write.name)
                again.append(row)
                busy = busy or result.busy
            else:
                self._recent.wrote(write.name, write.body, result.version)
        return again, busy

    def _merge(self, rows: Sequence[_Row], blind: Sequence[_Row]) -> Mapping[Scope, str]:
        """Read what is held and work out what to write; returns the watermarks that were in force.

        `blind` rows are taken for new without a look: OpenSearch refuses to create one that is there.
        """
        tables = {layout.table_id(*scope): scope for scope in {row.scope for row in rows}}
        ids = [layout.row_id(*row.scope, row.key) for row in rows]
        unread = set(map(id, blind))
        asked = [name for row, name in zip(rows, ids, strict=True) if id(row) not in unread]
        found = self._held(asked)
        found |= self._read([*tables, *(name for name in asked if name not in found)])
        if not blind:
            self._trusting = not any(row.is_new and name in found for row, name in zip(rows, ids, strict=True))
        floors = {scope: str(found[name][0]["floor"]) if name in found else NOWHERE for name, scope in tables.items()}
        for row, name in zip(rows, ids, strict=True):
            self._merge_row(row, name, found.get(name), floors[row.scope])
        return floors

    def _merge_row(self, row: _Row, name: str, found: Found | None, floor: str) -> None:
        before = None if found is None else layout.held(found[0])
        document = None if before is None else above(before.document, floor)
        commit_time = "" if before is None else before.commit_time
        row.applied, row.write = 0, None
        for change in row.changes:
            merged = merge(document, change, floor)
            if merged is not None:
                commit_time = change.commit_time.isoformat() if _moved(document, merged) else commit_time
                document, row.applied = merged, row.applied + 1
        if row.joined is not None and (standing := above(row.joined.document, floor)):
            merged = standing if document is None else join(document, standing)
            commit_time = row.joined.commit_time if _moved(document, merged) else commit_time
            document = merged
        if document == (None if before is None else before.document):
            return
        body = b""
        if document is not None:
            mapper = self._mapper.table(row.scope[1])
            assert mapper is not None, "rows of tables that are not followed were left out"
            body = layout.encode(layout.row_body(Held(*row.scope, row.key, document, commit_time), mapper))
        row.write = Write(name, None if found is None else found[1], body, f"{row.scope[1]} {row.key[:200]}")

    def _look_again(self, floors: Mapping[Scope, str]) -> None:
        """Rows were written: where a table was truncated meanwhile, sweep once more."""
        found = self._read([layout.table_id(*scope) for scope in floors])
        for scope, floor in floors.items():
            now = found.get(layout.table_id(*scope))
            if now is not None and now[0]["floor"] > floor:
                self._sweep(scope, now[0]["floor"])

    def _truncate(self, scope: Scope, floor: str) -> bool:
        """Raise the watermark, then sweep: also when it stands there already, for the sweep may have been cut off."""
        before = self._change_table(scope, floor)
        if floor >= before:
            self._sweep(scope, floor)
        return floor > before

    def _sweep(self, scope: Scope, floor: str) -> None:
        if floor == NOWHERE:
            return
        self._client.indices.refresh(index=self.index)
        own = [{"term": {"kind": "row"}}, {"term": {"source": scope[0]}}, {"term": {"table": str(scope[1])}}]
        gone = {"bool": {"filter": [*own, {"range": {"position": {"lte": floor}}}]}}
        self._client.delete_by_query(index=self.index, body={"query": gone}, conflicts="proceed", refresh=True)
        late = {"query": {"bool": {"filter": [*own, {"range": {"base": {"lte": floor}}}]}}, "_source": ["key"]}
        keys = [hit["_source"]["key"] for hit in scan(self._client, index=self.index, query=late, size=1_000)]
        for start in range(0, len(keys), 1_000):
            self._write([_Row(scope, key) for key in keys[start : start + 1_000]])

    def _learn_columns(self, rows: Sequence[_Row]) -> None:
        seen: dict[Scope, set[str]] = {}
        for row in rows:
            for change in row.changes:
                seen.setdefault(row.scope, set()).update(change.after or ())
        for scope, columns in seen.items():
            if not self._columns.get(scope, frozenset()).issuperset(columns):
                self._change_table(scope, NOWHERE, frozenset(columns))

    def _change_table(self, scope: Scope, floor: str, columns: frozenset[str] = frozenset()) -> str:
        """Raise a table's watermark, add to its columns; returns the watermark as it was before."""
        name = layout.table_id(*scope)
        for _ in range(_TRIES):
            found = self._read([name]).get(name)
            held = layout.floor_of(found[0]) if found else Floor(*scope, NOWHERE, (), "")
            wanted = replace(held, position=max(held.position, floor), columns=sorted(columns.union(held.columns)))
            write = Write(name, found[1] if found else None, layout.encode(layout.floor_body(wanted)), f"{scope[1]}")
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


def _kept(change: Change, mapper: TableMapper) -> Change:
    if change.after is None or not mapper.excluded:
        return change
    return replace(change, after=mapper.kept(change.after))


def _moved(before: Document | None, after: Document) -> bool:
    return before is None or before.position != after.position
