"""The audit log in SQLite: append-only by triggers, each change once by source and position, one hash chain per shard.

Several processes (one per shard) write it: WAL mode, ``BEGIN IMMEDIATE``, a busy timeout and short transactions. Each
commit is durable (``synchronous=FULL``).
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from cdckit.change import Change
from cdckit.errors import SatelliteError, TransientSinkError
from cdckit.sink import Outcome, Received
from consumers.audit.proof.chain import GENESIS, AuditEntry, link

STORE_FILE = "audit.sqlite"
VERSION = 2
_BUSY_SECONDS = 30
_COLUMNS = (
    "chain, number, source, position, op, tbl, key, commit_time, xid, before, after, annotation, key_change, "
    "sequence_number, sub_sequence_number"
)
_NO_DELETE = "CREATE TRIGGER entry_no_delete BEFORE DELETE ON entry BEGIN SELECT raise(ABORT, 'append-only'); END"
_MIGRATIONS: Mapping[int, Sequence[str]] = {
    1: (
        """
        CREATE TABLE entry (
          chain TEXT NOT NULL, number INTEGER NOT NULL, source TEXT NOT NULL, position TEXT NOT NULL, op TEXT NOT NULL,
          tbl TEXT NOT NULL, key TEXT NOT NULL, commit_time TEXT NOT NULL, xid INTEGER, before TEXT, after TEXT,
          annotation TEXT, key_change INTEGER NOT NULL, sequence_number TEXT NOT NULL,
          sub_sequence_number INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (chain, number),
          UNIQUE (source, position)
        )
        """,
        "CREATE INDEX entry_row ON entry (source, tbl, key, position)",
        "CREATE INDEX entry_xid ON entry (xid)",
        "CREATE INDEX entry_time ON entry (commit_time)",
        "CREATE TRIGGER entry_no_update BEFORE UPDATE ON entry BEGIN SELECT raise(ABORT, 'append-only'); END",
        _NO_DELETE,
    ),
    2: (
        "CREATE TABLE log (id TEXT NOT NULL)",
        "CREATE TABLE sealed (chain TEXT PRIMARY KEY, number INTEGER NOT NULL, hash BLOB NOT NULL, high TEXT NOT NULL)",
        "CREATE INDEX entry_actor ON entry (json_extract(annotation, '$.actor'), position) "
        "WHERE annotation IS NOT NULL",
    ),
}
_INSERT = f"INSERT INTO entry ({_COLUMNS}, hash) VALUES ({', '.join('?' * 16)})"  # noqa: S608
InSegments = Callable[[str, str, int], bool]
"""Whether a sealed segment contains a (source, position), given the number of sealed entries in the log."""
_encoder = msgspec.json.Encoder(decimal_format="number")


class AuditStore:
    """One open log. Use it in one thread; other processes may have the log open too."""

    def __init__(self, folder: Path, *, create: bool, in_segments: InSegments | None = None) -> None:
        """Open the log.

        Raises SatelliteError when it is missing (and `create` is false), damaged, or of a newer version.
        """
        path = folder / STORE_FILE
        if not create and not path.exists():
            raise SatelliteError(f"there is no audit log in {folder}", "cdcctl consumer run audit creates and fills it")
        folder.mkdir(parents=True, exist_ok=True)
        self._in_segments = in_segments
        self.connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        with ExitStack() as on_error:
            on_error.callback(self.close)
            try:
                self._open(path)
            except sqlite3.DatabaseError as error:
                raise SatelliteError(
                    f"{path} cannot be read: {error}", "restore it from a copy; keep the damaged file"
                ) from error
            on_error.pop_all()

    def _open(self, path: Path) -> None:
        """Prepare the file. When two processes switch a new file to WAL at once, one gets "locked" without a wait."""
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                self.connection.execute("PRAGMA journal_mode = WAL")
                self.connection.execute("PRAGMA synchronous = FULL")
                return self._prepare(path)
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    @property
    def log_id(self) -> str:
        """The log's id, assigned when it was created."""
        [(log_id,)] = self.connection.execute("SELECT id FROM log").fetchall()
        return str(log_id)

    def append(self, chain: str, items: Sequence[Received]) -> Outcome:
        """Append new changes in one transaction; durable on return. Raises TransientSinkError when the log is busy."""
        try:
            with self.transaction():
                new_items = self._new_items(items)
                last, digest = self.head(chain)
                rows = []
                for number, item in enumerate(new_items, last + 1):
                    entry = entry_of(chain, number, item)
                    digest = link(digest, entry)
                    rows.append((*msgspec.structs.astuple(entry), digest))
                self.connection.executemany(_INSERT, rows)
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                raise TransientSinkError(f"the audit log is busy: {error}") from error
            raise
        return Outcome(applied=len(new_items), superseded=len(items) - len(new_items))

    def head(self, chain: str) -> tuple[int, bytes]:
        """The number and hash of a chain's last entry; (0, GENESIS) for a chain without entries."""
        for query in (
            "SELECT number, hash FROM entry WHERE chain = ? ORDER BY number DESC LIMIT 1",
            "SELECT number, hash FROM sealed WHERE chain = ?",
        ):
            if (row := self.connection.execute(query, (chain,)).fetchone()) is not None:
                return int(row[0]), bytes(row[1])
        return 0, GENESIS

    def entries(
        self, where: str = "1", values: Mapping[str, object] | None = None, order: str = "position"
    ) -> Iterator[AuditEntry]:
        """The entries in the file that satisfy an SQL condition, in commit order."""
        query = f"SELECT {_COLUMNS} FROM entry WHERE {where} ORDER BY {order}"  # noqa: S608 -- conditions are our own
        for row in self.connection.execute(query, values or {}):
            yield _entry(row)

    def chains(self) -> list[str]:
        """The names of all chains, one per shard."""
        query = "SELECT chain FROM entry UNION SELECT chain FROM sealed ORDER BY chain"
        return [name for (name,) in self.connection.execute(query)]

    def unsealed_entries(self, chain: str) -> Iterator[tuple[AuditEntry, bytes]]:
        """One chain's entries that are not sealed, oldest first, each with its stored hash."""
        query = f"SELECT {_COLUMNS}, hash FROM entry WHERE chain = ? ORDER BY number"  # noqa: S608
        for *row, stored in self.connection.execute(query, (chain,)):
            yield _entry(row), stored

    def delete_sealed(self, chain: str, number: int, digest: bytes, high: str) -> None:
        """Delete the entries up to `number`, which a sealed segment contains now, and record where the chain continues.

        `high` is the highest position of these entries. The trigger that prevents deletion is removed within this
        transaction only.
        """
        with self.transaction():
            self.connection.execute("DROP TRIGGER entry_no_delete")
            self.connection.execute("DELETE FROM entry WHERE chain = ? AND number <= ?", (chain, number))
            self.connection.execute(
                "INSERT INTO sealed VALUES (?, ?, ?, ?) ON CONFLICT (chain) DO UPDATE SET number = excluded.number, "
                "hash = excluded.hash, high = max(high, excluded.high)",
                (chain, number, digest, high),
            )
            self.connection.execute(_NO_DELETE)

    def sealed_count(self, chain: str) -> int:
        """The number of a chain's entries that are in segments."""
        row = self.connection.execute("SELECT number FROM sealed WHERE chain = ?", (chain,)).fetchone()
        return 0 if row is None else int(row[0])

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A write transaction that takes the write lock at its begin."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def _new_items(self, items: Sequence[Received]) -> list[Received]:
        """The items whose position is not in the log, in a sealed segment, or in an earlier item."""
        places = {(item.change.source, item.change.position.sort_key): item for item in reversed(items)}
        known = self._known(places)
        if self._in_segments is not None:
            query = "SELECT coalesce(max(high), ''), coalesce(sum(number), 0) FROM sealed"
            [(high, sealed)] = self.connection.execute(query).fetchall()
            old = [place for place in places if place[1] <= high and place not in known]
            known |= {place for place in old if self._in_segments(*place, sealed)}
        return [item for place, item in reversed(places.items()) if place not in known]

    def _known(self, places: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        wanted = msgspec.json.encode(list(places)).decode()
        query = (
            "SELECT e.source, e.position FROM json_each(?) j CROSS JOIN entry e "
            "ON e.source = j.value ->> 0 AND e.position = j.value ->> 1"
        )
        return set(self.connection.execute(query, (wanted,)))

    def _prepare(self, path: Path) -> None:
        [(version,)] = self.connection.execute("PRAGMA user_version").fetchall()
        if version > VERSION:
            raise SatelliteError(f"{path} was made by a newer version ({version} > {VERSION})", "upgrade cdckit")
        if version == VERSION:
            return
        with self.transaction():
            [(version,)] = self.connection.execute("PRAGMA user_version").fetchall()
            for step in range(version + 1, VERSION + 1):
                for statement in _MIGRATIONS[step]:
                    self.connection.execute(statement)
            if version < VERSION:
                self.connection.execute("INSERT INTO log VALUES (?)", (str(uuid.uuid4()),))
                self.connection.execute(f"PRAGMA user_version = {VERSION}")


def entry_of(chain: str, number: int, item: Received) -> AuditEntry:
    """A change as an entry of the log."""
    change: Change = item.change
    return AuditEntry(
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


def _entry(row: Iterable[Any]) -> AuditEntry:
    values = dict(zip(AuditEntry.__struct_fields__, row, strict=True))
    return AuditEntry(**{**values, "key_change": bool(values["key_change"])})
