"""The file of one generation: its tables, how it is created and opened, and the translation of sqlite3's errors.

Several processes (one per shard) write it: WAL mode, ``BEGIN IMMEDIATE``, a busy timeout and short transactions.
Writers wait for each other, readers never wait. Each commit is durable (``synchronous=FULL``).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from cdckit.errors import SatelliteError, TransientSinkError
from consumers.search.mapping import FIELDS, IndexMapping

VERSION = 2
_BUSY_SECONDS = 30
PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "wal_autocheckpoint = 4000",  # pages of 4 KiB; every checkpoint of the WAL costs two more fsyncs
    "cache_size = -32768",  # KiB per process, for the inner pages of the index
)
_TOKENIZERS = {
    "unicode61": "unicode61 remove_diacritics 2",
    "porter": "porter unicode61 remove_diacritics 2",
    "trigram": "trigram",
}
_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE scope (
  id INTEGER PRIMARY KEY, source TEXT NOT NULL, tbl TEXT NOT NULL, floor TEXT NOT NULL, columns TEXT NOT NULL,
  newest REAL NOT NULL, UNIQUE (source, tbl)
);
CREATE TABLE document (
  number INTEGER PRIMARY KEY, scope INTEGER NOT NULL, key TEXT NOT NULL, position TEXT NOT NULL,
  deleted INTEGER NOT NULL, base TEXT NOT NULL, cells TEXT NOT NULL, fills TEXT NOT NULL, visible INTEGER NOT NULL,
  commit_time REAL NOT NULL, shown TEXT, touched REAL NOT NULL, UNIQUE (scope, key)
)
"""


def create(path: Path, mapping: IndexMapping, started: float, origin: str) -> None:
    """Create an empty generation, completely or not at all."""
    temporary = path.with_suffix(f".{os.getpid()}")
    with translated(path), closing(sqlite3.connect(temporary, isolation_level=None)) as connection:
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        tokenizer = _TOKENIZERS[mapping.tokenizer]
        connection.execute(f"CREATE VIRTUAL TABLE fulltext USING fts5({', '.join(FIELDS)}, tokenize = '{tokenizer}')")
        notes = [("mapping", mapping.encode()), ("started", repr(started)), ("origin", origin)]
        connection.executemany("INSERT INTO meta VALUES (?, ?)", notes)
        connection.execute(f"PRAGMA user_version = {VERSION}")
    temporary.replace(path)


def connect(path: Path) -> sqlite3.Connection:
    """Open a generation. Raises SatelliteError when it is damaged, of another version, or missing."""
    with translated(path), ExitStack() as on_error:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_SECONDS, isolation_level=None,
            check_same_thread=False,  # see `background_commits`
        )  # fmt: skip
        on_error.callback(connection.close)
        for pragma in PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        [(version,)] = connection.execute("PRAGMA user_version").fetchall()
        _check(version, path)
        on_error.pop_all()
    return connection


def _check(version: int, path: Path) -> None:
    if version != VERSION:
        newer = version > VERSION
        raise SatelliteError(
            f"{path} was made by {'a newer' if newer else 'another'} version ({version}, this one reads {VERSION})",
            "upgrade cdckit" if newer else "delete the folder and run: cdcctl replay search --in-place --from earliest",
        )


def meta(connection: sqlite3.Connection, name: str) -> str:
    """A value stored at the generation's creation, or its successor; empty if there is none."""
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return "" if row is None else str(row[0])


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A write transaction that takes the write lock at its begin, so that it cannot fail later for a lock."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Translate sqlite3's errors: TransientSinkError when other writers lock the file, else SatelliteError."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "busy" in str(error):
            raise TransientSinkError(f"the search index is busy: {error}") from error
        raise SatelliteError(f"{path}: {error}", "check that the disk has space and the folder is writable") from error
    except sqlite3.DatabaseError as error:
        raise SatelliteError(
            f"{path} cannot be read: {error}",
            "stop the consumer, delete the folder, then: cdcctl replay search --in-place --from earliest",
        ) from error
