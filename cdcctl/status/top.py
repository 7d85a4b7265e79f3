"""``cdcctl top``: the whole way of a change, live, with what the last minutes were like."""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated

import typer

from cdcctl import output
from cdcctl.options import settings
from cdcctl.status import render
from cdcctl.status.advice import advise
from cdcctl.status.collect import Looker
from cdcctl.status.model import Failure, Health
from cdckit.errors import UsageError
from cdckit.runtime.signals import stop_on_signals

_KEPT = 40


def top(
    context: typer.Context,
    every: Annotated[float, typer.Option("--every", min=0.5, help="Seconds between two looks.")] = 2.0,
) -> None:
    """Watch the whole way of a change live: what `status` shows, with sparklines of rates and lags; Ctrl-C ends.

    Rates of a consumer are known on the machine that runs it; the producer's where its metrics port is reachable.

    Example: [bold]cdcctl top --metrics-port 9187[/]
    """
    if not sys.stdout.isatty():
        raise UsageError("top draws on a terminal, and this is none", "cdcctl status --watch -o json is for scripts")
    looker, history = Looker(settings(context)), History()
    with stop_on_signals() as stopping, output.live(output.stdout(), whole_screen=True) as display:
        while not stopping.is_set():
            history.add(looker.look())
            display.update(frame(history, output.width()), refresh=True)
            stopping.wait(every)


@dataclass(slots=True)
class History:
    """The last looks, and series made of them; None of a look is left out."""

    looks: deque[Health] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def add(self, health: Health) -> None:
        """One more look."""
        self.looks.append(health)

    def behind(self) -> list[float]:
        """Bytes of WAL that the stream does not have, at each look."""
        return [float(one.slot.behind) for one in self.looks if not isinstance(one.slot, Failure)]

    def published(self) -> list[float]:
        """Bytes of WAL a second that were acknowledged, between two looks."""
        marks = [(one.at, float(one.slot.confirmed)) for one in self.looks if not isinstance(one.slot, Failure)]
        return _rates(marks)

    def applied(self, consumer: str) -> list[float]:
        """Changes a second that a consumer applied, between two looks."""
        return _rates(
            [(one.at, float(it.applied)) for one in self.looks for it in one.consumers
             if it.name == consumer and it.applied is not None]
        )  # fmt: skip

    def lags(self, consumer: str) -> list[float]:
        """Seconds that a consumer was behind, at each look."""
        found = [it.lag for one in self.looks for it in one.consumers if it.name == consumer]
        return [lag for lag in found if lag is not None]


def frame(history: History, width: int) -> output.Screen:
    """One picture of the last look and the series."""
    health = history.looks[-1]
    lines = [f"[bold]{label:<9}[/]{line}" for label, line in render.head(health)]
    series = [
        _series("WAL published", history.published(), "/s", size=True),
        _series("WAL waiting", history.behind(), "", size=True),
    ]
    for one in health.consumers:
        series.append(_series(f"{one.name} applied", history.applied(one.name), "/s"))
        series.append(_series(f"{one.name} behind", history.lags(one.name), " s"))
    return output.stacked(
        lines, (render.columns(width), render.rows(health, width)), [*series, "", *render.told(advise(health))]
    )


def _series(label: str, values: list[float], unit: str, *, size: bool = False) -> str:
    now = "-" if not values else render.size(values[-1]) if size else f"{values[-1]:,.1f}"
    return f"{label:<18}{now + unit if values else now:>12}  [cyan]{render.sparkline(values)}[/]"


def _rates(marks: list[tuple[float, float]]) -> list[float]:
    pairs = pairwise(marks)
    return [max(0.0, (there - here) / (after - before)) for (before, here), (after, there) in pairs if after > before]
