"""A replica that also records every delivery, of all shards in one file, in order."""

import os
from pathlib import Path

from cdckit.sink import Batch, Sink, SinkContext
from consumers.replica.sink import EmbeddedReplicaSink
from consumers.replica.sqlite import SqliteDialect

FILE = "delivered"


class RecordingSink(EmbeddedReplicaSink):
    """Writes one line per delivery: the shard and the position."""

    def __init__(self, folder: Path) -> None:
        super().__init__(SqliteDialect(folder))
        self._log = os.open(folder / FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def apply(self, batch: Batch) -> None:
        super().apply(batch)
        lines = "".join(f"{batch.shard} {change.position}\n" for change in batch.changes)
        os.write(self._log, lines.encode())  # one write: lines of several processes never mix

    def close(self) -> None:
        os.close(self._log)
        super().close()


def open_sink(context: SinkContext) -> Sink:
    return RecordingSink(context.folder)


def delivered(folder: Path) -> list[tuple[str, str]]:
    """Shard and position of each delivery so far, oldest first."""
    path = folder / FILE
    if not path.exists():
        return []
    return [(shard, position) for shard, position in map(str.split, path.read_text().splitlines())]
