"""How a fill tells how far it is: a bar that is drawn again on a terminal, else a log line now and then."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from producer.snapshot.coordinator import Figures, Tell

logger = logging.getLogger(__name__)

_LINE_SECONDS = 10.0
_WIDTH, _NARROWEST = 24, 6
_ERASE = "\r\x1b[2K"


@contextmanager
def telling(what: str, stream: TextIO | None = None) -> Iterator[Tell]:
    """Tell on `stream` (stderr), by a bar where that is a terminal; log lines that come meanwhile push it down."""
    out = stream or sys.stderr
    if not out.isatty():
        yield _lines(what)
        return
    eraser, root = _Eraser(out), logging.getLogger()
    root.handlers.insert(0, eraser)
    try:
        yield eraser.bar(what)
    finally:
        root.removeHandler(eraser)
        eraser.end()


def shown(figures: Figures) -> str:
    """``45%, 450,000 of about 1,000,000 rows, 52,000/s, 11 s left``."""
    if figures.rows > figures.total:
        return f"{figures.rows:,} rows, about {figures.total:,} were expected, {figures.rate:,.0f}/s"
    share = figures.rows / figures.total if figures.total else 1.0
    left = "" if figures.eta is None or share >= 1 else f", {_spoken(figures.eta)} left"
    return f"{min(share, 1.0):.0%}, {figures.rows:,} of about {figures.total:,} rows, {figures.rate:,.0f}/s{left}"


def line(what: str, figures: Figures, columns: int) -> str:
    """The bar and what it shows, on one line of a terminal: a line that wrapped could not be drawn again."""
    text = shown(figures)
    growing = len(f"{figures.total:,}") - len(f"{figures.rows:,}") + 2  # room for what comes: a bar keeps its width
    width = min(_WIDTH, columns - len(what) - len(text) - 3 - max(0, growing))
    if width < _NARROWEST:
        return f"{what} {text}"[: columns - 1]
    full = round(width * min(1.0, figures.rows / figures.total)) if figures.total else width
    return f"{what} {'█' * full}{'░' * (width - full)} {text}"


class _Eraser(logging.Handler):
    """Draws the bar, and takes it away before a log line is written."""

    def __init__(self, out: TextIO) -> None:
        super().__init__()
        self._out, self._drawn = out, False

    def bar(self, what: str) -> Tell:
        def tell(figures: Figures) -> None:
            self._out.write(_ERASE + line(what, figures, _columns(self._out)))
            self._out.flush()
            self._drawn = True

        return tell

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


def _lines(what: str) -> Tell:
    last = time.monotonic()

    def tell(figures: Figures) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_SECONDS:
            last = time.monotonic()
            logger.info("%s: %s", what, shown(figures))

    return tell


def _spoken(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
