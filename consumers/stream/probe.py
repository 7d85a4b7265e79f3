"""Reads samples of a stream: a shard's first records since a time, where an LSN is, how far back the stream goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from cdckit.envelope import position_and_time
from cdckit.errors import EnvelopeError, StreamError, UsageError
from cdckit.position import Position
from consumers.stream.points import OLDEST, SLACK, Point, start_at
from consumers.stream.rate_limit import ReadRateLimiter
from consumers.stream.reader import RETRYABLE_CODES, kinesis_client
from consumers.stream.shards import Shard, list_shards
from consumers.stream.start import EARLIEST, StartPosition
from consumers.stream.unpack import expand_record

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

_PRECISION = timedelta(seconds=15)
_MAX_ATTEMPTS = 8


class ChangePosition(NamedTuple):
    """The position and commit time of a change, without its row."""

    position: Position
    commit_time: datetime


@dataclass(frozen=True, slots=True)
class Sample:
    """Consecutive records of one shard, as Kinesis returns them; `at_end` when there are no more now."""

    records: Sequence[Any]
    at_end: bool

    @property
    def changes(self) -> list[ChangePosition]:
        """The positions of the changes in the records; records that cannot be read are left out."""
        found = []
        for item in self.records:
            for record in expand_record(item):
                with suppress(EnvelopeError):
                    found.append(ChangePosition(*position_and_time(record.data)))
        return found


@dataclass(slots=True)
class Probe:
    """Reads each shard at most five times per second. All methods raise StreamError."""

    stream: str
    client: KinesisClient = field(default_factory=kinesis_client)
    limiter: ReadRateLimiter = field(default_factory=ReadRateLimiter)

    def shards(self) -> Sequence[Shard]:
        """All shards that the stream lists."""
        return list_shards(self.stream, self.client)

    def read_from(self, shard: str, start: StartPosition, limit: int = 1) -> Sample:
        """The first records from `start` on: at most `limit`, and at least one unless there are none."""
        try:
            iterator: str | None = self._iterator(shard, start)
            while iterator:
                answer = self._records(shard, iterator, limit)
                iterator = answer.get("NextShardIterator")
                at_end = iterator is None or not answer.get("MillisBehindLatest")
                if answer["Records"] or at_end:
                    return Sample(answer["Records"], at_end)
        except (ClientError, BotoCoreError) as error:
            raise StreamError(f"cannot read {shard} of {self.stream!r}: {error}") from error
        return Sample([], at_end=True)

    def oldest_arrival(self, now: datetime) -> tuple[datetime, bool]:
        """The arrival time of the oldest record that the stream may hold, and whether older ones have expired."""
        try:
            described = self.client.describe_stream_summary(StreamName=self.stream)["StreamDescriptionSummary"]
        except (ClientError, BotoCoreError) as error:
            raise StreamError(
                f"cannot describe the stream {self.stream!r}: {error}", "check --stream and AWS_REGION"
            ) from error
        kept = now - timedelta(hours=described["RetentionPeriodHours"])
        created = described["StreamCreationTimestamp"].astimezone(UTC)
        return max(kept, created), created < kept

    def start_for(self, point: Point, now: datetime) -> StartPosition:
        """Where to start to read all changes from `point` on.

        Raises UsageError with the oldest possible time when the stream no longer holds them.
        """
        if not point.by_time:
            return self._start_at_lsn(point, now)
        if point.moment == OLDEST:
            return EARLIEST
        oldest, lost = self.oldest_arrival(now)
        if lost and point.moment < oldest:
            raise _too_old_error(point, f"its oldest record can have arrived at {oldest.isoformat(timespec='seconds')}")
        return start_at(point.moment)

    def _start_at_lsn(self, point: Point, now: datetime) -> StartPosition:
        """Searches by halving: the change of the point arrived after any change that is before the point."""
        oldest, lost = self.oldest_arrival(now)
        before, after = self._last_arrival_before(point, EARLIEST), now
        if before is None:
            if lost and self._arrivals(point, EARLIEST, reached=True):
                raise _too_old_error(
                    point, f"everything that it holds is later, from {oldest.isoformat(timespec='seconds')}"
                )
            return EARLIEST
        while after - before > _PRECISION:
            middle = before + (after - before) / 2
            found = self._last_arrival_before(point, StartPosition.at(middle))
            if found is None or found <= before:
                after = middle
            else:
                before = found
        return StartPosition.at(before - SLACK)

    def _last_arrival_before(self, point: Point, start: StartPosition) -> datetime | None:
        return max(self._arrivals(point, start, reached=False), default=None)

    def _arrivals(self, point: Point, start: StartPosition, *, reached: bool) -> list[datetime]:
        """When the first record of each shard from `start` on arrived, where it has (or has not) reached the point."""
        found = []
        for shard in self.shards():
            sample = self.read_from(shard["ShardId"], start, 3)
            if any(point.is_at_or_before(change) is reached for change in sample.changes[:1]):
                found.append(sample.records[0]["ApproximateArrivalTimestamp"].astimezone(UTC))
        return found

    def _iterator(self, shard: str, start: StartPosition) -> str:
        arguments = {"StreamName": self.stream, "ShardId": shard, **start.iterator}
        return str(self._with_retries(shard, lambda: self.client.get_shard_iterator(**arguments))["ShardIterator"])

    def _records(self, shard: str, iterator: str, limit: int) -> Any:
        return self._with_retries(shard, lambda: self.client.get_records(ShardIterator=iterator, Limit=limit))

    def _with_retries(self, shard: str, call: Callable[[], Any]) -> Any:
        for _ in range(_MAX_ATTEMPTS):
            self.limiter.sleep(self.limiter.seconds_until(shard))
            self.limiter.record_read(shard)
            try:
                return call()
            except ClientError as error:
                if error.response["Error"]["Code"] not in RETRYABLE_CODES:
                    raise
                self.limiter.sleep(1.0)
        return call()


def _too_old_error(point: Point, reason: str) -> UsageError:
    return UsageError(
        f"the stream does not hold {point}: {reason}",
        "use earliest for everything that it holds; for the current rows: cdcctl producer backfill TABLE",
    )
