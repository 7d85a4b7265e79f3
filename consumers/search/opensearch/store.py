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
from opensearchpy.exceptions import TransportError
from opensearchpy.helpers import scan

from cdckit.change import Change, Op, Table
from cdckit.errors import PoisonChange, SatelliteError, TransientSinkError
from cdckit.sink import Outcome
from consumers.search.document import NOWHERE, Document, above, join, merge
from consumers.search.engine import Floor, Held
from consumers.search.mapping import IndexMapping, Mapper, TableMapper
from consumers.search.opensearch import layout
from consumers.search.opensearch.client import writing

_MOST_BYTES = 8 * 1024 * 1024  # of one bulk request
_TRIES = 8
_JITTER = SystemRandom()  # no state that is shared: a seeded process, or one that was forked, jitters too
_REJECTED, _CONFLICT, _TOO_LARGE, _TOO_MUCH, _BUSY = 400, 409, 413, 429, (429, 503)

Scope = tuple[str, Table]


@dataclass(slots=True)
class _Row:
    """One row to be written: what shall be done to it, and after `merge` what came of it."""

    scope: Scope
    key: str
    changes: list[Change] = field(default_factory=list)
    joined: Held | None = None
    applied: int = 0
    body: bytes = b""
    action: bytes = b""

    @property
    def is_new(self) -> bool:
        """Whether its first change is an insert: most likely nothing is held of it."""
        return bool(self.changes) and self.changes[0].op is Op.INSERT


@dataclass(frozen=True, slots=True)
class _Found:
    """A document as it was read: its source, and what a write must name."""

    source: Mapping[str, Any]
    seq_no: int
    term: int


class Store:
    """One index, open for writing. Any number of other processes may write it too."""

    def __init__(self, client: OpenSearch, url: str, index: str, mapping: IndexMapping) -> None:
        """Nothing is asked of the server yet."""
        self.index, self.mapping = index, mapping
        self._client, self._url = client, url
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
        waiting, passing = list(rows), 0
        for attempt in range(_TRIES):
            if not waiting:
                break
            if attempt:
                time.sleep(0.05 * 2**attempt * _JITTER.random())
            blind = [row for row in waiting if row.is_new] if self._trusting and not attempt else []
            floors = self._merge(waiting, blind)
            again, passing = self._bulk([row for row in waiting if row.action])
            self._trusting = self._trusting and len(again) <= len(blind) // 10
            waiting = [*again, *(row for row in blind if not row.action)]
            self._look_again(floors)
        if waiting:
            why = "is busy" if passing else "has other writers of the same rows"
            raise TransientSinkError(f"OpenSearch {why}: {len(waiting)} rows were not written in {_TRIES} tries")
        return sum(row.applied for row in rows)

    def _merge(self, rows: Sequence[_Row], blind: Sequence[_Row]) -> Mapping[Scope, str]:
        """Read what is held and work out what to write; returns the watermarks that were in force.

        `blind` rows are taken for new without a look: OpenSearch refuses to create one that is there.
        """
        tables = {layout.table_id(*scope): scope for scope in {row.scope for row in rows}}
        ids = [layout.row_id(*row.scope, row.key) for row in rows]
        unread = set(map(id, blind))
        found = self._read([*tables, *(name for row, name in zip(rows, ids, strict=True) if id(row) not in unread)])
        if not blind:
            self._trusting = not any(row.is_new and name in found for row, name in zip(rows, ids, strict=True))
        floors = {
            scope: str(found[name].source["floor"]) if name in found else NOWHERE for name, scope in tables.items()
        }
        for row, name in zip(rows, ids, strict=True):
            self._merge_row(row, name, found.get(name), floors[row.scope])
        return floors

    def _merge_row(self, row: _Row, name: str, found: _Found | None, floor: str) -> None:
        before = None if found is None else layout.held(found.source)
        document = None if before is None else above(before.document, floor)
        commit_time = "" if before is None else before.commit_time
        row.applied, row.action, row.body = 0, b"", b""
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
        guard = {} if found is None else {"if_seq_no": found.seq_no, "if_primary_term": found.term}
        verb = "delete" if document is None else "create" if found is None else "index"
        row.action = layout.encode({verb: {"_id": name, **guard}}) + b"\n"
        if document is not None:
            mapper = self._mapper.table(row.scope[1])
            assert mapper is not None, "rows of tables that are not followed were left out"
            row.body = layout.encode(layout.row_body(Held(*row.scope, row.key, document, commit_time), mapper)) + b"\n"

    def _bulk(self, rows: Sequence[_Row]) -> tuple[list[_Row], bool]:
        """Write them; returns those to be tried again, and whether the server was too busy for one."""
        again: list[_Row] = []
        busy = False
        for chunk in _chunks(rows):
            for row, item in zip(chunk, self._send(chunk), strict=True):
                [result] = item.values()
                if result["status"] in (_CONFLICT, *_BUSY):
                    again.append(row)
                    busy = busy or result["status"] in _BUSY
                elif result["status"] == _REJECTED:
                    raise _poison(row, result["error"])
                elif "error" in result:
                    why = result["error"].get("reason")
                    raise SatelliteError(
                        f"OpenSearch answers {result['status']} to writes of {self.index}: {why}",
                        "see the index's blocks and the server's log; nothing is lost, the consumer goes on from there",
                    )
        return again, busy

    def _send(self, rows: Sequence[_Row]) -> Sequence[Mapping[str, Any]]:
        """One bulk request, or several when the server finds it too large; each row's result."""
        body = b"".join(row.action + row.body for row in rows)
        try:
            answer = self._client.bulk(index=self.index, body=body, filter_path="items.*.status,items.*.error")
        except TransportError as error:
            if error.status_code not in (_TOO_LARGE, _TOO_MUCH) or (len(rows) == 1 and error.status_code == _TOO_MUCH):
                raise
            if len(rows) == 1:
                raise _poison(rows[0], {"reason": f"{len(body)} bytes are too large for it"}) from error
            half = len(rows) // 2
            return [*self._send(rows[:half]), *self._send(rows[half:])]
        items: Sequence[Mapping[str, Any]] = answer["items"]
        return items

    def _look_again(self, floors: Mapping[Scope, str]) -> None:
        """Rows were written: where a table was truncated meanwhile, sweep once more."""
        found = self._read([layout.table_id(*scope) for scope in floors])
        for scope, floor in floors.items():
            now = found.get(layout.table_id(*scope))
            if now is not None and now.source["floor"] > floor:
                self._sweep(scope, now.source["floor"])

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
            held = layout.floor_of(found.source) if found else Floor(*scope, NOWHERE, (), "")
            wanted = replace(held, position=max(held.position, floor), columns=sorted(columns.union(held.columns)))
            guard = {"if_seq_no": found.seq_no, "if_primary_term": found.term} if found else {}
            row = _Row(scope, "")
            row.action = layout.encode({"index" if found else "create": {"_id": name, **guard}}) + b"\n"
            row.body = layout.encode(layout.floor_body(wanted)) + b"\n"
            if (found and wanted == held) or not self._bulk([row])[0]:
                self._columns[scope] = frozenset(wanted.columns)
                return held.position
        raise TransientSinkError(f"OpenSearch has other writers of {scope[1]}'s watermark")

    def _read(self, ids: Sequence[str]) -> Mapping[str, _Found]:
        if not ids:
            return {}
        answer = self._client.mget(index=self.index, body={"ids": list(ids)}, _source_includes=",".join(layout.STATE))
        return {
            one["_id"]: _Found(one["_source"], one["_seq_no"], one["_primary_term"])
            for one in answer["docs"]
            if one.get("found")
        }


def _kept(change: Change, mapper: TableMapper) -> Change:
    if change.after is None or not mapper.excluded:
        return change
    return replace(change, after=mapper.kept(change.after))


def _moved(before: Document | None, after: Document) -> bool:
    return before is None or before.position != after.position


def _poison(row: _Row, error: Mapping[str, Any]) -> PoisonChange:
    cause = error.get("caused_by", {}).get("reason", "")
    return PoisonChange(f"OpenSearch rejects {row.scope[1]} {row.key[:200]}: {error.get('reason')} {cause}".strip())


def _chunks(rows: Sequence[_Row]) -> Iterable[Sequence[_Row]]:
    chunk: list[_Row] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += len(row.body)
        if size >= _MOST_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
