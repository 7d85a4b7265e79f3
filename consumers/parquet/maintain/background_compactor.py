"""Compaction in the background of a consumer: one thread that merges the small files of tables that were written."""

from __future__ import annotations

import logging
import threading
import time
from random import SystemRandom

from cdckit.errors import CdcError
from consumers.parquet.lake import Lake, TableRef
from consumers.parquet.maintain.compaction import CompactionPolicy, compact_table, is_due

logger = logging.getLogger(__name__)
_ORPHANS_INTERVAL = 6 * 3600
_JITTER = SystemRandom()  # not the shared generator: seeded or forked processes would all draw the same delays


class BackgroundCompactor:
    """Compacts scheduled tables when that is worth its cost. A failure is logged; a later flush tries again."""

    def __init__(self, lake: Lake, policy: CompactionPolicy, interval: float = 10.0) -> None:
        """`interval` is the mean number of seconds between two rounds."""
        self._lake, self._policy, self._interval = lake, policy, interval
        self._scheduled: set[TableRef] = set()
        self._orphans_removed = dict[TableRef, float]()
        self._started = time.monotonic()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def schedule(self, ref: TableRef) -> None:
        """Check the table in the next round: it has a new file."""
        with self._lock:
            self._scheduled.add(ref)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Start no further compaction. A running merge ends with the process: it commits completely or not at all."""
        self._stop.set()

    def _run(self) -> None:
        # the random part keeps the processes of several shards from compacting the same table at the same time
        while not self._stop.wait(self._interval * _JITTER.uniform(0.5, 1.5)):
            with self._lock:
                scheduled, self._scheduled = self._scheduled, set()
            for ref in scheduled:
                if not self._stop.is_set():
                    self._compact_if_due(ref)

    def _compact_if_due(self, ref: TableRef) -> None:
        try:
            if not is_due(self._lake.open(ref), self._policy):
                return
            remove_orphans = time.monotonic() - self._orphans_removed.get(ref, self._started) > _ORPHANS_INTERVAL
            done = compact_table(self._lake, ref, self._policy, remove_orphans=remove_orphans)
        except CdcError as error:
            logger.warning("compaction of %s failed, it is tried again after a later flush: %s", ref, error)
            return
        if remove_orphans:
            self._orphans_removed[ref] = time.monotonic()
        logger.info("compacted %s: %d files before, %d after, %d expired", ref, done.files_before, done.files_after,
                    done.expired)  # fmt: skip
