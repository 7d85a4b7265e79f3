"""Reads the whole stream without the KCL: for watching, replaying and verifying; keeps no checkpoint.

Parents are read before their children, so one key's records come in the order in which they were put. Each shard is
asked at most five times a second, Kinesis' limit for all readers of a shard together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from cdckit.aggregation import unpack
from cdckit.errors import StreamError
from consumers.dead_letters import RawRecord
from consumers.shards import is_open, list_shards, parents

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

READS_A_SECOND = 5
_LIMIT = 10_000
_AGAIN = {
    "ProvisionedThroughputExceededException",
    "LimitExceededException",
    "KMSThrottlingException",
    "InternalFailure",
}


@dataclass(frozen=True, slots=True)
class Start:
    """Where to begin: everything the stream holds, only what comes, or what arrived at a time or later."""

    kind: str
    moment: datetime | None = None

    @classmethod
    def earliest(cls) -> Start:
        """From the oldest record."""
        return cls("TRIM_HORIZON")

    @classmethod
    def latest(cls) -> Start:
        """Only records put from now on."""
        return cls("LATEST")

    @classmethod
    def at(cls, moment: datetime) -> Start:
        """From the first record that arrived at `moment` or later."""
        return cls("AT_TIMESTAMP", moment)


@dataclass(frozen=True, slots=True)
class Page:
    """What one read of one shard returned. `behind_ms` is how far the shard's tip is ahead."""

    shard: str
    records: Sequence[RawRecord]
    arrivals: Sequence[datetime]
    behind_ms: int


@dataclass(slots=True)
class _Cursor:
    shard: str
    iterator: str | None
    next_read: float = 0.0
    caught_up: bool = False
    last: str | None = None


def kinesis_client() -> KinesisClient:
    """A client by the standard AWS settings. Raises StreamError."""
    try:
        return boto3.client("kinesis")
    except BotoCoreError as error:
        raise _translated(error, "no Kinesis client") from error


@dataclass(slots=True)
class StreamReader:
    """Iterates over pages of all shards. `stop_when_caught_up` ends when each shard's tip was reached once."""

    stream: str
    start: Start
    stop_when_caught_up: bool = False
    stopping: Callable[[], bool] = lambda: False
    client: KinesisClient = field(default_factory=kinesis_client)
    _cursors: dict[str, _Cursor] = field(default_factory=dict)
    _shards: dict[str, Any] = field(default_factory=dict)
    _done: set[str] = field(default_factory=set)

    def open(self) -> None:
        """Take the iterators now: `Start.latest` means from here on. Raises StreamError."""
        self._list_shards()
        for shard in self._first_shards():
            self._open_shard(shard, self.start)

    def pages(self) -> Iterator[Page]:
        """Every page with records, and empty ones that say how far behind we are. Raises StreamError.

        Called again it goes on where it ended, to the tip as it is then.
        """
        if not self._cursors:
            self.open()
        for cursor in self._cursors.values():
            cursor.caught_up = False
        while self._cursors and not self.stopping():
            cursor = min(self._cursors.values(), key=lambda item: item.next_read)
            if (pause := cursor.next_read - time.monotonic()) > 0:
                time.sleep(min(pause, 0.05))
                continue
            yield self._read(cursor)
            if self.stop_when_caught_up and all(item.caught_up for item in self._cursors.values()):
                return

    def _read(self, cursor: _Cursor) -> Page:
        cursor.next_read = time.monotonic() + 1 / READS_A_SECOND
        try:
            answer = self.client.get_records(ShardIterator=cursor.iterator or "", Limit=_LIMIT)
        except ClientError as error:
            return self._failed(cursor, error)
        except BotoCoreError as error:
            raise _translated(error, f"reading {cursor.shard} of {self.stream!r} failed") from error
        unpacked = [(item, _unpacked(item)) for item in answer["Records"]]
        records = [record for _, inside in unpacked for record in inside]
        arrivals = [item["ApproximateArrivalTimestamp"] for item, inside in unpacked for _ in inside]
        cursor.last = answer["Records"][-1]["SequenceNumber"] if answer["Records"] else cursor.last
        behind = answer.get("MillisBehindLatest", 0)
        cursor.caught_up = behind == 0
        following: str | None = answer.get("NextShardIterator")
        cursor.iterator = following
        if following is None:
            self._ended(cursor.shard)
        return Page(cursor.shard, records, arrivals, behind)

    def _failed(self, cursor: _Cursor, error: ClientError) -> Page:
        code = error.response["Error"]["Code"]
        if code == "ExpiredIteratorException":
            self._resume(cursor)
        elif code in _AGAIN:
            cursor.next_read = time.monotonic() + 1.0
        else:
            raise _translated(error, f"reading {cursor.shard} of {self.stream!r} failed") from error
        return Page(cursor.shard, [], [], 1)

    def _resume(self, cursor: _Cursor) -> None:
        if cursor.last is None:
            self._open_shard(cursor.shard, self.start)
            return
        cursor.iterator = self.client.get_shard_iterator(
            StreamName=self.stream,
            ShardId=cursor.shard,
            ShardIteratorType="AFTER_SEQUENCE_NUMBER",
            StartingSequenceNumber=cursor.last,
        )["ShardIterator"]

    def _ended(self, shard: str) -> None:
        del self._cursors[shard]
        self._done.add(shard)
        self._list_shards()
        for child, known in self._shards.items():
            unfinished = [parent for parent in parents(known) if parent in self._shards and parent not in self._done]
            if shard in parents(known) and not unfinished and child not in self._done and child not in self._cursors:
                self._open_shard(child, Start.earliest())

    def _first_shards(self) -> list[str]:
        if self.start.kind == "LATEST":
            return [name for name, shard in self._shards.items() if is_open(shard)]
        return [name for name, shard in self._shards.items() if not any(p in self._shards for p in parents(shard))]

    def _open_shard(self, shard: str, start: Start) -> None:
        arguments: dict[str, Any] = {"StreamName": self.stream, "ShardId": shard, "ShardIteratorType": start.kind}
        if start.moment is not None:
            arguments["Timestamp"] = start.moment
        try:
            iterator = self.client.get_shard_iterator(**arguments)["ShardIterator"]
        except (ClientError, BotoCoreError) as error:
            raise _translated(error, f"cannot read {shard} of {self.stream!r}") from error
        self._cursors[shard] = _Cursor(shard, iterator)

    def _list_shards(self) -> None:
        self._shards = {shard["ShardId"]: shard for shard in list_shards(self.stream, self.client)}


def _unpacked(item: Any) -> list[RawRecord]:
    """The records in an aggregated one, as the KCL gives them; an ordinary one as it is."""
    inside = unpack(item["Data"], item["PartitionKey"])
    return [RawRecord(one.data, one.partition_key, item["SequenceNumber"], number) for number, one in enumerate(inside)]


def _translated(error: Exception, what: str) -> StreamError:
    return StreamError(
        f"{what}: {error}",
        "check AWS_REGION, AWS_ENDPOINT_URL, the credentials and --stream; for a sandbox: cdcctl local up",
    )
