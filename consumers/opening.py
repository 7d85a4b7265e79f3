"""How a sink is opened: the same for the KCL's child and for a replay."""

from __future__ import annotations

from pathlib import Path

from cdckit.settings import Settings
from cdckit.sink import SinkContext


def sink_context(settings: Settings, consumer: str, shard: str, data: Path | None = None) -> SinkContext:
    """The context of one shard's sink; `data` stands in for the settings' data folder (a replay's shadow)."""
    return SinkContext(consumer, shard, (data or settings.folder) / consumer, settings.options(consumer))
