"""The search satellite's sink: one document a row, applied and durable batch by batch."""

from __future__ import annotations

import logging

from cdckit.sink import Batch, Outcome, Sink, SinkContext
from consumers.search import options
from consumers.search.engine import Writer
from consumers.search.mapping import IndexMapping
from consumers.search.sqlite.generations import SqliteGenerations

logger = logging.getLogger(__name__)


def open_sink(context: SinkContext) -> Sink:
    """Open (or make) the index. Raises UsageError on settings, SatelliteError when it is damaged or too new."""
    found = options.read(context.options)
    if found.engine == "sqlite":
        writer: Writer = SqliteGenerations(context.folder).open_writer(found.mapping)
    else:
        from consumers.search.opensearch.generations import OpenSearchGenerations  # noqa: PLC0415 -- slow to import

        writer = OpenSearchGenerations(found).open_writer(found.mapping)
    _say_when_changed(writer.mapping, found.mapping)
    return SearchSink(writer)


class SearchSink:
    """Applies each batch durably; nothing is buffered, so flush() only says what became of it."""

    def __init__(self, writer: Writer) -> None:
        """The writer is the sink's to close."""
        self._writer = writer
        self._done = Outcome()

    def apply(self, batch: Batch) -> None:
        """Durable when this returns. Raises TransientSinkError when the index is busy, PoisonChange."""
        self._done += self._writer.apply(batch.changes)

    def flush(self) -> Outcome:
        """What became of the changes since the last flush."""
        done, self._done = self._done, Outcome()
        return done

    def close(self) -> None:
        """Close the index."""
        self._writer.close()


def _say_when_changed(used: IndexMapping, wanted: IndexMapping) -> None:
    if used != wanted:
        logger.warning(
            "cdc.toml's search mapping differs from the one that the index was made with, which stays in use: "
            "cdcctl search reindex makes an index with the new one and swaps it in, without downtime"
        )
