"""Measures how far a shard's checkpoint is behind the tip of the shard, with one small read of the stream.

GetRecords from the checkpoint returns the record of the checkpoint and the next ones. They show the position, the age
of the oldest pending change, and the number of pending changes: exact when one page reaches the tip, otherwise
estimated from the page. Kinesis allows five reads per second and shard for all readers; a throttled read is retried.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from cdckit.envelope import position_and_time
from cdckit.errors import EnvelopeError, StreamError
from cdckit.packing import GZIP
from consumers.kcl.leases import Lease
from consumers.stream.unpack import expand_record

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

_PAGE = 500
_EMPTY_READS = 20
_MAX_ATTEMPTS = 4


@dataclass(frozen=True, slots=True)
class ShardProgress:
    """See `ShardState`. `oldest` is the arrival time of the oldest pending record; None when nothing is pending."""

    position: str
    lag: float | None
    pending: int | None
    exact: bool
    oldest: datetime | None


UNKNOWN = ShardProgress("", None, None, False, None)


def measure_progress(client: KinesisClient, stream: str, lease: Lease, now: datetime) -> ShardProgress:
    """Measure from the lease's checkpoint to the tip of the shard. Raises StreamError.

    The progress of a lease that starts at LATEST or at a time is unknown until its first checkpoint.
    """
    if lease.checkpoint == "SHARD_END":
        return ShardProgress("", 0.0, 0, True, None)
    if not lease.checkpoint.isdigit() and lease.checkpoint != "TRIM_HORIZON":
        return UNKNOWN
    records, behind_ms = _page_after(client, stream, lease)
    entries = [entry for record in records for entry in _entries(record)]
    covered = [entry for entry in entries if _covered(entry, lease)]
    pending = entries[len(covered) :]
    position = _decoded(covered[-1].data)[0] if covered else ""
    if not pending:
        return ShardProgress(position, 0.0 if behind_ms == 0 else behind_ms / 1000, 0, behind_ms == 0, None)
    oldest = pending[0].arrival
    committed = _decoded(pending[0].data)[1] or oldest
    return ShardProgress(
        position, max(0.0, (now - committed).total_seconds()), _estimate(pending, behind_ms), behind_ms == 0, oldest
    )


class _Entry(NamedTuple):
    """One change; or the first of a folded record with the number of its changes, which have one checkpoint."""

    sequence_number: str
    number: int
    data: bytes
    arrival: datetime
    changes: int = 1


def _entries(record: Any) -> list[_Entry]:
    unpacked, arrival = expand_record(record), record["ApproximateArrivalTimestamp"]
    if record["Data"].startswith(GZIP):
        return [_Entry(record["SequenceNumber"], 0, unpacked[0].data, arrival, len(unpacked))]
    return [_Entry(change.sequence_number, change.sub_sequence_number, change.data, arrival) for change in unpacked]


def _covered(entry: _Entry, lease: Lease) -> bool:
    return entry.sequence_number == lease.checkpoint and entry.number <= max(lease.sub_sequence, 0)


def _decoded(data: bytes) -> tuple[str, datetime | None]:
    try:
        position, committed = position_and_time(data)
    except EnvelopeError:
        return "", None
    return str(position), committed


def _estimate(pending: Sequence[_Entry], behind_ms: int) -> int:
    changes = sum(entry.changes for entry in pending)
    spanned = (pending[-1].arrival - pending[0].arrival).total_seconds() * 1000
    return changes if behind_ms == 0 or spanned <= 0 else round(changes * (1 + behind_ms / spanned))


def _page_after(client: KinesisClient, stream: str, lease: Lease) -> tuple[list[Any], int]:
    where: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON"}
    if lease.checkpoint.isdigit():
        where = {"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": lease.checkpoint}
    found: list[Any] = []
    try:
        iterator = client.get_shard_iterator(StreamName=stream, ShardId=lease.shard, **where)["ShardIterator"]
        for _ in range(_EMPTY_READS):
            answer = _get_records(client, iterator)
            found += answer["Records"]
            iterator = answer.get("NextShardIterator", "")
            behind = int(answer.get("MillisBehindLatest", 0))
            # the record of the checkpoint alone does not show whether more records follow
            if behind == 0 or not iterator or len(found) > 1:
                return found, behind
    except (ClientError, BotoCoreError) as error:
        raise StreamError(
            f"cannot read {lease.shard} of {stream!r}: {error}", "allow kinesis:GetRecords (cdcctl aws policy tail)"
        ) from error
    return found, behind


def _get_records(client: KinesisClient, iterator: str) -> Any:
    for attempt in range(_MAX_ATTEMPTS):
        try:
            return client.get_records(ShardIterator=iterator, Limit=_PAGE)
        except ClientError as error:
            busy = error.response["Error"]["Code"] == "ProvisionedThroughputExceededException"
            if not busy or attempt == _MAX_ATTEMPTS - 1:
                raise
        time.sleep(0.3)
    raise AssertionError("not reached")
