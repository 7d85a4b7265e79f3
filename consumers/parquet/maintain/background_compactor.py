"""The consumer's background upkeep: one thread that merges a table's small files when that is worth its cost."""

from __future__ import annotations

import logging
import threading
import time
from random import SystemRandom

from cdckit.errors import CdcError
from consumers.parquet.lake import Lake, TableRef
from consumers.parquet.maintain.compaction import CompactionPolicy, compact_table, is_due

logger = logging.getLogger(__name__)
_ORPHANS_SECONDS = 6 * 3600
_JITTER = SystemRandom()  # no state that is shared: a seeded process, or one that was forked, jitters too


class BackgroundCompactor:
    """Looks after the tables that it is told of. What fails is logged and tried at a later flush."""

    def __init__(self, lake: Lake, goal: CompactionPolicy, pause: float = 10.0) -> None:
        """`pause` is how many seconds pass between two rounds."""
        self._lake, self._goal, self._pause = lake, goal, pause
        self._written: set[TableRef] = set()
        self._swept = dict[TableRef, float]()
        self._started = time.monotonic()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def wrote(self, ref: TableRef) -> None:
        """The table has a new file: look at it in the next round."""
        with self._lock:
            self._written.add(ref)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Begin nothing more. A merge that runs is abandoned with the process: it commits whole or not at all."""
        self._stop.set()

    def _run(self) -> None:
        # a random part keeps the processes of several shards from meeting at the same table
        while not self._stop.wait(self._pause * _JITTER.uniform(0.5, 1.5)):
            with self._lock:
                written, self._written = self._written, set()
            for ref in written:
                if not self._stop.is_set():
                    self._look_after(ref)

    def _look_after(self, ref: TableRef) -> None:
        try:
            if not is_due(self._lake.open(ref), self._goal):
                return
            orphans = time.monotonic() - self._swept.get(ref, self._started) > _ORPHANS_SECONDS
            done = compact_table(self._lake, ref, self._goal, orphans=orphans)
        except CdcError as error:
            logger.warning("upkeep of %s put off: %s", ref, error)
            return
        if orphans:
            self._swept[ref] = time.monotonic()
        logger.info("%s: %d files are %d now, %d expired", ref, done.files_before, done.files_after, done.expired)
