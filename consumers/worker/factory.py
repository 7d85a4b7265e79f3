"""How a shard's worker and its sink are opened: the same for the KCL's child and for a replay."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cdckit.errors import UsageError
from cdckit.runtime.settings import Settings
from cdckit.sink import Embedded, Sink, SinkContext, SinkFactory
from consumers.dead_letters import open_store
from consumers.worker.claim import ClaimedElsewhere, claim_store
from consumers.worker.shard import Cadence, ShardWorker
from consumers.worker.status import ShardFigures, status_folder


@dataclass(frozen=True, slots=True)
class Opening:
    """One consumer, and how its sinks are made."""

    settings: Settings
    consumer: str
    factory: SinkFactory
    take_over: bool = False
    """Take the claim of an embedded store from another host."""

    def worker(self, shard: str) -> ShardWorker:
        """The worker of one shard under the KCL; an embedded store is claimed for this host.

        Raises ClaimedElsewhere and UsageError (a restart helps neither: the report says so), SatelliteError, and what
        the factory raises.
        """
        settings, name = self.settings, self.consumer
        figures = ShardFigures(status_folder(settings.folder, name), name, shard)
        try:
            sink = self.factory(sink_context(settings, name, shard))
            self._claim(sink)
        except (ClaimedElsewhere, UsageError) as error:
            figures.stopped(f"{error.message} ({error.hint})")
            raise
        letters = open_store(settings.dead_letters, name, settings.folder)
        return ShardWorker(sink, letters, figures, cadence(settings, name), float(settings.max_dead_share))

    def shadow(self, shard: str, folder: Path, pace: Cadence) -> ShardWorker:
        """The worker of a replay into a fresh satellite in `folder`: no leases, no claim, dead letters of its own."""
        figures = ShardFigures(status_folder(folder, self.consumer), self.consumer, shard)
        sink = self.factory(sink_context(self.settings, self.consumer, shard, folder))
        return ShardWorker(sink, open_store("", self.consumer, folder), figures, pace, max_dead_share=1.0)

    def _claim(self, sink: Sink) -> None:
        if isinstance(sink, Embedded):
            claim_store(self.settings.application(self.consumer), sink.embedded_in, take_over=self.take_over)


def sink_context(settings: Settings, consumer: str, shard: str, data: Path | None = None) -> SinkContext:
    """The context of one shard's sink; `data` stands in for the settings' data folder: a replay's shadow."""
    options = settings.options(consumer)
    if data is None:
        return SinkContext(consumer, shard, settings.folder / consumer, options)
    return SinkContext(consumer, shard, data / consumer, options, data.name)


def cadence(settings: Settings, consumer: str) -> Cadence:
    """The cadence that the settings ask for; ``[consumers.NAME] flush_seconds`` is one consumer's own."""
    asked = settings.options(consumer).get("flush_seconds", 0)
    if not isinstance(asked, int | float) or asked < 0:
        raise UsageError(
            f"[consumers.{consumer}] flush_seconds cannot be {asked!r}", "use a number of seconds, like 0.5"
        )
    return Cadence(float(asked), float(settings.checkpoint_seconds))
