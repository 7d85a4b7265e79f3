"""Runs COMMIT in a thread of its own, so that the kit decodes the next batch meanwhile.

A COMMIT runs without the interpreter lock, and is half of SQLite's work: FTS5 writes its segments, the log is synced.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from cdckit.errors import SatelliteError


class BackgroundCommits:
    """The write transactions of one connection, one at a time. Nothing else may use the connection."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        """`path` is named in errors."""
        self._connection, self._path = connection, path
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._running: Future[object] | None = None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Take the write lock, so that the transaction cannot fail later for a lock; commit in the background.

        Raises SatelliteError when the previous commit failed.
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
        """Wait until all is durable. After a failed commit every call raises SatelliteError: a batch is missing."""
        if self._running is None:
            return
        try:
            self._running.result()
        except sqlite3.Error as error:  # not transient: the caller's next attempt would be with a later batch
            raise SatelliteError(
                f"{self._path}: {error}", "check that the disk has space and the folder is writable"
            ) from error
        self._running = None

    def close(self) -> None:
        """Close the connection after the running commit."""
        self._pool.shutdown()
        with suppress(sqlite3.Error):
            self._connection.close()
