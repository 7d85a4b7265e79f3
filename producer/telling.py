"""How a fill tells how far it is: a bar that is drawn again on a terminal, else a log line now and then."""

from __future__ import annotations

import logging
import sys
import time
from typing import TextIO

from producer.fill import Figures, Tell

logger = logging.getLogger(__name__)

_LINE_SECONDS = 10.0
_WIDTH = 24


def teller(what: str, stream: TextIO | None = None) -> Tell:
    """For `stream` (stderr): a bar where it is a terminal."""
    out = stream or sys.stderr
    return _bar(what, out) if out.isatty() else _lines(what)


def shown(figures: Figures) -> str:
    """``45 %, 450,000 of about 1,000,000 rows, 52,000/s, 11 s left``."""
    share = figures.rows / figures.total if figures.total else 1.0
    left = "" if figures.eta is None or share >= 1 else f", {_spoken(figures.eta)} left"
    return f"{min(share, 1.0):.0%}, {figures.rows:,} of about {figures.total:,} rows, {figures.rate:,.0f}/s{left}"


def _bar(what: str, out: TextIO) -> Tell:
    def tell(figures: Figures) -> None:
        share = min(1.0, figures.rows / figures.total) if figures.total else 1.0
        bar = "█" * round(share * _WIDTH) + "░" * (_WIDTH - round(share * _WIDTH))
        out.write(f"\r\x1b[2K{what} {bar} {shown(figures)}")
        out.flush()

    return tell


def _lines(what: str) -> Tell:
    last = time.monotonic()

    def tell(figures: Figures) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_SECONDS:
            last = time.monotonic()
            logger.info("%s: %s", what, shown(figures))

    return tell


def end_bar(stream: TextIO | None = None) -> None:
    """Leave the bar's line."""
    out = stream or sys.stderr
    if out.isatty():
        out.write("\n")
        out.flush()


def _spoken(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
