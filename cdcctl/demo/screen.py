"""The screen of the running demo: the newest changes above, each consumer's position and lag below."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cdcctl import change_lines, output
from cdckit.change import Change
from cdckit.errors import StreamError
from consumers.filters.feed import Feed
from consumers.filters.selection import Selection
from consumers.stream.reader import StreamReader
from consumers.stream.start import EARLIEST
from consumers.worker.status import Report, merged_latencies, quantile, read_reports, seconds_behind

_TAIL = 12


@dataclass(slots=True)
class StreamWatcher:
    """Reads the stream in a thread and stores the newest changes."""

    stream: str
    stopping: Callable[[], bool]
    seen: int = 0
    recent: deque[Change] = field(default_factory=lambda: deque(maxlen=_TAIL))

    def start(self) -> threading.Thread:
        """Start reading at the oldest record."""
        thread = threading.Thread(target=self._run, name="demo-tail", daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        reader = StreamReader(self.stream, EARLIEST, stop_requested=self.stopping)
        try:
            for _, found in Feed(reader, Selection()).batches():
                changes = [seen.change for seen in found if seen.change is not None]
                self.seen += len(changes)
                self.recent.extend(changes)
        except StreamError:
            if not self.stopping():
                raise


def screen(title: str, watcher: StreamWatcher, data: Path, consumers: Iterable[str]) -> output.Screen:
    """Build one frame."""
    rows = [_row(name, read_reports(data, name)) for name in consumers]
    return output.log_frame(
        title,
        [
            f"cdcctl tail   ({watcher.seen} changes on the stream)",
            *(change_lines.format_line(change) for change in list(watcher.recent)),
        ],
        _TAIL + 1,
        ["consumer", "shards", "applied", "position", "behind", "commit → durable p50 / p99"],
        rows,
    )


def _row(name: str, reports: list[Report]) -> list[str]:
    if not reports:
        return [name, "-", "-", "the KCL is starting …", "-", "-"]
    latencies = merged_latencies(reports)
    newest = max((report.position for report in reports), default="")
    behind = max((seconds_behind(report) or 0.0 for report in reports), default=0.0)
    return [
        name,
        str(len(reports)),
        str(sum(report.applied for report in reports)),
        newest or "-",
        f"{behind:.1f} s",
        f"{quantile(latencies, 0.5) or '-'} / {quantile(latencies, 0.99) or '-'} ms",
    ]
