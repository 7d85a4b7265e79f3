"""A time that the stream no longer holds is refused, and the error names the oldest possible one."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from cdckit.errors import UsageError
from consumers.stream.points import SLACK, Point
from consumers.stream.probe import Probe
from consumers.stream.start import EARLIEST

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Kinesis:
    """A stream with a retention of one day."""

    def __init__(self, created: datetime) -> None:
        self._created = created

    def describe_stream_summary(self, **_: object) -> dict[str, Any]:
        described = {"RetentionPeriodHours": 24, "StreamCreationTimestamp": self._created}
        return {"StreamDescriptionSummary": described}


def probe(created: datetime) -> Probe:
    return Probe("s", cast(Any, Kinesis(created)))


def test_what_is_older_than_the_retention_is_refused() -> None:
    old = probe(NOW - timedelta(days=9))
    with pytest.raises(UsageError, match="2026-11-23T12:00:00") as raised:
        old.start_for(Point(NOW - timedelta(days=2)), NOW)
    assert "backfill" in raised.value.hint
    assert old.start_for(Point(), NOW) == EARLIEST
    assert old.start_for(Point(NOW - timedelta(hours=1)), NOW).moment == NOW - timedelta(hours=1) - SLACK


def test_a_new_stream_holds_everything() -> None:
    assert probe(NOW - timedelta(hours=1)).start_for(Point(NOW - timedelta(days=2)), NOW).moment is not None
