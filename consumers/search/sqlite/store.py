"""Applies changes to one SQLite generation: a batch is one transaction, read, merged and written in bulk."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from cdckit.change import Change, Op, Table
from cdckit.errors import PoisonChange
from cdckit.sink import Outcome
from consumers.search.document import NOWHERE, Document, above, ordered
from consumers.search.engine import Floor, Held
from consumers.search.mapping import IndexMapping, Mapper, Row
from consumers.search.sqlite.commits import Commits
from consumers.search.sqlite.hand import Scope, Slot, joined_in, merged_in, seconds
from consumers.search.sqlite.schema import connect, meta, translated

_HELD = """
SELECT d.key, d.number, d.visible, d.position, d.deleted, d.base, d.cells, d.fills, d.commit_time
FROM json_each(?) wanted CROSS JOIN document d ON d.scope = ? AND d.key = wanted.value
"""
_INSERT = "INSERT INTO document VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_UPDATE = """
UPDATE document SET position = ?, deleted = ?, base = ?, cells = ?, fills = ?, visible = ?, commit_time = ?, shown = ?,
  touched = ? WHERE number = ?
"""
_SCOPE = """
INSERT INTO scope (source, tbl, floor, columns, newest) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (source, tbl) DO UPDATE SET floor = excluded.floor, columns = excluded.columns, newest = excluded.newest
RETURNING id
"""
_LOADED_AT_ONCE = 5_000

encode = msgspec.json.Encoder(decimal_format="number").encode
decode = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode


class Moved(Exception):
    """The generation is written no longer; its successor's file name is the argument."""


class Store:
    """One generation, open for writing. One process, one thread; other processes may have it open too."""

    def __init__(self, path: Path) -> None:
        """Open it. Raises SatelliteError when it is missing, damaged or of another version."""
        self.path = path
        self.connection = connect(path)
        self._commits = Commits(self.connection, path)
        with ExitStack() as on_error:
            on_error.callback(self.close)
            with translated(path):
                self.mapping = IndexMapping.decode(meta(self.connection, "mapping"))
            self._mapper = Mapper(self.mapping)
            on_error.pop_all()
        self._scopes: dict[tuple[str, Table], Scope] = {}

    def apply(self, changes: Sequence[Change]) -> Outcome:
        """Apply all in one transaction, durable once `flush` has returned.

        Raises Moved (nothing applied), TransientSinkError when other writers hold the file, PoisonChange.
        """
        applied = 0
        with translated(self.path):
            try:
                with self._commits.transaction():
                    self._begin()
                    for run in _runs(changes):
                        applied += self._truncate(run[0]) if run[0].op is Op.TRUNCATE else self._rows(run)
                    self._store_scopes()
            except (sqlite3.DataError, UnicodeEncodeError, OverflowError) as error:
                raise PoisonChange(f"SQLite cannot hold the row: {error}") from error
        return Outcome(applied, len(changes) - applied)

    def load(self, floors: Iterable[Floor], rows: Iterable[Held]) -> int:
        """Join another generation's watermarks and rows into this one; how many rows of tables that it follows."""
        with translated(self.path), self._commits.transaction():
            self._begin()
            for floor in floors:
                if scope := self._scope(floor.source, floor.table):
                    scope.newest, scope.changed = max(scope.newest, seconds(floor.newest)), True
                    scope.columns = scope.columns.union(floor.columns) - frozenset(scope.mapper.excluded)
                    self._raise_floor(scope, floor.position)
            self._store_scopes()
        count = sum(map(self._load, _chunks(rows, _LOADED_AT_ONCE)))
        self.flush()
        return count

    def _load(self, rows: Sequence[Held]) -> int:
        by_scope: dict[tuple[str, Table], list[Held]] = {}
        for one in rows:
            by_scope.setdefault((one.source, one.table), []).append(one)
        count = 0
        with translated(self.path), self._commits.transaction():
            self._begin()
            for where, own in by_scope.items():
                if scope := self._scope(*where):
                    slots = self._held(scope, [one.key for one in own])
                    count += len(own)
                    for one in own:
                        joined_in(scope, slots.setdefault(one.key, Slot()), one)
                    self._write(scope, slots)
        return count

    def flush(self) -> None:
        """All that was applied is durable. Raises SatelliteError."""
        self._commits.wait()

    def close(self) -> None:
        """Close the file."""
        self._commits.close()

    def _begin(self) -> None:
        if successor := meta(self.connection, "successor"):
            raise Moved(successor)
        self._scopes = {}
        for row in self.connection.execute("SELECT id, source, tbl, floor, columns, newest FROM scope").fetchall():
            table = Table.parse(row[2])
            if mapper := self._mapper.table(table):
                columns = frozenset(msgspec.json.decode(row[4]))
                self._scopes[row[1], table] = Scope(row[0], row[1], table, row[3], columns, row[5], mapper)
        [(self._next,)] = self.connection.execute("SELECT coalesce(max(number), 0) + 1 FROM document").fetchall()

    def _scope(self, source: str, table: Table) -> Scope | None:
        """The table's state; None when the mapping does not follow it."""
        found = self._scopes.get((source, table))
        if found is None and (mapper := self._mapper.table(table)):
            [(number,)] = self.connection.execute(_SCOPE, (source, str(table), NOWHERE, "[]", 0.0)).fetchall()
            found = Scope(number, source, table, NOWHERE, frozenset(), 0.0, mapper)
            self._scopes[source, table] = found
        return found

    def _store_scopes(self) -> None:
        for one in self._scopes.values():
            if one.changed:
                columns = encode(sorted(one.columns)).decode()
                self.connection.execute(_SCOPE, (one.source, str(one.table), one.floor, columns, one.newest)).fetchall()

    def _rows(self, changes: Sequence[Change]) -> int:
        """Apply changes of rows; how many had an effect. What the mapping leaves out has had its effect: none."""
        applied = 0
        by_scope: dict[tuple[str, Table], list[Change]] = {}
        for change in changes:
            by_scope.setdefault((change.source, change.table), []).append(change)
        for where, own in by_scope.items():
            scope = self._scope(*where)
            if scope is None:
                applied += len(own)
                continue
            keys = [change.key_text for change in own]
            slots = self._held(scope, keys)
            for key, change in zip(keys, own, strict=True):
                applied += merged_in(scope, slots, key, change)
            self._write(scope, slots)
        return applied

    def _held(self, scope: Scope, keys: Sequence[str]) -> dict[str, Slot]:
        rows = self.connection.execute(_HELD, (encode(list(dict.fromkeys(keys))).decode(), scope.number))
        return {
            row[0]: Slot(
                row[1], bool(row[2]), Document(row[3], bool(row[4]), row[5], decode(row[6]), decode(row[7])), row[8]
            )
            for row in rows
        }

    def _write(self, scope: Scope, slots: Mapping[str, Slot]) -> None:
        now = time.time()
        inserts, updates, texts, again, gone = list[Any](), list[Any](), list[Any](), list[Any](), list[Any]()
        for key, slot in slots.items():
            document = slot.document
            if document is None or not slot.changed:
                continue
            indexed, values = None, ordered(document)
            if not document.deleted:
                indexed = scope.mapper.index(Row(scope.source, scope.table, key, values))
            shown = None if indexed is None or indexed.shown is values else encode(indexed.shown).decode()
            cells = (*_state(document), indexed is not None, slot.commit_time, shown, now)
            if slot.number is None:
                slot.number, self._next = self._next, self._next + 1
                inserts.append((slot.number, scope.number, key, *cells))
            else:
                updates.append((*cells, slot.number))
            if indexed is not None:
                text = (slot.number, indexed.title, indexed.body, indexed.tags)
                (again if slot.visible else texts).append(text)
            elif slot.visible:
                gone.append((slot.number,))
        run = self.connection.executemany
        run(_INSERT, inserts)
        run(_UPDATE, updates)
        # FTS5 writes out what it gathered whenever a row's number is not above the last one: so in order, new ones last
        run("DELETE FROM fulltext WHERE rowid = ?", sorted(gone))
        run("INSERT OR REPLACE INTO fulltext (rowid, title, body, tags) VALUES (?, ?, ?, ?)", sorted(again))
        run("INSERT INTO fulltext (rowid, title, body, tags) VALUES (?, ?, ?, ?)", texts)

    def _truncate(self, change: Change) -> bool:
        scope, floor = self._scope(change.source, change.table), change.position.sort_key
        if scope is None:
            return True
        if floor <= scope.floor:
            return False
        scope.newest, scope.changed = max(scope.newest, change.commit_time.timestamp()), True
        self._raise_floor(scope, floor)
        return True

    def _raise_floor(self, scope: Scope, floor: str) -> None:
        """Remove what is at or below the floor, also from rows that are above it."""
        if floor <= scope.floor:
            return
        scope.floor = floor
        run = self.connection.execute
        gone = "FROM document WHERE scope = ? AND position <= ?"
        run(f"DELETE FROM fulltext WHERE rowid IN (SELECT number {gone})", (scope.number, floor))  # noqa: S608
        run(f"DELETE {gone}", (scope.number, floor))
        late = run("SELECT key FROM document WHERE scope = ? AND base <= ?", (scope.number, floor)).fetchall()
        slots = self._held(scope, [key for (key,) in late])
        for slot in slots.values():
            assert slot.document is not None
            slot.document, slot.changed = above(slot.document, floor), True
        self._write(scope, slots)


def iso(seconds: float) -> str:
    """A commit time as it is shown."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _state(document: Document) -> tuple[object, ...]:
    values = {} if document.deleted else document.values
    fills = encode(document.fills).decode() if document.fills else "{}"
    return document.position, document.deleted, document.base, encode(values).decode(), fills


def _runs(changes: Sequence[Change]) -> Iterable[Sequence[Change]]:
    """The changes cut at truncates, each of which stands alone."""
    start = 0
    for at, change in enumerate(changes):
        if change.op is Op.TRUNCATE:
            if start < at:
                yield changes[start:at]
            yield changes[at : at + 1]
            start = at + 1
    if start < len(changes):
        yield changes[start:]


def _chunks(rows: Iterable[Held], size: int) -> Iterable[Sequence[Held]]:
    chunk: list[Held] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
