"""The progress bar of a snapshot: one line at any terminal width, and log lines appear above it."""

import io
import logging

import pytest

from producer.snapshot.progress import SnapshotProgress, format_line, progress_reporter


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def seen(text: str) -> list[str]:
    """The lines that a terminal shows at the end."""
    return [part.rpartition("\r\x1b[2K")[2] for part in text.split("\n")]


@pytest.mark.parametrize("rows", [0, 7, 450_000, 123_456_789_012])
@pytest.mark.parametrize("columns", [20, 60, 80, 200])
def test_it_never_wraps(rows: int, columns: int) -> None:
    assert len(format_line("snapshot", SnapshotProgress(rows, 1_000_000), columns)) < columns


def test_at_eighty_columns_there_is_a_bar_rows_rate_and_time_left() -> None:
    figures = SnapshotProgress(450_000, 1_000_000)
    figures.started -= 10
    shown = format_line("snapshot", figures, 80)
    assert "████" in shown
    assert "░░" in shown
    assert shown.endswith(" 45%, 450,000 of about 1,000,000 rows, 45,000/s, 12 s left")


def test_log_lines_come_between_and_the_last_bar_stays() -> None:
    out = Terminal()
    handler, logger = logging.StreamHandler(out), logging.getLogger()
    logger.addHandler(handler)
    try:
        with progress_reporter("backfill", out) as tell:
            tell(SnapshotProgress(1, 10))
            logger.warning("trouble")
            tell(SnapshotProgress(10, 10))
        logger.warning("after")
    finally:
        logger.removeHandler(handler)
    first, second, third, rest = seen(out.getvalue())
    assert (first, third, rest) == ("trouble", "after", "")
    assert second.startswith("backfill ████████████████████████ 100%, 10 of about 10 rows")
