"""The generations of the SQLite index: which file is read, and how writers are switched to the next one.

The file ``current`` contains the name of the file that is read; it is replaced atomically. A generation that is no
longer written names its `successor` in its own table ``meta``. Every write transaction reads that, so that no writer
misses the switch.
"""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgspec

from cdckit.change import Change, Table
from cdckit.errors import SatelliteError
from cdckit.rows import RowState
from cdckit.sink import Outcome
from consumers.search.engine import IndexWriter, StoredRow, TableWatermark
from consumers.search.exact_json import decode
from consumers.search.mapping import IndexMapping
from consumers.search.sqlite.schema import connect, create, meta, transaction, translated
from consumers.search.sqlite.store import GenerationReplaced, SqliteIndexStore, iso_time

POINTER = "current"
_NAME = re.compile(r"search-(\d{6})\.sqlite")
_ROWS = """
SELECT s.source, s.tbl, d.key, d.position, d.deleted, d.base, d.cells, d.fills, d.commit_time
FROM document d JOIN scope s ON s.id = d.scope WHERE d.touched >= ?
"""
_CONTAINS = "SELECT 1 FROM scope s JOIN document d ON d.scope = s.id WHERE s.source = ? AND s.tbl = ? AND d.key = ?"
_MAX_TRIES = 5
_CLOCK_STEP_SECONDS = 60.0  # how far the host's clock may have been set back meanwhile


def current_file(folder: Path) -> Path:
    """The file that is read. Raises SatelliteError when there is no index."""
    try:
        name = (folder / POINTER).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise SatelliteError(
            f"there is no search index in {folder}", "cdcctl consumer run search creates and fills it"
        ) from None
    if not _NAME.fullmatch(name):
        raise SatelliteError(f"{folder / POINTER} names no index: {name[:80]!r}", "cdcctl search reindex builds one")
    return folder / name


def open_current(folder: Path) -> tuple[Path, sqlite3.Connection]:
    """Open the generation that is read. Raises SatelliteError."""
    path = current_file(folder)
    try:
        return path, connect(path)
    except SatelliteError:
        if (replaced := current_file(folder)) == path:
            raise
        return replaced, connect(replaced)  # a reindex switched the readers meanwhile


def _open_store(path: Path) -> SqliteIndexStore:
    """Open the generation for writing; if it was removed (the writer missed two reindexes), the one that is read.

    A generation that is not in use may be removed at any moment, also while it is being opened.
    """
    for attempt in range(1, _MAX_TRIES + 1):
        found = path if path.exists() else current_file(path.parent)
        try:
            return SqliteIndexStore(found)
        except SatelliteError:
            if attempt == _MAX_TRIES or found == current_file(path.parent):
                raise
            time.sleep(0.05)
    raise AssertionError("unreachable")


class SqliteWriter:
    """Writes the newest generation, and follows when writers are switched to another one."""

    def __init__(self, path: Path) -> None:
        """Open this generation, or its newest successor."""
        self._store = _open_store(path)
        with ExitStack() as on_error:
            on_error.callback(self.close)
            self._follow(meta(self._store.connection, "successor"))
            on_error.pop_all()

    @property
    def mapping(self) -> IndexMapping:
        """The mapping with which the generation was created."""
        return self._store.mapping

    def apply(self, changes: Iterable[Change]) -> Outcome:
        """Apply the changes in one transaction. Raises TransientSinkError, PoisonChange, SatelliteError."""
        changes = list(changes)
        while True:
            try:
                return self._store.apply(changes)
            except GenerationReplaced as replaced:
                self._follow(str(replaced))

    def flush(self) -> None:
        """Make all applied changes durable. Raises SatelliteError."""
        self._store.flush()

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    def _follow(self, successor: str) -> None:
        while successor:
            self._store.flush()
            old, self._store = self._store, _open_store(self._store.path.with_name(successor))
            old.close()
            successor = meta(self._store.connection, "successor")


class SqliteGenerations:
    """All generations in one folder."""

    def __init__(self, folder: Path) -> None:
        """Create the folder if it is missing."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def open_writer(self, mapping: IndexMapping) -> SqliteWriter:
        """Open the generation that is written; the first one is created with this mapping."""
        with self._locked():
            if not (self.folder / POINTER).exists():
                self._point(self._create_file(1, mapping, time.time(), "stream"))
        return SqliteWriter(current_file(self.folder))

    def current(self) -> str:
        """The name of the file that is read."""
        return current_file(self.folder).name

    def unfinished(self) -> str | None:
        """The file that is written but not read yet; else None."""
        found: str | None = None
        name = self.current()
        while name := self._meta(name, "successor"):
            found = name
        return found

    def create(self, mapping: IndexMapping, started: float, origin: str) -> str:
        """Create an empty generation beside the one in use. What an interrupted reindex left is removed first."""
        current = self.current()
        self._remove_others(current)
        return self._create_file(_number(current) + 1, mapping, started, origin)

    def metadata(self, generation: str, name: str) -> str:
        """A value stored at its creation: `started` or `origin`."""
        return self._meta(generation, name)

    def writer(self, generation: str) -> IndexWriter:
        """A writer of this generation, as long as it has no successor."""
        return SqliteWriter(self.folder / generation)

    def mapping(self, generation: str) -> IndexMapping:
        """The mapping with which the generation was created."""
        return IndexMapping.decode(self._meta(generation, "mapping"))

    def load(self, generation: str, watermarks: Iterable[TableWatermark], rows: Iterable[StoredRow]) -> int:
        """Merge watermarks and rows of another generation into this one. Returns the number of rows."""
        store = SqliteIndexStore(self.folder / generation)
        try:
            return store.load(watermarks, rows)
        finally:
            store.close()

    def watermarks(self, generation: str) -> Sequence[TableWatermark]:
        """The watermark and known columns of every table."""
        with self._opened(generation) as connection:
            rows = connection.execute("SELECT source, tbl, floor, columns, newest FROM scope").fetchall()
        return [
            TableWatermark(row[0], Table.parse(row[1]), row[2], msgspec.json.decode(row[3]), iso_time(row[4]))
            for row in rows
        ]

    def rows(self, generation: str, since: float = 0.0) -> Iterator[StoredRow]:
        """Every stored row, from one snapshot; with `since` those written since then, and some more."""
        with self._opened(generation) as connection:
            found = connection.execute(_ROWS, (since - _CLOCK_STEP_SECONDS,))
            for source, tbl, key, position, deleted, base, cells, fills, commit_time in found:
                state = RowState(position, bool(deleted), base, decode(cells), decode(fills))
                yield StoredRow(source, Table.parse(tbl), key, state, iso_time(commit_time))

    def contains(self, generation: str, rows: Iterable[StoredRow]) -> Iterator[bool]:
        """Whether each row is stored in the generation, including tombstones."""
        with self._opened(generation) as connection:
            for row in rows:
                wanted = (row.source, str(row.table), row.key)
                yield connection.execute(_CONTAINS, wanted).fetchone() is not None

    def switch_writers(self, generation: str) -> None:
        """Make every write transaction that begins later use this generation."""
        with self._opened(self.current()) as connection, transaction(connection):
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('successor', ?)", (generation,))

    def switch_readers(self, generation: str) -> None:
        """Make readers open this generation from now on. Readers with an older one open may finish with it."""
        self._point(generation)
        self._remove_others(generation)

    def close(self) -> None:
        """Do nothing: no file is kept open."""

    def _create_file(self, number: int, mapping: IndexMapping, started: float, origin: str) -> str:
        name = f"search-{number:06}.sqlite"
        create(self.folder / name, mapping, started, origin)
        return name

    def _point(self, generation: str) -> None:
        temporary = self.folder / f"{POINTER}.{os.getpid()}"
        with temporary.open("w", encoding="utf-8") as file:
            file.write(generation + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.folder / POINTER)

    def _remove_others(self, kept: str) -> None:
        for path in self.folder.glob("search-*.sqlite*"):
            if not path.name.startswith(kept):
                with suppress(FileNotFoundError):
                    path.unlink()

    def _meta(self, generation: str, name: str) -> str:
        with self._opened(generation) as connection:
            return meta(connection, name)

    @contextmanager
    def _opened(self, generation: str) -> Iterator[sqlite3.Connection]:
        path = self.folder / generation
        connection = connect(path)
        try:
            with translated(path):
                yield connection
        finally:
            connection.close()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _number(name: str) -> int:
    found = _NAME.fullmatch(name)
    assert found is not None, "current_file() checked it"
    return int(found[1])
