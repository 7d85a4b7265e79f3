"""How far a shard's checkpoint is from the shard's tip: one small read of the stream.

GetRecords from the checkpoint on returns the checkpoint's own record and the next ones: the position, the age of the
oldest change that is not covered, and how many there are (exactly, when one page reaches the tip; else an estimate by
the page's density). Kinesis allows five reads a second and shard for all readers: a refused read is tried again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from cdckit.envelope import place
from cdckit.errors import EnvelopeError, StreamError
from cdckit.packing import GZIP
from consumers.kcl.leases import Lease
from consumers.stream.unpack import expand_record

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

_PAGE = 500
_EMPTY_READS = 20
_TRIES = 4


@dataclass(frozen=True, slots=True)
class Progress:
    """See `ShardState`. `oldest` is when the oldest pending record arrived; None when nothing is pending."""

    position: str
    lag: float | None
    pending: int | None
    exact: bool
    oldest: datetime | None


UNKNOWN = Progress("", None, None, False, None)


def progress_of(client: KinesisClient, stream: str, lease: Lease, now: datetime) -> Progress:
    """Look from the lease's checkpoint to the shard's tip. Raises StreamError.

    A lease that starts at LATEST or at a time says nothing until its first checkpoint: unknown.
    """
    if lease.checkpoint == "SHARD_END":
        return Progress("", 0.0, 0, True, None)
    if not lease.checkpoint.isdigit() and lease.checkpoint != "TRIM_HORIZON":
        return UNKNOWN
    records, behind_ms = _page_after(client, stream, lease)
    entries = [entry for record in records for entry in _entries(record)]
    covered = [entry for entry in entries if _covered(entry, lease)]
    pending = entries[len(covered) :]
    position = _decoded(covered[-1].data)[0] if covered else ""
    if not pending:
        return Progress(position, 0.0 if behind_ms == 0 else behind_ms / 1000, 0, behind_ms == 0, None)
    oldest = pending[0].arrival
    committed = _decoded(pending[0].data)[1] or oldest
    return Progress(
        position, max(0.0, (now - committed).total_seconds()), _estimate(pending, behind_ms), behind_ms == 0, oldest
    )


class _Entry(NamedTuple):
    """A change, or a folded record's first one with the number of them all: they are covered together."""

    sequence_number: str
    number: int
    data: bytes
    arrival: datetime
    changes: int = 1


def _entries(record: Any) -> list[_Entry]:
    found, arrival = expand_record(record), record["ApproximateArrivalTimestamp"]
    if record["Data"].startswith(GZIP):
        return [_Entry(record["SequenceNumber"], 0, found[0].data, arrival, len(found))]
    return [_Entry(one.sequence_number, one.sub_sequence_number, one.data, arrival) for one in found]


def _covered(entry: _Entry, lease: Lease) -> bool:
    return entry.sequence_number == lease.checkpoint and entry.number <= max(lease.sub_sequence, 0)


def _decoded(data: bytes) -> tuple[str, datetime | None]:
    try:
        position, committed = place(data)
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
            answer = _patiently(client, iterator)
            found += answer["Records"]
            iterator = answer.get("NextShardIterator", "")
            behind = int(answer.get("MillisBehindLatest", 0))
            # the checkpoint's own record alone says nothing of what comes after it
            if behind == 0 or not iterator or len(found) > 1:
                return found, behind
    except (ClientError, BotoCoreError) as error:
        raise StreamError(f"cannot read {lease.shard} of {stream!r}: {error}", "see kinesis:GetRecords") from error
    return found, behind


def _patiently(client: KinesisClient, iterator: str) -> Any:
    for attempt in range(_TRIES):
        try:
            return client.get_records(ShardIterator=iterator, Limit=_PAGE)
        except ClientError as error:
            busy = error.response["Error"]["Code"] == "ProvisionedThroughputExceededException"
            if not busy or attempt == _TRIES - 1:
                raise
        time.sleep(0.3)
    raise AssertionError("not reached")
