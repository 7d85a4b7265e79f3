"""The search satellite's sink: one document a row, applied and durable batch by batch."""

from __future__ import annotations

from cdckit.sink import Batch, Outcome, Sink, SinkContext
from consumers.search.store import Store


def open_sink(context: SinkContext) -> Sink:
    """Open (or make) the index in the context's folder. Raises SatelliteError when it is damaged or too new."""
    return SearchSink(Store(context.folder, create=True))


class SearchSink:
    """Applies each batch in one transaction; nothing is buffered, so flush() only says what became of it."""

    def __init__(self, store: Store) -> None:
        """The store is the sink's to close."""
        self._store = store
        self._done = Outcome()

    def apply(self, batch: Batch) -> None:
        """Durable when this returns. Raises TransientSinkError when other writers hold the index for too long."""
        self._done += self._store.apply(batch.changes)

    def flush(self) -> Outcome:
        """What became of the changes since the last flush."""
        done, self._done = self._done, Outcome()
        return done

    def close(self) -> None:
        """Close the index."""
        self._store.close()
