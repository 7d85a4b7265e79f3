"""Reads the whole stream without the KCL, to watch, replay and verify it; stores no checkpoint.

Parents are read before their children, so the records of one key arrive in the order in which they were put. Each shard
is read at most five times per second, Kinesis' limit for all readers of a shard together. The next pages are fetched
while one page is processed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import get_session
from botocore.utils import parse_timestamp

from cdckit.errors import StreamError
from consumers.stream.rate_limit import ReadRateLimiter
from consumers.stream.record import RawRecord
from consumers.stream.shards import describe_child, list_shards, parents
from consumers.stream.start import EARLIEST, LATEST, StartPosition
from consumers.stream.unpack import expand_record, split_by_size

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

SHARD_END = "SHARD_END"
_LIMIT = 10_000
_THREADS = 16
_POLL_SECONDS = 0.05
_MAX_OUTAGE_SECONDS = 300.0  # for a shard that was read before
RETRYABLE_CODES = {
    "ProvisionedThroughputExceededException",
    "LimitExceededException",
    "KMSThrottlingException",
    "InternalFailure",
}


@dataclass(frozen=True, slots=True)
class ShardPage:
    """The records of one read of one shard, or a part of them. `behind_ms` is how far the shard's tip is ahead.

    `checkpoint` is the last record that was read so far, or SHARD_END: where a later reader continues (`checkpoints`).
    """

    shard: str
    records: Sequence[RawRecord]
    arrivals: Sequence[datetime]
    behind_ms: int
    checkpoint: str | None = None


@dataclass(slots=True)
class _Cursor:
    shard: str
    iterator: str
    opened: datetime
    caught_up: bool = False
    last: str | None = None
    answer: Future[Any] | None = None
    reached: bool = False
    failing_since: float | None = None


@dataclass(frozen=True, slots=True)
class _PackedPage:
    """A page before its records are expanded."""

    shard: str
    items: Sequence[Any]
    behind_ms: int
    checkpoint: str | None

    def expand(self) -> ShardPage:
        records, arrivals = list[RawRecord](), list[datetime]()
        for item in self.items:
            expanded = expand_record(item)
            records += expanded
            arrivals += [item["ApproximateArrivalTimestamp"]] * len(expanded)
        return ShardPage(self.shard, records, arrivals, self.behind_ms, self.checkpoint)


def kinesis_client() -> KinesisClient:
    """Makes a client from the standard AWS settings whose times are UTC. Raises StreamError."""
    session = get_session()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_parse_time)
    try:
        return boto3.Session(botocore_session=session).client("kinesis", config=Config(max_pool_connections=_THREADS))
    except BotoCoreError as error:
        raise _stream_error(error, "cannot make a Kinesis client") from error


def _parse_time(value: object) -> datetime:
    """Parses a time in an answer. Botocore's own parser applies the local zone's rules, the slowest step per record."""
    return datetime.fromtimestamp(value, UTC) if isinstance(value, int | float) else parse_timestamp(str(value))


@dataclass(slots=True)
class StreamReader:
    """Iterates over the pages of all shards. With `stop_when_caught_up` it ends when each shard's tip was read once.

    `checkpoints` is where an earlier reader ended, per shard; shards that `shard_filter` rejects are not read.
    """

    stream: str
    start: StartPosition
    stop_when_caught_up: bool = False
    stop_requested: Callable[[], bool] = lambda: False
    client: KinesisClient = field(default_factory=kinesis_client)
    checkpoints: Mapping[str, str] = field(default_factory=dict)
    shard_filter: Callable[[str], bool] = lambda _: True
    limiter: ReadRateLimiter = field(default_factory=ReadRateLimiter)
    _opened: bool = False
    _cursors: dict[str, _Cursor] = field(default_factory=dict)
    _shards: dict[str, Any] = field(default_factory=dict)
    _done: set[str] = field(default_factory=set)

    def open(self) -> None:
        """Gets the iterators now: LATEST means from this moment on. Raises StreamError."""
        self._opened = True
        self._shards = {shard["ShardId"]: shard for shard in self._listed()}
        self._done = {shard for shard, checkpoint in self.checkpoints.items() if checkpoint == SHARD_END}
        if self.start == LATEST:
            for shard in LATEST.seeds(list(self._shards.values())):
                self._open_shard(shard, LATEST)
        else:
            self._open_ready(self._shards, self.start)

    def pages(self) -> Iterator[ShardPage]:
        """All pages, including empty ones, which show how far behind the reader is. Raises StreamError.

        A second call continues where the first one ended, up to the tip at that time.
        """
        if not self._opened:
            self.open()
        for cursor in self._cursors.values():
            cursor.caught_up, cursor.answer = False, None  # an answer fetched ahead may be old: read again
        pool = ThreadPoolExecutor(_THREADS, "stream-reader")
        try:
            while self._cursors and not self.stop_requested():
                self._fetch(pool)
                for cursor in self._answered():
                    if cursor.shard not in self._cursors:  # `finish` was called meanwhile
                        continue
                    pages = self._take_answer(cursor)
                    self._fetch(pool)
                    yield from map(_PackedPage.expand, pages)
                if self.stop_when_caught_up and all(cursor.caught_up for cursor in self._cursors.values()):
                    return
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    @property
    def reading(self) -> Sequence[str]:
        """The shards that are read now."""
        return list(self._cursors)

    def finish(self, shard: str) -> None:
        """Stops reading this shard. Its children are read once all their parents are done."""
        self._cursors.pop(shard, None)
        self._done.add(shard)

    def _fetch(self, pool: ThreadPoolExecutor) -> None:
        for cursor in self._cursors.values():
            if cursor.answer is None and not self.limiter.seconds_until(cursor.shard):
                self.limiter.record_read(cursor.shard)
                cursor.answer = pool.submit(self.client.get_records, ShardIterator=cursor.iterator, Limit=_LIMIT)

    def _answered(self) -> list[_Cursor]:
        """The cursors that have an answer; waits briefly for the first answer, or for the next read."""
        waiting = [cursor.answer for cursor in self._cursors.values() if cursor.answer is not None]
        idle = [self.limiter.seconds_until(cursor.shard) for cursor in self._cursors.values() if cursor.answer is None]
        pause = min(idle, default=_POLL_SECONDS)
        if waiting:
            wait(waiting, min(pause, _POLL_SECONDS), FIRST_COMPLETED)
        else:
            self.limiter.sleep(min(pause, _POLL_SECONDS))
        return [cursor for cursor in self._cursors.values() if cursor.answer is not None and cursor.answer.done()]

    def _take_answer(self, cursor: _Cursor) -> Sequence[_PackedPage]:
        assert cursor.answer is not None
        future, cursor.answer = cursor.answer, None
        try:
            answer = future.result()
        except (ClientError, BotoCoreError) as error:
            return [self._recover(cursor, error)]
        cursor.reached, cursor.failing_since = True, None
        *earlier, items = split_by_size(answer["Records"])
        cursor.last = items[-1]["SequenceNumber"] if items else cursor.last
        behind = answer.get("MillisBehindLatest", 0)
        cursor.caught_up = behind == 0
        parts = [_PackedPage(cursor.shard, run, max(1, behind), run[-1]["SequenceNumber"]) for run in earlier]
        following = answer.get("NextShardIterator")
        if following is None:
            self._open_children(cursor.shard, answer.get("ChildShards", []))
            return [*parts, _PackedPage(cursor.shard, items, 0, SHARD_END)]
        cursor.iterator = following
        return [*parts, _PackedPage(cursor.shard, items, behind, cursor.last)]

    def _recover(self, cursor: _Cursor, error: ClientError | BotoCoreError) -> _PackedPage:
        code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
        if code == "ExpiredIteratorException":
            cursor.iterator = self._iterator(cursor.shard, self._resume_at(cursor))
        elif code in RETRYABLE_CODES or (isinstance(error, BotoCoreError) and self._may_recover(cursor)):
            self.limiter.back_off(cursor.shard, 1.0)
        else:
            raise _stream_error(error, f"reading {cursor.shard} of {self.stream!r} failed") from error
        return _PackedPage(cursor.shard, [], 1, cursor.last)

    def _may_recover(self, cursor: _Cursor) -> bool:
        """Whether the shard could be read not long ago: a laptop slept, or the network failed for a while."""
        if cursor.failing_since is None:
            cursor.failing_since = self.limiter.clock()
        return cursor.reached and self.limiter.clock() - cursor.failing_since < _MAX_OUTAGE_SECONDS

    def _resume_at(self, cursor: _Cursor) -> dict[str, Any]:
        if cursor.last is not None:
            return _after(cursor.last)
        return (StartPosition.at(cursor.opened) if self.start == LATEST else self.start).iterator

    def _open_children(self, shard: str, children: Sequence[Any]) -> None:
        self.finish(shard)
        named = [describe_child(child) for child in children if self.shard_filter(child["ShardId"])]
        self._shards = {child["ShardId"]: child for child in (*named, *self._listed())}
        start = EARLIEST if self.start == LATEST else self.start
        self._open_ready([name for name, child in self._shards.items() if shard in parents(child)], start)

    def _open_ready(self, shards: Iterable[str], start: StartPosition) -> None:
        """Opens those of these shards whose parents are all done."""
        for shard in shards:
            unfinished = [
                parent for parent in parents(self._shards[shard]) if parent in self._shards and parent not in self._done
            ]
            if not unfinished and shard not in self._done and shard not in self._cursors:
                self._open_shard(shard, start)

    def _open_shard(self, shard: str, start: StartPosition) -> None:
        where = _after(self.checkpoints[shard]) if shard in self.checkpoints else start.iterator
        self._cursors[shard] = _Cursor(shard, self._iterator(shard, where), datetime.now(UTC))
        self._cursors[shard].last = self.checkpoints.get(shard)

    def _iterator(self, shard: str, where: Mapping[str, Any]) -> str:
        try:
            return self.client.get_shard_iterator(StreamName=self.stream, ShardId=shard, **where)["ShardIterator"]
        except (ClientError, BotoCoreError) as error:
            raise _stream_error(error, f"cannot read {shard} of {self.stream!r}") from error

    def _listed(self) -> list[Any]:
        return [shard for shard in list_shards(self.stream, self.client) if self.shard_filter(shard["ShardId"])]


def _after(sequence_number: str) -> dict[str, Any]:
    return {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": sequence_number}


def _stream_error(error: Exception, what: str) -> StreamError:
    return StreamError(
        f"{what}: {error}",
        "check AWS_REGION, AWS_ENDPOINT_URL, the credentials and --stream; for a sandbox: cdcctl local up",
    )
