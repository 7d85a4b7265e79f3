"""The index on SQLite FTS5: documents with their positions, and the text index beside them, in one file.

Several processes (one a shard) write it: WAL, ``BEGIN IMMEDIATE``, a busy timeout and short transactions, so that
writers take turns and readers never wait. Each commit is durable (``synchronous=FULL``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from cdckit.change import Change, Op, Value
from cdckit.errors import SatelliteError, TransientSinkError
from cdckit.sink import Outcome
from consumers.search.document import NOWHERE, Document, above, merge

FILE = "search.sqlite"
VERSION = 1
_BUSY_SECONDS = 30

_SCHEMA = """
CREATE TABLE document (
  number INTEGER PRIMARY KEY, source TEXT NOT NULL, tbl TEXT NOT NULL, key TEXT NOT NULL, position TEXT NOT NULL,
  deleted INTEGER NOT NULL, base TEXT NOT NULL, cells TEXT NOT NULL, fills TEXT NOT NULL, commit_time TEXT NOT NULL,
  UNIQUE (source, tbl, key)
);
CREATE TABLE watermark (
  source TEXT NOT NULL, tbl TEXT NOT NULL, position TEXT NOT NULL, PRIMARY KEY (source, tbl)
) WITHOUT ROWID;
CREATE TABLE col (
  source TEXT NOT NULL, tbl TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (source, tbl, name)
) WITHOUT ROWID;
CREATE VIRTUAL TABLE body USING fts5(text, tokenize = 'unicode61 remove_diacritics 2');
"""
_DOCUMENT = (
    "SELECT number, position, deleted, base, cells, fills FROM document WHERE source = ? AND tbl = ? AND key = ?"
)
_UPSERT = """
INSERT INTO document (source, tbl, key, position, deleted, base, cells, fills, commit_time)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (source, tbl, key) DO UPDATE SET position = excluded.position, deleted = excluded.deleted,
  base = excluded.base, cells = excluded.cells, fills = excluded.fills, commit_time = excluded.commit_time
RETURNING number
"""

_encode = msgspec.json.Encoder(decimal_format="number").encode
_decode = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode


class Store:
    """One open index. One process, one thread; other processes may have it open too."""

    def __init__(self, folder: Path, *, create: bool) -> None:
        """Open it. Raises SatelliteError when it is missing (and `create` is false) or made by a newer version."""
        path = folder / FILE
        if not create and not path.exists():
            raise SatelliteError(
                f"there is no search index in {folder}", "cdcctl consumer run search makes and fills it"
            )
        folder.mkdir(parents=True, exist_ok=True)
        self.connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        self._known: set[tuple[str, str, str]] = set()
        with translated(path):
            self.connection.execute("PRAGMA journal_mode = WAL")
            self.connection.execute("PRAGMA synchronous = FULL")
            self._prepare(path)

    def apply(self, changes: Iterable[Change]) -> Outcome:
        """Apply the changes in one transaction, durable when this returns. Raises TransientSinkError when busy."""
        outcome = Outcome()
        try:
            with self.transaction():
                for change in changes:
                    done = self._truncate(change) if change.op is Op.TRUNCATE else self._change(change)
                    outcome += Outcome(applied=1) if done else Outcome(superseded=1)
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                raise TransientSinkError(f"the search index is busy: {error}") from error
            raise
        return outcome

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A write transaction: begun at once, so that it never fails half-way for a lock."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def _change(self, change: Change) -> bool:
        scope = (change.source, str(change.table))
        where = (*scope, change.key_text)
        row = self.connection.execute(_DOCUMENT, where).fetchone()
        held = None if row is None else Document(row[1], bool(row[2]), row[3], _decode(row[4]), _decode(row[5]))
        merged = merge(held, change, self._floor(scope))
        if merged is None:
            return False
        self._learn_columns(change)
        self._write(where, merged, change.commit_time.isoformat())
        return True

    def _truncate(self, change: Change) -> bool:
        scope, floor = (change.source, str(change.table)), change.position.sort_key
        if floor <= self._floor(scope):
            return False
        self.connection.execute("INSERT OR REPLACE INTO watermark VALUES (?, ?, ?)", (*scope, floor))
        gone = "SELECT number FROM document WHERE source = ? AND tbl = ? AND position <= ?"
        self.connection.execute(f"DELETE FROM body WHERE rowid IN ({gone})", (*scope, floor))  # noqa: S608
        self.connection.execute("DELETE FROM document WHERE source = ? AND tbl = ? AND position <= ?", (*scope, floor))
        rest = (
            "SELECT key, position, deleted, base, cells, fills, commit_time FROM document WHERE source = ? AND tbl = ?"
        )
        for key, *row, commit_time in self.connection.execute(rest, scope).fetchall():
            kept = above(Document(row[0], bool(row[1]), row[2], _decode(row[3]), _decode(row[4])), floor)
            assert kept is not None, "what is at or below the floor was deleted above"
            self._write((*scope, key), kept, commit_time)
        return True

    def _write(self, where: tuple[str, str, str], document: Document, commit_time: str) -> None:
        values = {} if document.deleted else document.values
        row = (
            *where, document.position, document.deleted, document.base, _encode(values).decode(),
            _encode(document.fills).decode(), commit_time,
        )  # fmt: skip
        [(number,)] = self.connection.execute(_UPSERT, row).fetchall()
        self.connection.execute("DELETE FROM body WHERE rowid = ?", (number,))
        if not document.deleted:
            self.connection.execute("INSERT INTO body (rowid, text) VALUES (?, ?)", (number, _text(values.values())))

    def _floor(self, scope: tuple[str, str]) -> str:
        row = self.connection.execute("SELECT position FROM watermark WHERE source = ? AND tbl = ?", scope).fetchone()
        return NOWHERE if row is None else str(row[0])

    def _learn_columns(self, change: Change) -> None:
        named = {(change.source, str(change.table), name) for name in change.after or ()}
        if fresh := named - self._known:
            self.connection.executemany("INSERT OR IGNORE INTO col VALUES (?, ?, ?)", sorted(fresh))
            self._known |= fresh

    def _prepare(self, path: Path) -> None:
        [(version,)] = self.connection.execute("PRAGMA user_version").fetchall()
        if version > VERSION:
            raise SatelliteError(
                f"{path} was made by a newer version ({version}, this one reads {VERSION})", "upgrade cdckit"
            )
        if version == VERSION:
            return
        with self.transaction():
            [(version,)] = self.connection.execute("PRAGMA user_version").fetchall()
            if version == 0:
                for statement in _SCHEMA.split(";"):
                    self.connection.execute(statement)
                self.connection.execute(f"PRAGMA user_version = {VERSION}")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """sqlite3's errors about a file that is no index, as SatelliteError."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise SatelliteError(
            f"{path} cannot be read: {error}", "delete it and run: cdcctl replay search --from earliest"
        ) from error


def document_values(cells: str) -> dict[str, Value]:
    """A stored document's columns, numbers exact."""
    values: dict[str, Value] = _decode(cells)
    return values


def _text(values: Iterable[Value]) -> str:
    return "\n".join(str(value) for value in values if value is not None and not isinstance(value, bool))
