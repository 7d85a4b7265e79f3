"""Applies the stream to a sink from a time up to the present, and continues from there at each further call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cdckit.errors import SatelliteError
from cdckit.runtime.settings import Settings
from cdckit.sink import Sink
from consumers.dead_letters import open_store
from consumers.stream.reader import StreamReader
from consumers.stream.start import StartPosition
from consumers.worker.shard import Cadence, Checkpoint, ShardWorker
from consumers.worker.status import ShardReporter, status_folder

_FLUSH_SECONDS = 2.0


@dataclass(slots=True)
class Catchup:
    """Applies the stream from `moment` on; each call of `follow` continues where the last one ended."""

    settings: Settings
    consumer: str
    moment: datetime
    start: StartPosition
    folder: Path
    stop_requested: Callable[[], bool] = lambda: False
    _reader: StreamReader | None = None
    _workers: dict[str, ShardWorker] = field(default_factory=dict)

    def follow(self, open_sink: Callable[[], Sink]) -> None:
        """Reads up to the present. Raises StreamError, and SatelliteError when a stop was requested."""
        if self._reader is None:
            self._reader = StreamReader(
                self.settings.stream, self.start, stop_when_caught_up=True, stop_requested=self.stop_requested
            )
        for page in self._reader.pages():
            if page.records:
                self._worker(page.shard, open_sink).process(page.records, page.behind_ms, _no_checkpoint)
        for worker in self._workers.values():
            worker.finish(_no_checkpoint)
        if self.stop_requested():
            raise SatelliteError("the reindex was stopped; the index in use is unchanged", "run the command again")

    def close(self) -> None:
        """Closes the workers."""
        for worker in self._workers.values():
            worker.close()

    @property
    def applied(self) -> int:
        """Changes that had an effect so far."""
        return sum(worker.reporter.report.applied for worker in self._workers.values())

    @property
    def dead_lettered(self) -> int:
        """Records that could never be applied."""
        return sum(worker.reporter.report.dead_lettered for worker in self._workers.values())

    def _worker(self, shard: str, open_sink: Callable[[], Sink]) -> ShardWorker:
        if shard not in self._workers:
            reporter = ShardReporter(status_folder(self.folder, self.consumer), self.consumer, shard)
            letters, cadence = open_store("", self.consumer, self.folder), Cadence(_FLUSH_SECONDS)
            self._workers[shard] = ShardWorker(open_sink(), letters, reporter, cadence, max_dead_share=1.0)
        return self._workers[shard]


def _no_checkpoint(mark: Checkpoint) -> None:
    """A catch-up has no leases."""


def catchup(settings: Settings, moment: datetime, start: StartPosition, stop_requested: Callable[[], bool]) -> Catchup:
    """A catch-up for a reindex of the search satellite; its dead letters are in a folder of their own."""
    name = f"reindex-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    return Catchup(settings, "search", moment, start, settings.folder / "replays" / name, stop_requested)
