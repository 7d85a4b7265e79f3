"""Reads the whole stream without the KCL: for watching, replaying and verifying; keeps no checkpoint.

Parents are read before their children, so one key's records come in the order in which they were put. Each shard is
asked at most five times a second, Kinesis' limit for all readers of a shard together; while one page is worked on, the
next ones are fetched.
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
from consumers.stream.rate_limit import Pace
from consumers.stream.record import RawRecord
from consumers.stream.shards import described, list_shards, parents
from consumers.stream.start import EARLIEST, LATEST, StartPosition
from consumers.stream.unpack import inside, runs

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

SHARD_END = "SHARD_END"
_LIMIT = 10_000
_THREADS = 16
_LOOK_SECONDS = 0.05
_PATIENCE = 300.0  # seconds that a shard, once read, may be out of reach
AGAIN = {
    "ProvisionedThroughputExceededException",
    "LimitExceededException",
    "KMSThrottlingException",
    "InternalFailure",
}


@dataclass(frozen=True, slots=True)
class Page:
    """What one read of one shard returned, or a part of it. `behind_ms` is how far the shard's tip is ahead.

    `mark` is the last record that was read so far, or SHARD_END: where a later reader goes on (`marks`).
    """

    shard: str
    records: Sequence[RawRecord]
    arrivals: Sequence[datetime]
    behind_ms: int
    mark: str | None = None


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
class _Read:
    """A page before its records are unfolded."""

    shard: str
    items: Sequence[Any]
    behind_ms: int
    mark: str | None

    def page(self) -> Page:
        records, arrivals = list[RawRecord](), list[datetime]()
        for item in self.items:
            found = inside(item)
            records += found
            arrivals += [item["ApproximateArrivalTimestamp"]] * len(found)
        return Page(self.shard, records, arrivals, self.behind_ms, self.mark)


def kinesis_client() -> KinesisClient:
    """A client by the standard AWS settings, whose times are UTC. Raises StreamError."""
    session = get_session()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_moment)
    try:
        return boto3.Session(botocore_session=session).client("kinesis", config=Config(max_pool_connections=_THREADS))
    except BotoCoreError as error:
        raise _translated(error, "no Kinesis client") from error


def _moment(value: object) -> datetime:
    """A time in an answer. Botocore's own way, by the local zone's rules, takes longer than all else of a record."""
    return datetime.fromtimestamp(value, UTC) if isinstance(value, int | float) else parse_timestamp(str(value))


@dataclass(slots=True)
class StreamReader:
    """Iterates over pages of all shards. `stop_when_caught_up` ends when each shard's tip was reached once.

    `marks` holds where an earlier reader came to, by shard; `only` says which shards count at all.
    """

    stream: str
    begin: StartPosition
    stop_when_caught_up: bool = False
    stopping: Callable[[], bool] = lambda: False
    client: KinesisClient = field(default_factory=kinesis_client)
    marks: Mapping[str, str] = field(default_factory=dict)
    only: Callable[[str], bool] = lambda _: True
    pace: Pace = field(default_factory=Pace)
    _opened: bool = False
    _cursors: dict[str, _Cursor] = field(default_factory=dict)
    _shards: dict[str, Any] = field(default_factory=dict)
    _done: set[str] = field(default_factory=set)

    def open(self) -> None:
        """Take the iterators now: LATEST means from here on. Raises StreamError."""
        self._opened = True
        self._shards = {shard["ShardId"]: shard for shard in self._listed()}
        self._done = {shard for shard, mark in self.marks.items() if mark == SHARD_END}
        if self.begin == LATEST:
            for shard in LATEST.seeds(list(self._shards.values())):
                self._open_shard(shard, LATEST)
        else:
            self._open_ready(self._shards, self.begin)

    def pages(self) -> Iterator[Page]:
        """Every page with records, and empty ones that say how far behind we are. Raises StreamError.

        Called again it goes on where it ended, to the tip as it is then.
        """
        if not self._opened:
            self.open()
        for cursor in self._cursors.values():
            cursor.caught_up, cursor.answer = False, None  # what was fetched ahead may be old: it is read again
        pool = ThreadPoolExecutor(_THREADS, "stream-reader")
        try:
            while self._cursors and not self.stopping():
                self._fetch(pool)
                for cursor in self._answered():
                    if cursor.shard not in self._cursors:  # finished meanwhile
                        continue
                    answered = self._answer(cursor)
                    self._fetch(pool)
                    yield from map(_Read.page, answered)
                if self.stop_when_caught_up and all(cursor.caught_up for cursor in self._cursors.values()):
                    return
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    @property
    def reading(self) -> Sequence[str]:
        """The shards that are being read now."""
        return list(self._cursors)

    def finish(self, shard: str) -> None:
        """Read no more of this shard, nor of the shards that come from it alone."""
        self._cursors.pop(shard, None)
        self._done.add(shard)

    def _fetch(self, pool: ThreadPoolExecutor) -> None:
        for cursor in self._cursors.values():
            if cursor.answer is None and not self.pace.left(cursor.shard):
                self.pace.read(cursor.shard)
                cursor.answer = pool.submit(self.client.get_records, ShardIterator=cursor.iterator, Limit=_LIMIT)

    def _answered(self) -> list[_Cursor]:
        """The cursors whose answers are there; waits a moment for the first of them, or for the next read."""
        waiting = [cursor.answer for cursor in self._cursors.values() if cursor.answer is not None]
        idle = [self.pace.left(cursor.shard) for cursor in self._cursors.values() if cursor.answer is None]
        pause = min(idle, default=_LOOK_SECONDS)
        if waiting:
            wait(waiting, min(pause, _LOOK_SECONDS), FIRST_COMPLETED)
        else:
            self.pace.sleep(min(pause, _LOOK_SECONDS))
        return [cursor for cursor in self._cursors.values() if cursor.answer is not None and cursor.answer.done()]

    def _answer(self, cursor: _Cursor) -> Sequence[_Read]:
        assert cursor.answer is not None
        future, cursor.answer = cursor.answer, None
        try:
            answer = future.result()
        except (ClientError, BotoCoreError) as error:
            return [self._failed(cursor, error)]
        cursor.reached, cursor.failing_since = True, None
        *earlier, items = runs(answer["Records"])
        cursor.last = items[-1]["SequenceNumber"] if items else cursor.last
        behind = answer.get("MillisBehindLatest", 0)
        cursor.caught_up = behind == 0
        parts = [_Read(cursor.shard, some, max(1, behind), some[-1]["SequenceNumber"]) for some in earlier]
        following = answer.get("NextShardIterator")
        if following is None:
            self._ended(cursor.shard, answer.get("ChildShards", []))
            return [*parts, _Read(cursor.shard, items, 0, SHARD_END)]
        cursor.iterator = following
        return [*parts, _Read(cursor.shard, items, behind, cursor.last)]

    def _failed(self, cursor: _Cursor, error: ClientError | BotoCoreError) -> _Read:
        code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
        if code == "ExpiredIteratorException":
            cursor.iterator = self._iterator(cursor.shard, self._again(cursor))
        elif code in AGAIN or (isinstance(error, BotoCoreError) and self._may_recover(cursor)):
            self.pace.rest(cursor.shard, 1.0)
        else:
            raise _translated(error, f"reading {cursor.shard} of {self.stream!r} failed") from error
        return _Read(cursor.shard, [], 1, cursor.last)

    def _may_recover(self, cursor: _Cursor) -> bool:
        """Whether it was in reach not long ago: a laptop that slept, a network that comes back."""
        if cursor.failing_since is None:
            cursor.failing_since = self.pace.clock()
        return cursor.reached and self.pace.clock() - cursor.failing_since < _PATIENCE

    def _again(self, cursor: _Cursor) -> dict[str, Any]:
        if cursor.last is not None:
            return _after(cursor.last)
        return (StartPosition.at(cursor.opened) if self.begin == LATEST else self.begin).iterator

    def _ended(self, shard: str, children: Sequence[Any]) -> None:
        self.finish(shard)
        named = [described(child) for child in children if self.only(child["ShardId"])]
        self._shards = {one["ShardId"]: one for one in (*named, *self._listed())}
        begin = EARLIEST if self.begin == LATEST else self.begin
        self._open_ready([name for name, one in self._shards.items() if shard in parents(one)], begin)

    def _open_ready(self, shards: Iterable[str], begin: StartPosition) -> None:
        """Open those of these shards whose parents are all done."""
        for shard in shards:
            unfinished = [one for one in parents(self._shards[shard]) if one in self._shards and one not in self._done]
            if not unfinished and shard not in self._done and shard not in self._cursors:
                self._open_shard(shard, begin)

    def _open_shard(self, shard: str, begin: StartPosition) -> None:
        where = _after(self.marks[shard]) if shard in self.marks else begin.iterator
        self._cursors[shard] = _Cursor(shard, self._iterator(shard, where), datetime.now(UTC))
        self._cursors[shard].last = self.marks.get(shard)

    def _iterator(self, shard: str, where: Mapping[str, Any]) -> str:
        try:
            return self.client.get_shard_iterator(StreamName=self.stream, ShardId=shard, **where)["ShardIterator"]
        except (ClientError, BotoCoreError) as error:
            raise _translated(error, f"cannot read {shard} of {self.stream!r}") from error

    def _listed(self) -> list[Any]:
        return [shard for shard in list_shards(self.stream, self.client) if self.only(shard["ShardId"])]


def _after(sequence_number: str) -> dict[str, Any]:
    return {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": sequence_number}


def _translated(error: Exception, what: str) -> StreamError:
    return StreamError(
        f"{what}: {error}",
        "check AWS_REGION, AWS_ENDPOINT_URL, the credentials and --stream; for a sandbox: cdcctl local up",
    )
