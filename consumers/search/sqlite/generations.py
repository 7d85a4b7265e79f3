"""The generations of the SQLite index: which file readers open, and how writers are turned to the next.

``current`` holds the name of the file that readers open, replaced in one step. A generation that is written no longer
names its `successor` inside itself, where each writer's transaction sees it: no writer can miss the turn.
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
from cdckit.sink import Outcome
from consumers.search.document import Document
from consumers.search.engine import Floor, Held, Writer
from consumers.search.mapping import IndexMapping
from consumers.search.sqlite.schema import connect, create, meta, transaction, translated
from consumers.search.sqlite.store import Moved, Store, decode, iso

POINTER = "current"
_NAME = re.compile(r"search-(\d{6})\.sqlite")
_ROWS = """
SELECT s.source, s.tbl, d.key, d.position, d.deleted, d.base, d.cells, d.fills, d.commit_time
FROM document d JOIN scope s ON s.id = d.scope WHERE d.touched >= ?
"""
_HOLDS = "SELECT 1 FROM scope s JOIN document d ON d.scope = s.id WHERE s.source = ? AND s.tbl = ? AND d.key = ?"
_TRIES = 5
_CLOCK_STEPS = 60.0  # how far the host's clock may have been set back meanwhile


def current_file(folder: Path) -> Path:
    """The file that readers open. Raises SatelliteError when there is no index."""
    try:
        name = (folder / POINTER).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise SatelliteError(
            f"there is no search index in {folder}", "cdcctl consumer run search makes and fills it"
        ) from None
    if not _NAME.fullmatch(name):
        raise SatelliteError(f"{folder / POINTER} names no index: {name[:80]!r}", "cdcctl search reindex makes one")
    return folder / name


def open_current(folder: Path) -> tuple[Path, sqlite3.Connection]:
    """The generation that readers open, opened. Raises SatelliteError."""
    path = current_file(folder)
    try:
        return path, connect(path)
    except SatelliteError:
        if (moved := current_file(folder)) == path:
            raise
        return moved, connect(moved)  # swapped in between


def _opened_for_writing(path: Path) -> Store:
    """The generation, or the one in use when it is gone: who slept through two reindexes wakes up there.

    One that is not in use may be removed at any moment, also while it is being opened.
    """
    for attempt in range(1, _TRIES + 1):
        found = path if path.exists() else current_file(path.parent)
        try:
            return Store(found)
        except SatelliteError:
            if attempt == _TRIES or found == current_file(path.parent):
                raise
            time.sleep(0.05)
    raise AssertionError("unreachable")


class SqliteWriter:
    """Writes the newest generation, and follows when it is turned to another."""

    def __init__(self, path: Path) -> None:
        """Open that generation, or the one that has followed it."""
        self._store = _opened_for_writing(path)
        with ExitStack() as on_error:
            on_error.callback(self.close)
            self._follow(meta(self._store.connection, "successor"))
            on_error.pop_all()

    @property
    def mapping(self) -> IndexMapping:
        """The mapping that the generation was made with."""
        return self._store.mapping

    def apply(self, changes: Iterable[Change]) -> Outcome:
        """One transaction. Raises TransientSinkError, PoisonChange, SatelliteError."""
        changes = list(changes)
        while True:
            try:
                return self._store.apply(changes)
            except Moved as moved:
                self._follow(str(moved))

    def flush(self) -> None:
        """All that was applied is durable. Raises SatelliteError."""
        self._store.flush()

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    def _follow(self, successor: str) -> None:
        while successor:
            self._store.flush()
            old, self._store = self._store, _opened_for_writing(self._store.path.with_name(successor))
            old.close()
            successor = meta(self._store.connection, "successor")


class SqliteGenerations:
    """All generations in one folder."""

    def __init__(self, folder: Path) -> None:
        """The folder is made when it is missing."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def open_writer(self, mapping: IndexMapping) -> SqliteWriter:
        """Write the newest generation; the first one is made with this mapping."""
        with self._locked():
            if not (self.folder / POINTER).exists():
                self._point(self._make(1, mapping, time.time(), "stream"))
        return SqliteWriter(current_file(self.folder))

    def current(self) -> str:
        """The file that readers open."""
        return current_file(self.folder).name

    def unfinished(self) -> str | None:
        """The file that writers write already and readers do not open yet."""
        found: str | None = None
        name = self.current()
        while name := self._meta(name, "successor"):
            found = name
        return found

    def create(self, mapping: IndexMapping, started: float, origin: str) -> str:
        """Make an empty generation beside the one in use; left-overs are removed."""
        current = self.current()
        self._remove_all_but(current)
        return self._make(_number(current) + 1, mapping, started, origin)

    def note(self, generation: str, name: str) -> str:
        """What it was made with."""
        return self._meta(generation, name)

    def writer(self, generation: str) -> Writer:
        """Writes just this generation, as long as no other has followed it."""
        return SqliteWriter(self.folder / generation)

    def mapping(self, generation: str) -> IndexMapping:
        """The mapping that it was made with."""
        return IndexMapping.decode(self._meta(generation, "mapping"))

    def load(self, generation: str, floors: Iterable[Floor], rows: Iterable[Held]) -> int:
        """Put rows as they are into an empty generation."""
        store = Store(self.folder / generation)
        try:
            return store.load(floors, rows)
        finally:
            store.close()

    def floors(self, generation: str) -> Sequence[Floor]:
        """Every table's watermark and known columns."""
        with self._opened(generation) as connection:
            rows = connection.execute("SELECT source, tbl, floor, columns, newest FROM scope").fetchall()
        return [Floor(row[0], Table.parse(row[1]), row[2], msgspec.json.decode(row[3]), iso(row[4])) for row in rows]

    def rows(self, generation: str, since: float = 0.0) -> Iterator[Held]:
        """Every row held, from one moment's snapshot; or those written since a time."""
        with self._opened(generation) as connection:
            found = connection.execute(_ROWS, (since - _CLOCK_STEPS,))
            for source, tbl, key, position, deleted, base, cells, fills, commit_time in found:
                document = Document(position, bool(deleted), base, decode(cells), decode(fills))
                yield Held(source, Table.parse(tbl), key, document, iso(commit_time))

    def holds(self, generation: str, rows: Iterable[Held]) -> Iterator[bool]:
        """Whether each row is held there."""
        with self._opened(generation) as connection:
            for row in rows:
                wanted = (row.source, str(row.table), row.key)
                yield connection.execute(_HOLDS, wanted).fetchone() is not None

    def turn_writers(self, generation: str) -> None:
        """No transaction of an older generation begins after this has returned."""
        with self._opened(self.current()) as connection, transaction(connection):
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('successor', ?)", (generation,))

    def turn_readers(self, generation: str) -> None:
        """Readers open this generation from now on; those that hold an older one open may finish with it."""
        self._point(generation)
        self._remove_all_but(generation)

    def close(self) -> None:
        """Nothing is kept open."""

    def _make(self, number: int, mapping: IndexMapping, started: float, origin: str) -> str:
        name = f"search-{number:06}.sqlite"
        create(self.folder / name, mapping, started, origin)
        return name

    def _point(self, generation: str) -> None:
        fresh = self.folder / f"{POINTER}.{os.getpid()}"
        with fresh.open("w", encoding="utf-8") as file:
            file.write(generation + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.folder / POINTER)

    def _remove_all_but(self, kept: str) -> None:
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
