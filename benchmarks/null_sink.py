"""A sink that does nothing: it measures the cost of the kit itself."""

from __future__ import annotations

from cdckit.sink import Batch, Outcome, Sink, SinkContext


class NullSink:
    """Only counts."""

    def __init__(self) -> None:
        self._count = 0

    def apply(self, batch: Batch) -> None:
        self._count += len(batch.items)

    def flush(self) -> Outcome:
        done, self._count = self._count, 0
        return Outcome(applied=done)

    def close(self) -> None:
        pass


def open_sink(context: SinkContext) -> Sink:
    """The factory that ``CDC_SINK`` names."""
    return NullSink()
