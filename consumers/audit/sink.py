"""The sink of the audit satellite: appends each batch durably, and anchors its shard's chain at intervals."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from cdckit.sink import Batch, Outcome, Sink, SinkContext
from consumers.audit.object_store import open_objects
from consumers.audit.options import AuditOptions
from consumers.audit.proof import keys
from consumers.audit.proof.anchors import Anchorer
from consumers.audit.proof.segments import SegmentStore
from consumers.audit.store import AuditStore


def open_sink(context: SinkContext) -> Sink:
    """Open the log in the context's folder; the log and its key are created if they are missing.

    Raises UsageError on an invalid option, SatelliteError when the log is damaged or of a newer version.
    """
    options, folder = AuditOptions.read(context.options), context.folder
    if context.shadow:  # a replay's log has its own anchors, segments and keys
        options = AuditOptions(anchor_seconds=options.anchor_seconds)
    segments = SegmentStore(open_objects(options.segments, folder))
    anchors = open_objects(options.anchors, folder, options.anchor_lock_days)
    store = AuditStore(folder, create=True, in_segments=segments.contains)
    with ExitStack() as on_error:
        on_error.callback(store.close)
        key_folder = options.key_folder(folder)
        keys.signing_key(key_folder)
        anchorer = Anchorer(
            anchors,
            lambda: keys.signing_key(key_folder),
            lambda: (store.log_id, *store.head(context.shard)),
            options.anchor_seconds,
        )
        on_error.pop_all()
    return AuditSink(store, anchorer, folder, context.shard)


class AuditSink:
    """Appends each batch in one transaction. Nothing is buffered, so `flush` only reports the outcome."""

    def __init__(self, store: AuditStore, anchorer: Anchorer, folder: Path, shard: str) -> None:
        """Take over the store: `close` closes it."""
        self._store, self._anchorer, self._shard = store, anchorer, shard
        self._done = Outcome()
        self.embedded_in = folder

    def apply(self, batch: Batch) -> None:
        """Append the batch; durable on return. Raises TransientSinkError when other writers lock the log too long."""
        self._done += self._store.append(batch.shard, batch.items)

    def flush(self) -> Outcome:
        """Report the outcome since the last flush. A change whose position is already in the log is superseded."""
        self._anchorer.tick(self._shard)
        done, self._done = self._done, Outcome()
        return done

    def close(self) -> None:
        """Anchor the entries since the last anchor, and close the log."""
        try:
            self._anchorer.anchor(self._shard)
        finally:
            self._store.close()
