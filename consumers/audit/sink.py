"""The audit satellite's sink: every change once, durable batch by batch; its chain is anchored now and then."""

from __future__ import annotations

from pathlib import Path

from cdckit.sink import Batch, Outcome, Sink, SinkContext
from consumers.audit.object_store import open_objects
from consumers.audit.options import AuditOptions
from consumers.audit.proof import keys
from consumers.audit.proof.anchors import Anchorer
from consumers.audit.proof.segments import SegmentStore
from consumers.audit.store import AuditStore


def open_sink(context: SinkContext) -> Sink:
    """Open (or make) the log in the context's folder, and its key. Raises SatelliteError when damaged or too new."""
    options, folder = AuditOptions.read(context.options), context.folder
    if context.shadow:  # a replay's log has anchors, segments and keys of its own
        options = AuditOptions(anchor_seconds=options.anchor_seconds)
    segments = SegmentStore(open_objects(options.segments, folder))
    store = AuditStore(folder, create=True, in_segments=segments.holds)
    key_folder = options.key_folder(folder)
    keys.signing_key(key_folder)
    anchorer = Anchorer(
        open_objects(options.anchors, folder, options.anchor_lock_days),
        lambda: keys.signing_key(key_folder),
        lambda: (store.log, *store.head(context.shard)),
        options.anchor_seconds,
    )
    return AuditSink(store, anchorer, folder, context.shard)


class AuditSink:
    """Appends each batch in one transaction; nothing is buffered, so flush() only says what became of it."""

    def __init__(self, store: AuditStore, anchorer: Anchorer, folder: Path, shard: str) -> None:
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
        self._anchorer.anchor(self._shard)
        self._store.close()
