"""Looks at single places of a stream: a shard's first records since a time, where an LSN is, how far back it goes."""

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
from consumers.stream.points import OLDEST, SLACK, Point, begin_at
from consumers.stream.rate_limit import Pace
from consumers.stream.reader import AGAIN, kinesis_client
from consumers.stream.shards import Shard, list_shards
from consumers.stream.start import EARLIEST, StartPosition
from consumers.stream.unpack import inside

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

_CLOSE_ENOUGH = timedelta(seconds=15)
_TRIES = 8


class Place(NamedTuple):
    """A `Placed` of which nothing else is known."""

    position: Position
    commit_time: datetime


@dataclass(frozen=True, slots=True)
class Sample:
    """Consecutive records of one shard, as Kinesis gives them; `at_end` says that there are no more now."""

    records: Sequence[Any]
    at_end: bool

    @property
    def places(self) -> list[Place]:
        """Where the changes in them stand, of those that can be read."""
        found = []
        for record in self.records:
            for one in inside(record):
                with suppress(EnvelopeError):
                    found.append(Place(*position_and_time(one.data)))
        return found


@dataclass(slots=True)
class Probe:
    """Five reads a second on each shard, as every reader. All methods raise StreamError."""

    stream: str
    client: KinesisClient = field(default_factory=kinesis_client)
    pace: Pace = field(default_factory=Pace)

    def shards(self) -> Sequence[Shard]:
        """All shards that the stream knows."""
        return list_shards(self.stream, self.client)

    def since(self, shard: str, begin: StartPosition, limit: int = 1) -> Sample:
        """The first records from there on, `limit` of them at the most; at least one unless there are none."""
        try:
            iterator: str | None = self._iterator(shard, begin)
            while iterator:
                answer = self._records(shard, iterator, limit)
                iterator = answer.get("NextShardIterator")
                at_end = iterator is None or not answer.get("MillisBehindLatest")
                if answer["Records"] or at_end:
                    return Sample(answer["Records"], at_end)
        except (ClientError, BotoCoreError) as error:
            raise StreamError(f"cannot read {shard} of {self.stream!r}: {error}") from error
        return Sample([], at_end=True)

    def oldest(self, now: datetime) -> tuple[datetime, bool]:
        """The arrival time of the oldest record that the stream may hold, and whether older ones are gone already."""
        try:
            described = self.client.describe_stream_summary(StreamName=self.stream)["StreamDescriptionSummary"]
        except (ClientError, BotoCoreError) as error:
            raise StreamError(
                f"cannot describe the stream {self.stream!r}: {error}", "check --stream and AWS_REGION"
            ) from error
        kept = now - timedelta(hours=described["RetentionPeriodHours"])
        created = described["StreamCreationTimestamp"].astimezone(UTC)
        return max(kept, created), created < kept

    def begin(self, point: Point, now: datetime) -> StartPosition:
        """Where to start reading for all changes from `point` on.

        Raises UsageError with the oldest possible time when the stream no longer holds them.
        """
        if not point.by_time:
            return self._begin_at_lsn(point, now)
        if point.moment == OLDEST:
            return EARLIEST
        oldest, lost = self.oldest(now)
        if lost and point.moment < oldest:
            raise _too_old(point, f"its oldest possible record arrived at {oldest.isoformat(timespec='seconds')}")
        return begin_at(point.moment)

    def _begin_at_lsn(self, point: Point, now: datetime) -> StartPosition:
        """By halving: a change that arrived, and stands before the point, has the point's own behind it."""
        oldest, lost = self.oldest(now)
        before, after = self._before(point, EARLIEST), now
        if before is None:
            if lost and self._arrivals(point, EARLIEST, reached=True):
                raise _too_old(point, f"all that it holds is later, since {oldest.isoformat(timespec='seconds')}")
            return EARLIEST
        while after - before > _CLOSE_ENOUGH:
            middle = before + (after - before) / 2
            found = self._before(point, StartPosition.at(middle))
            if found is None or found <= before:
                after = middle
            else:
                before = found
        return StartPosition.at(before - SLACK)

    def _before(self, point: Point, begin: StartPosition) -> datetime | None:
        return max(self._arrivals(point, begin, reached=False), default=None)

    def _arrivals(self, point: Point, begin: StartPosition, *, reached: bool) -> list[datetime]:
        """When the first record of each shard from there on arrived, if it has (or has not) reached the point."""
        found = []
        for shard in self.shards():
            sample = self.since(shard["ShardId"], begin, 3)
            if any(point.reached(change) is reached for change in sample.places[:1]):
                found.append(sample.records[0]["ApproximateArrivalTimestamp"].astimezone(UTC))
        return found

    def _iterator(self, shard: str, begin: StartPosition) -> str:
        arguments = {"StreamName": self.stream, "ShardId": shard, **begin.iterator}
        return str(self._patiently(shard, lambda: self.client.get_shard_iterator(**arguments))["ShardIterator"])

    def _records(self, shard: str, iterator: str, limit: int) -> Any:
        return self._patiently(shard, lambda: self.client.get_records(ShardIterator=iterator, Limit=limit))

    def _patiently(self, shard: str, call: Callable[[], Any]) -> Any:
        for _ in range(_TRIES):
            self.pace.sleep(self.pace.left(shard))
            self.pace.read(shard)
            try:
                return call()
            except ClientError as error:
                if error.response["Error"]["Code"] not in AGAIN:
                    raise
                self.pace.sleep(1.0)
        return call()


def _too_old(point: Point, why: str) -> UsageError:
    return UsageError(
        f"the stream does not hold {point}: {why}",
        "from earliest has all that it holds; rows as they are now come by cdcctl producer backfill TABLE",
    )
