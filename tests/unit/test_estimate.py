"""What a replay would read is told from a few pages: right where they hold all, near it in a burst."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from consumers.replay.estimate import estimate
from consumers.stream.probe import Probe, Sample
from consumers.stream.start import EARLIEST, StartPosition

START = datetime(2026, 11, 25, 12, tzinfo=UTC)


class Kinesis:
    """A probe of one shard, whose records of ten bytes arrived at these seconds."""

    def __init__(self, seconds: Sequence[float]) -> None:
        self.arrivals = [START + timedelta(seconds=one) for one in sorted(seconds)]
        self.asked = 0

    def since(self, shard: str, begin: StartPosition, limit: int) -> Sample:
        self.asked += 1
        at = START if begin == EARLIEST else begin.moment
        assert at is not None
        found = [one for one in self.arrivals if one >= at]
        records = [
            {"SequenceNumber": str(number), "Data": b"x" * 10, "ApproximateArrivalTimestamp": one}
            for number, one in enumerate(found[:limit])
        ]
        return Sample(records, at_end=len(found) <= limit)


def told(seconds: Sequence[float], begin: StartPosition = EARLIEST, end: float = 3600) -> tuple[int, bool, int]:
    kinesis = Kinesis(seconds)
    parts = estimate(cast(Probe, cast(Any, kinesis)), ["shardId-0"], begin, START + timedelta(seconds=end))
    assert kinesis.asked <= 8
    assert all(abs(part.bytes - 10 * part.records) <= 5 for part in parts)
    return sum(part.records for part in parts), all(part.exact for part in parts), kinesis.asked


def test_what_one_page_holds_is_exact() -> None:
    assert told([n / 10 for n in range(9_000)]) == (9_000, True, 1)
    assert told([]) == (0, True, 1)


def test_the_end_and_the_beginning_count() -> None:
    seconds = [float(n) for n in range(3_600)]
    assert told(seconds, StartPosition.at(START + timedelta(seconds=600)), 1_199.5) == (600, True, 1)


def test_a_steady_stream_is_told_within_a_tenth() -> None:
    records, exact, _ = told([n / 100 for n in range(360_000)])
    assert not exact
    assert records == pytest.approx(360_000, rel=0.1)


@pytest.mark.parametrize("at", [0, 1_000, 3_590])
def test_a_burst_is_not_taken_for_what_goes_on(at: int) -> None:
    """A hundred thousand records in a second, of an hour in which little came: a backfill, say."""
    records, exact, _ = told([*(at + n / 100_000 for n in range(100_000)), *range(3_600)])
    assert not exact
    assert 50_000 < records < 250_000
