"""The audit satellite's sink: every change once, appended and durable batch by batch."""

from __future__ import annotations

from cdckit.sink import Batch, Outcome, Sink, SinkContext
from consumers.audit.store import Store


def open_sink(context: SinkContext) -> Sink:
    """Open (or make) the log in the context's folder. Raises SatelliteError when it is damaged or too new."""
    return AuditSink(Store(context.folder, create=True))


class AuditSink:
    """Appends each batch in one transaction; nothing is buffered, so flush() only says what became of it."""

    def __init__(self, store: Store) -> None:
        """The store is the sink's to close."""
        self._store = store
        self._done = Outcome()

    def apply(self, batch: Batch) -> None:
        """Durable when this returns. Raises TransientSinkError when other writers hold the log for too long."""
        self._done += self._store.append(batch.shard, batch.items)

    def flush(self) -> Outcome:
        """What became of the changes since the last flush; a position that the log held was superseded."""
        done, self._done = self._done, Outcome()
        return done

    def close(self) -> None:
        """Close the log."""
        self._store.close()
