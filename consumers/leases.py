"""The KCL's lease table of one application: read, seed, rewind.

The KCL 3 keeps three tables: leases (with the index ``LeaseOwnerToLeaseKeyIndex``), ``-CoordinatorState`` and
``-WorkerMetricStats``. A lease is alive while its ``leaseCounter`` moves; after a clean stop the owner stays written.
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
    """The leases of one application. All methods raise StreamError when DynamoDB does not answer as it should."""

    def __init__(self, application: str, client: DynamoDBClient | None = None) -> None:
        """`client` defaults to one by the standard AWS settings."""
        self.application = application
        try:
            self._client = client or boto3.client("dynamodb")
        except BotoCoreError as error:
            raise StreamError(
                f"no DynamoDB client: {error}", "set AWS_REGION; for a sandbox: cdcctl local up"
            ) from error

    def items(self) -> list[dict[str, Any]] | None:
        """All leases as DynamoDB holds them; None when the application never ran."""
        try:
            pages = self._client.get_paginator("scan").paginate(TableName=self.application, ConsistentRead=True)
            return [dict(item) for page in pages for item in page["Items"]]
        except self._client.exceptions.ResourceNotFoundException:
            return None
        except (ClientError, BotoCoreError) as error:
            raise StreamError(f"cannot read the lease table {self.application!r}: {error}") from error

    def read(self) -> dict[str, Lease] | None:
        """All leases by shard; None when the application never ran."""
        items = self.items()
        return None if items is None else {lease.shard: lease for lease in map(_lease, items)}

    def alive(self, watch_seconds: float) -> list[Lease]:
        """The leases whose counter moves within `watch_seconds`: a worker holds and renews them."""
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
        """Make the tables with one lease per shard, unless they exist: the KCL then starts in seconds.

        With an empty lease table the KCL waits a random 1–30 s and lists the shards first. True when it was done.
        Of two workers that start together one seeds; a lease that is there already is left as it is.

        `owner` is the worker that reads all of them: it renews its own leases at its start, as after a restart,
        instead of waiting until the leader has seen its metrics and assigned them. If it never starts, the leases
        expire as any others do.
        """
        if self.read() is not None:
            return False
        try:
            self._create()
            for shard in shards:
                self._client.put_item(
                    TableName=self.application,
                    Item=_seeded(shard, checkpoint, owner),
                    ConditionExpression="attribute_not_exists(leaseKey)",
                )
        except (
            self._client.exceptions.ResourceInUseException,
            self._client.exceptions.ConditionalCheckFailedException,
        ):
            return False
        except (ClientError, BotoCoreError) as error:
            raise StreamError(f"cannot make the lease table {self.application!r}: {error}") from error
        return True

    def release_leader(self, worker: str) -> None:
        """Give up the leader's lock of a worker that is known to be dead; no table, or another's lock: nothing.

        Only the leader gives out shards, and the KCL (3.1: always) waits two minutes for a lock whose holder was
        killed. Its own launcher knows better.
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
            raise StreamError(f"cannot look after the leader's lock of {self.application!r}: {error}") from error

    def refuse_while_alive(self, consumer: str, watch_seconds: float) -> None:
        """Raises ConsumerError that names a worker that is alive, and how to stop it."""
        if held := self.alive(watch_seconds):
            raise ConsumerError(
                f"the worker {held[0].owner!r} holds a live lease on {held[0].shard} of {self.application!r}",
                f"stop it first (the worker's name begins with its host): Ctrl-C or SIGTERM for its "
                f"`cdcctl consumer run {consumer}`; it checkpoints and ends; then repeat",
            )

    def rewind(self, marks: Mapping[str, str], dropped: Iterable[str]) -> None:
        """Write each shard's checkpoint, without an owner, and remove leases; the KCL resumes *after* a checkpoint.

        Raises ConsumerError when a worker has taken one of them meanwhile.
        """
        held = self.read() or {}
        for shard, checkpoint in marks.items():
            counter = held[shard].counter if shard in held else 0
            item = {**_seeded(shard, checkpoint), "leaseCounter": {"N": str(counter + 1)}}
            self._put(item, counter)
        for shard in dropped:
            self._delete(shard)

    def restore(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Make the table hold just these, byte for byte."""
        wanted = {item["leaseKey"]["S"]: item for item in items}
        held = self.read() or {}
        for shard, item in wanted.items():
            self._put(item, held[shard].counter if shard in held else 0)
        for shard in held.keys() - wanted.keys():
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
                "stop it, then cdcctl replay undo, which puts all leases back as they were",
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


def _seeded(shard: str, checkpoint: str, owner: str = "") -> dict[str, Any]:
    owned = {"leaseOwner": {"S": owner}} if owner else {}
    return {
        "leaseKey": {"S": shard},
        "checkpoint": {"S": checkpoint},
        "checkpointSubSequenceNumber": {"N": "0"},
        "leaseCounter": {"N": "0"},
        "ownerSwitchesSinceCheckpoint": {"N": "0"},
        **owned,
    }
