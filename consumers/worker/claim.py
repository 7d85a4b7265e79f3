"""Claims a consumer for one embedded store, so that two hosts never fill half a satellite each.

Two hosts under one application name share the shards. With an embedded store on each, every store would silently hold a
part of the rows. The claim is an item with the store's id in the KCL's ``-CoordinatorState`` table; the KCL ignores it.
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

ID_FILE = ".store-id"
_KEY = {"key": {"S": "cdc.store"}}


class ClaimedElsewhere(ConsumerError):
    """Another store has claimed this consumer; a restart does not help."""


def store_id(folder: Path) -> str:
    """The store's id, made once; it moves with the folder, and so does the claim."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ID_FILE
    if not path.exists():
        fresh = folder / f"{ID_FILE}.{os.getpid()}"
        fresh.write_text(f"{uuid.uuid4()}\n")
        try:
            os.link(fresh, path)  # fails when another shard's process has just made one
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_text().strip()


def claim_store(
    application: str, folder: Path, *, take_over: bool = False, client: DynamoDBClient | None = None
) -> None:
    """Claims the consumer for the store in `folder`; does nothing when that store has claimed it already.

    Raises ClaimedElsewhere when another store has (unless `take_over`), StreamError when DynamoDB does not answer.
    """
    own_id, host = store_id(folder), socket.gethostname()
    try:
        client = client or boto3.client("dynamodb")
        client.put_item(
            TableName=f"{application}-CoordinatorState",
            Item={**_KEY, "store": {"S": own_id}, "host": {"S": host}, "folder": {"S": str(folder)}},
            **({} if take_over else {  # type: ignore[arg-type]
                "ConditionExpression": "attribute_not_exists(#store) OR #store = :mine",
                "ExpressionAttributeNames": {"#store": "store"},
                "ExpressionAttributeValues": {":mine": {"S": own_id}},
            }),
        )  # fmt: skip
    except ClientError as error:
        if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
            raise _refusal_error(application, folder, client) from error
        raise StreamError(
            f"cannot claim the store of {application!r}: {error}",
            "check that the KCL's table APPLICATION-CoordinatorState exists and may be written",
        ) from error
    except BotoCoreError as error:
        raise StreamError(f"cannot claim the store of {application!r}: {error}", "check the AWS settings") from error


def _refusal_error(application: str, folder: Path, client: DynamoDBClient | None) -> ClaimedElsewhere:
    assert client is not None
    claim = client.get_item(TableName=f"{application}-CoordinatorState", Key=_KEY, ConsistentRead=True).get("Item", {})
    where = f"{claim.get('host', {}).get('S', '?')}:{claim.get('folder', {}).get('S', '?')}"
    here = f"{socket.gethostname()}:{folder}"
    other = "the store there was created again" if where == here else f"{here} is another store"
    return ClaimedElsewhere(
        f"{application!r} is claimed by the store at {where}; {other}, and two stores would each hold a part of it",
        "run the consumer there, or move that folder here; to start over here: cdcctl consumer run NAME --take-over, "
        "then cdcctl replay NAME --from earliest --in-place",
    )
