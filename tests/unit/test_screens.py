"""What is drawn on a terminal fits it, and the images for the docs show what a terminal shows."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from cdcctl.demo.screenshots import shot
from cdcctl.replay.progress import Progress
from consumers.stream.reader import ShardPage


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_progress_line_fits_and_keeps_what_matters(width: int) -> None:
    progress = Progress()
    progress.took(ShardPage("shardId-0", [], [], 400_000, "1"), 0)
    progress.took(ShardPage("shardId-0", [], [datetime(2026, 11, 24, 10, tzinfo=UTC)], 100_000, "2"), 12_345)
    text = progress.text(width - 1)
    assert len(text) < width
    assert "75%" in text
    assert "12,345 changes" in text
    assert " left" in text
    assert ("at 2026-11-24" in text) == (width == 140)


def test_with_an_end_the_rest_of_the_stream_does_not_count() -> None:
    progress = Progress(until=datetime.now(UTC))
    progress.took(ShardPage("shardId-0", [], [], 0, "1"), 0)
    assert "100%" in progress.text()


def test_a_shot_is_what_a_terminal_shows(tmp_path: Path) -> None:
    text = shot(("stream", "--help"), {}, tmp_path, 70)
    assert "\x1b[1mcdcctl stream --help\x1b[0m\n" in text
    plain = [line for line in text.splitlines() if "\x1b" not in line]
    assert any("─" in line for line in text.splitlines()), "boxes, as on a terminal"
    assert max(map(len, plain)) <= 70
