"""The Kinesis data stream: its client, its open shards, its limits and its tags."""

from __future__ import annotations

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

from cdckit.errors import StreamError
from producer.kinesis.limits import StreamLimits
from producer.kinesis.shard_map import Shard, ShardMap

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

_CONFIG = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=10, max_pool_connections=16)


def kinesis_client() -> KinesisClient:
    """Return a client by the standard AWS settings, without retries: the publisher retries. Raises StreamError."""
    try:
        return boto3.client("kinesis", config=_CONFIG)
    except BotoCoreError as error:
        raise stream_error(error, "no Kinesis client") from error


def stream_error(error: Exception, what: str) -> StreamError:
    """Return botocore's error as StreamError, with the command that fixes it."""
    text = " ".join(str(error).split())
    return StreamError(f"{what}: {text}", _hint(error))


@dataclass(frozen=True, slots=True)
class Stream:
    """One Kinesis data stream."""

    client: KinesisClient
    name: str

    def shards(self) -> ShardMap:
        """Return the open shards. Raises StreamError when the stream is missing or unreachable."""
        try:
            pages = self.client.get_paginator("list_shards").paginate(StreamName=self.name)
            shards = [shard for page in pages for shard in page["Shards"]]
        except (ClientError, BotoCoreError) as error:
            raise stream_error(error, f"cannot list the shards of the stream {self.name!r}") from error
        still_open = [shard for shard in shards if "EndingSequenceNumber" not in shard["SequenceNumberRange"]]
        return ShardMap(Shard(shard["ShardId"], int(shard["HashKeyRange"]["StartingHashKey"])) for shard in still_open)

    def limits(self) -> StreamLimits:
        """Return the stream's limits: records of 1 MiB, or up to 10 MiB where it is configured. Raises StreamError."""
        try:
            summary = self.client.describe_stream_summary(StreamName=self.name)["StreamDescriptionSummary"]
        except (ClientError, BotoCoreError) as error:
            raise stream_error(error, f"cannot describe the stream {self.name!r}") from error
        record = int(summary.get("MaxRecordSizeInKiB") or 1024) * 1024
        return StreamLimits(record) if record <= 1024 * 1024 else StreamLimits(record, request=10 * 1024 * 1024)

    def tag(self, name: str) -> str | None:
        """Return a tag's value; None when the stream has no such tag. Raises StreamError."""
        try:
            tags = self.client.list_tags_for_stream(StreamName=self.name)["Tags"]
        except (ClientError, BotoCoreError) as error:
            raise stream_error(error, f"cannot read the tags of the stream {self.name!r}") from error
        return next((tag.get("Value", "") for tag in tags if tag["Key"] == name), None)

    def set_tag(self, name: str, value: str) -> None:
        """Write a tag. Raises StreamError."""
        try:
            self.client.add_tags_to_stream(StreamName=self.name, Tags={name: value})
        except (ClientError, BotoCoreError) as error:
            raise stream_error(error, f"cannot tag the stream {self.name!r}") from error


def _hint(error: Exception) -> str:
    code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
    if code == "ResourceNotFoundException":
        return (
            "create it: aws kinesis create-stream --stream-name NAME (for a sandbox: cdcctl local up), or fix --stream"
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
