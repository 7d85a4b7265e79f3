"""Transactions whose COMMIT runs on a thread of its own, so that the next batch is decoded meanwhile.

SQLite holds no interpreter lock for it, and it is half of SQLite's work: FTS5 writes its segments, the log is synced.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from cdckit.errors import SatelliteError


class BackgroundCommits:
    """One connection's write transactions, one at a time; nobody else uses the connection."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        """`path` is told in errors."""
        self._connection, self._path = connection, path
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._running: Future[object] | None = None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Begin at once, so that it never fails half-way for a lock; after the block the commit is under way.

        Raises SatelliteError when the one before failed.
        """
        self.wait()
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self._running = self._pool.submit(self._connection.execute, "COMMIT")

    def wait(self) -> None:
        """All that was written is durable. Raises SatelliteError, from then on at each call: a batch is missing."""
        if self._running is None:
            return
        try:
            self._running.result()
        except sqlite3.Error as error:  # not a transient one: whoever tries again has a later batch
            raise SatelliteError(
                f"{self._path}: {error}", "check that the disk has room and the folder may be written"
            ) from error
        self._running = None

    def close(self) -> None:
        """Close the connection; what is being committed still is."""
        self._pool.shutdown()
        with suppress(sqlite3.Error):
            self._connection.close()
