"""Opens a shard's worker and its sink, for the KCL's child process and for a replay alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cdckit.errors import UsageError
from cdckit.runtime.settings import Settings
from cdckit.sink import Embedded, Sink, SinkContext, SinkFactory
from consumers.dead_letters import open_store
from consumers.worker.claim import ClaimedElsewhere, claim_store
from consumers.worker.shard import Cadence, ShardWorker
from consumers.worker.status import ShardReporter, status_folder


@dataclass(frozen=True, slots=True)
class WorkerFactory:
    """Opens the workers of one consumer."""

    settings: Settings
    consumer: str
    factory: SinkFactory
    take_over: bool = False
    """Whether to take the claim of an embedded store from another host."""

    def open_worker(self, shard: str) -> ShardWorker:
        """Opens the worker of one shard under the KCL; claims an embedded store for this host.

        Raises ClaimedElsewhere and UsageError (the shard's report has them: a restart does not help), SatelliteError,
        and what the factory raises.
        """
        settings, name = self.settings, self.consumer
        reporter = ShardReporter(status_folder(settings.folder, name), name, shard)
        try:
            sink = self.factory(sink_context(settings, name, shard))
            self._claim(sink)
        except (ClaimedElsewhere, UsageError) as error:
            reporter.record_stopped(f"{error.message} ({error.hint})")
            raise
        letters = open_store(settings.dead_letters, name, settings.folder)
        return ShardWorker(sink, letters, reporter, read_cadence(settings, name), float(settings.max_dead_share))

    def open_shadow_worker(self, shard: str, folder: Path, cadence: Cadence) -> ShardWorker:
        """Opens the worker of a replay into a new satellite in `folder`: no leases, no claim, its own dead letters."""
        reporter = ShardReporter(status_folder(folder, self.consumer), self.consumer, shard)
        sink = self.factory(sink_context(self.settings, self.consumer, shard, folder))
        return ShardWorker(sink, open_store("", self.consumer, folder), reporter, cadence, max_dead_share=1.0)

    def _claim(self, sink: Sink) -> None:
        if isinstance(sink, Embedded):
            claim_store(self.settings.application(self.consumer), sink.embedded_in, take_over=self.take_over)


def sink_context(settings: Settings, consumer: str, shard: str, data: Path | None = None) -> SinkContext:
    """The context of one shard's sink. A replay gives its shadow's folder as `data`, in place of the data folder."""
    options = settings.options(consumer)
    if data is None:
        return SinkContext(consumer, shard, settings.folder / consumer, options)
    return SinkContext(consumer, shard, data / consumer, options, data.name)


def read_cadence(settings: Settings, consumer: str) -> Cadence:
    """The cadence that the settings ask for; ``[consumers.NAME] flush_seconds`` sets it for one consumer."""
    flush_seconds = settings.options(consumer).get("flush_seconds", 0)
    if not isinstance(flush_seconds, int | float) or flush_seconds < 0:
        raise UsageError(
            f"[consumers.{consumer}] flush_seconds cannot be {flush_seconds!r}", "use a number of seconds, like 0.5"
        )
    return Cadence(float(flush_seconds), float(settings.checkpoint_seconds))
