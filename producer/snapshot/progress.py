"""Reports a snapshot's progress: a bar that is redrawn on a terminal, else a log line every ten seconds."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

logger = logging.getLogger(__name__)

_LINE_SECONDS = 10.0
_WIDTH, _MIN_WIDTH = 24, 6
_ERASE = "\r\x1b[2K"


@dataclass(slots=True)
class SnapshotProgress:
    """Rows that the stream has accepted, of about `total`; `before` of them in an earlier run."""

    rows: int = 0
    total: int = 0
    before: int = 0
    tables: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Seconds since this run began."""
        return time.monotonic() - self.started

    @property
    def rate(self) -> float:
        """Rows per second in this run."""
        return (self.rows - self.before) / max(0.001, self.seconds)

    @property
    def eta(self) -> float | None:
        """Estimated seconds left; None before the first row."""
        return max(0, self.total - self.rows) / self.rate if self.rows > self.before else None


ProgressCallback = Callable[[SnapshotProgress], None]


@contextmanager
def progress_reporter(what: str, stream: TextIO | None = None) -> Iterator[ProgressCallback]:
    """Yield a callback that reports to `stream` (default: stderr); log lines during the run appear above the bar."""
    out = stream or sys.stderr
    if not out.isatty():
        yield _log_lines(what)
        return
    bar, root = _Bar(what, out), logging.getLogger()
    root.handlers.insert(0, bar)
    try:
        yield bar.draw
    finally:
        root.removeHandler(bar)
        bar.end()


def format_progress(progress: SnapshotProgress) -> str:
    """Return ``45%, 450,000 of about 1,000,000 rows, 52,000/s, 11 s left``."""
    if progress.rows > progress.total:
        return f"{progress.rows:,} rows, about {progress.total:,} were expected, {progress.rate:,.0f}/s"
    share = progress.rows / progress.total if progress.total else 1.0
    left = "" if progress.eta is None or share >= 1 else f", {_format_duration(progress.eta)} left"
    return f"{min(share, 1.0):.0%}, {progress.rows:,} of about {progress.total:,} rows, {progress.rate:,.0f}/s{left}"


def format_line(what: str, progress: SnapshotProgress, columns: int) -> str:
    """Return bar and text in one line of a terminal: a line that wraps could not be redrawn."""
    text = format_progress(progress)
    growth = len(f"{progress.total:,}") - len(f"{progress.rows:,}") + 2  # room for more digits: the bar keeps its width
    width = min(_WIDTH, columns - len(what) - len(text) - 3 - max(0, growth))
    if width < _MIN_WIDTH:
        return f"{what} {text}"[: columns - 1]
    full = round(width * min(1.0, progress.rows / progress.total)) if progress.total else width
    return f"{what} {'█' * full}{'░' * (width - full)} {text}"


class _Bar(logging.Handler):
    """Draws the bar, and erases it before another handler writes a log line."""

    def __init__(self, what: str, out: TextIO) -> None:
        super().__init__()
        self._what, self._out, self._drawn = what, out, False

    def draw(self, progress: SnapshotProgress) -> None:
        self._out.write(_ERASE + format_line(self._what, progress, _columns(self._out)))
        self._out.flush()
        self._drawn = True

    def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002 -- the next handler writes it
        if self._drawn:
            self._out.write(_ERASE)
            self._out.flush()
            self._drawn = False

    def end(self) -> None:
        """Leave the bar's line."""
        if self._drawn:
            self._out.write("\n")
            self._out.flush()


def _columns(out: TextIO) -> int:
    try:
        return os.get_terminal_size(out.fileno()).columns or 80
    except OSError:
        return 80


def _log_lines(what: str) -> ProgressCallback:
    last = time.monotonic()

    def report(progress: SnapshotProgress) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_SECONDS:
            last = time.monotonic()
            logger.info("%s: %s", what, format_progress(progress))

    return report


def _format_duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
