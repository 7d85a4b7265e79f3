"""A fence: when it has been passed, the satellite holds all that was committed before it was raised.

A logical message in a transaction moves the WAL (on an idle server too) and needs no publication: the slot's flush
position passes it only after Kinesis has accepted every change before it (law 1). Then each shard's checkpoint must
pass what had arrived until then: a checkpoint follows the flush that it covers (law 2), it is in DynamoDB for every
machine to see, and it is exact for each shard, while a record of the fence itself would arrive on just one of them.
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
_LOOK_SECONDS = 0.4
_MOST_EMPTY_READS = 50


@dataclass(frozen=True, slots=True)
class Fence:
    """Raises fences between one source and one consumer; `stopping` ends a wait."""

    source: Source
    settings: Settings
    consumer: str
    client: KinesisClient
    leases: LeaseTable
    patience: float = 60.0
    stopping: Callable[[], bool] = lambda: False

    def pass_(self) -> Lsn:
        """Raise one and wait until it is passed. Raises SourceError, StreamError or SatelliteError: who lags."""
        self.source.query("SELECT pg_logical_emit_message(true, %s, '')", (PREFIX,))
        [(text,)] = self.source.query("SELECT pg_current_wal_flush_lsn()")
        fence = Lsn.parse(text)
        self._until(lambda: self._unpublished(fence), SourceError, "is `cdcctl producer run` running?")
        moment, shards = self._arrived()
        waiting = set(shards)

        def behind() -> str:
            leases = self.leases.read()
            if leases is None:
                return f"{self.leases.application!r} never ran"
            waiting.difference_update([one for one in waiting if self._passed(one, shards, leases, moment)])
            return f"{self.consumer} has not come so far on {', '.join(sorted(waiting))}" if waiting else ""

        self._until(behind, SatelliteError, f"is `cdcctl consumer run {self.consumer}` running? see cdcctl status")
        return fence

    def _until(self, behind: Callable[[], str], kind: type[SourceError | SatelliteError], hint: str) -> None:
        deadline = time.monotonic() + self.patience
        while why := behind():
            if self.stopping():
                raise KeyboardInterrupt
            if time.monotonic() > deadline:
                raise kind(f"not there within {self.patience:.0f} s: {why}", f"{hint} (--timeout waits longer)")
            time.sleep(_LOOK_SECONDS)

    def _unpublished(self, fence: Lsn) -> str:
        slot = find_slot(self.source, self.settings.slot)
        if slot is None:
            raise SlotLost(f"there is no slot {self.settings.slot!r} on this server", "mend --slot")
        reader = "" if slot.active_pid else ", and nobody reads it"
        return "" if slot.confirmed >= fence else f"the slot {slot.name!r} is at {slot.confirmed}, not {fence}{reader}"

    def _arrived(self) -> tuple[datetime, dict[str, Any]]:
        """A time, by Kinesis' own clock, before which all that the fence covers arrived; and the stream's shards."""
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
        if lease is None:  # the KCL removes the lease of a shard that was read to its end, in time its child's too
            return closed and any(shard in ancestors(name, shards) for name in leases if name in shards)
        if lease.checkpoint == "SHARD_END":
            return True
        if not lease.checkpoint.isdigit() and lease.checkpoint != "TRIM_HORIZON":
            return False
        arrived = self._next_arrival(shard, lease)
        return not closed and (arrived is None or arrived > moment)

    def _next_arrival(self, shard: str, lease: Lease) -> datetime | None:
        """When the first record after the checkpoint arrived; None when there is none yet."""
        where: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON"}
        if lease.checkpoint.isdigit():  # AT: an aggregated record may be done only in part
            where = {"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": lease.checkpoint}
        try:
            iterator: str | None = self.client.get_shard_iterator(
                StreamName=self.settings.stream, ShardId=shard, **where
            )["ShardIterator"]
            for _ in range(_MOST_EMPTY_READS):
                answer = self.client.get_records(ShardIterator=iterator or "", Limit=2)
                for record in answer["Records"]:
                    if record["SequenceNumber"] != lease.checkpoint or _more(record, lease):
                        return record["ApproximateArrivalTimestamp"]
                iterator = answer.get("NextShardIterator")
                if iterator is None or not answer.get("MillisBehindLatest"):
                    return None
                time.sleep(0.2)
        except (ClientError, BotoCoreError) as error:
            raise StreamError(f"cannot read {shard} of {self.settings.stream!r}: {error}") from error
        return datetime.min.replace(tzinfo=UTC)  # a long empty stretch: not at its end, ask again


def _more(record: Any, lease: Lease) -> bool:
    return len(unpack(record["Data"], record["PartitionKey"])) > lease.sub_sequence + 1
