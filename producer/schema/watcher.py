"""Looks at the catalog every few seconds from a thread of its own, reports DDL, and refills the tables it changed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from queue import Empty, SimpleQueue

from cdckit.envelope import WireRow
from cdckit.errors import CdcError
from cdckit.runtime.settings import Settings
from producer.decoding.table_filter import TableFilter
from producer.decoding.table_shapes import TableShapes
from producer.postgres.connection import Source
from producer.schema.catalog_view import read_catalog
from producer.schema.state import read_shapes, shapes_file, write_shapes
from producer.schema.tracker import Refill, SchemaTracker

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
_RETRY_SECONDS = 30.0
_GATHER_SECONDS = 0.3
DoRefill = Callable[[Refill, Callable[[], bool]], bool]
"""Carries a refill out; False when it was stopped before its end. Raises CdcError."""


class SchemaWatcher:
    """Follows the tables' shapes while a producer runs; a context manager around its two threads."""

    def __init__(
        self, settings: Settings, dsn: Callable[[], str], refill: DoRefill | None, seconds: float = LOOK_SECONDS
    ) -> None:
        """`dsn` is asked before each look. Without `refill` the command to run is logged instead."""
        self._dsn, self._refill, self._seconds = dsn, refill, seconds
        self._path = shapes_file(settings)
        self._seen: SimpleQueue[WireRow] = SimpleQueue()
        self.shapes = TableShapes(self._on_new_shape)
        """What the router shares with this: a row of a new shape is compared with the catalog soon."""
        self._tracker = SchemaTracker(TableFilter.parse(settings.table, settings.exclude_table).wants)
        self._tracker.restore(read_shapes(self._path))
        self._lock, self._ended, self._wake = threading.Lock(), threading.Event(), threading.Event()
        self._look_now = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, name="schema-watcher", daemon=True),
            threading.Thread(target=self._work, name="refill", daemon=True),
        ]

    def __enter__(self) -> SchemaWatcher:
        """Look once, then go on in the background. Raises SourceError."""
        self.look()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop; what was seen since the last look is compared and stored, so that the next start carries it out."""
        self._ended.set()
        self._wake.set()
        self._look_now.set()
        for thread in self._threads:
            thread.join(10)
        if not self._seen.empty():
            with suppress(CdcError):
                self.look()

    def _on_new_shape(self, row: WireRow) -> None:
        """Compare it soon: until then a crash would forget it. Never blocks the relay."""
        self._seen.put(row)
        self._look_now.set()

    @property
    def pending(self) -> Sequence[Refill]:
        """Refills that are not done yet."""
        with self._lock:
            return list(self._tracker.pending.values())

    def look(self) -> None:
        """Look once. Raises SourceError when the server cannot be asked."""
        with closing(Source(self._dsn())) as source:
            now, rows = read_catalog(source), self._drain()
            self.shapes.special.replace(now.relations.values())
            with self._lock:
                before = self._tracker.shapes
                asked = [*self._tracker.look(now), *self._tracker.check(rows, now)]
                if self._tracker.shapes != before:
                    write_shapes(self._path, self._tracker.shapes)
        for refill in asked:
            self._report(refill)
        if self.pending:
            self._wake.set()

    def _drain(self) -> Sequence[WireRow]:
        found = list[WireRow]()
        try:
            while True:
                found.append(self._seen.get_nowait())
        except Empty:
            return found

    def _watch(self) -> None:
        while not self._ended.is_set():
            try:
                self.look()
            except CdcError as error:  # the relay meets the same trouble, and reports it
                logger.debug("looking at the catalog failed: %s", error.message)
            self._look_now.wait(self._seconds)
            self._look_now.clear()
            self._ended.wait(_GATHER_SECONDS)  # shapes that are met together are compared together

    def _work(self) -> None:
        while not self._ended.is_set():
            self._wake.wait()
            self._wake.clear()
            for refill in self.pending if self._refill is not None else ():
                self._carry_out(refill)

    def _carry_out(self, refill: Refill) -> None:
        assert self._refill is not None
        try:
            if self._ended.is_set() or not self._refill(refill, self._ended.is_set):
                return
            with self._lock:
                self._tracker.done(refill)
                write_shapes(self._path, self._tracker.shapes)
            logger.info("%s is filled again: satellites have its rows in their new shape", refill.table)
        except CdcError as error:
            logger.error("%s could not be filled again: %s; %s", refill.table, error.message, _command(refill))
            self._ended.wait(_RETRY_SECONDS)
            self._wake.set()

    def _report(self, refill: Refill) -> None:
        what = "satellites forget its rows and are filled again" if refill.reset else "its rows are published again"
        follows = f": {what}" if self._refill is not None else f"; {_command(refill)}"
        logger.warning("schema change: %s%s", refill.reason, follows)


def _command(refill: Refill) -> str:
    flag = " --reset" if refill.reset else ""
    return f"run: cdcctl producer backfill '{refill.table}'{flag}"
