"""``cdcctl aws``: what the parts need on AWS."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated

import boto3
import msgspec
import typer
from botocore.exceptions import BotoCoreError, ClientError

from cdcctl import output
from cdcctl.aws import grants
from cdcctl.options import settings
from cdckit.errors import UsageError
from consumers.worker.registry import consumer_names

app = typer.Typer(no_args_is_help=True, help="What the parts need on AWS.")


class Part(StrEnum):
    """Who gets a policy."""

    PRODUCER = "producer"
    CONSUMER = "consumer"
    TAIL = "tail"


@app.command()
def policy(
    context: typer.Context,
    part: Annotated[Part, typer.Argument(help="producer, consumer or tail.")],
    name: Annotated[str | None, typer.Argument(help="The consumer: search, parquet, audit, replica, or yours.")] = None,
    account: Annotated[str | None, typer.Option("--account", help="The account's number. [default: STS says]")] = None,
    stream_key: Annotated[str, typer.Option("--stream-key", help="ARN of the stream's own KMS key.")] = "",
    bucket_key: Annotated[str, typer.Option("--bucket-key", help="ARN of the bucket's own KMS key.")] = "",
    database: Annotated[str, typer.Option("--database", help="RDS's resource id db-…, for IAM authentication.")] = "",
    fan_out: Annotated[bool, typer.Option("--fan-out", help="For a consumer that runs with --fan-out.")] = False,
) -> None:
    """Print the least IAM policy for the settings in force, as JSON: these actions on these resources.

    Example: [bold]cdcctl aws policy consumer parquet --account 123456789012 > parquet.json[/]
    """
    if (part is Part.CONSUMER) != (name is not None):
        known = ", ".join(consumer_names())
        raise UsageError(
            "a consumer has a name, the others have none", f"cdcctl aws policy consumer NAME; known: {known}"
        )
    found, place = settings(context), _place(account, stream_key, bucket_key, database)
    if part is Part.PRODUCER:
        made = grants.producer(found, place)
    elif part is Part.TAIL:
        made = grants.tail(found, place)
    else:
        made = grants.consumer(found, name or "", place, fan_out=fan_out)
    output.print_plain(msgspec.json.format(msgspec.json.encode(made), indent=2).decode())


def _place(account: str | None, stream_key: str, bucket_key: str, database: str) -> grants.Place:
    region = os.environ.get("AWS_REGION") or boto3.Session().region_name
    if not region:
        raise UsageError("a policy names the region", "set AWS_REGION")
    partition = boto3.Session().get_partition_for_region(region)
    return grants.Place(region, account or _account(), partition, stream_key, bucket_key, database)


def _account() -> str:
    try:
        return boto3.client("sts").get_caller_identity()["Account"]
    except (ClientError, BotoCoreError) as error:
        raise UsageError(f"a policy names the account, and STS does not tell it: {error}", "add --account") from error
