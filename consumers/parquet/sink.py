"""The Parquet satellite's sink: buffers a shard's changes and appends them to the lake, a commit a table."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from cdckit.change import Change
from cdckit.sink import Batch, Outcome, Sink, SinkContext
from consumers.parquet.lake import Lake, TableRef
from consumers.parquet.maintain.background_compactor import BackgroundCompactor
from consumers.parquet.options import ParquetOptions
from consumers.parquet.write.changelog import ChangeLog, ShardCheckpoint
from consumers.parquet.write.validation import validated_position

OPEN_LOGS = 64


def open_sink(context: SinkContext) -> Sink:
    """Open the lake at ``options["url"]``, else in the context's folder. Raises UsageError on a bad option.

    A replay's shadow is always in its folder.
    """
    options = ParquetOptions.read(context.options)
    lake = Lake.at(context.folder) if context.shadow else options.lake(context.folder)
    return ParquetSink(lake, options, context.shard)


@dataclass(slots=True)
class _Buffer:
    """One table's changes by position, and how many were delivered, repeats and all."""

    changes: dict[str, Change] = field(default_factory=dict)
    delivered: int = 0


class ParquetSink:
    """Appends every change once. What was committed stays when a later table's commit fails; flush() may be retried."""

    embedded_in: Path
    """The lake's folder; missing where the lake is on an object store, which several hosts may write."""

    def __init__(self, lake: Lake, options: ParquetOptions, shard: str) -> None:
        self._lake, self._options = lake, options
        self.flush_seconds = options.flush_seconds
        if lake.is_local:
            self.embedded_in = Path(lake.root)
        self._progress = ShardCheckpoint(shard, "")
        self._buffers: dict[TableRef, _Buffer] = {}
        self._logs: OrderedDict[TableRef, ChangeLog] = OrderedDict()
        self._buffered = 0
        self._done = Outcome()
        self._housekeeper = BackgroundCompactor(lake, options.compaction) if options.compact else None

    def apply(self, batch: Batch) -> None:
        """Buffer the batch; past ``flush_rows`` write early, so that memory stays bounded.

        Raises PoisonChange when a change cannot be part of any lake.
        """
        if self._buffered >= self._options.flush_rows:
            self._write()
        placed = [(validated_position(item.change), item.change) for item in batch.items]
        buffer, table, source = _Buffer(), None, ""
        for position, change in placed:
            if change.table != table or change.source != source:
                table, source = change.table, change.source
                buffer = self._buffers.setdefault(TableRef(source, table), _Buffer())
            buffer.delivered += 1
            buffer.changes[position] = change
        self._buffered += len(placed)
        self._progress = ShardCheckpoint(batch.shard, batch.items[-1].sequence_number)

    def flush(self) -> Outcome:
        """Commit what is buffered. A change whose position the log already held is superseded."""
        self._write()
        done, self._done = self._done, Outcome()
        return done

    def close(self) -> None:
        """Forget what was not flushed."""
        if self._housekeeper:
            self._housekeeper.close()
        self._buffers.clear()
        self._logs.clear()

    def _write(self) -> None:
        for ref in list(self._buffers):
            buffer = self._buffers[ref]
            added = self._log(ref).append(buffer.changes, self._progress)
            del self._buffers[ref]
            self._buffered -= buffer.delivered
            self._done += Outcome(applied=added, superseded=buffer.delivered - added)
            if added and self._housekeeper:
                self._housekeeper.wrote(ref)

    def _log(self, ref: TableRef) -> ChangeLog:
        log = self._logs.pop(ref, None) or ChangeLog(self._lake, ref, self._options.layout)
        self._logs[ref] = log
        if len(self._logs) > OPEN_LOGS:
            self._logs.popitem(last=False)
        return log
