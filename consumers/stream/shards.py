"""The shards of a stream as ListShards describes them, and their ancestry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from cdckit.errors import StreamError

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

Shard = Mapping[str, Any]


def list_shards(stream: str, client: KinesisClient | None = None) -> Sequence[Shard]:
    """The stream's shards, including closed ones. `client` defaults to one made from the standard AWS settings.

    Raises StreamError when the stream is missing, unreachable, or there are no credentials.
    """
    try:
        pages = (client or boto3.client("kinesis")).get_paginator("list_shards").paginate(StreamName=stream)
        return [shard for page in pages for shard in page["Shards"]]
    except (ClientError, BotoCoreError) as error:
        raise StreamError(
            f"cannot list the shards of the stream {stream!r}: {error}",
            "check AWS_REGION, AWS_ENDPOINT_URL, the credentials and --stream; for a sandbox: cdcctl local up",
        ) from error


def parents(shard: Shard) -> list[str]:
    """The shards from which this one came by a split or a merge."""
    return [shard[key] for key in ("ParentShardId", "AdjacentParentShardId") if key in shard]


def ancestors(shard: str, known: Mapping[str, Shard]) -> set[str]:
    """All shards from which this one came, over any number of splits and merges, that the stream still lists."""
    found: set[str] = set()
    waiting = [shard]
    while waiting:
        new = [parent for parent in parents(known[waiting.pop()]) if parent in known and parent not in found]
        found.update(new)
        waiting += new
    return found


def is_open(shard: Shard) -> bool:
    """Whether producers can still put records on the shard."""
    return "EndingSequenceNumber" not in shard["SequenceNumberRange"]


def describe_child(child: Mapping[str, Any]) -> Shard:
    """Describes a child shard that GetRecords names at its parent's end as ListShards does, which may list it later."""
    keys = ("ParentShardId", "AdjacentParentShardId")
    return {
        "ShardId": child["ShardId"],
        "SequenceNumberRange": {},
        **dict(zip(keys, child["ParentShards"], strict=False)),
    }
