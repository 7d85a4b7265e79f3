"""Applies changes to one SQLite generation: a batch is one transaction, read, merged and written in bulk."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from cdckit.change import Change, Op, Table
from cdckit.errors import PoisonChange
from cdckit.rows import NO_POSITION, RowState, apply_floor, ordered_values
from cdckit.sink import Outcome
from consumers.search.engine import StoredRow, TableWatermark
from consumers.search.exact_json import decode, encode
from consumers.search.mapping import IndexMapping, MappedRow, Mapper
from consumers.search.sqlite.background_commits import BackgroundCommits
from consumers.search.sqlite.schema import connect, meta, translated
from consumers.search.sqlite.write_buffer import BufferedRow, TableState, WriteBuffer, epoch_seconds

_READ = """
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
_LOAD_ROWS = 5_000


class GenerationReplaced(Exception):
    """Raised when writers have been switched to another generation; the argument is the name of its file."""


class SqliteIndexStore:
    """One generation, open for writing. Use it in one thread; other processes may have it open too."""

    def __init__(self, path: Path) -> None:
        """Open the file. Raises SatelliteError when it is missing, damaged or of another version."""
        self.path = path
        self.connection = connect(path)
        self._commits = BackgroundCommits(self.connection, path)
        with ExitStack() as on_error:
            on_error.callback(self.close)
            with translated(path):
                self.mapping = IndexMapping.decode(meta(self.connection, "mapping"))
            self._mapper = Mapper(self.mapping)
            on_error.pop_all()
        self._tables: dict[tuple[str, Table], TableState] = {}

    def apply(self, changes: Sequence[Change]) -> Outcome:
        """Apply all changes in one transaction; durable after `flush`.

        Raises GenerationReplaced (then nothing was applied), TransientSinkError when other writers lock the file, and
        PoisonChange.
        """
        applied = 0
        with translated(self.path):
            try:
                with self._commits.transaction():
                    self._begin()
                    for run in _runs(changes):
                        applied += self._truncate(run[0]) if run[0].op is Op.TRUNCATE else self._rows(run)
                    self._store_tables()
            except (sqlite3.DataError, UnicodeEncodeError, OverflowError) as error:
                raise PoisonChange(f"SQLite cannot hold the row: {error}") from error
        return Outcome(applied, len(changes) - applied)

    def load(self, watermarks: Iterable[TableWatermark], rows: Iterable[StoredRow]) -> int:
        """Join watermarks and rows of another generation into this one. Returns the number of rows that it indexes."""
        with translated(self.path), self._commits.transaction():
            self._begin()
            for watermark in watermarks:
                if table := self._table(watermark.source, watermark.table):
                    table.newest, table.changed = max(table.newest, epoch_seconds(watermark.newest)), True
                    table.columns = table.columns.union(watermark.columns) - frozenset(table.mapper.excluded)
                    self._raise_watermark(table, watermark.position)
            self._store_tables()
        count = sum(map(self._load, _chunks(rows, _LOAD_ROWS)))
        self.flush()
        return count

    def _load(self, rows: Sequence[StoredRow]) -> int:
        by_table: dict[tuple[str, Table], list[StoredRow]] = {}
        for row in rows:
            by_table.setdefault((row.source, row.table), []).append(row)
        count = 0
        with translated(self.path), self._commits.transaction():
            self._begin()
            for name, group in by_table.items():
                if table := self._table(*name):
                    buffer = self._read(table, [row.key for row in group])
                    count += len(group)
                    for row in group:
                        buffer.join_row(row)
                    self._write(buffer)
        return count

    def flush(self) -> None:
        """Make all applied changes durable. Raises SatelliteError."""
        self._commits.wait()

    def close(self) -> None:
        """Close the file."""
        self._commits.close()

    def _begin(self) -> None:
        if successor := meta(self.connection, "successor"):
            raise GenerationReplaced(successor)
        self._tables = {}
        for row in self.connection.execute("SELECT id, source, tbl, floor, columns, newest FROM scope").fetchall():
            table = Table.parse(row[2])
            if mapper := self._mapper.table(table):
                columns = frozenset(msgspec.json.decode(row[4]))
                self._tables[row[1], table] = TableState(row[0], row[1], table, row[3], columns, row[5], mapper)
        [(self._next,)] = self.connection.execute("SELECT coalesce(max(number), 0) + 1 FROM document").fetchall()

    def _table(self, source: str, table: Table) -> TableState | None:
        """The state of a table; None when the mapping does not index it."""
        found = self._tables.get((source, table))
        if found is None and (mapper := self._mapper.table(table)):
            [(number,)] = self.connection.execute(_SCOPE, (source, str(table), NO_POSITION, "[]", 0.0)).fetchall()
            found = TableState(number, source, table, NO_POSITION, frozenset(), 0.0, mapper)
            self._tables[source, table] = found
        return found

    def _store_tables(self) -> None:
        for state in self._tables.values():
            if state.changed:
                columns = encode(sorted(state.columns)).decode()
                values = (state.source, str(state.table), state.watermark, columns, state.newest)
                self.connection.execute(_SCOPE, values).fetchall()

    def _rows(self, changes: Sequence[Change]) -> int:
        """Apply changes of rows. Returns how many had an effect; a change of a table that is not indexed counts."""
        applied = 0
        by_table: dict[tuple[str, Table], list[Change]] = {}
        for change in changes:
            by_table.setdefault((change.source, change.table), []).append(change)
        for name, group in by_table.items():
            table = self._table(*name)
            if table is None:
                applied += len(group)
                continue
            keys = [change.key_text for change in group]
            buffer = self._read(table, keys)
            for key, change in zip(keys, group, strict=True):
                applied += buffer.merge_change(key, change)
            self._write(buffer)
        return applied

    def _read(self, table: TableState, keys: Sequence[str]) -> WriteBuffer:
        rows = self.connection.execute(_READ, (encode(list(dict.fromkeys(keys))).decode(), table.number))
        return WriteBuffer(table, {
            row[0]: BufferedRow(
                row[1], bool(row[2]), RowState(row[3], bool(row[4]), row[5], decode(row[6]), decode(row[7])), row[8]
            )
            for row in rows
        })  # fmt: skip

    def _write(self, buffer: WriteBuffer) -> None:
        now, table = time.time(), buffer.table
        inserts, updates = list[Any](), list[Any]()
        new_texts, replaced_texts, deleted_texts = list[Any](), list[Any](), list[Any]()
        for key, row in buffer.rows.items():
            state = row.state
            if state is None or not row.changed:
                continue
            indexed, values = None, ordered_values(state)
            if not state.deleted:
                indexed = table.mapper.index(MappedRow(table.source, table.table, key, values))
            shown = None if indexed is None or indexed.shown is values else encode(indexed.shown).decode()
            cells = (*_state_cells(state), indexed is not None, row.commit_time, shown, now)
            if row.number is None:
                row.number, self._next = self._next, self._next + 1
                inserts.append((row.number, table.number, key, *cells))
            else:
                updates.append((*cells, row.number))
            if indexed is not None:
                text = (row.number, indexed.title, indexed.body, indexed.tags)
                (replaced_texts if row.visible else new_texts).append(text)
            elif row.visible:
                deleted_texts.append((row.number,))
        run = self.connection.executemany
        run(_INSERT, inserts)
        run(_UPDATE, updates)
        # FTS5 flushes its memory whenever a row's number is not above the last one: so in order, and new rows last
        run("DELETE FROM fulltext WHERE rowid = ?", sorted(deleted_texts))
        run("INSERT OR REPLACE INTO fulltext (rowid, title, body, tags) VALUES (?, ?, ?, ?)", sorted(replaced_texts))
        run("INSERT INTO fulltext (rowid, title, body, tags) VALUES (?, ?, ?, ?)", new_texts)

    def _truncate(self, change: Change) -> bool:
        table, watermark = self._table(change.source, change.table), change.position.sort_key
        if table is None:
            return True
        if watermark <= table.watermark:
            return False
        table.newest, table.changed = max(table.newest, change.commit_time.timestamp()), True
        self._raise_watermark(table, watermark)
        return True

    def _raise_watermark(self, table: TableState, watermark: str) -> None:
        """Raise a table's watermark, and remove what is at or below it, also from rows that are above it."""
        if watermark <= table.watermark:
            return
        table.watermark = watermark
        run = self.connection.execute
        truncated = "FROM document WHERE scope = ? AND position <= ?"
        run(f"DELETE FROM fulltext WHERE rowid IN (SELECT number {truncated})", (table.number, watermark))  # noqa: S608
        run(f"DELETE {truncated}", (table.number, watermark))
        query = "SELECT key FROM document WHERE scope = ? AND base <= ?"
        older_base = run(query, (table.number, watermark)).fetchall()
        buffer = self._read(table, [key for (key,) in older_base])
        for row in buffer.rows.values():
            assert row.state is not None
            row.state, row.changed = apply_floor(row.state, watermark), True
        self._write(buffer)


def iso_time(seconds: float) -> str:
    """Seconds since 1970 as an ISO 8601 time in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _state_cells(state: RowState) -> tuple[object, ...]:
    values = {} if state.deleted else state.values
    fills = encode(state.fills).decode() if state.fills else "{}"
    return state.position, state.deleted, state.base, encode(values).decode(), fills


def _runs(changes: Sequence[Change]) -> Iterable[Sequence[Change]]:
    """The changes in runs of row changes; each truncate is a run of its own."""
    start = 0
    for at, change in enumerate(changes):
        if change.op is Op.TRUNCATE:
            if start < at:
                yield changes[start:at]
            yield changes[at : at + 1]
            start = at + 1
    if start < len(changes):
        yield changes[start:]


def _chunks(rows: Iterable[StoredRow], size: int) -> Iterable[Sequence[StoredRow]]:
    chunk: list[StoredRow] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
