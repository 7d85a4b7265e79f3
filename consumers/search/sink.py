"""The sink of the search satellite: one document per row, applied batch by batch."""

from __future__ import annotations

import logging
from pathlib import Path

from cdckit.runtime.extras import extra_needed
from cdckit.sink import Batch, Outcome, Sink, SinkContext
from consumers.search import options
from consumers.search.engine import IndexWriter
from consumers.search.mapping import IndexMapping
from consumers.search.sqlite.generations import SqliteGenerations

logger = logging.getLogger(__name__)


def open_sink(context: SinkContext) -> Sink:
    """Open the index; it is created if it is missing.

    Raises UsageError on an invalid option, SatelliteError when the index is damaged or of a newer version.
    """
    found = options.read_options(context.options, context.shadow)
    sink = _opened(context, found)
    if sink.mapping != found.mapping:
        logger.warning(
            "the search mapping in cdc.toml differs from the mapping of the index, which stays in use; "
            "cdcctl search reindex builds an index with the new mapping and switches to it without downtime"
        )
    return sink


def _opened(context: SinkContext, found: options.SearchOptions) -> SearchSink:
    if found.engine == "sqlite":
        return EmbeddedSearchSink(SqliteGenerations(context.folder).open_writer(found.mapping), context.folder)
    with extra_needed("search-opensearch"):
        from consumers.search.opensearch.generations import OpenSearchGenerations  # noqa: PLC0415 -- slow to import

    return SearchSink(OpenSearchGenerations(found).open_writer(found.mapping))


class SearchSink:
    """Applies each batch to the index. The engine may still be committing it while the kit decodes the next one."""

    def __init__(self, writer: IndexWriter) -> None:
        """Take over the writer: `close` closes it."""
        self._writer = writer
        self._done = Outcome()

    @property
    def mapping(self) -> IndexMapping:
        """The mapping in use: the one with which the index was created."""
        return self._writer.mapping

    def apply(self, batch: Batch) -> None:
        """Apply the batch; durable after `flush`. Raises TransientSinkError when the index is busy, PoisonChange."""
        self._done += self._writer.apply(batch.changes)

    def flush(self) -> Outcome:
        """Make the changes durable and report the outcome since the last flush. Raises SatelliteError."""
        self._writer.flush()
        done, self._done = self._done, Outcome()
        return done

    def close(self) -> None:
        """Close the index."""
        self._writer.close()


class EmbeddedSearchSink(SearchSink):
    """A `SearchSink` whose index is a file on this host. While it writes a batch, the processes of other shards wait.

    So it asks the kit for small batches.
    """

    max_changes = 2_000

    def __init__(self, writer: IndexWriter, folder: Path) -> None:
        """Set `embedded_in`: the kit then claims the folder for this host."""
        super().__init__(writer)
        self.embedded_in = folder
