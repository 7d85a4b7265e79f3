"""Reads, seeds and rewinds the KCL's lease table of one application.

The KCL 3 keeps three tables: leases (with the index ``LeaseOwnerToLeaseKeyIndex``), ``-CoordinatorState`` and
``-WorkerMetricStats``. A lease is live while its ``leaseCounter`` moves; a clean stop leaves its owner in the table.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from cdckit.errors import ConsumerError, StreamError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_INDEX = "LeaseOwnerToLeaseKeyIndex"


@dataclass(frozen=True, slots=True)
class Lease:
    """One shard's lease. `checkpoint` is a sequence number or TRIM_HORIZON, LATEST, AT_TIMESTAMP, SHARD_END."""

    shard: str
    checkpoint: str
    sub_sequence: int
    owner: str | None
    counter: int


class LeaseTable:
    """The leases of one application. All methods raise StreamError when DynamoDB refuses or does not answer."""

    def __init__(self, application: str, client: DynamoDBClient | None = None) -> None:
        """`client` defaults to one made from the standard AWS settings."""
        self.application = application
        try:
            self._client = client or boto3.client("dynamodb")
        except BotoCoreError as error:
            raise StreamError(
                f"cannot make a DynamoDB client: {error}", "set AWS_REGION; for a sandbox: cdcctl local up"
            ) from error

    def items(self) -> list[dict[str, Any]] | None:
        """All leases as DynamoDB holds them; None when the application never ran (there is no table)."""
        try:
            pages = self._client.get_paginator("scan").paginate(TableName=self.application, ConsistentRead=True)
            return [dict(item) for page in pages for item in page["Items"]]
        except self._client.exceptions.ResourceNotFoundException:
            return None
        except (ClientError, BotoCoreError) as error:
            raise StreamError(f"cannot read the lease table {self.application!r}: {error}") from error

    def read(self) -> dict[str, Lease] | None:
        """All leases by shard; None when the application never ran (there is no table)."""
        items = self.items()
        return None if items is None else {lease.shard: lease for lease in map(_lease, items)}

    def live_leases(self, watch_seconds: float) -> list[Lease]:
        """The leases whose counter moves within `watch_seconds`: a worker renews them."""
        before = self.read() or {}
        deadline = time.monotonic() + watch_seconds
        while before and time.monotonic() < deadline:
            time.sleep(0.25)
            now = self.read() or {}
            moved = [
                lease for shard, lease in now.items() if shard in before and before[shard].counter != lease.counter
            ]
            if moved:
                return moved
        return []

    def seed(self, shards: Iterable[str], checkpoint: str = "TRIM_HORIZON", owner: str = "") -> bool:
        """Makes the tables, with one lease per shard, unless they exist. Returns whether it made them.

        The KCL then starts in seconds: with an empty lease table it waits a random 1–30 s and lists the shards first.
        When two workers start together, one of them seeds; an existing lease stays unchanged.

        `owner` is the worker that reads all of them: it renews its own leases at its start, as after a restart,
        instead of waiting until the leader has seen its metrics and assigned them. If it never starts, the leases
        expire like any others.
        """
        if self.read() is not None:
            return False
        try:
            self._create()
            for shard in shards:
                self._client.put_item(
                    TableName=self.application,
                    Item=_seeded_lease(shard, checkpoint, owner),
                    ConditionExpression="attribute_not_exists(leaseKey)",
                )
        except (
            self._client.exceptions.ResourceInUseException,
            self._client.exceptions.ConditionalCheckFailedException,
        ):
            return False
        except (ClientError, BotoCoreError) as error:
            raise StreamError(f"cannot create the lease table {self.application!r}: {error}") from error
        return True

    def release_leader(self, worker: str) -> None:
        """Deletes the leader lock of a worker that is known to have ended; another worker's lock stays.

        Only the leader assigns shards, and the KCL (3.1: always) waits two minutes for the lock of a killed leader. The
        worker's launcher knows that it ended.
        """
        try:
            self._client.delete_item(
                TableName=f"{self.application}-CoordinatorState",
                Key={"key": {"S": "Leader"}},
                ConditionExpression="ownerName = :dead",
                ExpressionAttributeValues={":dead": {"S": worker}},
            )
        except (
            self._client.exceptions.ConditionalCheckFailedException,
            self._client.exceptions.ResourceNotFoundException,
        ):
            return
        except (ClientError, BotoCoreError) as error:
            raise StreamError(f"cannot release the leader lock of {self.application!r}: {error}") from error

    def refuse_while_alive(self, consumer: str, watch_seconds: float) -> None:
        """Raises ConsumerError when a worker is live; it names the worker and how to stop it."""
        if live := self.live_leases(watch_seconds):
            raise ConsumerError(
                f"the worker {live[0].owner!r} holds a live lease on {live[0].shard} of {self.application!r}",
                f"stop `cdcctl consumer run {consumer}` by Ctrl-C or SIGTERM (its name begins with its host); "
                "it checkpoints and ends; then repeat",
            )

    def rewind(self, checkpoints: Mapping[str, str], removed: Iterable[str]) -> None:
        """Writes a checkpoint per shard, without an owner, and removes leases; the KCL resumes *after* a checkpoint.

        Raises ConsumerError when a worker took one of the leases meanwhile.
        """
        leases = self.read() or {}
        for shard, checkpoint in checkpoints.items():
            counter = leases[shard].counter if shard in leases else 0
            item = {**_seeded_lease(shard, checkpoint), "leaseCounter": {"N": str(counter + 1)}}
            self._put(item, counter)
        for shard in removed:
            self._delete(shard)

    def restore(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Replaces the table's items with these, byte for byte."""
        wanted = {item["leaseKey"]["S"]: item for item in items}
        leases = self.read() or {}
        for shard, item in wanted.items():
            self._put(item, leases[shard].counter if shard in leases else 0)
        for shard in leases.keys() - wanted.keys():
            self._delete(shard)

    def _put(self, item: Mapping[str, Any], counter: int) -> None:
        shard = item["leaseKey"]["S"]
        try:
            self._client.put_item(
                TableName=self.application,
                Item=item,
                ConditionExpression="attribute_not_exists(leaseKey) OR leaseCounter = :seen",
                ExpressionAttributeValues={":seen": {"N": str(counter)}},
            )
        except self._client.exceptions.ConditionalCheckFailedException as error:
            raise ConsumerError(
                f"a worker took {shard} of {self.application!r} meanwhile",
                "stop it, then run cdcctl replay undo, which restores all leases",
            ) from error
        except (ClientError, BotoCoreError) as error:
            raise StreamError(f"cannot write {shard} in {self.application!r}: {error}") from error

    def _delete(self, shard: str) -> None:
        try:
            self._client.delete_item(TableName=self.application, Key={"leaseKey": {"S": shard}})
        except (ClientError, BotoCoreError) as error:
            raise StreamError(f"cannot remove {shard} from {self.application!r}: {error}") from error

    def _create(self) -> None:
        self._client.create_table(
            TableName=self.application,
            AttributeDefinitions=[
                {"AttributeName": "leaseKey", "AttributeType": "S"},
                {"AttributeName": "leaseOwner", "AttributeType": "S"},
            ],
            KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": _INDEX,
                    "KeySchema": [
                        {"AttributeName": "leaseOwner", "KeyType": "HASH"},
                        {"AttributeName": "leaseKey", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }
            ],
            BillingMode="PAY_PER_REQUEST",
        )
        for suffix, key in (("CoordinatorState", "key"), ("WorkerMetricStats", "wid")):
            self._client.create_table(
                TableName=f"{self.application}-{suffix}",
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
                KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
                BillingMode="PAY_PER_REQUEST",
            )
        self._client.get_waiter("table_exists").wait(
            TableName=self.application, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )


def _lease(item: Mapping[str, Any]) -> Lease:
    def number(name: str) -> int:
        return int(item.get(name, {}).get("N", 0))

    return Lease(
        item["leaseKey"]["S"],
        item.get("checkpoint", {}).get("S", ""),
        number("checkpointSubSequenceNumber"),
        item.get("leaseOwner", {}).get("S"),
        number("leaseCounter"),
    )


def _seeded_lease(shard: str, checkpoint: str, owner: str = "") -> dict[str, Any]:
    owned = {"leaseOwner": {"S": owner}} if owner else {}
    return {
        "leaseKey": {"S": shard},
        "checkpoint": {"S": checkpoint},
        "checkpointSubSequenceNumber": {"N": "0"},
        "leaseCounter": {"N": "0"},
        "ownerSwitchesSinceCheckpoint": {"N": "0"},
        **owned,
    }
