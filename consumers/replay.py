"""Replays the stream from a commit time: into a shadow of the satellite, or by rewinding the consumer's checkpoints.

Reading starts `SLACK` earlier by arrival, because commit times and arrival times come from different clocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from cdckit.envelope import place
from cdckit.errors import ConsumerError, EnvelopeError, StreamError, UsageError
from cdckit.settings import Settings
from cdckit.sink import Outcome, SinkFactory
from consumers.dead_letters import RawRecord
from consumers.opening import Opening
from consumers.points import OLDEST, SLACK, begin_at
from consumers.reader import Page, StreamReader, kinesis_client
from consumers.shard import Cadence, Mark, ShardWorker
from consumers.shards import is_open, list_shards

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

_LOOK_BACK = (timedelta(0), timedelta(minutes=10), timedelta(hours=2), timedelta(days=1))
_PROGRESS_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay into a shadow did. `folder` takes the place of the data folder in every query command."""

    folder: Path
    read: int
    outcome: Outcome
    dead_lettered: int
    newest: str


def check_retention(client: KinesisClient, stream: str, moment: datetime, now: datetime) -> None:
    """Raises UsageError with the oldest possible time when the stream no longer holds `moment`."""
    try:
        summary = client.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]
    except (ClientError, BotoCoreError) as error:
        raise StreamError(f"cannot describe the stream {stream!r}: {error}", "check --stream and AWS_REGION") from error
    oldest = now - timedelta(hours=summary["RetentionPeriodHours"])
    if OLDEST < moment < oldest and summary["StreamCreationTimestamp"] < oldest:
        raise UsageError(
            f"the stream holds nothing from {moment.isoformat(timespec='seconds')}: its oldest possible record is from "
            f"{oldest.isoformat(timespec='seconds')}",
            "use --from earliest for all that it holds",
        )


class Shadow:
    """A fresh satellite in `folder`, beside the live one; no lease is touched."""

    def __init__(self, settings: Settings, consumer: str, factory: SinkFactory, folder: Path) -> None:
        """Nothing is opened before the first change."""
        self._settings, self._folder = settings, folder
        self._opening = Opening(settings, consumer, factory)
        self._workers: dict[str, ShardWorker] = {}

    def replay(self, moment: datetime, stopping: Callable[[], bool]) -> Replayed:
        """Apply all changes committed since `moment`, up to the present.

        Raises StreamError, and whatever the sink raises. An interrupted replay may simply be run again.
        """
        start = begin_at(moment)
        reader = StreamReader(self._settings.stream, start, stop_when_caught_up=True, stopping=stopping)
        for page in reader.pages():
            self._take(page, moment)
        return self._finish()

    def _take(self, page: Page, moment: datetime) -> None:
        wanted = [record for record in page.records if _since(record, moment)]
        if wanted:
            self._worker(page.shard).process(wanted, page.behind_ms, _no_checkpoint)

    def _finish(self) -> Replayed:
        for worker in self._workers.values():
            worker.finish(_no_checkpoint)
            worker.close()
        reports = [worker.figures.report for worker in self._workers.values()]
        return Replayed(
            self._folder,
            sum(report.read for report in reports),
            Outcome(sum(report.applied for report in reports), sum(report.superseded for report in reports)),
            sum(report.dead_lettered for report in reports),
            max((report.commit_time for report in reports), default=""),
        )

    def _worker(self, shard: str) -> ShardWorker:
        if shard not in self._workers:
            self._workers[shard] = self._opening.shadow(shard, self._folder, Cadence(_PROGRESS_SECONDS))
        return self._workers[shard]


def rewind_marks(stream: str, moment: datetime, client: KinesisClient | None = None) -> Mapping[str, str]:
    """For each shard the checkpoint after which every change committed since `moment` comes again.

    The KCL resumes *after* a checkpoint, so it must name a record that is not wanted: one that arrived before `moment`.
    Where the stream holds none, TRIM_HORIZON. Raises ConsumerError on a stream with closed shards, StreamError else.
    """
    client = client or kinesis_client()
    shards = list_shards(stream, client)
    if not all(map(is_open, shards)):
        raise ConsumerError(
            f"the stream {stream!r} was split or merged: rewinding across that is not safe in place",
            "replay without --in-place, into a fresh satellite",
        )
    return {shard["ShardId"]: _record_before(client, stream, shard["ShardId"], moment) for shard in shards}


def _record_before(client: KinesisClient, stream: str, shard: str, moment: datetime) -> str:
    for further in _LOOK_BACK:
        if moment == OLDEST:
            break
        record = _first_since(client, stream, shard, moment - SLACK - further)
        if record is not None and record["ApproximateArrivalTimestamp"] < moment - SLACK / 2:
            return str(record["SequenceNumber"])
    return "TRIM_HORIZON"


def _first_since(client: KinesisClient, stream: str, shard: str, moment: datetime) -> Any:
    try:
        iterator: str | None = client.get_shard_iterator(
            StreamName=stream, ShardId=shard, ShardIteratorType="AT_TIMESTAMP", Timestamp=moment
        )["ShardIterator"]
        while iterator:
            answer = client.get_records(ShardIterator=iterator, Limit=1)
            if answer["Records"]:
                return answer["Records"][0]
            iterator = answer.get("NextShardIterator") if answer.get("MillisBehindLatest") else None
    except (ClientError, BotoCoreError) as error:
        raise StreamError(f"cannot read {shard} of {stream!r}: {error}") from error
    return None


def _since(record: RawRecord, moment: datetime) -> bool:
    try:
        return place(record.data)[1] >= moment
    except EnvelopeError:
        return True  # goes to the shadow's dead letters, where it is counted


def _no_checkpoint(mark: Mark) -> None:
    """A replay into a shadow has no leases."""
