"""The audit satellite's sink: every change once, durable batch by batch; its chain is anchored now and then."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from cdckit.sink import Batch, Outcome, Sink, SinkContext
from consumers.audit import keys
from consumers.audit.anchors import Anchorer
from consumers.audit.objects import open_objects
from consumers.audit.options import Options
from consumers.audit.segments import Segments
from consumers.audit.store import Store


def open_sink(context: SinkContext) -> Sink:
    """Open (or make) the log in the context's folder, and its key. Raises SatelliteError when damaged or too new."""
    options, folder = Options.read(context.options), context.folder
    if context.shadow:  # a replay's log has anchors, segments and keys of its own
        options = Options(anchor_seconds=options.anchor_seconds)
    segments = Segments(open_objects(options.segments, folder))
    anchors = open_objects(options.anchors, folder, options.anchor_lock_days)
    store = Store(folder, create=True, in_segments=segments.holds)
    with ExitStack() as on_error:
        on_error.callback(store.close)
        key_folder = options.key_folder(folder)
        keys.signing_key(key_folder)
        anchorer = Anchorer(
            anchors,
            lambda: keys.signing_key(key_folder),
            lambda: (store.log, *store.head(context.shard)),
            options.anchor_seconds,
        )
        on_error.pop_all()
    return AuditSink(store, anchorer, folder, context.shard)


class AuditSink:
    """Appends each batch in one transaction; nothing is buffered, so flush() only says what became of it."""

    def __init__(self, store: Store, anchorer: Anchorer, folder: Path, shard: str) -> None:
        """The store is the sink's to close."""
        self._store, self._anchorer, self._shard = store, anchorer, shard
        self._done = Outcome()
        self.embedded_in = folder

    def apply(self, batch: Batch) -> None:
        """Durable when this returns. Raises TransientSinkError when other writers hold the log for too long."""
        self._done += self._store.append(batch.shard, batch.items)

    def flush(self) -> Outcome:
        """What became of the changes since the last flush; a position that the log held was superseded."""
        self._anchorer.tick(self._shard)
        done, self._done = self._done, Outcome()
        return done

    def close(self) -> None:
        """Anchor what came since the last time, and close the log."""
        try:
            self._anchorer.anchor(self._shard)
        finally:
            self._store.close()
