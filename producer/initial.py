"""``--snapshot initial``: the rows that are there at the slot's beginning, then the stream, with nothing between them.

Where the slot was made before (by ``cdcctl local up``, ``cdcctl slot create`` or SQL) and nothing was published yet,
its beginning has no snapshot that could still be read: the rows are read as a backfill, while changes flow.

The stream's tag ``cdc.snapshot.SOURCE`` says whether it was finished, so that a producer anywhere knows. After a kill
the exported snapshot is gone: what the progress file does not hold as done is read as a backfill, while changes flow.
Where that file is gone too (another host), all tables are.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import closing

from cdckit.errors import CdcError
from cdckit.settings import Settings
from producer.fill import Wanted, Where, fill
from producer.routing import Origin, TableFilter
from producer.shapes import shapes
from producer.slot import Exported
from producer.source import Source
from producer.stream import Stream
from producer.telling import telling

logger = logging.getLogger(__name__)

_RUNNING, _DONE = "running", "done"


class Initial:
    """The snapshot of one producer's run."""

    def __init__(self, settings: Settings, dsn: Callable[[], str], stream: Stream, *, asked: bool) -> None:
        """`asked`: the snapshot is wanted."""
        self._settings, self._dsn, self._stream, self._asked = settings, dsn, stream, asked
        self._tag = f"cdc.snapshot.{settings.source}"
        self._exported: Exported | None = None

    def make_slot(self, source: Source, origin: Origin) -> None:
        """Make the slot, and when the snapshot is wanted, keep the snapshot at its beginning. Raises SourceError."""
        if not self._asked:
            source.create_slot(self._settings.slot)
            return
        self._note(origin, _RUNNING)  # first: a slot without this note would begin with no past, for ever
        self._exported = Exported(self._dsn(), self._settings.slot)

    def first_run(self, origin: Origin) -> None:
        """The slot is there, but nothing of this source was published yet: when wanted, its rows are due."""
        if self._asked and not self._stream.tag(self._tag):
            logger.info("the slot %r is there already: the snapshot is read while changes flow", self._settings.slot)
            self._note(origin, _RUNNING)  # before the stream's record of the source: a kill in between repeats this

    def due(self, origin: Origin) -> bool:
        """Whether there is something left to do; says so when it is not asked for. Raises StreamError."""
        epoch, _, state = (self._stream.tag(self._tag) or "").partition(" ")
        unfinished = state == _RUNNING and epoch == f"epoch={origin.epoch}"
        if unfinished and not self._asked:
            logger.warning("an initial snapshot is unfinished: --snapshot initial goes on with it")
        if self._asked and not state:
            logger.info(
                "the slot was made without a snapshot: cdcctl producer backfill publishes what was there before"
            )
        newer = bool(state) and epoch != f"epoch={origin.epoch}"
        if self._asked and newer:
            self._note(origin, _RUNNING)
        return self._asked and (unfinished or newer)

    @property
    def at_beginning(self) -> bool:
        """Whether the slot was made just now: then the rows come first, and the stream after them."""
        return self._exported is not None

    def run(self, where: Where, stopping: Callable[[], bool]) -> bool:
        """Publish what is left of it; True when all is done. Raises StreamError, SourceError, UsageError."""
        exported, self._exported = self._exported, None
        try:
            tables = TableFilter.parse(self._settings.table, self._settings.exclude_table)
            with closing(Source(self._dsn())) as source:
                found = [shape.table for shape in shapes(source, tables.wants)]
            wanted = Wanted(f"snapshot-{self._settings.source}", "snapshot", found)
            with telling("snapshot") as tell:
                figures, done = fill(where, wanted, stopping, tell, exported)
        finally:
            if exported is not None:
                exported.close()
        how = "done" if done else "not finished: it goes on at the next start"
        logger.info(
            "snapshot %s: %s rows of %d table%s, %s/s",
            how,
            f"{figures.rows:,}",
            figures.tables,
            "s" * (figures.tables != 1),
            f"{figures.rate:,.0f}",
        )
        if done:
            self._note(where.origin, _DONE)
        return done

    def beside(self, where: Where, stopping: Callable[[], bool]) -> threading.Thread:
        """As `run`, in a thread of its own, while changes flow."""

        def work() -> None:
            try:
                self.run(where, stopping)
            except CdcError as error:
                logger.error(
                    "the snapshot stopped: %s (%s)", error.message, error.hint or "it goes on at the next start"
                )

        thread = threading.Thread(target=work, name="snapshot")
        thread.start()
        return thread

    def _note(self, origin: Origin, state: str) -> None:
        self._stream.set_tag(self._tag, f"epoch={origin.epoch} {state}")
