"""The stream as the producer needs it: its client, its open shards, and which server's epoch it carries (a tag).

The tag ``cdc.source.<id>`` on the stream says which server the stream's positions come from, so that a producer started
anywhere (a laptop, EC2, Lambda) knows it without a store of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
)

from cdckit.change import NO_LSN
from cdckit.errors import EpochChanged, SlotLost, StreamError
from cdckit.position import Lsn
from producer.kinesis import IN_FLIGHT, Target
from producer.lanes import Bounds
from producer.put import PutRecords
from producer.routing import Origin, Record
from producer.shards import Shard, ShardMap

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

    from producer.source import Server

_TAG = re.compile(r"epoch=(\d+) system=(\d+) timeline=(\d+) slot=(\S+)(?: lsn=(\S+))?")
_CONFIG = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=10, max_pool_connections=16)


def kinesis_client() -> KinesisClient:
    """A client by the standard AWS settings; it does not retry, whoever holds the records does. Raises StreamError."""
    try:
        return boto3.client("kinesis", config=_CONFIG)
    except BotoCoreError as error:
        raise translated(error, "no Kinesis client") from error


def translated(error: Exception, what: str) -> StreamError:
    """Botocore's errors as StreamError, with what mends them."""
    text = " ".join(str(error).split())
    return StreamError(f"{what}: {text}", _hint(error))


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the tag says: whose positions these are, and a position that was acknowledged (not always the last)."""

    origin: Origin
    acknowledged: Lsn


@dataclass(frozen=True, slots=True)
class Stream:
    """One Kinesis data stream."""

    client: KinesisClient
    name: str

    def shards(self) -> ShardMap:
        """The open shards. Raises StreamError when the stream is missing or unreachable."""
        try:
            pages = self.client.get_paginator("list_shards").paginate(StreamName=self.name)
            shards = [shard for page in pages for shard in page["Shards"]]
        except (ClientError, BotoCoreError) as error:
            raise translated(error, f"cannot list the shards of the stream {self.name!r}") from error
        still_open = [shard for shard in shards if "EndingSequenceNumber" not in shard["SequenceNumberRange"]]
        return ShardMap(Shard(shard["ShardId"], int(shard["HashKeyRange"]["StartingHashKey"])) for shard in still_open)

    def bounds(self) -> Bounds:
        """What the stream takes: 1 MiB a record, or up to 10 MiB where it is so set. Raises StreamError."""
        try:
            summary = self.client.describe_stream_summary(StreamName=self.name)["StreamDescriptionSummary"]
        except (ClientError, BotoCoreError) as error:
            raise translated(error, f"cannot describe the stream {self.name!r}") from error
        record = int(summary.get("MaxRecordSizeInKiB") or 1024) * 1024
        return Bounds(record) if record <= 1024 * 1024 else Bounds(record, request=10 * 1024 * 1024)

    def target(self, keep: Callable[[Record, bytes], Record] | None = None) -> Target:
        """The stream for a publisher; `keep` is its way with oversized records. Raises StreamError."""
        shards, bounds = self.shards, self.bounds()
        shards()  # a stream that cannot be listed is refused here
        put = PutRecords(self.client, self.name, IN_FLIGHT)
        return Target(self.name, put, shards, bounds, put.close, keep)

    def recorded(self, source: str) -> Recorded | None:
        """Which server the stream's positions of this source come from; None before the first run."""
        match = _TAG.fullmatch(self.tag(_tag(source)) or "")
        if match is None:
            return None
        origin = Origin(source, int(match[1]), match[2], int(match[3]), match[4])
        return Recorded(origin, Lsn.parse(match[5]) if match[5] else Lsn(0))

    def record(self, origin: Origin, acknowledged: Lsn = NO_LSN) -> None:
        """Write the tag. Raises StreamError."""
        value = f"epoch={origin.epoch} system={origin.system} timeline={origin.timeline} slot={origin.slot}"
        self.set_tag(_tag(origin.source), value + (f" lsn={acknowledged}" if acknowledged else ""))

    def tag(self, name: str) -> str | None:
        """A tag's value; None when the stream has no such tag. Raises StreamError."""
        try:
            tags = self.client.list_tags_for_stream(StreamName=self.name)["Tags"]
        except (ClientError, BotoCoreError) as error:
            raise translated(error, f"cannot read the tags of the stream {self.name!r}") from error
        return next((tag.get("Value", "") for tag in tags if tag["Key"] == name), None)

    def set_tag(self, name: str, value: str) -> None:
        """Write a tag. Raises StreamError."""
        try:
            self.client.add_tags_to_stream(StreamName=self.name, Tags={name: value})
        except (ClientError, BotoCoreError) as error:
            raise translated(error, f"cannot tag the stream {self.name!r}") from error


@dataclass(frozen=True, slots=True)
class Wanted:
    """The source and the slot that the settings name."""

    source: str
    slot: str


def decide_origin(
    recorded: Recorded | None, server: Server, wanted: Wanted, *, slot_exists: bool, new_epoch: bool
) -> Origin:
    """The origin to stamp: the recorded one, a first one, or (only when told so) a new epoch; pure.

    Raises EpochChanged when another server answers, and SlotLost when the slot that fed the stream is gone: in both
    cases changes may be missing from the stream, which a new epoch (and a snapshot) makes good.
    """
    source, slot = wanted.source, wanted.slot
    if recorded is None:
        return Origin(source, 1, server.system, server.timeline, slot)
    if new_epoch:
        return Origin(source, recorded.origin.epoch + 1, server.system, server.timeline, slot)
    _check_system(recorded, server)
    before = recorded.origin.slot
    if not slot_exists or before != slot:
        since = f" (the last known position is {recorded.acknowledged})" if recorded.acknowledged else ""
        raise SlotLost(
            f"the stream was fed from the slot {before!r}"
            + (f", not {slot!r}" if before != slot else f", which is gone: changes since then are not in it{since}"),
            f"use --slot {before}, or start a new slot with --new-epoch"
            if before != slot
            else "cdcctl producer run --new-epoch creates it again; the changes in between are in no satellite",
        )
    return Origin(source, recorded.origin.epoch, server.system, server.timeline, slot)


def _check_system(recorded: Recorded, server: Server) -> None:
    meant = "if that is meant: cdcctl producer run --new-epoch (satellites then put its changes above the old ones)"
    if recorded.origin.system != server.system:
        raise EpochChanged(
            f"the stream follows the PostgreSQL system {recorded.origin.system}, but {server.system} answers: a "
            "restore, an upgrade or another server, whose LSNs start anew",
            meant,
        )
    if server.lsn < recorded.acknowledged:
        raise EpochChanged(
            f"the stream holds changes up to {recorded.acknowledged}, but the server's WAL ends at {server.lsn}: it "
            "was restored, or a failover lost its last changes",
            meant,
        )


def _tag(source: str) -> str:
    return f"cdc.source.{source}"


def _hint(error: Exception) -> str:
    code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
    if code == "ResourceNotFoundException":
        return (
            "create it: aws kinesis create-stream --stream-name NAME (for a sandbox: cdcctl local up), or mend --stream"
        )
    if code in (
        "AccessDeniedException",
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "ExpiredTokenException",
    ):
        return "check the credentials and their policy: aws sts get-caller-identity"
    if isinstance(error, NoCredentialsError | PartialCredentialsError | ProfileNotFound):
        return "set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; for a sandbox: cdcctl local up"
    if isinstance(error, NoRegionError):
        return "set AWS_REGION; for a sandbox: cdcctl local up"
    if isinstance(error, EndpointConnectionError | ConnectionError | HTTPClientError):
        return "is AWS_ENDPOINT_URL right and does it answer? for a sandbox: cdcctl local up"
    return ""
