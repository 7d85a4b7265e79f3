"""The sink of the Parquet satellite: buffers a shard's changes and appends them to the lake, one commit per table."""

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

MAX_OPEN_LOGS = 64


def open_sink(context: SinkContext) -> Sink:
    """Open the lake at ``options["url"]``, or in the context's folder if that is empty.

    A replay's shadow always uses its own folder. Raises UsageError on an invalid option.
    """
    options = ParquetOptions.read(context.options)
    lake = Lake.at(context.folder) if context.shadow else options.lake(context.folder)
    return ParquetSink(lake, options, context.shard)


@dataclass(slots=True)
class _Buffer:
    """The changes of one table by position; `delivered` counts redelivered ones too."""

    changes: dict[str, Change] = field(default_factory=dict)
    delivered: int = 0


class ParquetSink:
    """Appends every change exactly once.

    Each table is a commit of its own: tables that were committed stay committed when a later one fails, so `flush` can
    be called again.
    """

    embedded_in: Path
    """The lake's folder. Not set for a lake on an object store, which several hosts may write."""

    def __init__(self, lake: Lake, options: ParquetOptions, shard: str) -> None:
        self._lake, self._options = lake, options
        self.flush_seconds = options.flush_seconds
        if lake.is_local:
            self.embedded_in = Path(lake.root)
        self._checkpoint = ShardCheckpoint(shard, "")
        self._buffers: dict[TableRef, _Buffer] = {}
        self._logs: OrderedDict[TableRef, ChangeLog] = OrderedDict()
        self._buffered = 0
        self._done = Outcome()
        self._compactor = BackgroundCompactor(lake, options.compaction) if options.compact else None

    def apply(self, batch: Batch) -> None:
        """Buffer the batch. Once ``flush_rows`` changes are buffered, write them first, to bound the memory.

        Raises PoisonChange for a change that no lake can hold.
        """
        if self._buffered >= self._options.flush_rows:
            self._write()
        positioned = [(validated_position(item.change), item.change) for item in batch.items]
        buffer, table, source = _Buffer(), None, ""
        for position, change in positioned:
            if change.table != table or change.source != source:
                table, source = change.table, change.source
                buffer = self._buffers.setdefault(TableRef(source, table), _Buffer())
            buffer.delivered += 1
            buffer.changes[position] = change
        self._buffered += len(positioned)
        self._checkpoint = ShardCheckpoint(batch.shard, batch.items[-1].sequence_number)

    def flush(self) -> Outcome:
        """Commit the buffered changes. A change whose position is already in the log counts as superseded."""
        self._write()
        done, self._done = self._done, Outcome()
        return done

    def close(self) -> None:
        """Discard the changes that were not flushed and stop the background compactor."""
        if self._compactor:
            self._compactor.close()
        self._buffers.clear()
        self._logs.clear()

    def _write(self) -> None:
        for ref in list(self._buffers):
            buffer = self._buffers[ref]
            added = self._log(ref).append(buffer.changes, self._checkpoint)
            del self._buffers[ref]
            self._buffered -= buffer.delivered
            self._done += Outcome(applied=added, superseded=buffer.delivered - added)
            if added and self._compactor:
                self._compactor.schedule(ref)

    def _log(self, ref: TableRef) -> ChangeLog:
        log = self._logs.pop(ref, None) or ChangeLog(self._lake, ref, self._options.layout)
        self._logs[ref] = log
        if len(self._logs) > MAX_OPEN_LOGS:
            self._logs.popitem(last=False)
        return log
