"""The audit log on SQLite: append-only by trigger, every change once by source and position, a hash chain a shard.

Several processes (one a shard) write it: WAL, ``BEGIN IMMEDIATE``, a busy timeout and short transactions. Each commit
is durable (``synchronous=FULL``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from cdckit.errors import SatelliteError, TransientSinkError
from cdckit.sink import Outcome, Received
from consumers.audit.chain import GENESIS, Entry, link

FILE = "audit.sqlite"
VERSION = 1
_BUSY_SECONDS = 30
_COLUMNS = (
    "chain, number, source, position, op, tbl, key, commit_time, xid, before, after, annotation, key_change, "
    "sequence_number, sub_sequence_number"
)
_SCHEMA = (
    """
    CREATE TABLE entry (
      chain TEXT NOT NULL, number INTEGER NOT NULL, source TEXT NOT NULL, position TEXT NOT NULL, op TEXT NOT NULL,
      tbl TEXT NOT NULL, key TEXT NOT NULL, commit_time TEXT NOT NULL, xid INTEGER, before TEXT, after TEXT,
      annotation TEXT, key_change INTEGER NOT NULL, sequence_number TEXT NOT NULL, sub_sequence_number INTEGER NOT NULL,
      hash BLOB NOT NULL, PRIMARY KEY (chain, number), UNIQUE (source, position)
    )
    """,
    "CREATE INDEX entry_row ON entry (source, tbl, key, position)",
    "CREATE INDEX entry_xid ON entry (xid)",
    "CREATE INDEX entry_time ON entry (commit_time)",
    "CREATE TRIGGER entry_no_update BEFORE UPDATE ON entry BEGIN SELECT raise(ABORT, 'append-only'); END",
    "CREATE TRIGGER entry_no_delete BEFORE DELETE ON entry BEGIN SELECT raise(ABORT, 'append-only'); END",
)
_encoder = msgspec.json.Encoder(decimal_format="number")


class Store:
    """One open log. One process, one thread; other processes may have it open too."""

    def __init__(self, folder: Path, *, create: bool) -> None:
        """Open it. Raises SatelliteError when it is missing (and `create` is false), damaged, or too new."""
        path = folder / FILE
        if not create and not path.exists():
            raise SatelliteError(f"there is no audit log in {folder}", "cdcctl consumer run audit makes and fills it")
        folder.mkdir(parents=True, exist_ok=True)
        self.connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            self.connection.execute("PRAGMA journal_mode = WAL")
            self.connection.execute("PRAGMA synchronous = FULL")
            self._prepare(path)
        except sqlite3.DatabaseError as error:
            raise SatelliteError(
                f"{path} cannot be read: {error}", "restore it from a copy; keep the damaged file"
            ) from error

    def append(self, chain: str, items: Iterable[Received]) -> Outcome:
        """Append what is new, in one transaction; durable when this returns. Raises TransientSinkError when busy."""
        outcome = Outcome()
        try:
            with self._transaction():
                number, head = self._head(chain)
                for item in items:
                    if self._known(item):
                        outcome += Outcome(superseded=1)
                        continue
                    number += 1
                    head = self._add(entry_of(chain, number, item), head)
                    outcome += Outcome(applied=1)
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                raise TransientSinkError(f"the audit log is busy: {error}") from error
            raise
        return outcome

    def entries(
        self, where: str = "1", values: Mapping[str, object] | None = None, order: str = "position"
    ) -> Iterator[Entry]:
        """Entries that satisfy an SQL condition, in commit order."""
        query = f"SELECT {_COLUMNS} FROM entry WHERE {where} ORDER BY {order}"  # noqa: S608 -- conditions are our own
        for row in self.connection.execute(query, values or {}):
            yield _entry(row)

    def chains(self) -> list[str]:
        """The chains' names, one a shard."""
        return [name for (name,) in self.connection.execute("SELECT DISTINCT chain FROM entry ORDER BY chain")]

    def linked(self, chain: str) -> Iterator[tuple[Entry, bytes]]:
        """One chain's entries with their stored hashes, from the first."""
        query = f"SELECT {_COLUMNS}, hash FROM entry WHERE chain = ? ORDER BY number"  # noqa: S608
        for *row, stored in self.connection.execute(query, (chain,)):
            yield _entry(row), stored

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def _head(self, chain: str) -> tuple[int, bytes]:
        query = "SELECT number, hash FROM entry WHERE chain = ? ORDER BY number DESC LIMIT 1"
        row = self.connection.execute(query, (chain,)).fetchone()
        return (0, GENESIS) if row is None else (row[0], row[1])

    def _known(self, item: Received) -> bool:
        where = (item.change.source, item.change.position.sort_key)
        query = "SELECT 1 FROM entry WHERE source = ? AND position = ?"
        return self.connection.execute(query, where).fetchone() is not None

    def _add(self, entry: Entry, head: bytes) -> bytes:
        digest = link(head, entry)
        row = (*(getattr(entry, name) for name in Entry.__struct_fields__), digest)
        marks = ", ".join("?" * len(row))
        self.connection.execute(f"INSERT INTO entry ({_COLUMNS}, hash) VALUES ({marks})", row)  # noqa: S608
        return digest

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def _prepare(self, path: Path) -> None:
        [(version,)] = self.connection.execute("PRAGMA user_version").fetchall()
        if version > VERSION:
            raise SatelliteError(f"{path} was made by a newer version ({version} > {VERSION})", "upgrade cdckit")
        if version == VERSION:
            return
        with self._transaction():
            [(version,)] = self.connection.execute("PRAGMA user_version").fetchall()
            if version == 0:
                for statement in _SCHEMA:
                    self.connection.execute(statement)
                self.connection.execute(f"PRAGMA user_version = {VERSION}")


def entry_of(chain: str, number: int, item: Received) -> Entry:
    """A change as an entry of the log."""
    change = item.change
    return Entry(
        chain=chain,
        number=number,
        source=change.source,
        position=change.position.sort_key,
        op=change.op.value,
        table=str(change.table),
        key=change.key_text,
        commit_time=change.commit_time.isoformat(),
        xid=change.xid,
        before=_json(change.before),
        after=_json(change.after),
        annotation=_json(change.annotation),
        key_change=change.key_change,
        sequence_number=item.sequence_number,
        sub_sequence_number=item.sub_sequence_number,
    )


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else _encoder.encode(value).decode()


def _entry(row: Iterable[Any]) -> Entry:
    values = dict(zip(Entry.__struct_fields__, row, strict=True))
    return Entry(**{**values, "key_change": bool(values["key_change"])})
