"""``cdcctl top``: shows the state of the pipeline live, with the history of the last minutes."""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated

import typer

from cdcctl import output
from cdcctl.options import current_settings
from cdcctl.status import render
from cdcctl.status.advice import advise
from cdcctl.status.collect import StatusCollector
from cdcctl.status.model import Failure, Health
from cdckit.errors import UsageError
from cdckit.runtime.signals import stop_on_signals

_MAX_SAMPLES = 40


def top(
    context: typer.Context,
    every: Annotated[float, typer.Option("--every", min=0.5, help="Seconds between two updates.")] = 2.0,
) -> None:
    """Show the state of the pipeline live: like `status`, with sparklines of rates and lags. Ctrl-C stops it.

    Rates of a consumer are only known on the machine that runs it; those of the producer, where its metrics port is
    reachable.

    Example: [bold]cdcctl top --metrics-port 9187[/]
    """
    if not sys.stdout.isatty():
        raise UsageError("top needs a terminal", "for scripts: cdcctl status --watch -o json")
    collector, history = StatusCollector(current_settings(context)), History()
    with stop_on_signals() as stopping, output.live(output.stdout(), whole_screen=True) as display:
        while not stopping.is_set():
            history.add(collector.collect())
            display.update(frame(history, output.width()), refresh=True)
            stopping.wait(every)


@dataclass(slots=True)
class History:
    """The last samples and the series computed from them. Unknown values are omitted."""

    samples: deque[Health] = field(default_factory=lambda: deque(maxlen=_MAX_SAMPLES))

    def add(self, health: Health) -> None:
        """Add a sample."""
        self.samples.append(health)

    def behind(self) -> list[float]:
        """Bytes of WAL that the stream has not accepted, per sample."""
        return [float(sample.slot.behind) for sample in self.samples if not isinstance(sample.slot, Failure)]

    def published(self) -> list[float]:
        """Bytes of WAL acknowledged per second, between samples."""
        points = [
            (sample.at, float(sample.slot.confirmed)) for sample in self.samples if not isinstance(sample.slot, Failure)
        ]
        return _rates(points)

    def applied(self, consumer: str) -> list[float]:
        """Changes per second that a consumer applied, between samples."""
        return _rates([
            (sample.at, float(state.applied)) for sample in self.samples for state in sample.consumers
            if state.name == consumer and state.applied is not None
        ])  # fmt: skip

    def lags(self, consumer: str) -> list[float]:
        """Lag of a consumer in seconds, per sample."""
        lags = [state.lag for sample in self.samples for state in sample.consumers if state.name == consumer]
        return [lag for lag in lags if lag is not None]


def frame(history: History, width: int) -> output.Screen:
    """The screen with the last sample and the series."""
    health = history.samples[-1]
    lines = [f"[bold]{label:<9}[/]{line}" for label, line in render.head(health)]
    series = [
        _series("WAL published", history.published(), "/s", size=True),
        _series("WAL waiting", history.behind(), "", size=True),
    ]
    for consumer in health.consumers:
        series.append(_series(f"{consumer.name} applied", history.applied(consumer.name), "/s"))
        series.append(_series(f"{consumer.name} behind", history.lags(consumer.name), " s"))
    return output.table_frame(
        lines, (render.columns(width), render.rows(health, width)), [*series, "", *render.advice_lines(advise(health))]
    )


def _series(label: str, values: list[float], unit: str, *, size: bool = False) -> str:
    now = "-" if not values else output.file_size(values[-1]) if size else f"{values[-1]:,.1f}"
    return f"{label:<18}{now + unit if values else now:>12}  [cyan]{render.sparkline(values)}[/]"


def _rates(points: list[tuple[float, float]]) -> list[float]:
    """Increase per second between neighboring points; a counter that restarted counts as 0."""
    pairs = pairwise(points)
    return [max(0.0, (new - old) / (after - before)) for (before, old), (after, new) in pairs if after > before]
