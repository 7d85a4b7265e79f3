"""An embedded store belongs to one host: its id stands beside the leases, and a second store is refused.

Two hosts under one application name share the shards. With a store on each, both satellites would be half of one, in
silence. The claim is an item of its own in the KCL's ``-CoordinatorState`` table, which the KCL leaves alone.
"""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from cdckit.errors import ConsumerError, StreamError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

FILE = ".store-id"
_KEY = {"key": {"S": "cdc.store"}}


class ClaimedElsewhere(ConsumerError):
    """Another store holds this consumer's claim; a restart does not help."""


def store_id(folder: Path) -> str:
    """The store's id, made once: whoever moves the folder moves the claim with it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    if not path.exists():
        fresh = folder / f"{FILE}.{os.getpid()}"
        fresh.write_text(f"{uuid.uuid4()}\n")
        try:
            os.link(fresh, path)  # not over the id that another shard's process just made
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_text().strip()


def claim_store(
    application: str, folder: Path, *, take_over: bool = False, client: DynamoDBClient | None = None
) -> None:
    """Claim the consumer for the store in `folder`, or find it claimed for it.

    Raises ClaimedElsewhere when another store has it (unless `take_over`), StreamError when DynamoDB does not answer.
    """
    mine, host = store_id(folder), socket.gethostname()
    try:
        client = client or boto3.client("dynamodb")
        client.put_item(
            TableName=f"{application}-CoordinatorState",
            Item={**_KEY, "store": {"S": mine}, "host": {"S": host}, "folder": {"S": str(folder)}},
            **({} if take_over else {  # type: ignore[arg-type]
                "ConditionExpression": "attribute_not_exists(#store) OR #store = :mine",
                "ExpressionAttributeNames": {"#store": "store"},
                "ExpressionAttributeValues": {":mine": {"S": mine}},
            }),
        )  # fmt: skip
    except ClientError as error:
        if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
            raise _refusal(application, folder, client) from error
        raise StreamError(
            f"cannot claim the store of {application!r}: {error}", "see the KCL's three tables"
        ) from error
    except BotoCoreError as error:
        raise StreamError(f"cannot claim the store of {application!r}: {error}", "check the AWS settings") from error


def _refusal(application: str, folder: Path, client: DynamoDBClient | None) -> ClaimedElsewhere:
    assert client is not None
    held = client.get_item(TableName=f"{application}-CoordinatorState", Key=_KEY, ConsistentRead=True).get("Item", {})
    where = f"{held.get('host', {}).get('S', '?')}:{held.get('folder', {}).get('S', '?')}"
    here = f"{socket.gethostname()}:{folder}"
    other = "what is there now is another, perhaps made anew" if where == here else f"{here} is another one"
    return ClaimedElsewhere(
        f"the satellite of {application!r} is the store at {where}; {other}, and two stores would each hold half of it",
        "run the consumer there, or move that folder here; to start over here: cdcctl consumer run NAME --take-over, "
        "then cdcctl replay NAME --from earliest --in-place",
    )
