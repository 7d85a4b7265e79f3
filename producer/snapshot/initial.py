"""``--snapshot initial``: publishes the rows that exist at the slot's start, then the stream continues without a gap.

When the slot was created before (by ``cdcctl local up``, ``cdcctl slot create`` or SQL) and nothing was published yet,
the snapshot at its start can no longer be read: the rows are read as a backfill, while changes flow.

The stream's tag ``cdc.snapshot.SOURCE`` says whether it is finished, so that a producer on any host knows. After a
crash the exported snapshot is lost: ranges that the checkpoint does not list as finished are read as a backfill, while
changes flow. Where the checkpoint is missing too (another host), all tables are.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import closing

from cdckit.errors import CdcError
from cdckit.runtime.settings import Settings
from producer.decoding.table_filter import TableFilter
from producer.kinesis.stream import Stream
from producer.postgres.catalog import relations
from producer.postgres.connection import Source
from producer.postgres.replication_slot import ExportedSnapshot
from producer.postgres.slots import create_slot
from producer.records import Origin
from producer.snapshot.coordinator import Endpoints, SnapshotRequest, run_snapshot
from producer.snapshot.progress import progress_reporter

logger = logging.getLogger(__name__)

_RUNNING, _DONE = "running", "done"


class InitialSnapshot:
    """The initial snapshot of one producer's run."""

    def __init__(self, settings: Settings, dsn: Callable[[], str], stream: Stream, *, requested: bool) -> None:
        """`requested`: the user asked for the snapshot."""
        self._settings, self._dsn, self._stream, self._requested = settings, dsn, stream, requested
        self._tag = f"cdc.snapshot.{settings.source}"
        self._exported: ExportedSnapshot | None = None

    def create_slot(self, source: Source, origin: Origin) -> None:
        """Create the slot; when the snapshot is requested, export the one at the slot's start. Raises SourceError."""
        if not self._requested:
            create_slot(source, self._settings.slot)
            return
        self._note(origin, _RUNNING)  # first: a slot without this tag would never get its snapshot
        self._exported = ExportedSnapshot(self._dsn(), self._settings.slot)

    def first_run(self, origin: Origin) -> None:
        """The slot exists, but nothing of this source was published yet: its rows are due when requested."""
        if self._requested and not self._stream.tag(self._tag):
            logger.info("the slot %r exists already: the snapshot is read while changes flow", self._settings.slot)
            self._note(origin, _RUNNING)  # before the stream's record of the source: a crash in between repeats this

    def due(self, origin: Origin) -> bool:
        """True when a requested snapshot is unfinished; log it when it was not requested. Raises StreamError."""
        epoch, _, state = (self._stream.tag(self._tag) or "").partition(" ")
        unfinished = state == _RUNNING and epoch == f"epoch={origin.epoch}"
        if unfinished and not self._requested:
            logger.warning("an initial snapshot is unfinished: --snapshot initial resumes it")
        if self._requested and not state:
            logger.info(
                "the slot was created without a snapshot: cdcctl producer backfill publishes the rows from before"
            )
        newer = bool(state) and epoch != f"epoch={origin.epoch}"
        if self._requested and newer:
            self._note(origin, _RUNNING)
        return self._requested and (unfinished or newer)

    @property
    def from_slot_start(self) -> bool:
        """True when this run created the slot: then the rows come first, and the stream after them."""
        return self._exported is not None

    def run(self, endpoints: Endpoints, stopping: Callable[[], bool]) -> bool:
        """Publish what is left; True when all of it is. Raises StreamError, SourceError, UsageError."""
        exported, self._exported = self._exported, None
        try:
            tables = TableFilter.parse(self._settings.table, self._settings.exclude_table)
            with closing(Source(self._dsn())) as source:
                found = [relation.table for relation in relations(source, tables.wants)]
            request = SnapshotRequest(f"snapshot-{self._settings.source}", "snapshot", found)
            with progress_reporter("snapshot") as on_progress:
                progress, done = run_snapshot(endpoints, request, stopping, on_progress, exported)
        finally:
            if exported is not None:
                exported.close()
        state = "done" if done else "not finished: the next start resumes it"
        logger.info(
            "snapshot %s: %s rows of %d table%s, %s/s",
            state,
            f"{progress.rows:,}",
            progress.tables,
            "s" * (progress.tables != 1),
            f"{progress.rate:,.0f}",
        )
        if done:
            self._note(endpoints.origin, _DONE)
        return done

    def run_in_background(self, endpoints: Endpoints, stopping: Callable[[], bool]) -> threading.Thread:
        """As `run`, in a thread of its own, while changes flow."""

        def work() -> None:
            try:
                self.run(endpoints, stopping)
            except CdcError as error:
                logger.error("the snapshot stopped: %s (%s)", error.message, error.hint or "the next start resumes it")

        thread = threading.Thread(target=work, name="snapshot")
        thread.start()
        return thread

    def _note(self, origin: Origin, state: str) -> None:
        self._stream.set_tag(self._tag, f"epoch={origin.epoch} {state}")
