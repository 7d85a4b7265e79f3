"""A fence: waits until the satellite has applied every change that was committed before.

A logical message in a transaction advances the WAL, also on an idle server, and needs no publication: the slot's flush
position passes it only after Kinesis has accepted every earlier change (law 1). Then the checkpoint of each shard must
pass every record that had arrived by then. Checkpoints are used because they follow the flush that they cover (law 2),
are in DynamoDB where every machine can read them, and exist per shard; a record of the fence would reach only one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from cdckit.aggregation import unpack
from cdckit.errors import SatelliteError, SlotLost, SourceError, StreamError
from cdckit.position import Lsn
from cdckit.runtime.settings import Settings
from consumers.kcl.leases import Lease, LeaseTable
from consumers.stream.shards import ancestors, is_open
from producer.postgres.connection import Source
from producer.postgres.slots import find_slot

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

PREFIX = "cdc_verify"
_POLL_SECONDS = 0.4
_MAX_EMPTY_READS = 50


@dataclass(frozen=True, slots=True)
class Fence:
    """Sets fences between one source and one consumer; a wait ends when `stopping` returns true."""

    source: Source
    settings: Settings
    consumer: str
    client: KinesisClient
    leases: LeaseTable
    timeout: float = 60.0
    stopping: Callable[[], bool] = lambda: False

    def wait(self) -> Lsn:
        """Set a fence and wait for it. Raises SourceError, StreamError or SatelliteError, for the part that lags."""
        self.source.query("SELECT pg_logical_emit_message(true, %s, '')", (PREFIX,))
        [(text,)] = self.source.query("SELECT pg_current_wal_flush_lsn()")
        fence = Lsn.parse(text)
        self._until(lambda: self._unpublished(fence), SourceError, "is `cdcctl producer run` running?")
        moment, shards = self._arrived()
        waiting = set(shards)

        def behind() -> str:
            leases = self.leases.read()
            if leases is None:
                return f"{self.leases.application!r} has never run"
            waiting.difference_update([shard for shard in waiting if self._passed(shard, shards, leases, moment)])
            return f"{self.consumer} is still behind on {', '.join(sorted(waiting))}" if waiting else ""

        self._until(behind, SatelliteError, f"is `cdcctl consumer run {self.consumer}` running? see cdcctl status")
        return fence

    def _until(self, behind: Callable[[], str], error: type[SourceError | SatelliteError], hint: str) -> None:
        """Poll until `behind` returns an empty text; after the timeout raise `error` with that text."""
        deadline = time.monotonic() + self.timeout
        while reason := behind():
            if self.stopping():
                raise KeyboardInterrupt
            if time.monotonic() > deadline:
                raise error(f"timeout after {self.timeout:.0f} s: {reason}", f"{hint} (or wait longer with --timeout)")
            time.sleep(_POLL_SECONDS)

    def _unpublished(self, fence: Lsn) -> str:
        slot = find_slot(self.source, self.settings.slot)
        if slot is None:
            raise SlotLost(f"there is no slot {self.settings.slot!r} on this server", "correct --slot (CDC_SLOT)")
        reader = "" if slot.active_pid else ", and no process reads it"
        return "" if slot.confirmed >= fence else f"the slot {slot.name!r} is at {slot.confirmed}, not {fence}{reader}"

    def _arrived(self) -> tuple[datetime, dict[str, Any]]:
        """A time, by the clock of Kinesis, before which every record covered by the fence arrived; and the shards."""
        try:
            pages = list(self.client.get_paginator("list_shards").paginate(StreamName=self.settings.stream))
        except (ClientError, BotoCoreError) as error:
            raise StreamError(f"cannot list the shards of {self.settings.stream!r}: {error}") from error
        date = pages[-1]["ResponseMetadata"]["HTTPHeaders"].get("date")
        now = parsedate_to_datetime(date) if date else datetime.now(UTC)
        return now + timedelta(seconds=1), {shard["ShardId"]: shard for page in pages for shard in page["Shards"]}

    def _passed(self, shard: str, shards: dict[str, Any], leases: dict[str, Lease], moment: datetime) -> bool:
        closed = not is_open(shards[shard])
        lease = leases.get(shard)
        if lease is None:  # the KCL deletes the leases of finished shards, later also those of their children
            return closed and any(shard in ancestors(name, shards) for name in leases if name in shards)
        if lease.checkpoint == "SHARD_END":
            return True
        if not lease.checkpoint.isdigit() and lease.checkpoint != "TRIM_HORIZON":
            return False
        arrived = self._next_arrival(shard, lease)
        return not closed and (arrived is None or arrived > moment)

    def _next_arrival(self, shard: str, lease: Lease) -> datetime | None:
        """Arrival time of the first record after the checkpoint; None when there is none yet."""
        where: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON"}
        if lease.checkpoint.isdigit():  # AT: an aggregated record may be checkpointed in part
            where = {"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": lease.checkpoint}
        try:
            iterator: str | None = self.client.get_shard_iterator(
                StreamName=self.settings.stream, ShardId=shard, **where
            )["ShardIterator"]
            for _ in range(_MAX_EMPTY_READS):
                answer = self.client.get_records(ShardIterator=iterator or "", Limit=2)
                for record in answer["Records"]:
                    if record["SequenceNumber"] != lease.checkpoint or _has_more_changes(record, lease):
                        return record["ApproximateArrivalTimestamp"]
                iterator = answer.get("NextShardIterator")
                if iterator is None or not answer.get("MillisBehindLatest"):
                    return None
                time.sleep(0.2)
        except (ClientError, BotoCoreError) as error:
            raise StreamError(f"cannot read {shard} of {self.settings.stream!r}: {error}") from error
        return datetime.min.replace(tzinfo=UTC)  # a long range without records: not at the tip yet, poll again


def _has_more_changes(record: Any, lease: Lease) -> bool:
    return len(unpack(record["Data"], record["PartitionKey"])) > lease.sub_sequence + 1
