"""The estimate of a replay from a few pages: exact where they hold everything, close to it in a burst."""

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
        self.arrivals = [START + timedelta(seconds=second) for second in sorted(seconds)]
        self.reads = 0

    def read_from(self, shard: str, begin: StartPosition, limit: int) -> Sample:
        self.reads += 1
        at = START if begin == EARLIEST else begin.moment
        assert at is not None
        found = [arrived for arrived in self.arrivals if arrived >= at]
        records = [
            {"SequenceNumber": str(number), "Data": b"x" * 10, "ApproximateArrivalTimestamp": arrived}
            for number, arrived in enumerate(found[:limit])
        ]
        return Sample(records, at_end=len(found) <= limit)


def estimated(seconds: Sequence[float], begin: StartPosition = EARLIEST, end: float = 3600) -> tuple[int, bool, int]:
    kinesis = Kinesis(seconds)
    estimates = estimate(cast(Probe, cast(Any, kinesis)), ["shardId-0"], begin, START + timedelta(seconds=end))
    assert kinesis.reads <= 8
    assert all(abs(part.bytes - 10 * part.records) <= 5 for part in estimates)
    return sum(part.records for part in estimates), all(part.exact for part in estimates), kinesis.reads


def test_what_one_page_holds_is_exact() -> None:
    assert estimated([n / 10 for n in range(9_000)]) == (9_000, True, 1)
    assert estimated([]) == (0, True, 1)


def test_the_end_and_the_beginning_count() -> None:
    seconds = [float(n) for n in range(3_600)]
    assert estimated(seconds, StartPosition.at(START + timedelta(seconds=600)), 1_199.5) == (600, True, 1)


def test_a_steady_stream_is_estimated_within_a_tenth() -> None:
    records, exact, _ = estimated([n / 100 for n in range(360_000)])
    assert not exact
    assert records == pytest.approx(360_000, rel=0.1)


@pytest.mark.parametrize("at", [0, 1_000, 3_590])
def test_a_burst_is_not_extrapolated(at: int) -> None:
    """A hundred thousand records within one second of an otherwise quiet hour, for example a backfill."""
    records, exact, _ = estimated([*(at + n / 100_000 for n in range(100_000)), *range(3_600)])
    assert not exact
    assert 50_000 < records < 250_000
