"""The search satellite's sink: one document a row, applied batch by batch."""

from __future__ import annotations

import logging
from pathlib import Path

from cdckit.sink import Batch, Outcome, Sink, SinkContext
from consumers.search import options
from consumers.search.engine import Writer
from consumers.search.mapping import IndexMapping
from consumers.search.sqlite.generations import SqliteGenerations

logger = logging.getLogger(__name__)


def open_sink(context: SinkContext) -> Sink:
    """Open (or make) the index. Raises UsageError on settings, SatelliteError when it is damaged or too new."""
    found = options.read(context.options, context.shadow)
    sink = _opened(context, found)
    if sink.mapping != found.mapping:
        logger.warning(
            "cdc.toml's search mapping differs from the one that the index was made with, which stays in use: "
            "cdcctl search reindex makes an index with the new one and swaps it in, without downtime"
        )
    return sink


def _opened(context: SinkContext, found: options.Options) -> SearchSink:
    if found.engine == "sqlite":
        return EmbeddedSearchSink(SqliteGenerations(context.folder).open_writer(found.mapping), context.folder)
    from consumers.search.opensearch.generations import OpenSearchGenerations  # noqa: PLC0415 -- slow to import

    return SearchSink(OpenSearchGenerations(found).open_writer(found.mapping))


class SearchSink:
    """Applies each batch in one go; an engine may still be making it durable while the next one is decoded."""

    def __init__(self, writer: Writer) -> None:
        """The writer is the sink's to close."""
        self._writer = writer
        self._done = Outcome()

    @property
    def mapping(self) -> IndexMapping:
        """The mapping in use: the one that the index was made with."""
        return self._writer.mapping

    def apply(self, batch: Batch) -> None:
        """Durable once `flush` has returned. Raises TransientSinkError when the index is busy, PoisonChange."""
        self._done += self._writer.apply(batch.changes)

    def flush(self) -> Outcome:
        """What became of the changes since the last flush. Raises SatelliteError when they could not be kept."""
        self._writer.flush()
        done, self._done = self._done, Outcome()
        return done

    def close(self) -> None:
        """Close the index."""
        self._writer.close()


class EmbeddedSearchSink(SearchSink):
    """A `SearchSink` whose index is a file of this host: other shards' processes wait while it writes a batch."""

    max_changes = 2_000

    def __init__(self, writer: Writer, folder: Path) -> None:
        """The kit claims the folder for this host."""
        super().__init__(writer)
        self.embedded_in = folder
